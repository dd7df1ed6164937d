import { latin1, type Worded, worded } from './decode.ts';
import { isDeletedName, isMemfdName } from './process-maps.ts';
import type { ProcessReading } from './process-read.ts';

export type ExecutableRecord = Worded<'path'> & {
  readonly deleted: boolean;
  readonly memfd: boolean;
  readonly device?: bigint;
  readonly inode?: bigint;
  readonly links?: number;
  readonly sizeBytes?: bigint;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly modifiedAt?: string;
  readonly changedAt?: string;
};

/** What `exe` is a link to, and what stat(2) says of it. */
export function executableOf(reading: ProcessReading): ExecutableRecord | undefined {
  const link = reading.links.exe;
  if (link?.kind !== 'read') return undefined;
  const text = latin1(link.bytes);
  const { executable } = reading;
  const found = executable !== undefined && 'links' in executable ? executable : undefined;
  const memfd = isMemfdName(text);
  return {
    ...worded('path', link.bytes),
    deleted: found?.links === 0 || isDeletedName(text),
    memfd,
    ...(found
      ? {
          device: found.device,
          inode: found.inode,
          links: found.links,
          sizeBytes: found.sizeBytes,
          mode: found.mode,
          uid: found.uid,
          gid: found.gid,
          ...timesOf(found.modifiedNs, found.changedNs),
        }
      : {}),
  };
}

function timesOf(modifiedNs: bigint, changedNs: bigint): { modifiedAt?: string; changedAt?: string } {
  const modified = isoOf(modifiedNs);
  const changed = isoOf(changedNs);
  return { ...(modified ? { modifiedAt: modified } : {}), ...(changed ? { changedAt: changed } : {}) };
}

/** RFC 3339 with nanoseconds; undefined beyond what a date can be. */
function isoOf(ns: bigint): string | undefined {
  const seconds = ns >= 0n ? ns / 1_000_000_000n : (ns - 999_999_999n) / 1_000_000_000n;
  const date = new Date(Number(seconds) * 1000);
  if (Number.isNaN(date.getTime())) return undefined;
  return date.toISOString().replace(/\.\d+Z$/, `.${String(ns - seconds * 1_000_000_000n).padStart(9, '0')}Z`);
}
