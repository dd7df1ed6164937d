import { jsonLine, OPEN } from './decode.ts';
import { rememberingByFd } from './decode-memo.ts';
import { type AnalysisContext, type Anomaly, analyseProcess, type ProcessRecord } from './process.ts';
import { findAnomalies } from './process-anomaly.ts';
import type { DescriptorRecord } from './process-descriptor.ts';
import type { ExecutableRecord } from './process-executable.ts';
import { endOf, type JoinableEnd } from './process-join.ts';
import type { MappedFile } from './process-maps.ts';
import { type ReadingGap, rawFiles, rawWords, readingGaps } from './process-raw.ts';
import type { ProcessReading } from './process-read.ts';

/**
 * One process as the agent gets it: what is kept as it is, its line as text with what only the agent can know left open
 * (decode-template.ts), and of the rest no more than the agent has to ask or join. A reading is analysed where it is made, in
 * the reader process: it is hostile text, and hundreds of objects a process would have to cross and be held.
 */
export interface ScannedProcess {
  readonly pid: number;
  readonly ppid: number | undefined;
  readonly tracerPid: number | undefined;
  readonly threads: number;
  readonly gaps: readonly ReadingGap[];
  readonly anomalies: readonly Anomaly['kind'][];
  /** Member paths and sizes, in the order of `rawBytes`. */
  readonly raw: readonly (readonly [path: string, sizeBytes: number])[];
  readonly rawBytes: Buffer;
  /** Open: `children` `depth` `descriptors` `descriptorsIn` `recovered` `sha256` `tracees`. */
  readonly line: Buffer;
  /** A JSON array. Open: `peers` and `sharedWith` of each of `ends`, in their order. */
  readonly descriptors: Buffer;
  readonly descriptorCount: number;
  readonly ends: readonly JoinableEnd[];
  /** Inode. */
  readonly netNamespace: number | undefined;
  readonly executable: ExecutableRecord | undefined;
  /** Open files that have no name any more. */
  readonly nameless: readonly DescriptorRecord[];
  /** Mapped files with code. */
  readonly code: readonly MappedFile[];
  /** For the next request: what this process' namespaces were compared with. */
  readonly reference: Namespaces;
}

export type Namespaces = ProcessRecord['namespaces'];

/** What a scan remembers from one process to the next. */
export interface ScanMemory {
  readonly analysis: AnalysisContext;
  /** Processes that begin a container: each has namespaces of its own, and comes before the others of its container. */
  readonly starts: ReadonlySet<number>;
  /** Of the first process of the container. */
  reference: Namespaces | undefined;
  /** Where each mount table is: most processes of a container have the same. */
  readonly mountTables: MountTable[];
}

interface MountTable {
  readonly bytes: Buffer;
  readonly path: string;
}

/** Mount tables remembered for comparison; a pod has about one a container. */
const MOUNT_TABLES_MAX = 32;

export function describeProcess(reading: ProcessReading, memory: ScanMemory): ScannedProcess {
  const record = analyseProcess(reading, memory.analysis);
  if (memory.reference === undefined || memory.starts.has(record.pid)) memory.reference = record.namespaces;
  const anomalies = findAnomalies(record, memory.reference);
  const raw: [string, number][] = [];
  const parts: Buffer[] = [];
  let sameMounts: string | undefined;
  for (const { path, name, bytes } of rawFiles(reading)) {
    if (name === 'mountinfo') {
      sameMounts = earlierTable(memory.mountTables, bytes, path);
      if (sameMounts !== undefined) continue;
    }
    raw.push([path, bytes.length]);
    parts.push(bytes);
  }
  const { descriptors, executable } = record;
  const ends: JoinableEnd[] = [];
  const texts = descriptors.map((descriptor) => {
    const { text, end } = textOf(descriptor);
    if (end !== undefined) ends.push(end);
    return text;
  });
  const line = {
    ...record,
    anomalies,
    raw: rawWords(reading),
    rawSameAs: sameMounts === undefined ? undefined : { mountinfo: sameMounts },
    executable: executable && { ...executable, recovered: OPEN, sha256: OPEN },
    ...{ children: OPEN, depth: OPEN, descriptors: OPEN, descriptorsIn: OPEN, tracees: OPEN },
  };
  return {
    pid: record.pid,
    ppid: record.ppid,
    tracerPid: record.tracerPid,
    threads: record.status.threads ?? 0,
    gaps: readingGaps(reading),
    anomalies: anomalies.map(({ kind }) => kind),
    raw,
    rawBytes: Buffer.concat(parts),
    line: Buffer.from(jsonLine(line)),
    descriptors: Buffer.from(`[${texts.join(',')}]`),
    descriptorCount: descriptors.length,
    ends,
    netNamespace: record.namespaces.net,
    executable,
    nameless: descriptors.filter(({ type, deleted }) => type === 'memfd' || (deleted && type === 'file')),
    code: record.memory.files.filter((file) => file.executable),
    reference: memory.reference,
  };
}

interface DescriptorText {
  readonly text: string;
  readonly end: JoinableEnd | undefined;
}

const textOf = rememberingByFd(
  ({ fd }: DescriptorRecord) => fd,
  (descriptor): DescriptorText => {
    const end = endOf(descriptor);
    return { text: jsonLine(end === undefined ? descriptor : { ...descriptor, peers: OPEN, sharedWith: OPEN }), end };
  },
);

/** Where an earlier process has this table; the first of a kind is remembered. */
function earlierTable(tables: MountTable[], bytes: Buffer, path: string): string | undefined {
  const earlier = tables.find((table) => table.bytes.equals(bytes));
  if (earlier === undefined && tables.length < MOUNT_TABLES_MAX) tables.push({ bytes, path });
  return earlier?.path;
}
