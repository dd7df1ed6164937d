import { BODY_LETTERS, bodyName, permissions } from '../../evidence/bodyfile.ts';
import type { NodeKind } from '../host/directory.ts';

/**
 * One line of a body file, version 3 of The Sleuth Kit: `MD5|name|inode|mode_as_string|UID|GID|size|atime|mtime|ctime|crtime`.
 * mactime splits at `|`, decodes `%XX` in every field and takes fractions of seconds (it cuts them); plaso keeps them.
 */
export interface BodyEntry {
  /** Absolute, as the container saw it. */
  readonly path: Buffer;
  readonly linkPath: Buffer | undefined;
  readonly kind: NodeKind | 'whiteout';
  readonly inode: bigint;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly sizeBytes: bigint;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly birthNs: bigint;
}

export function bodyLine(entry: BodyEntry): string {
  const { kind, mode, atimeNs, mtimeNs, ctimeNs, birthNs } = entry;
  const link = entry.linkPath === undefined ? '' : ` -> ${bodyName(entry.linkPath)}`;
  const deleted = kind === 'whiteout' ? ' (deleted)' : '';
  const letter = BODY_LETTERS[kind];
  const times = `${seconds(atimeNs)}|${seconds(mtimeNs)}|${seconds(ctimeNs)}|${seconds(birthNs)}`;
  const owner = `${entry.uid}|${entry.gid}|${entry.sizeBytes}`;
  return `0|/${bodyName(entry.path)}${link}${deleted}|${entry.inode}|${letter}/${letter}${permissions(mode)}|${owner}|${times}`;
}

/** Nanoseconds since the epoch as seconds with nine decimals. */
function seconds(ns: bigint): string {
  const digits = String(ns < 0n ? -ns : ns).padStart(10, '0');
  return `${ns < 0n ? '-' : ''}${digits.slice(0, -9)}.${digits.slice(-9)}`;
}
