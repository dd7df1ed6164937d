import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { zstdCompress, zstdDecompress } from 'node:zlib';
import type { Logger } from 'pino';
import { z } from 'zod';
import { compare } from '../../evidence/diff/compare.ts';
import { CHANGES_LIMITS, type Changes, DIFF_VERSION, diffDocument } from '../../evidence/diff/document.ts';
import { ExhibitError, explain } from '../../evidence/error.ts';
import { FACT_KINDS, type Facts, type FactsLimits, parseFacts, serialiseFacts } from '../../evidence/facts/facts.ts';
import { aboutTarget, type FactsArtifact, readFacts } from '../../evidence/facts/read.ts';
import { decodeFrames, endsEarly } from '../../evidence/frame-decoder.ts';
import type { Manifest, RequestRecord, TargetRecord } from '../../evidence/manifest.ts';
import type { KeepFrames } from '../../evidence/write.ts';
import type { Vault } from '../sink/vault.ts';
import type { JournalEntry } from './journal.ts';
import { workloadKey } from './workload.ts';

/**
 * What a workload looked like in its last good snapshot, kept by the agent itself: it cannot read what it wrote to a sink. Every
 * capture is compared with that, and the differences are an object of its bundle. The small objects that facts are read from are
 * kept in memory, compressed, while they are written; all else is done when the target runs again. See docs/diff.md.
 */
export interface Baselines {
  /**
   * `target` is what the request found. Undefined where nothing is to be done: there is no baseline of it, and this capture
   * becomes none.
   */
  begin(captureId: string, request: Pick<RequestRecord, 'requester' | 'target'>): BaselineRun | undefined;
}

export interface BaselineRun {
  readonly keep: KeepFrames;
  /** What differs from the baseline; undefined, and logged, where that could not be found out. */
  compare(captured: Captured): Promise<Changes | undefined>;
  /** When the capture was sealed: makes a good snapshot the baseline. Never fails. */
  sealed(outcome: Manifest['outcome']): Promise<void>;
}

export interface Captured {
  readonly cluster: string;
  readonly node: string;
  readonly startedAt: string;
  readonly outcome: Manifest['outcome'];
  readonly target: TargetRecord;
  readonly artifacts: readonly FactsArtifact[];
}

export interface BaselinesConfig {
  /** Of all that are kept, as they lie in the vault. */
  readonly maxBytes: number;
  /** Triggers whose captures may become one. */
  readonly from: readonly string[];
}

export interface BaselinesParts {
  readonly config: BaselinesConfig;
  readonly vault: Vault;
  readonly log: Logger;
}

/** What facts are read from. Of `processes.tar.zst` the lines come before the content that was recovered. */
const KEPT: ReadonlySet<string> = new Set([
  'processes.tar.zst',
  'network.tar.zst',
  'node.tar.zst',
  'rootfs.inventory.jsonl.zst',
]);
/** Of one object, compressed: 3,000 processes, or 100,000 changed files. What is beyond is not compared. */
const KEPT_BYTES = 8 * 1024 * 1024;
/** In an agent: some 30 MiB of memory for the kind with the most, while it compares. */
const LIMITS: FactsLimits = { entries: 100_000, characters: 16 * 1024 * 1024 };
const FOLDER = 'baselines';
const INDEX = `${FOLDER}/index`;
/** A baseline that is more than this when it is unpacked was not written by this agent. */
const MAX_UNPACKED_BYTES = 256 * 1024 * 1024;

const indexSchema = z.array(z.strictObject({ name: z.string(), at: z.string(), sizeBytes: z.number() }));
type Index = z.infer<typeof indexSchema>;

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

export async function openBaselines(parts: BaselinesParts): Promise<Baselines> {
  const store = await openStore(parts);
  return {
    begin(captureId, request) {
      const workload = workloadKey(request.target);
      const mayBecome = parts.config.from.includes(request.requester.trigger);
      if (!mayBecome && !store.has(workload)) return undefined;
      const kept = createKept();
      const log = parts.log.child({ captureId });
      let good: Facts | undefined;
      return {
        keep: kept.keep,
        async compare(captured) {
          try {
            const facts = await factsOf(captureId, captured, kept);
            kept.clear();
            if (mayBecome && isGood(facts)) good = facts;
            const baseline = await store.read(workload);
            const changes = changesBetween(captureId, workload, baseline, facts);
            log.info(
              { baseline: baseline?.about.captureId ?? null, ...countsOf(changes) },
              'compared with the baseline',
            );
            return changes;
          } catch (error) {
            log.error({ error: explain(error) }, 'not compared with the baseline');
            return undefined;
          } finally {
            kept.clear();
          }
        },
        async sealed(outcome) {
          if (good === undefined || (outcome !== 'complete' && outcome !== 'partial')) return;
          try {
            await store.write(workload, good);
          } catch (error) {
            log.error({ error: explain(error) }, 'baseline not kept');
          }
        },
      };
    },
  };
}

/** How many of each kind, without those of which there are none: `{ processes: { new: 1 } }`. For logs: no names. */
export function countsOf({ diff }: Changes): Record<string, Record<string, number>> {
  if (diff === undefined) return {};
  return Object.fromEntries(
    FACT_KINDS.flatMap((kind) => {
      const counts = Object.entries(diff.kinds[kind]?.counts ?? {}).filter(([, count]) => count > 0);
      return counts.length === 0 ? [] : [[kind, Object.fromEntries(counts)]];
    }),
  );
}

/** For the journal: of the kinds that could be compared. */
export function sumOf({ diff }: Changes): JournalEntry['changes'] {
  if (diff === undefined) return { kinds: [] };
  const kinds = FACT_KINDS.flatMap((kind) => {
    const one = diff.kinds[kind];
    if (one === undefined || one.comparable === 'no') return [];
    const { new: came, gone, changed } = one.counts;
    return [{ kind, new: came, gone, changed }];
  });
  return { baseline: diff.before.captureId, kinds };
}

function changesBetween(captureId: string, workload: string[], baseline: Facts | undefined, facts: Facts): Changes {
  const head = { version: DIFF_VERSION, captureId, workload } as const;
  if (baseline === undefined)
    return { ...head, why: 'this agent has no good snapshot of the workload to compare with' };
  return { ...head, diff: diffDocument(compare(baseline, facts), CHANGES_LIMITS) };
}

/** A snapshot with gaps would make everything that it did not see new. */
function isGood({ kinds }: Facts): boolean {
  const states = FACT_KINDS.map((kind) => kinds[kind].state);
  return states.includes('known') && !states.includes('partial');
}

async function factsOf(captureId: string, captured: Captured, kept: Kept): Promise<Facts> {
  const { cluster, node, startedAt, outcome, target, artifacts } = captured;
  return await readFacts(
    {
      about: aboutTarget(target, { captureId, at: startedAt, cluster, node, outcome }),
      target,
      artifacts,
      hasObject: (name) => kept.has(name),
      content: (name) => kept.content(name),
    },
    LIMITS,
  );
}

interface Kept {
  readonly keep: KeepFrames;
  has(name: string): boolean;
  content(name: string): AsyncIterable<Uint8Array>;
  clear(): void;
}

/** Frames of the objects that facts are read from; of a large one the first. */
function createKept(): Kept {
  const objects = new Map<string, { pieces: Buffer[]; sizeBytes: number; cut: boolean }>();
  return {
    keep(name) {
      if (!KEPT.has(name)) return undefined;
      // One that is opened again begins anew.
      const object = { pieces: [] as Buffer[], sizeBytes: 0, cut: false };
      objects.set(name, object);
      return (bytes) => {
        object.cut ||= object.sizeBytes + bytes.length > KEPT_BYTES;
        if (object.cut) return;
        object.pieces.push(Buffer.from(bytes));
        object.sizeBytes += bytes.length;
      };
    },
    has: (name) => objects.has(name),
    async *content(name) {
      const object = objects.get(name);
      if (object === undefined) throw new ExhibitError('bundle-not-found', `there is no ${name}`);
      try {
        yield* decodeFrames(piecesOf(object.pieces));
      } catch (error) {
        if (!object.cut || !endsEarly(error)) throw error;
        throw new ExhibitError('bundle-corrupt', `only its first ${object.sizeBytes} compressed bytes are compared`);
      }
    },
    clear: () => objects.clear(),
  };
}

async function* piecesOf(pieces: readonly Buffer[]): AsyncGenerator<Uint8Array> {
  yield* pieces;
}

interface Store {
  has(workload: readonly string[]): boolean;
  read(workload: readonly string[]): Promise<Facts | undefined>;
  write(workload: readonly string[], facts: Facts): Promise<void>;
}

/** In the vault, one file a workload, and an index of them; the oldest go when there are too many bytes. */
async function openStore({ vault, config, log }: BaselinesParts): Promise<Store> {
  const known = new Set(await vault.list(FOLDER));
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const done = last.then(work);
    last = done.catch(() => undefined);
    return done;
  };
  const readIndex = async (): Promise<Index> => {
    const bytes = await vault.read(INDEX);
    return bytes === undefined ? [] : indexSchema.parse(JSON.parse(bytes.toString()));
  };
  const remove = async (name: string) => {
    known.delete(name);
    await vault.remove(name);
  };
  return {
    has: (workload) => known.has(fileOf(workload)),
    async read(workload) {
      try {
        const packed = await vault.read(fileOf(workload));
        if (packed === undefined) return undefined;
        const text = await decompress(packed, { maxOutputLength: MAX_UNPACKED_BYTES });
        return parseFacts(text.toString());
      } catch (error) {
        log.warn({ error: explain(error) }, 'baseline cannot be read, and is left alone');
        return undefined;
      }
    },
    write: (workload, facts) =>
      inTurn(async () => {
        const packed = await compress(Buffer.from(serialiseFacts(facts)));
        const name = fileOf(workload);
        const others = (await readIndex()).filter((one) => one.name !== name);
        const { stay, go } = chooseBaselines(others, config.maxBytes - packed.length);
        for (const old of go) await remove(old.name);
        if (packed.length > config.maxBytes) {
          await remove(name);
          await vault.write(INDEX, Buffer.from(JSON.stringify(stay)));
          log.warn({ sizeBytes: packed.length }, 'baseline not kept: it is larger than baselines.maxBytes');
          return;
        }
        await vault.write(name, packed);
        known.add(name);
        const index: Index = [...stay, { name, at: facts.about.at, sizeBytes: packed.length }];
        await vault.write(INDEX, Buffer.from(JSON.stringify(index)));
      }),
  };
}

/** Those that fit into `roomBytes`, the newest first. Pure. */
export function chooseBaselines(index: Index, roomBytes: number): { stay: Index; go: Index } {
  const stay: Index = [];
  const go: Index = [];
  let usedBytes = 0;
  for (const one of index.toSorted((a, b) => (a.at < b.at ? 1 : -1))) {
    usedBytes += one.sizeBytes;
    (usedBytes <= roomBytes ? stay : go).push(one);
  }
  return { stay, go };
}

function fileOf(workload: readonly string[]): string {
  return `${FOLDER}/${createHash('sha256').update(JSON.stringify(workload)).digest('hex')}`;
}
