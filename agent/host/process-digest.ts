import type { Worded } from './decode.ts';
import type { ExecutableRecord } from './process-executable.ts';
import type { ScanGap } from './process-scan.ts';
import type { ScannedProcess } from './process-scanned.ts';
import { digestOf, type FileDigest } from './procfs-content.ts';
import type { ProcfsReader } from './procfs-reader.ts';
import type { ContentSource } from './procfs-request.ts';

/** At 1 to 2 GB/s from the page cache. Larger executables exist (some static Go and CUDA programs), but not many. */
const FILE_BYTES_MAX = 2 * 1024 * 1024 * 1024;
/** Each costs the reader's patience: a container may map files of a FUSE server that stands still. */
const STALLS_MAX = 3;
/** Distinct files with code; a desktop maps some thousand libraries. */
const MAPPED_FILES_MAX = 10_000;
/** Processes listed for one mapped file, and asked for it until one of them still has it. */
const HOLDERS_MAX = 8;

/** A file with code that is mapped and still has its name: a line of `mapped.jsonl`. */
export type MappedCode = Worded<'path'> & {
  /** As in the lines' `memory.files`, which may be another device than stat(2) says (overlayfs). */
  readonly device: string;
  readonly inode: number;
  /** The first of those that map it, and how many there are. */
  readonly pids: readonly number[];
  readonly processes: number;
  readonly sizeBytes?: bigint;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly modifiedNs?: bigint;
  readonly changedNs?: bigint;
  readonly sha256?: string;
  readonly refused?: string;
};

export interface CodeDigests {
  readonly sha256Of: (executable: ExecutableRecord) => string | undefined;
  readonly mapped: readonly MappedCode[];
  /** Distinct inodes, and bytes read for them. */
  readonly files: number;
  readonly bytes: number;
}

type Asked = Pick<ScannedProcess, 'pid' | 'executable' | 'code'>;

/**
 * SHA-256 of every executable and of every file whose code is mapped, each inode once, executables first. Deleted mappings are
 * left to recovery. Beyond `budgetBytes` in all, it is a gap.
 */
export async function hashCode(
  reader: ProcfsReader,
  processes: readonly Asked[],
  budgetBytes: number,
  signal: AbortSignal,
  gap: (gap: ScanGap) => void,
): Promise<CodeDigests> {
  const hasher = createHasher(reader, budgetBytes, signal, gap);
  const executables = new Map<string, FileDigest>();
  for (const { pid, executable } of processes) {
    const key = keyOf(executable);
    if (key === undefined || executable === undefined || executables.has(key)) continue;
    const { device, inode } = executable;
    const digest = await hasher.hash('exe', [{ pid, name: 'exe', ...(device && inode ? { device, inode } : {}) }]);
    if (digest.kind === 'digest') executables.set(key, digest);
  }
  const mapped: MappedCode[] = [];
  const found = mappedCode(processes);
  if (found.length > MAPPED_FILES_MAX) {
    const why = `${found.length} files with code are mapped: only the first ${MAPPED_FILES_MAX} are in mapped.jsonl`;
    gap({ pid: processes[0]?.pid ?? 0, what: 'mapped.jsonl', why });
  }
  for (const { file, holders, processes: count } of found.slice(0, MAPPED_FILES_MAX)) {
    const [first] = holders;
    if (first === undefined) continue;
    const own = first.isExecutable ? executables.get(keyOf(first.process.executable) ?? '') : undefined;
    const sources = holders.map(({ process, range }) => ({ pid: process.pid, name: `map_files/${range}` }));
    const digest = own ?? (await hasher.hash(file.path, sources));
    mapped.push({
      path: file.path,
      ...(file.pathBase64 === undefined ? {} : { pathBase64: file.pathBase64 }),
      ...{ device: file.device, inode: file.inode, processes: count, pids: sources.map(({ pid }) => pid) },
      ...(digest.kind === 'digest' ? described(digest) : { refused: digest.why }),
    });
  }
  return {
    sha256Of: (executable) => shownDigest(executables.get(keyOf(executable) ?? '')),
    mapped,
    ...hasher.counts,
  };
}

function described({ identity, ...digest }: FileDigest): Partial<MappedCode> {
  const { sizeBytes, mode, uid, gid, modifiedNs, changedNs } = identity;
  const sha256 = shownDigest(digest);
  return { sizeBytes, mode, uid, gid, modifiedNs, changedNs, ...(sha256 === undefined ? {} : { sha256 }) };
}

/** The digest of a beginning would be taken for that of the file. */
function shownDigest(digest: Pick<FileDigest, 'sha256' | 'truncated'> | undefined): string | undefined {
  return digest === undefined || digest.truncated ? undefined : digest.sha256;
}

function keyOf(executable: ExecutableRecord | undefined): string | undefined {
  if (executable?.inode === undefined || executable.device === undefined) return undefined;
  return `${executable.device} ${executable.inode}`;
}

interface Holder {
  readonly process: Asked;
  readonly range: string;
  readonly isExecutable: boolean;
}

interface Mapped {
  readonly file: ScannedProcess['code'][number];
  readonly holders: Holder[];
  processes: number;
}

/** By device, inode and name: devices of different mounts may be shown as one. */
function mappedCode(processes: readonly Asked[]): Mapped[] {
  const files = new Map<string, Mapped>();
  for (const process of processes) {
    for (const file of process.code) {
      if (file.deleted) continue;
      const key = `${file.device} ${file.inode} ${file.pathBase64 ?? file.path}`;
      const known = files.get(key) ?? { file, holders: [], processes: 0 };
      if (known.processes === 0) files.set(key, known);
      known.processes += 1;
      if (known.holders.length === HOLDERS_MAX) continue;
      const { executable } = process;
      const isExecutable = executable?.path === file.path && executable.inode === BigInt(file.inode);
      known.holders.push({ process, range: file.range, isExecutable });
    }
  }
  return [...files.values()];
}

interface Hasher {
  /** The same file through one process after the other, until one has it. A failure is a gap. */
  hash(name: string, sources: readonly ContentSource[]): Promise<FileDigest | { kind: 'refused'; why: string }>;
  readonly counts: { readonly files: number; readonly bytes: number };
}

function createHasher(
  reader: ProcfsReader,
  budgetBytes: number,
  signal: AbortSignal,
  gap: (gap: ScanGap) => void,
): Hasher {
  const counts = { files: 0, bytes: 0 };
  let stalls = 0;
  return {
    counts,
    async hash(name, sources) {
      let why = 'no process is left that has it';
      let errno: string | undefined;
      for (const source of sources) {
        const limitBytes = Math.min(FILE_BYTES_MAX, budgetBytes - counts.bytes);
        if (limitBytes <= 0) why = `the budget of ${budgetBytes} bytes for hashing is spent`;
        if (stalls >= STALLS_MAX) why = `not read: ${STALLS_MAX} files blocked the reader`;
        if (limitBytes <= 0 || stalls >= STALLS_MAX) break;
        const digest = await digestOf(reader, source, limitBytes, signal);
        if (digest.kind === 'refused') {
          ({ why, errno } = digest);
          if (!digest.stalled) continue;
          stalls += 1;
          break;
        }
        counts.files += 1;
        counts.bytes += digest.sizeBytes;
        if (digest.truncated) {
          const cut = `the file is longer than ${digest.sizeBytes} bytes`;
          gap({ pid: source.pid, what: `pid ${source.pid} SHA-256 of ${name}`, why: cut });
        }
        return digest;
      }
      const pid = sources[0]?.pid ?? 0;
      gap({ pid, what: `pid ${pid} SHA-256 of ${name}`, why, ...(errno === undefined ? {} : { errno }) });
      return { kind: 'refused', why };
    },
  };
}
