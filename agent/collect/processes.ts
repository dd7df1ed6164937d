import { createBlocks } from '../host/decode-blocks.ts';
import { jsonLinesParts, type LineWriter } from '../host/decode-jsonl.ts';
import { type Filling, fillTemplate } from '../host/decode-template.ts';
import { holdHeap } from '../host/heap.ts';
import { readBootClock } from '../host/identity.ts';
import { type CodeDigests, hashCode } from '../host/process-digest.ts';
import { type JoinableEnd, type Joined, joinEnds } from '../host/process-join.ts';
import { findSocketPeers } from '../host/process-peers.ts';
import { findRecoverable, type Recoverable } from '../host/process-recover.ts';
import { scanProcesses } from '../host/process-scan.ts';
import type { ScannedProcess } from '../host/process-scanned.ts';
import { placesOf } from '../host/process-tree.ts';
import { type OpenReader, openReader, type ProcfsReader } from '../host/procfs-reader.ts';
import type { Archive, CollectContext, Collector } from './collector.ts';
import { RECOVERY_BUDGET, type RecoveryBudget, recover } from './processes-recover.ts';

export interface ProcessesOptions {
  /** How /proc is read; in a reader process of its own when absent. */
  readonly openReader?: OpenReader;
  readonly budget?: Partial<RecoveryBudget>;
}

/** Descriptors held for joining, some 300 bytes each; processes beyond have theirs in `proc/<pid>/fd.jsonl`, not joined. */
const HELD_DESCRIPTORS_MAX = 100_000;

/**
 * The `processes` artifact, `processes.tar.zst`. Order: the raw files of every process, then `processes.jsonl`
 * (`processes-2.jsonl` and on when it is large), then `mapped.jsonl`, the files with code that are mapped, then `recovered/`: the
 * content of deleted executables, mapped code, memfds and deleted open files, and `recovered.jsonl`, which says what each is.
 * See docs/volatile.md.
 */
export function processesCollector(options: ProcessesOptions = {}): Collector {
  const budget = { ...RECOVERY_BUDGET, ...options.budget };
  return {
    artifact: 'processes',
    async collect(context) {
      using _ = holdHeap('roomy');
      await using reader = (options.openReader ?? openReader)(context.host);
      await using archive = await context.archive('processes.tar.zst');
      const held = await scan(context, reader, archive);
      const recoverable = findRecoverable(held);
      const gap: CollectContext['gap'] = (found) => context.gap(found);
      const code = await hashCode(reader, held, budget.hashBytes, context.signal, gap);
      const peers = await findSocketPeers(reader, held, context.signal);
      await addLines(context, archive, 'processes', completeLines(held, code, recoverable, peers));
      await addLines(context, archive, 'mapped', code.mapped);
      const recovered = await recover(context, reader, archive, recoverable, budget);
      await addLines(context, archive, 'recovered', recovered);
      await archive.commit();
      context.read(reader.counts.bytes, reader.counts.opens);
      context.fact('filesHashed', code.files);
      context.fact('recovered', recovered.filter(({ sha256 }) => sha256 !== undefined).length);
      context.fact('readerCpuMs', Math.round(reader.counts.cpuMs));
    },
  };
}

/** What is held of a process until all have been read. */
type Held = Omit<ScannedProcess, 'raw' | 'rawBytes' | 'descriptors'> & {
  readonly line: Buffer;
  /** Or the member where they are, when there are too many to hold. */
  readonly descriptors: Buffer | string;
};

async function scan(context: CollectContext, reader: ProcfsReader, archive: Archive): Promise<Held[]> {
  const pids = await context.runtime.pids(context.target, context.signal);
  if (pids.length === 0) context.note('The target had no processes any more.');
  const starts = context.target.companions.map(({ record }) => record.initPid);
  const clock = readBootClock(context.host, context.now);
  const held: Held[] = [];
  const texts = createBlocks();
  const totals = { threads: 0, descriptors: 0, anomalies: {} as Record<string, number> };
  let heldDescriptors = 0;
  const gap: CollectContext['gap'] = (found) => context.gap(found);
  for await (const found of scanProcesses(reader, pids, { clock, starts }, context.signal, gap)) {
    const { raw, rawBytes, descriptors, ...kept } = found;
    for (const one of found.gaps) context.gap({ ...one, pid: found.pid });
    await addRaw(context, archive, found);
    const apart = heldDescriptors + found.descriptorCount > HELD_DESCRIPTORS_MAX;
    if (!apart) heldDescriptors += found.descriptorCount;
    held.push({
      ...kept,
      // Copies: these are parts of what came from the reader in one piece, with the raw files.
      line: texts.add(found.line),
      descriptors: apart ? await addDescriptors(context, archive, found) : texts.add(descriptors),
      ends: apart ? [] : found.ends,
    });
    totals.threads += found.threads;
    totals.descriptors += found.descriptorCount;
    for (const kind of found.anomalies) totals.anomalies[kind] = (totals.anomalies[kind] ?? 0) + 1;
    context.progress(held.length, pids.length);
  }
  context.fact('processes', held.length);
  for (const [name, value] of Object.entries(totals)) context.fact(name, value);
  return held;
}

async function addRaw(context: CollectContext, archive: Archive, { raw, rawBytes }: ScannedProcess): Promise<void> {
  let at = 0;
  for (const [path, sizeBytes] of raw) {
    await archive.add(header(path, sizeBytes, context.now()), rawBytes.subarray(at, at + sizeBytes));
    at += sizeBytes;
  }
}

/** Not joined. The name of the member. */
async function addDescriptors(context: CollectContext, archive: Archive, found: ScannedProcess): Promise<string> {
  const unjoined = createBlocks();
  fillTemplate(found.descriptors, () => undefined, unjoined.write);
  const descriptors: unknown[] = JSON.parse(Buffer.concat(unjoined.pieces).toString());
  await addLines(context, archive, `proc/${found.pid}/fd`, descriptors);
  return `proc/${found.pid}/fd.jsonl`;
}

/** Fills in what was known only when all had been read. */
function* completeLines(
  held: readonly Held[],
  code: CodeDigests,
  recoverable: readonly Recoverable[],
  peers: ReadonlyMap<number, number>,
): Generator<LineWriter> {
  const placeOf = placesOf(held);
  const joinedOf = joinEnds(held, peers);
  const recovered = new Map<string, string>();
  for (const { member, heldBy } of recoverable) for (const holder of heldBy) recovered.set(holder, member);
  for (const { pid, executable, descriptors, ends, line } of held) {
    const place = placeOf(pid);
    const fieldOf = (key: string): Filling => {
      switch (key) {
        case 'children':
          return listed(place.children);
        case 'depth':
          return { value: place.depth };
        case 'descriptors':
          if (typeof descriptors === 'string') return { value: [] };
          return { write: (write) => fillTemplate(descriptors, endsOf(pid, ends, joinedOf), write) };
        case 'descriptorsIn':
          return typeof descriptors === 'string' ? { value: descriptors } : undefined;
        case 'recovered':
          return known(recovered.get(`${pid}/exe`));
        case 'sha256':
          return known(executable && code.sha256Of(executable));
        case 'tracees':
          return listed(place.tracees);
        default:
          return undefined;
      }
    };
    yield (write) => fillTemplate(line, fieldOf, write);
  }
}

/** `peers` and `sharedWith` of one end after the other. */
function endsOf(
  pid: number,
  ends: readonly JoinableEnd[],
  joinedOf: ReturnType<typeof joinEnds>,
): (key: string) => Filling {
  let next = 0;
  let joined: Joined = {};
  return (key) => {
    if (key === 'sharedWith') return known(joined.sharedWith);
    const end = ends[next];
    next += 1;
    joined = end === undefined ? {} : joinedOf(pid, end);
    return known(joined.peers);
  };
}

function known(value: unknown): Filling {
  return value === undefined ? undefined : { value };
}

function listed(list: readonly unknown[]): Filling {
  return list.length === 0 ? undefined : { value: list };
}

async function addLines(
  context: CollectContext,
  archive: Archive,
  name: string,
  values: Iterable<unknown>,
): Promise<void> {
  for (const { path, sizeBytes, pieces } of jsonLinesParts(name, values)) {
    await archive.add(header(path, sizeBytes, context.now()), pieces);
  }
}

function header(path: string, sizeBytes: number, nowMs: number) {
  return { path, type: 'file', sizeBytes, mode: 0o400, mtimeNs: BigInt(nowMs) * 1_000_000n } as const;
}
