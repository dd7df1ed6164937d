import { createHash } from 'node:crypto';
import type { Encrypt } from '../../../evidence/age-writer.ts';
import { type CustodyEntry, custodyLines } from '../../../evidence/custody.ts';
import { canonicalJson } from '../../../evidence/json.ts';
import { CUSTODY_OBJECT, MEDIA_TYPES, REQUEST_OBJECT, SEAL_OBJECT } from '../../../evidence/layout.ts';
import type { ChainLink, Manifest, RequestRecord } from '../../../evidence/manifest.ts';
import { generateSigner, type Signer } from '../../../evidence/seal.ts';
import { createBundleWriter, wholeObject } from '../../../evidence/write.ts';
import { openIn } from './memory-sink.ts';
import { requestRecord, type SampleBundle, sampleBundle } from './sample-bundle.ts';

export const CHAIN_ID = '0b7c1c9e-5d0a-4a57-9c50-0a4f0f5e8a11';
/** The n-th capture; ids sort by their number. */
export const captureIdOf = (n: number) => `0192f0c1-0000-7000-8000-${String(n).padStart(12, '0')}`;

export interface CustodyBundleOptions {
  readonly signer?: Signer;
  readonly captureId?: string;
  readonly chain?: ChainLink;
  readonly tiny?: boolean;
  readonly request?: Partial<RequestRecord>;
  /** The events as they are written, after those of an honest agent were made. */
  readonly events?: (entries: CustodyEntry[]) => CustodyEntry[];
  /** The log's bytes. */
  readonly log?: (bytes: Buffer) => Buffer;
  readonly change?: (manifest: Manifest, objects: Map<string, Buffer>) => void;
  readonly encrypt?: Encrypt | undefined;
}

const digestOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** The sample bundle as a newer agent leaves it: with custody log, sink and place in a chain. */
export async function custodyBundle(options: CustodyBundleOptions = {}): Promise<SampleBundle> {
  const signer = options.signer ?? generateSigner();
  const { encrypt } = options;
  const sample = await sampleBundle(signer, options.tiny, encrypt);
  const { objects } = sample;
  const captureId = options.captureId ?? sample.manifest.captureId;
  const request = { ...requestRecord(signer.keyId), captureId, exhibitNumber: 'EX-1', acquirer: 'A. Person' };
  const requestBytes = Buffer.from(canonicalJson({ ...request, ...options.request }));
  const writtenRequest = await wholeObject(REQUEST_OBJECT, MEDIA_TYPES.json, requestBytes, encrypt);
  objects.set(writtenRequest.whole.name, Buffer.from(writtenRequest.whole.bytes));
  const manifest: Manifest = {
    ...structuredClone(sample.manifest),
    captureId,
    sink: { name: 'court', url: 's3://evidence/prod', objectLock: { mode: 'COMPLIANCE', legalHold: true } },
    chain: options.chain ?? { chainId: CHAIN_ID, sequence: 1 },
  };
  Object.assign(manifest.freeze, { frozenAt: '2026-11-22T10:00:02.000Z', thawedAt: '2026-11-22T10:00:02.012Z' });
  manifest.objects = manifest.objects.map((one) => (one.name === REQUEST_OBJECT ? writtenRequest.record : one));
  const honest = honestEvents(manifest, request);
  const lines = Buffer.from(custodyLines(options.events?.(honest) ?? honest));
  const log = options.log?.(lines) ?? lines;
  const writtenLog = await wholeObject(CUSTODY_OBJECT, MEDIA_TYPES.plainJsonl, log, encrypt);
  objects.set(writtenLog.whole.name, Buffer.from(writtenLog.whole.bytes));
  manifest.objects.push(writtenLog.record);
  options.change?.(manifest, objects);
  await createBundleWriter(openIn(objects), { onStored: () => undefined, encrypt }).seal(manifest, signer);
  return { objects, manifest, signer };
}

function honestEvents(manifest: Manifest, request: RequestRecord): CustodyEntry[] {
  const { trigger, identity } = request.requester;
  const by = 'exhibit 0.1.0 (pid 1)';
  const entries: Omit<CustodyEntry, 'at'>[] = [
    {
      event: 'requested',
      by: identity,
      what: 'a capture of default/shop-1 was asked for',
      facts: { captureId: request.captureId, trigger },
    },
    {
      event: 'accepted',
      by,
      what: 'the agent took it on',
      facts: {},
      clock: { source: 'time.example.org', offsetMs: 12.5, uncertaintyMs: 4 },
    },
    { event: 'frozen', by, what: 'the container was stopped', facts: {} },
    { event: 'thawed', by, what: 'the container runs again', facts: {} },
  ];
  for (const { name, status, objects } of manifest.artifacts) {
    for (const object of objects) {
      const record = manifest.objects.find((one) => one.name === object);
      const facts = {
        object,
        sha256: record?.stored.sha256 ?? '',
        sizeBytes: record?.stored.sizeBytes ?? 0,
        sink: 'court',
      };
      entries.push({ event: 'object-stored', by, what: `${object} was stored`, facts });
    }
    entries.push({ event: 'artifact-ended', by, what: `${name} was captured`, facts: { artifact: name, status } });
  }
  const facts = { outcome: manifest.outcome, sink: 'court' };
  entries.push({ event: 'sealing', by, what: 'the bundle is sealed', facts });
  return entries.map((entry, index) => ({ ...entry, at: `2026-11-22T10:00:0${Math.min(index, 9)}.000Z` }));
}

/** `length` captures of one agent, each after the one before; `encryptAt` says which of them are encrypted. */
export async function chainOfBundles(
  length: number,
  signer = generateSigner(),
  tiny = true,
  encryptAt: (sequence: number) => Encrypt | undefined = () => undefined,
): Promise<Map<string, Map<string, Buffer>>> {
  const captures = new Map<string, Map<string, Buffer>>();
  let previous: ChainLink['previous'];
  for (let sequence = 1; sequence <= length; sequence += 1) {
    const captureId = captureIdOf(sequence);
    const chain = { chainId: CHAIN_ID, sequence, ...(previous === undefined ? {} : { previous }) };
    const { objects } = await custodyBundle({ signer, captureId, chain, tiny, encrypt: encryptAt(sequence) });
    captures.set(captureId, objects);
    previous = { captureId, sealSha256: digestOf(objects.get(SEAL_OBJECT) ?? Buffer.alloc(0)) };
  }
  return captures;
}
