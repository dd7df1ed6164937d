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

/** tsk_fs_meta_type_str: the letters of TSK for what a name and its inode are. */
const LETTERS: Readonly<Record<BodyEntry['kind'], string>> = {
  file: 'r',
  directory: 'd',
  symlink: 'l',
  fifo: 'p',
  socket: 's',
  'character-device': 'c',
  'block-device': 'b',
  whiteout: 'w',
};

export function bodyLine(entry: BodyEntry): string {
  const link = entry.linkPath === undefined ? '' : ` -> ${bodyName(entry.linkPath)}`;
  const deleted = entry.kind === 'whiteout' ? ' (deleted)' : '';
  const letter = LETTERS[entry.kind];
  return [
    '0',
    `/${bodyName(entry.path)}${link}${deleted}`,
    entry.inode,
    `${letter}/${letter}${permissions(entry.mode)}`,
    entry.uid,
    entry.gid,
    entry.sizeBytes,
    ...[entry.atimeNs, entry.mtimeNs, entry.ctimeNs, entry.birthNs].map(seconds),
  ].join('|');
}

/**
 * `%`, `|` and the backslash as `%XX`, which mactime turns back. Control bytes and what is not UTF-8 as `\xHH`, which it
 * leaves: a newline, decoded, would make it drop the line, and an escape sequence would reach the reader's terminal.
 */
export function bodyName(name: Buffer): string {
  const text = name.toString('utf8');
  if (/^[^\p{C}%|\\]*$/u.test(text) && !text.includes('\ufffd')) return text;
  const utf8 = Buffer.from(text).equals(name);
  const units = utf8 ? Array.from(text) : Array.from(name, (byte) => (byte < 0x80 ? String.fromCharCode(byte) : byte));
  return units.map(escapeUnit).join('');
}

function escapeUnit(unit: string | number): string {
  if (typeof unit === 'number') return hex(unit);
  if (unit === '%' || unit === '|' || unit === '\\') return `%${unit.charCodeAt(0).toString(16).toUpperCase()}`;
  return /\p{C}/u.test(unit) ? Array.from(Buffer.from(unit), hex).join('') : unit;
}

function hex(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, '0')}`;
}

/** As ls(1) writes them: `rwsr-xr-t`. */
export function permissions(mode: number): string {
  const triple = (shift: number, special: boolean, letter: string): string => {
    const bits = (mode >> shift) & 7;
    const execute = (bits & 1) === 1;
    const last = special ? (execute ? letter : letter.toUpperCase()) : execute ? 'x' : '-';
    return `${(bits & 4) === 0 ? '-' : 'r'}${(bits & 2) === 0 ? '-' : 'w'}${last}`;
  };
  return (
    triple(6, (mode & 0o4000) !== 0, 's') +
    triple(3, (mode & 0o2000) !== 0, 's') +
    triple(0, (mode & 0o1000) !== 0, 't')
  );
}

/** Nanoseconds since the epoch as seconds with nine decimals. */
function seconds(ns: bigint): string {
  const magnitude = ns < 0n ? -ns : ns;
  return `${ns < 0n ? '-' : ''}${magnitude / 1_000_000_000n}.${String(magnitude % 1_000_000_000n).padStart(9, '0')}`;
}
