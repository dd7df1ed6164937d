import { isUtf8 } from 'node:buffer';

/**
 * How names, types and modes stand in a body file of The Sleuth Kit, version 3:
 * `MD5|name|inode|mode_as_string|UID|GID|size|atime|mtime|ctime|crtime`.
 */

/** tsk_fs_meta_type_str: the letters of TSK for what a name and its inode are. */
export const BODY_LETTERS = {
  file: 'r',
  hardlink: 'r',
  directory: 'd',
  symlink: 'l',
  fifo: 'p',
  socket: 's',
  'character-device': 'c',
  'block-device': 'b',
  whiteout: 'w',
} as const;

export type BodyKind = keyof typeof BODY_LETTERS;

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

/** As ls(1) writes them: `rwsr-xr-t`. What is not of permissions, setuid, setgid and sticky is left out. */
export function permissions(modeBits: number): string {
  const mode = modeBits & 0o7777;
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
