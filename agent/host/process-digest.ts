import type { ProcessRecord } from './process.ts';
import type { ScanGap } from './process-scan.ts';
import { digestOf } from './procfs-content.ts';
import type { ProcfsReader } from './procfs-reader.ts';

/** At 1 to 2 GB/s from the page cache. Larger executables exist (some static Go and CUDA programs), but not many. */
const FILE_BYTES_MAX = 2 * 1024 * 1024 * 1024;

export interface HashedExecutables {
  /** Distinct inodes. */
  readonly files: number;
  readonly bytes: number;
}

/** Sets `executable.sha256` for every process, each inode read once. Beyond `budgetBytes` in all, it is a gap. */
export async function hashExecutables(
  reader: ProcfsReader,
  processes: readonly Pick<ProcessRecord, 'pid' | 'executable'>[],
  budgetBytes: number,
  signal: AbortSignal,
  gap: (gap: ScanGap) => void,
): Promise<HashedExecutables> {
  const known = new Map<string, string | undefined>();
  let bytes = 0;
  for (const { pid, executable } of processes) {
    if (executable?.inode === undefined || executable.device === undefined) continue;
    const key = `${executable.device} ${executable.inode}`;
    if (!known.has(key)) {
      const what = `pid ${pid} SHA-256 of exe`;
      const limitBytes = Math.min(FILE_BYTES_MAX, budgetBytes - bytes);
      if (limitBytes <= 0) {
        gap({ pid, what, why: `the budget of ${budgetBytes} bytes for hashing is spent` });
        continue;
      }
      const source = { pid, name: 'exe', device: executable.device, inode: executable.inode };
      const digest = await digestOf(reader, source, limitBytes, signal);
      if (digest.kind === 'refused') {
        gap({ pid, what, why: digest.why, ...(digest.errno === undefined ? {} : { errno: digest.errno }) });
        // Another process with the same executable may still be there.
        continue;
      }
      bytes += digest.sizeBytes;
      if (digest.truncated) gap({ pid, what, why: `the file is longer than ${digest.sizeBytes} bytes` });
      known.set(key, digest.truncated ? undefined : digest.sha256);
    }
    const sha256 = known.get(key);
    if (sha256 !== undefined) executable.sha256 = sha256;
  }
  return { files: known.size, bytes };
}
