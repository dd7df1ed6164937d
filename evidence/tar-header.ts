import { isUtf8 } from 'node:buffer';
import { ExhibitError } from './error.ts';
import type { Member } from './manifest.ts';
import { toBytes } from './member-path.ts';
import type { TarHeader } from './tar.ts';

/**
 * Tar headers as bytes: POSIX ustar, with a pax extended header before it for all that ustar cannot say (IEEE Std 1003.1,
 * pax). Written here because tar-stream's packer goes through JavaScript strings and 32-bit numbers: it clamps ids above
 * 262143, wraps dates after 2038, mangles names and xattrs that are not UTF-8, makes mode 0 into 0644, and refuses a pax
 * header given as bytes. The same header always gives the same bytes.
 *
 * A million of them are made for one capture, so they are written where they are wanted, and names and records are joined as
 * text of one character a byte (Latin-1), which V8 does several times as fast as with buffers.
 */

export const BLOCK_BYTES = 512;

const TYPE_FLAGS: Readonly<Record<Member['type'], string>> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  'character-device': '3',
  'block-device': '4',
  directory: '5',
  fifo: '6',
};

/** ustar's fields of 8 and 12 bytes hold 7 and 11 octal digits and a NUL. */
const MAX_OCTAL_7 = 0o7777777;
const MAX_OCTAL_11 = 0o77777777777;
const NAME_BYTES = 100;
const PRINTABLE = /^[\x20-\x7e]*$/;

/** How many bytes of zeros follow `sizeBytes` of content up to the next block. */
export function paddingAfter(sizeBytes: number): number {
  return (BLOCK_BYTES - (sizeBytes % BLOCK_BYTES)) % BLOCK_BYTES;
}

/** A header that is ready to be written; names and records in Latin-1. */
export interface PlannedHeader {
  /** Of all blocks that come before the content. */
  readonly bytes: number;
  /** Of the content. */
  readonly sizeBytes: number;
  readonly path: string;
  readonly link: string;
  readonly records: string;
}

/** Throws ExhibitError `internal` for an impossible header. */
export function planHeader(header: TarHeader): PlannedHeader {
  const path = latin1(header.path);
  const needsLink = header.type === 'symlink' || header.type === 'hardlink';
  const link = needsLink && header.linkPath !== undefined ? latin1(header.linkPath) : undefined;
  if (path.length === 0 || path.includes('\0') || (needsLink && (link === undefined || link.includes('\0')))) {
    throw new ExhibitError('internal', `a ${header.type} cannot be archived without a name and, for links, a target`);
  }
  const sizeBytes = header.type === 'file' ? (header.sizeBytes ?? 0) : 0;
  const records = paxRecords(header, path, link, sizeBytes);
  const paxBytes = records === '' ? 0 : BLOCK_BYTES + records.length + paddingAfter(records.length);
  return { bytes: paxBytes + BLOCK_BYTES, sizeBytes, path, link: link ?? '', records };
}

/** Writes all blocks of a header to `into`, which has room for them at `at`. */
export function writeHeader(header: TarHeader, planned: PlannedHeader, into: Buffer, at: number): void {
  const { path, link, records, sizeBytes } = planned;
  const mainAt = at + planned.bytes - BLOCK_BYTES;
  if (records !== '') writePaxHeader(records, into, at, mainAt);
  const seconds = Number(floorSeconds(header.mtimeNs ?? 0n));
  writeUstar(into, mainAt, {
    name: asciiName(path),
    mode: header.mode ?? 0o600,
    uid: Math.min(header.uid ?? 0, MAX_OCTAL_7),
    gid: Math.min(header.gid ?? 0, MAX_OCTAL_7),
    sizeBytes,
    seconds: Math.min(Math.max(seconds, 0), MAX_OCTAL_11),
    typeFlag: TYPE_FLAGS[header.type],
    linkName: asciiName(link),
    deviceMajor: header.deviceMajor ?? 0,
    deviceMinor: header.deviceMinor ?? 0,
  });
}

/** Both in a buffer of its own. */
export function encodeHeader(header: TarHeader): Buffer {
  const planned = planHeader(header);
  const blocks = Buffer.alloc(planned.bytes);
  writeHeader(header, planned, blocks, 0);
  return blocks;
}

function latin1(bytes: string | Uint8Array): string {
  return toBytes(bytes).toString('latin1');
}

interface Ustar {
  readonly name: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  readonly seconds: number;
  readonly typeFlag: string;
  readonly linkName: string;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
}

function writeUstar(into: Buffer, at: number, fields: Ustar): void {
  into.fill(0, at, at + BLOCK_BYTES);
  into.write(fields.name, at, 'latin1');
  writeOctal(into, at + 100, fields.mode & 0o7777, 7);
  writeOctal(into, at + 108, fields.uid, 7);
  writeOctal(into, at + 116, fields.gid, 7);
  writeSize(into, at + 124, fields.sizeBytes);
  writeOctal(into, at + 136, fields.seconds, 11);
  // The checksum is made with its own field full of spaces.
  into.fill(0x20, at + 148, at + 156);
  into.write(fields.typeFlag, at + 156, 'latin1');
  if (fields.linkName !== '') into.write(fields.linkName, at + 157, 'latin1');
  into.write('ustar\x0000', at + 257, 'latin1');
  writeOctal(into, at + 329, fields.deviceMajor, 7);
  writeOctal(into, at + 337, fields.deviceMinor, 7);
  let sum = 0;
  for (let byte = at; byte < at + BLOCK_BYTES; byte += 1) sum += into[byte] ?? 0;
  writeOctal(into, at + 148, sum, 6);
  into[at + 154] = 0;
}

/** From 8 GiB on in GNU's base 256, for readers that do not know pax. */
function writeSize(into: Buffer, at: number, sizeBytes: number): void {
  if (sizeBytes <= MAX_OCTAL_11) writeOctal(into, at, sizeBytes, 11);
  else {
    into.writeUInt8(0x80, at);
    into.writeBigUInt64BE(BigInt(sizeBytes), at + 4);
  }
}

/** Digits with zeros before them. */
function writeOctal(into: Buffer, at: number, value: number, digits: number): void {
  let rest = value;
  for (let place = at + digits - 1; place >= at; place -= 1) {
    into[place] = 0x30 + (rest % 8);
    rest = Math.floor(rest / 8);
  }
}

/** The sum of all bytes of a header, as its checksum field wants it. */
export function checksum(block: Uint8Array): number {
  let sum = 0;
  for (const byte of block) sum += byte;
  return sum;
}

/** A name that fits ustar's field; the real one, if it is another, is in the pax header. */
function asciiName(name: string): string {
  const start = name.length > NAME_BYTES ? name.slice(0, NAME_BYTES) : name;
  return PRINTABLE.test(start) ? start : start.replaceAll(/[^\x20-\x7e]/g, '_');
}

function isPlain(name: string): boolean {
  return name.length <= NAME_BYTES && PRINTABLE.test(name);
}

function paxRecords(header: TarHeader, path: string, link: string | undefined, sizeBytes: number): string {
  let records = '';
  const add = (key: string, value: string) => {
    records += paxRecord(key, value);
  };
  const plain = isPlain(path);
  const plainLink = link === undefined || isPlain(link);
  // POSIX: without this, names in a pax header are UTF-8.
  if (!(plain || isUtf8Name(path)) || !(plainLink || isUtf8Name(link))) add('hdrcharset', 'BINARY');
  if (!plain) add('path', path);
  if (!plainLink) add('linkpath', link);
  if (sizeBytes > MAX_OCTAL_11) add('size', String(sizeBytes));
  if ((header.uid ?? 0) > MAX_OCTAL_7) add('uid', String(header.uid));
  if ((header.gid ?? 0) > MAX_OCTAL_7) add('gid', String(header.gid));
  const { mtimeNs = 0n } = header;
  if (mtimeNs < 0n || mtimeNs % 1_000_000_000n !== 0n || floorSeconds(mtimeNs) > BigInt(MAX_OCTAL_11)) {
    add('mtime', decimalSeconds(mtimeNs));
  }
  if (header.atimeNs !== undefined) add('atime', decimalSeconds(header.atimeNs));
  if (header.ctimeNs !== undefined) add('ctime', decimalSeconds(header.ctimeNs));
  if (header.xattrs === undefined || header.xattrs.size === 0) return records;
  const xattrs = [...header.xattrs].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [name, value] of xattrs) add(`SCHILY.xattr.${latin1(escapeKey(name))}`, latin1(value));
  return records;
}

function isUtf8Name(name: string): boolean {
  return isUtf8(Buffer.from(name, 'latin1'));
}

/**
 * GNU tar's way to keep the record's own `=` apart from one in an attribute's name. A `%` that it would not take for its own
 * stays, for readers that know nothing of that.
 */
function escapeKey(name: string): string {
  return name.replaceAll(/%(?=25|3D)/g, '%25').replaceAll('=', '%3D');
}

/** `<length> <key>=<value>\n`, where the length counts itself. */
function paxRecord(key: string, value: string): string {
  const rest = key.length + value.length + 3;
  let length = rest + String(rest).length;
  if (String(length).length !== String(rest).length) length += 1;
  return `${length} ${key}=${value}\n`;
}

function writePaxHeader(records: string, into: Buffer, at: number, end: number): void {
  writeUstar(into, at, {
    name: 'PaxHeaders/0',
    mode: 0o644,
    uid: 0,
    gid: 0,
    sizeBytes: records.length,
    seconds: 0,
    typeFlag: 'x',
    linkName: '',
    deviceMajor: 0,
    deviceMinor: 0,
  });
  const recordsAt = at + BLOCK_BYTES;
  into.write(records, recordsAt, 'latin1');
  into.fill(0, recordsAt + records.length, end);
}

/** Seconds since the epoch, rounded towards the past. */
function floorSeconds(ns: bigint): bigint {
  const seconds = ns / 1_000_000_000n;
  return ns < 0n && ns % 1_000_000_000n !== 0n ? seconds - 1n : seconds;
}

/** Exact: `-1.5` for a second and a half before 1970. */
function decimalSeconds(ns: bigint): string {
  const digits = String(ns < 0n ? -ns : ns).padStart(10, '0');
  let end = digits.length;
  while (end > digits.length - 9 && digits.charCodeAt(end - 1) === 0x30) end -= 1;
  const fraction = digits.slice(-9, end);
  const whole = (ns < 0n ? '-' : '') + digits.slice(0, -9);
  return fraction === '' ? whole : `${whole}.${fraction}`;
}
