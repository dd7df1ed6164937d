import type { Member } from './manifest.ts';

/** A member to write. Paths are bytes where the name is not UTF-8. Times in nanoseconds since the epoch. */
export interface TarHeader {
  readonly path: string | Uint8Array;
  readonly type: Member['type'];
  /** Of a file's content; 0 for everything else. */
  readonly sizeBytes?: number;
  /** Permission bits with setuid, setgid and sticky; 0o600 when absent. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtimeNs?: bigint;
  readonly atimeNs?: bigint;
  readonly ctimeNs?: bigint;
  /** Target of a symlink or hardlink. */
  readonly linkPath?: string | Uint8Array;
  readonly deviceMajor?: number;
  readonly deviceMinor?: number;
  /** Written as SCHILY.xattr.* records. */
  readonly xattrs?: ReadonlyMap<string, Uint8Array>;
}

/** What was written, as the manifest lists it, and how many bytes of content really came before padding. */
export interface WrittenMember {
  readonly member: Member;
  readonly bodyBytes: number;
}
