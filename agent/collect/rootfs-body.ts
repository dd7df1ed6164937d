import { isUtf8 } from 'node:buffer';
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
  const { kind, mode, atimeNs, mtimeNs, ctimeNs, birthNs } = entry;
  const link = entry.linkPath === undefined ? '' : ` -> ${bodyName(entry.linkPath)}`;
  const deleted = kind === 'whiteout' ? ' (deleted)' : '';
  const letter = LETTERS[kind];
  const times = `${seconds(atimeNs)}|${seconds(mtimeNs)}|${seconds(ctimeNs)}|${seconds(birthNs)}`;
  const owner = `${entry.uid}|${entry.gid}|${entry.sizeBytes}`;
  return `0|/${bodyName(entry.path)}${link}${deleted}|${entry.inode}|${letter}/${letter}${permissions(mode)}|${owner}|${times}`;
}

/**
 * `%`, `|` and the backslash as `%XX`, which mactime turns back. Control bytes and what is not UTF-8 as `\xHH`, which it
 * leaves: a newline, decoded, would make it drop the line, and an escape sequence would reach the reader's terminal.
 */
export function bodyName(name: Buffer): string {
  const utf8 = isUtf8(name);
  const text = name.toString('utf8');
  if (utf8 && (/^[\x20-\x7e]*$/.test(text) ? !/[%|\\]/.test(text) : /^[^\p{C}%|\\\ufffd]*$/u.test(text))) return text;
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
  const known = KNOWN_PERMISSIONS[mode];
  if (known !== undefined) return known;
  const triple = (shift: number, special: boolean, letter: string): string => {
    const bits = (mode >> shift) & 7;
    const execute = (bits & 1) === 1;
    const last = special ? (execute ? letter : letter.toUpperCase()) : execute ? 'x' : '-';
    return `${(bits & 4) === 0 ? '-' : 'r'}${(bits & 2) === 0 ? '-' : 'w'}${last}`;
  };
  const text =
    triple(6, (mode & 0o4000) !== 0, 's') +
    triple(3, (mode & 0o2000) !== 0, 's') +
    triple(0, (mode & 0o1000) !== 0, 't');
  KNOWN_PERMISSIONS[mode] = text;
  return text;
}

/** By mode: at most 4096. */
const KNOWN_PERMISSIONS: string[] = [];

/** Nanoseconds since the epoch as seconds with nine decimals. */
function seconds(ns: bigint): string {
  const digits = String(ns < 0n ? -ns : ns).padStart(10, '0');
  return `${ns < 0n ? '-' : ''}${digits.slice(0, -9)}.${digits.slice(-9)}`;
}
