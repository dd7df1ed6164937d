import { JsonText } from '../host/decode.ts';
import { jsonLinesParts } from '../host/decode-jsonl.ts';
import { readAnalysisContext } from '../host/identity.ts';
import { type Anomaly, analyseProcess, type ProcessRecord } from '../host/process.ts';
import { findAnomalies } from '../host/process-anomaly.ts';
import { joinDescriptors } from '../host/process-descriptor.ts';
import { hashExecutables } from '../host/process-digest.ts';
import type { MappedFile } from '../host/process-maps.ts';
import { rawFiles, rawWords, readingGaps } from '../host/process-raw.ts';
import type { ProcessReading } from '../host/process-read.ts';
import { findRecoverable, type Recoverable } from '../host/process-recover.ts';
import { scanProcesses } from '../host/process-scan.ts';
import { setDepths } from '../host/process-tree.ts';
import { type FileIdentity, MIB } from '../host/procfs.ts';
import { openContent } from '../host/procfs-content.ts';
import { type OpenReader, openReader, PATIENCE_MS, type ProcfsReader } from '../host/procfs-reader.ts';
import type { Archive, CollectContext, Collector } from './collector.ts';

export interface ProcessesOptions {
  /** How /proc is read; in a reader process of its own when absent. */
  readonly openReader?: OpenReader;
  readonly budget?: Partial<RecoveryBudget>;
}

/** In bytes. */
export interface RecoveryBudget {
  /** All recovered content together. */
  readonly totalBytes: number;
  /** One file; a sparse giant is cut here. */
  readonly fileBytes: number;
  /** Executables that are read to be hashed, together. */
  readonly hashBytes: number;
}

/** Deleted malware is small; deleted temporary files of databases are not. 1 GiB is some two seconds of zstd on one core. */
export const RECOVERY_BUDGET: RecoveryBudget = { totalBytes: 1024 * MIB, fileBytes: 256 * MIB, hashBytes: 8192 * MIB };

/** Descriptors held for joining, some 500 bytes each; processes beyond have theirs in `proc/<pid>/fd.jsonl`, not joined. */
const HELD_DESCRIPTORS_MAX = 100_000;
/** Mount tables remembered for comparison; a pod has about one a container. */
const MOUNT_TABLES_MAX = 32;

/**
 * The `processes` artifact, `processes.tar.zst`. Order: the raw files of every process, then `processes.jsonl`
 * (`processes-2.jsonl` and on when it is large), then `recovered/`: the content of deleted executables, mapped code,
 * memfds and deleted open files, and `recovered.jsonl`, which says what each is. See docs/volatile.md.
 */
export function processesCollector(options: ProcessesOptions = {}): Collector {
  const budget = { ...RECOVERY_BUDGET, ...options.budget };
  return {
    artifact: 'processes',
    async collect(context) {
      await using reader = (options.openReader ?? openReader)(context.host);
      await using archive = await context.archive('processes.tar.zst');
      const lines = await scan(context, reader, archive);
      const recoverable = findRecoverable(lines);
      const gap: CollectContext['gap'] = (found) => context.gap(found);
      const hashed = await hashExecutables(reader, lines, budget.hashBytes, context.signal, gap);
      markRecovered(lines, recoverable);
      await addLines(archive, 'processes', fullLines(lines), context.now());
      const recovered = await recover(context, reader, archive, recoverable, budget);
      await addLines(archive, 'recovered', recovered, context.now());
      await archive.commit();
      context.read(reader.counts.bytes, reader.counts.opens);
      context.fact('executablesHashed', hashed.files);
      context.fact('recovered', recovered.filter(({ sha256 }) => sha256 !== undefined).length);
      context.fact('readerCpuMs', Math.round(reader.counts.cpuMs));
    },
  };
}

/** What is held of a process until all have been read: what may still change, and the rest as its JSON. */
interface Line extends Pick<ProcessRecord, 'pid' | 'ppid' | 'depth' | 'executable' | 'descriptors'> {
  /** Only the mappings that can be recovered. */
  readonly memory: { readonly files: readonly MappedFile[] };
  readonly rest: Readonly<Record<string, JsonText>>;
}

/** What a line has beside the record. */
interface Extras {
  /** The short raw files. */
  readonly raw: Readonly<Record<string, string>>;
  /** Raw files that are not repeated: where the same bytes are. */
  readonly rawSameAs?: Readonly<Record<string, string>>;
  readonly descriptorsIn?: string;
  readonly anomalies: Anomaly[];
}

function condense(record: ProcessRecord, extras: Extras): Line {
  const { pid, ppid, depth, executable, descriptors, ...rest } = record;
  const texts = Object.entries({ ...rest, ...extras }).filter(([, value]) => value !== undefined);
  return {
    ...{ pid, ppid, depth, executable },
    descriptors: extras.descriptorsIn === undefined ? descriptors : [],
    memory: { files: record.memory.files.filter(({ deleted, executable }) => deleted && executable) },
    rest: Object.fromEntries(texts.map(([name, value]) => [name, new JsonText(value)])),
  };
}

function* fullLines(lines: readonly Line[]): Generator<object> {
  for (const { rest, memory: _, ...line } of lines) yield { ...line, ...rest };
}

async function scan(context: CollectContext, reader: ProcfsReader, archive: Archive): Promise<Line[]> {
  const pids = await context.runtime.pids(context.target, context.signal);
  if (pids.length === 0) context.note('The target had no processes any more.');
  const analysis = readAnalysisContext(context.host, context.now);
  const lines: Line[] = [];
  const totals: Totals = { threads: 0, descriptors: 0, anomalies: {} };
  const mountTables = new Map<string, string>();
  let held = 0;
  // Each container of a pod has namespaces of its own; its first process comes before its others.
  const starts = new Set<number>(context.target.companions.map(({ record }) => record.initPid));
  let first: ProcessRecord | undefined;
  const gap: CollectContext['gap'] = (found) => context.gap(found);
  for await (const reading of scanProcesses(reader, pids, context.signal, gap)) {
    for (const found of readingGaps(reading, PATIENCE_MS)) context.gap({ ...found, pid: reading.pid });
    const mountinfo = await addRaw(archive, reading, mountTables, context.now());
    const record = analyseProcess(reading, analysis);
    if (first === undefined || starts.has(record.pid)) first = record;
    const apart = held + record.descriptors.length > HELD_DESCRIPTORS_MAX;
    if (apart) await addLines(archive, `proc/${reading.pid}/fd`, record.descriptors, context.now());
    else held += record.descriptors.length;
    const extras: Extras = {
      anomalies: findAnomalies(record, first),
      raw: rawWords(reading),
      ...(apart ? { descriptorsIn: `proc/${reading.pid}/fd.jsonl` } : {}),
      ...(mountinfo === undefined ? {} : { rawSameAs: { mountinfo } }),
    };
    count(totals, record, extras);
    lines.push(condense(record, extras));
    context.progress(lines.length, pids.length);
  }
  joinDescriptors(lines);
  setDepths(lines);
  context.fact('processes', lines.length);
  for (const [name, value] of Object.entries(totals)) context.fact(name, value);
  return lines;
}

interface Totals {
  threads: number;
  descriptors: number;
  /** Processes by kind of anomaly. */
  readonly anomalies: Record<string, number>;
}

function count(totals: Totals, record: ProcessRecord, { anomalies }: Extras): void {
  totals.threads += record.status.threads ?? 0;
  totals.descriptors += record.descriptors.length;
  for (const { kind } of anomalies) totals.anomalies[kind] = (totals.anomalies[kind] ?? 0) + 1;
}

/** Writes the raw files. A mount table that an earlier process had as well is not repeated: returns where that is. */
async function addRaw(
  archive: Archive,
  reading: ProcessReading,
  mountTables: Map<string, string>,
  nowMs: number,
): Promise<string | undefined> {
  let same: string | undefined;
  for (const { path, name, bytes } of rawFiles(reading)) {
    if (name === 'mountinfo') {
      const table = bytes.toString('latin1');
      same = mountTables.get(table);
      if (same !== undefined) continue;
      if (mountTables.size < MOUNT_TABLES_MAX) mountTables.set(table, path);
    }
    await archive.add(header(path, bytes.length, nowMs), bytes);
  }
  return same;
}

/** Says in each process' line where its deleted executable is. */
function markRecovered(lines: readonly Line[], recoverable: readonly Recoverable[]): void {
  const members = new Map<string, string>();
  for (const { member, heldBy } of recoverable) for (const holder of heldBy) members.set(holder, member);
  for (const { pid, executable } of lines) {
    const member = members.get(`${pid}/exe`);
    if (executable && member !== undefined) executable.recovered = member;
  }
}

/** A member is always stored as 0400: whoever extracts it should not run it by accident. Its own mode is here. */
type RecoveredLine = Omit<Recoverable, 'source' | 'sizeBytes'> & RecoveryResult;

interface RecoveryResult extends Partial<Omit<FileIdentity, 'device' | 'inode' | 'type' | 'links' | 'rdev'>> {
  /** Of the member. */
  readonly sha256?: string;
  /** Content bytes in the archive. */
  readonly storedBytes?: number;
  readonly truncated?: true;
  readonly refused?: string;
}

async function recover(
  context: CollectContext,
  reader: ProcfsReader,
  archive: Archive,
  recoverable: readonly Recoverable[],
  budget: RecoveryBudget,
): Promise<RecoveredLine[]> {
  const lines: RecoveredLine[] = [];
  let leftBytes = budget.totalBytes;
  for (const item of recoverable) {
    const { source: _, sizeBytes: __, ...known } = item;
    const limitBytes = Math.min(budget.fileBytes, leftBytes);
    const result =
      limitBytes > 0
        ? await recoverOne(context, reader, archive, item, limitBytes)
        : refuse(context, item, `the budget of ${budget.totalBytes} bytes for recovered files is spent`);
    leftBytes -= result.storedBytes ?? 0;
    lines.push({ ...known, ...result });
  }
  return lines;
}

async function recoverOne(
  context: CollectContext,
  reader: ProcfsReader,
  archive: Archive,
  item: Recoverable,
  limitBytes: number,
): Promise<RecoveryResult> {
  const content = await openContent(reader, item.source, limitBytes, context.signal);
  if (content.kind === 'refused') return refuse(context, item, content.why, content.errno);
  const { identity } = content;
  const truncated = identity.sizeBytes > BigInt(limitBytes);
  const sizeBytes = truncated ? limitBytes : Number(identity.sizeBytes);
  const written = await archive.add(
    { ...header(item.member, sizeBytes, context.now()), mtimeNs: identity.modifiedNs },
    content.chunks,
  );
  await content.chunks.return(undefined);
  const { pid } = item.source;
  const failure = content.failure();
  if (truncated) {
    context.gap({ what: item.member, pid, why: `cut after ${limitBytes} of ${identity.sizeBytes} bytes` });
  }
  if (written.bodyBytes < sizeBytes) {
    const why = `${failure?.why ?? 'the file shrank while it was read'}; zeros from byte ${written.bodyBytes} to ${sizeBytes}`;
    context.gap({ what: item.member, pid, why, ...(failure?.errno ? { errno: failure.errno } : {}) });
  }
  return {
    storedBytes: sizeBytes,
    sizeBytes: identity.sizeBytes,
    allocatedBytes: identity.allocatedBytes,
    mode: identity.mode,
    uid: identity.uid,
    gid: identity.gid,
    modifiedNs: identity.modifiedNs,
    changedNs: identity.changedNs,
    ...(written.member.sha256 === undefined ? {} : { sha256: written.member.sha256 }),
    ...(truncated ? { truncated } : {}),
  };
}

function refuse(context: CollectContext, item: Recoverable, why: string, errno?: string): RecoveryResult {
  const held = `${item.path} held by ${item.heldBy[0]}`;
  context.gap({
    what: `${item.member} (${held})`,
    pid: item.source.pid,
    why,
    ...(errno === undefined ? {} : { errno }),
  });
  return { refused: why };
}

async function addLines(archive: Archive, name: string, values: Iterable<unknown>, nowMs: number): Promise<void> {
  for (const { path, sizeBytes, lines } of jsonLinesParts(name, values)) {
    await archive.add(header(path, sizeBytes, nowMs), lines);
  }
}

function header(path: string, sizeBytes: number, nowMs: number) {
  return { path, type: 'file', sizeBytes, mode: 0o400, mtimeNs: BigInt(nowMs) * 1_000_000n } as const;
}
