import { ExhibitError } from './error.ts';
import type { Member } from './manifest.ts';
import { toBytes } from './member-path.ts';
import type { TarHeader } from './tar.ts';

/**
 * Tar headers as bytes: POSIX ustar, with a pax extended header before it for all that ustar cannot say (IEEE Std 1003.1,
 * pax). Written here because tar-stream's packer goes through JavaScript strings and 32-bit numbers: it clamps ids above
 * 262143, wraps dates after 2038, mangles names and xattrs that are not UTF-8, makes mode 0 into 0644, and refuses a pax
 * header given as bytes. The same header always gives the same bytes.
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

/** How many bytes of zeros follow `sizeBytes` of content up to the next block. */
export function paddingAfter(sizeBytes: number): number {
  return (BLOCK_BYTES - (sizeBytes % BLOCK_BYTES)) % BLOCK_BYTES;
}

/** All blocks that come before the content of `header`'s member. Throws ExhibitError `internal` for an impossible header. */
export function encodeHeader(header: TarHeader): Buffer {
  const path = toBytes(header.path);
  const link = header.linkPath === undefined ? undefined : toBytes(header.linkPath);
  const needsLink = header.type === 'symlink' || header.type === 'hardlink';
  if (path.length === 0 || path.includes(0) || (needsLink && (link === undefined || link.includes(0)))) {
    throw new ExhibitError('internal', `a ${header.type} cannot be archived without a name and, for links, a target`);
  }
  const sizeBytes = header.type === 'file' ? (header.sizeBytes ?? 0) : 0;
  const records = paxRecords(header, path, needsLink ? link : undefined, sizeBytes);
  const seconds = Number(floorSeconds(header.mtimeNs ?? 0n));
  const main = ustar({
    name: asciiName(path),
    mode: header.mode ?? 0o600,
    uid: Math.min(header.uid ?? 0, MAX_OCTAL_7),
    gid: Math.min(header.gid ?? 0, MAX_OCTAL_7),
    sizeBytes,
    seconds: Math.min(Math.max(seconds, 0), MAX_OCTAL_11),
    typeFlag: TYPE_FLAGS[header.type],
    linkName: needsLink && link !== undefined ? asciiName(link) : '',
    deviceMajor: header.deviceMajor ?? 0,
    deviceMinor: header.deviceMinor ?? 0,
  });
  return records.length === 0 ? main : Buffer.concat([paxHeader(records), main]);
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

function ustar(fields: Ustar): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  block.write(fields.name, 0, NAME_BYTES, 'latin1');
  block.write(octal(fields.mode & 0o7777, 7), 100, 'latin1');
  block.write(octal(fields.uid, 7), 108, 'latin1');
  block.write(octal(fields.gid, 7), 116, 'latin1');
  writeSize(block, fields.sizeBytes);
  block.write(octal(fields.seconds, 11), 136, 'latin1');
  block.write(fields.typeFlag, 156, 'latin1');
  block.write(fields.linkName, 157, NAME_BYTES, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  block.write(octal(fields.deviceMajor, 7), 329, 'latin1');
  block.write(octal(fields.deviceMinor, 7), 337, 'latin1');
  // The checksum is made with its own field full of spaces.
  block.write('        ', 148, 'latin1');
  block.write(`${octal(checksum(block), 6)}\0 `, 148, 'latin1');
  return block;
}

/** From 8 GiB on in GNU's base 256, for readers that do not know pax. */
function writeSize(block: Buffer, sizeBytes: number): void {
  if (sizeBytes <= MAX_OCTAL_11) block.write(octal(sizeBytes, 11), 124, 'latin1');
  else {
    block.writeUInt8(0x80, 124);
    block.writeBigUInt64BE(BigInt(sizeBytes), 128);
  }
}

/** The sum of all bytes of a header, as its checksum field wants it. */
export function checksum(block: Uint8Array): number {
  let sum = 0;
  for (const byte of block) sum += byte;
  return sum;
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0');
}

/** A name that fits ustar's field; the real one, if it is another, is in the pax header. */
function asciiName(bytes: Buffer): string {
  return bytes
    .subarray(0, NAME_BYTES)
    .toString('latin1')
    .replaceAll(/[^\x20-\x7e]/g, '_');
}

function isPlain(bytes: Buffer): boolean {
  return bytes.length <= NAME_BYTES && bytes.every((byte) => byte >= 0x20 && byte <= 0x7e);
}

function isUtf8(bytes: Buffer): boolean {
  return Buffer.from(bytes.toString('utf8')).equals(bytes);
}

function paxRecords(header: TarHeader, path: Buffer, link: Buffer | undefined, sizeBytes: number): Buffer[] {
  const records: Buffer[] = [];
  const add = (key: string, value: string | Uint8Array) => records.push(paxRecord(key, value));
  const names = link === undefined ? [path] : [path, link];
  // POSIX: without this, names in a pax header are UTF-8.
  if (!names.every(isUtf8)) add('hdrcharset', 'BINARY');
  if (!isPlain(path)) add('path', path);
  if (link !== undefined && !isPlain(link)) add('linkpath', link);
  if (sizeBytes > MAX_OCTAL_11) add('size', String(sizeBytes));
  if ((header.uid ?? 0) > MAX_OCTAL_7) add('uid', String(header.uid));
  if ((header.gid ?? 0) > MAX_OCTAL_7) add('gid', String(header.gid));
  const { mtimeNs = 0n } = header;
  if (mtimeNs < 0n || mtimeNs % 1_000_000_000n !== 0n || floorSeconds(mtimeNs) > BigInt(MAX_OCTAL_11)) {
    add('mtime', decimalSeconds(mtimeNs));
  }
  if (header.atimeNs !== undefined) add('atime', decimalSeconds(header.atimeNs));
  if (header.ctimeNs !== undefined) add('ctime', decimalSeconds(header.ctimeNs));
  const xattrs = [...(header.xattrs ?? [])].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [name, value] of xattrs) add(`SCHILY.xattr.${escapeKey(name)}`, value);
  return records;
}

/**
 * GNU tar's way to keep the record's own `=` apart from one in an attribute's name. A `%` that it would not take for its own
 * stays, for readers that know nothing of that.
 */
function escapeKey(name: string): string {
  return name.replaceAll(/%(?=25|3D)/g, '%25').replaceAll('=', '%3D');
}

/** `<length> <key>=<value>\n`, where the length counts itself. */
function paxRecord(key: string, value: string | Uint8Array): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), toBytes(value), Buffer.from('\n')]);
  let length = rest.length + String(rest.length).length;
  if (String(length).length !== String(rest.length).length) length += 1;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

function paxHeader(records: readonly Buffer[]): Buffer {
  const body = Buffer.concat(records);
  const head = ustar({
    name: 'PaxHeaders/0',
    mode: 0o644,
    uid: 0,
    gid: 0,
    sizeBytes: body.length,
    seconds: 0,
    typeFlag: 'x',
    linkName: '',
    deviceMajor: 0,
    deviceMinor: 0,
  });
  return Buffer.concat([head, body, Buffer.alloc(paddingAfter(body.length))]);
}

/** Seconds since the epoch, rounded towards the past. */
function floorSeconds(ns: bigint): bigint {
  const seconds = ns / 1_000_000_000n;
  return ns < 0n && ns % 1_000_000_000n !== 0n ? seconds - 1n : seconds;
}

/** Exact: `-1.5` for a second and a half before 1970. */
function decimalSeconds(ns: bigint): string {
  const magnitude = ns < 0n ? -ns : ns;
  const fraction = String(magnitude % 1_000_000_000n)
    .padStart(9, '0')
    .replace(/0+$/, '');
  const whole = `${ns < 0n ? '-' : ''}${magnitude / 1_000_000_000n}`;
  return fraction === '' ? whole : `${whole}.${fraction}`;
}
