import path from 'node:path';
import { pino } from 'pino';
import { openAdmission } from '../../../agent/capture/admission.ts';
import { captureExecutor } from '../../../agent/capture/capture.ts';
import type { CaptureRequest } from '../../../agent/capture/captures.ts';
import { createChain } from '../../../agent/capture/chain.ts';
import { type Delivered, openDelivery } from '../../../agent/capture/delivery.ts';
import { type Draft, readDrafts } from '../../../agent/capture/drafts.ts';
import { type Journal, openJournal } from '../../../agent/capture/journal.ts';
import { recoverDrafts } from '../../../agent/capture/recover-drafts.ts';
import { parseConfig } from '../../../agent/config.ts';
import type { NamedSink } from '../../../agent/sink/several.ts';
import { openVault, type Vault } from '../../../agent/sink/vault.ts';
import type { Encrypt } from '../../../evidence/age-writer.ts';
import type { BundleReader } from '../../../evidence/bundle.ts';
import { ExhibitError } from '../../../evidence/error.ts';
import { ARTIFACTS, type ArtifactName } from '../../../evidence/layout.ts';
import type { Manifest } from '../../../evidence/manifest.ts';
import { generateSigner, type Sealer } from '../../../evidence/seal.ts';
import { createSealer } from '../../../evidence/sealer.ts';
import { type VerifyReport, verifyBundle } from '../../../evidence/verify.ts';
import { type Collect, fakeFreezer, oneFile, runtime } from './spine.ts';
import type { SpoolingSink } from './spooling-sink.ts';

/** An agent around the spine: its vault, its journal and its delivery, to be killed and started again from what it left. */

export const ID = '01a20000-0000-7000-8000-000000000001';
export const VERSION = '0.0.0';
const TAKEN: readonly ArtifactName[] = ['processes', 'memory', 'logs'];

/** What every capture of these agents is asked for with. */
export const requestOf = (captureId: string, artifacts: readonly ArtifactName[] = TAKEN): CaptureRequest => ({
  ...{ captureId, artifacts, selector: 'prod/web-0', caseId: 'C-1', reason: 'alert' },
  ...{ consistency: 'frozen', scope: 'container', requester: { trigger: 'socket', identity: 'uid 0, pid 17' } },
});

export interface TestAgent extends AsyncDisposable {
  readonly vault: Vault;
  readonly journal: Journal;
  readonly drafts: readonly Draft[];
  readonly delivered: readonly Delivered[];
  readonly seals: readonly { readonly sink: string; readonly whole: boolean }[];
  readonly problemOf: (sink: string) => string | undefined;
  /** What was logged, as events with fields. */
  readonly logged: readonly Record<string, unknown>[];
  capture(options?: CaptureOptions): Promise<{ state: Manifest['outcome']; waiting: readonly string[] }>;
  /** Resolves when nothing waits any more. */
  settled(): Promise<void>;
}

export interface CaptureOptions {
  readonly captureId?: string;
  readonly artifacts?: readonly ArtifactName[];
  readonly collectors?: Partial<Record<ArtifactName, Collect>>;
  readonly signal?: AbortSignal;
}

export interface AgentOptions {
  readonly folder: string;
  readonly sinks: readonly NamedSink[];
  readonly sealer?: Sealer;
  readonly encrypt?: Encrypt | undefined;
  /** Stands between the agent and the vault. */
  readonly around?: (vault: Vault) => Vault;
}

export async function startAgent({
  folder,
  sinks,
  sealer = createSealer(generateSigner()),
  encrypt,
  around,
}: AgentOptions): Promise<TestAgent> {
  const logged: Record<string, unknown>[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => logged.push(JSON.parse(line)) });
  const opened = await openVault(path.join(folder, 'vault'), Buffer.alloc(32, 7));
  const vault = around?.(opened) ?? opened;
  const journal = await openJournal(folder, () => undefined);
  const chain = createChain({ vault, log });
  const drafts = await readDrafts({ vault, now: Date.now, log });
  await recoverDrafts(drafts, { journal, chain, version: VERSION, log });
  const delivered: Delivered[] = [];
  const seals: { sink: string; whole: boolean }[] = [];
  const news = new EventTarget();
  const delivery = openDelivery({
    ...{ sinks, sealer, chain, version: VERSION, now: Date.now, log },
    backoffMs: () => 1,
    onSeal: (sink, whole) => seals.push({ sink, whole }),
    onDelivered: async (one) => {
      delivered.push(one);
      news.dispatchEvent(new Event('delivered'));
    },
  });
  delivery.resume(drafts);
  return {
    ...{ vault, journal, drafts, delivered, seals, logged, problemOf: delivery.problemOf },
    async capture({ captureId = ID, artifacts = TAKEN, collectors = {}, signal } = {}) {
      const config = parseConfig(`sink: { url: "file://${folder}" }\nnode: n1`, 'test', {});
      const host = { procRoot: '/proc', hostRoot: '' };
      const execute = captureExecutor({
        ...{ config, host },
        admission: openAdmission({ config, host, sinks, runtimes: [], journal, now: Date.now, log }),
        ...{ sinks, sealer, encrypt, vault, delivery, version: VERSION, log, now: Date.now, runtimes: [runtime] },
        collectors: Object.fromEntries(
          ARTIFACTS.map((artifact) => [artifact, { artifact, collect: collectors[artifact] ?? oneFile(artifact) }]),
        ) as Parameters<typeof captureExecutor>[0]['collectors'],
        startFreezer: fakeFreezer({ log: [] }),
      });
      const waiting: string[] = [];
      const { state } = await execute(captureId, requestOf(captureId, artifacts), {
        signal: signal ?? new AbortController().signal,
        emit: () => undefined,
        frozen: async () => undefined,
        dumping: async () => undefined,
        waiting: async (names) => void waiting.push(...names),
      });
      return { state, waiting };
    },
    async settled() {
      while ((await vault.list('captures')).length > 0) {
        const { promise, resolve } = Promise.withResolvers<void>();
        news.addEventListener('delivered', () => resolve(), { once: true });
        if ((await vault.list('captures')).length > 0) await promise;
      }
    },
    [Symbol.asyncDispose]: () => delivery[Symbol.asyncDispose](),
  };
}

export const keyOf = (name: string, captureId = ID): string => `local/n1/${captureId}/${name}`;

export function manifestIn(sink: SpoolingSink, captureId = ID): Manifest {
  return JSON.parse(sink.stored.get(keyOf('manifest.json', captureId))?.toString() ?? 'null') as Manifest;
}

/** As a reader anywhere would judge what lies in the sink. */
export const verified = (sink: SpoolingSink, captureId = ID): Promise<VerifyReport> =>
  verifyBundle(readerIn(sink, captureId));

export function readerIn({ stored, url }: SpoolingSink, captureId = ID): BundleReader {
  const folder = keyOf('', captureId);
  return {
    url,
    async *list() {
      for (const [key, { length }] of stored)
        if (key.startsWith(folder)) yield { name: key.slice(folder.length), sizeBytes: length };
    },
    async *read(name, { start = 0, end } = {}) {
      const bytes = stored.get(`${folder}${name}`);
      if (bytes === undefined) throw new ExhibitError('bundle-not-found', `there is no ${name}`);
      yield bytes.subarray(start, end);
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
}
