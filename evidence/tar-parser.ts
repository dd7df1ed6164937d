import { ExhibitError } from './error.ts';
import type { Member } from './manifest.ts';
import { readPax } from './pax.ts';
import type { TarHeader } from './tar.ts';
import { BLOCK_BYTES, checksum, paddingAfter } from './tar-header.ts';

/**
 * Reads any tar as it is pushed past: v7, ustar, pax and GNU long names. Nothing in it is trusted: every length has a
 * bound, every header a checksum, and what cannot be understood is an ExhibitError `bundle-corrupt`, never a guess. Names
 * and attributes stay bytes, which tar-stream's extractor cannot do.
 */
export type TarEvent =
  | { readonly kind: 'member'; readonly header: ParsedHeader }
  /** A piece of the last member's content; a view into the chunk that was pushed. */
  | { readonly kind: 'data'; readonly bytes: Uint8Array }
  | { readonly kind: 'member-end' };

/** A member as the archive describes it, with nothing left to guess. */
export interface ParsedHeader extends TarHeader {
  readonly path: Buffer;
  readonly sizeBytes: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeNs: bigint;
}

/** A pax header or a GNU long name is held in memory: room for many attributes of 64 KiB (the kernel's limit for one). */
export const MAX_META_BYTES = 8 * 1024 * 1024;

type Meta = 'x' | 'g' | 'L' | 'K';
type State =
  | { readonly kind: 'header' }
  | { readonly kind: 'meta'; readonly flag: Meta; readonly sizeBytes: number }
  | { readonly kind: 'body' }
  | { readonly kind: 'padding' }
  /** After the first block of zeros: only zeros may follow. */
  | { readonly kind: 'ended' };

export class TarParser {
  #state: State = { kind: 'header' };
  /** Bytes of the block or meta body that is being gathered. */
  #gathered: Buffer[] = [];
  #gatheredBytes = 0;
  /** Of the body or padding that is passing. */
  #leftBytes = 0;
  #paddingBytes = 0;
  #global: ReadonlyMap<string, Buffer> = new Map();
  #local: ReadonlyMap<string, Buffer> = new Map();
  #longPath: Buffer | undefined;
  #longLink: Buffer | undefined;

  /** What `chunk` completes, in order. Throws ExhibitError `bundle-corrupt`; after that nothing more may be pushed. */
  *push(chunk: Uint8Array): Generator<TarEvent> {
    for (let at = 0; at < chunk.length; ) {
      const rest = chunk.subarray(at);
      switch (this.#state.kind) {
        case 'header':
          at += this.#gather(rest, BLOCK_BYTES);
          if (this.#gatheredBytes === BLOCK_BYTES) yield* this.#header(this.#takeGathered());
          break;
        case 'meta':
          at += this.#gather(rest, this.#state.sizeBytes);
          if (this.#gatheredBytes === this.#state.sizeBytes) this.#meta(this.#state.flag, this.#takeGathered());
          break;
        case 'body': {
          const bytes = rest.subarray(0, this.#leftBytes);
          at += bytes.length;
          this.#leftBytes -= bytes.length;
          yield { kind: 'data', bytes };
          if (this.#leftBytes === 0) yield* this.#memberEnd();
          break;
        }
        case 'padding': {
          const skipped = Math.min(rest.length, this.#leftBytes);
          at += skipped;
          this.#leftBytes -= skipped;
          if (this.#leftBytes === 0) this.#state = { kind: 'header' };
          break;
        }
        case 'ended':
          if (rest.some((byte) => byte !== 0)) throw corrupt('there is something after the end of the archive');
          return;
        default:
          this.#state satisfies never;
      }
    }
  }

  /** Throws ExhibitError `bundle-corrupt` when the archive has not ended. */
  end(): void {
    if (this.#state.kind !== 'ended') throw corrupt('the archive is cut: it has no end mark');
  }

  #gather(bytes: Uint8Array, wanted: number): number {
    const part = Buffer.from(bytes.subarray(0, wanted - this.#gatheredBytes));
    this.#gathered.push(part);
    this.#gatheredBytes += part.length;
    // A chunk of one byte costs more in the list than in the buffer.
    if (this.#gathered.length > 1024) this.#gathered = [Buffer.concat(this.#gathered)];
    return part.length;
  }

  #takeGathered(): Buffer {
    const bytes = Buffer.concat(this.#gathered);
    this.#gathered = [];
    this.#gatheredBytes = 0;
    return bytes;
  }

  *#header(block: Buffer): Generator<TarEvent> {
    if (block.every((byte) => byte === 0)) {
      this.#state = { kind: 'ended' };
      return;
    }
    checkSum(block);
    const flag = String.fromCharCode(block.readUInt8(156));
    const sizeBytes = wholeNumber(block, 124, 12, 'size');
    if (flag === 'x' || flag === 'g' || flag === 'L' || flag === 'K') {
      if (sizeBytes > MAX_META_BYTES) throw corrupt(`an extended header of ${sizeBytes} bytes`);
      this.#state = { kind: 'meta', flag, sizeBytes };
      if (sizeBytes === 0) this.#meta(flag, Buffer.alloc(0));
      return;
    }
    if (flag === 'S') throw corrupt('a sparse member in the old GNU format, which is not read here');
    const header = describe(block, flag, sizeBytes, this.#takeOverrides());
    yield { kind: 'member', header };
    this.#leftBytes = header.sizeBytes;
    this.#paddingBytes = paddingAfter(header.sizeBytes);
    this.#state = { kind: 'body' };
    if (header.sizeBytes === 0) yield* this.#memberEnd();
  }

  *#memberEnd(): Generator<TarEvent> {
    this.#pad(this.#paddingBytes);
    yield { kind: 'member-end' };
  }

  #pad(bytes: number): void {
    this.#leftBytes = bytes;
    this.#state = bytes === 0 ? { kind: 'header' } : { kind: 'padding' };
  }

  #meta(flag: Meta, body: Buffer): void {
    if (flag === 'x') this.#local = readPax(body);
    else if (flag === 'g') this.#global = new Map([...this.#global, ...readPax(body)].slice(-1024));
    else if (flag === 'L') this.#longPath = untilNul(body);
    else this.#longLink = untilNul(body);
    this.#pad(paddingAfter(body.length));
  }

  #takeOverrides(): Overrides {
    const overrides = { pax: new Map([...this.#global, ...this.#local]), path: this.#longPath, link: this.#longLink };
    this.#local = new Map();
    this.#longPath = undefined;
    this.#longLink = undefined;
    return overrides;
  }
}

interface Overrides {
  readonly pax: ReadonlyMap<string, Buffer>;
  readonly path: Buffer | undefined;
  readonly link: Buffer | undefined;
}

function describe(block: Buffer, flag: string, blockSize: number, overrides: Overrides): ParsedHeader {
  const { pax } = overrides;
  const path = pax.get('path') ?? overrides.path ?? ustarPath(block);
  if (path.length === 0 || path.includes(0)) throw corrupt('a member without a name');
  const type = typeOf(flag, path);
  const link = pax.get('linkpath') ?? overrides.link ?? untilNul(block.subarray(157, 257));
  const isDevice = type === 'character-device' || type === 'block-device';
  const [atimeNs, ctimeNs] = [paxTime(pax, 'atime'), paxTime(pax, 'ctime')];
  const xattrs = xattrsOf(pax);
  return {
    path,
    type,
    // As Go's and GNU's readers do: only files have content, whatever the size says.
    sizeBytes: type === 'file' ? (paxNumber(pax, 'size') ?? blockSize) : 0,
    mode: wholeNumber(block, 100, 8, 'mode') & 0o7777,
    uid: paxNumber(pax, 'uid') ?? wholeNumber(block, 108, 8, 'uid'),
    gid: paxNumber(pax, 'gid') ?? wholeNumber(block, 116, 8, 'gid'),
    mtimeNs: paxTime(pax, 'mtime') ?? numberField(block, 136, 12, 'mtime') * 1_000_000_000n,
    ...(atimeNs === undefined ? {} : { atimeNs }),
    ...(ctimeNs === undefined ? {} : { ctimeNs }),
    ...(type === 'symlink' || type === 'hardlink' ? { linkPath: link } : {}),
    ...(isDevice
      ? { deviceMajor: wholeNumber(block, 329, 8, 'device'), deviceMinor: wholeNumber(block, 337, 8, 'device') }
      : {}),
    ...(xattrs.size === 0 ? {} : { xattrs }),
  };
}

/** POSIX: an unknown type is to be read as a regular file. */
function typeOf(flag: string, path: Buffer): Member['type'] {
  switch (flag) {
    case '1':
      return 'hardlink';
    case '2':
      return 'symlink';
    case '3':
      return 'character-device';
    case '4':
      return 'block-device';
    case '5':
      return 'directory';
    case '6':
      return 'fifo';
    case '\0':
      // Before ustar a folder was known by its name only.
      return path.at(-1) === 0x2f ? 'directory' : 'file';
    default:
      return 'file';
  }
}

function ustarPath(block: Buffer): Buffer {
  const name = untilNul(block.subarray(0, 100));
  // GNU's own format has `ustar ` here, and other things in the field of the prefix.
  const prefix =
    block.toString('latin1', 257, 263) === 'ustar\0' ? untilNul(block.subarray(345, 500)) : Buffer.alloc(0);
  return prefix.length === 0 ? Buffer.from(name) : Buffer.concat([prefix, Buffer.from('/'), name]);
}

function xattrsOf(pax: ReadonlyMap<string, Buffer>): ReadonlyMap<string, Uint8Array> {
  const prefix = 'SCHILY.xattr.';
  const xattrs = new Map<string, Uint8Array>();
  for (const [key, value] of pax) {
    if (key.startsWith(prefix))
      xattrs.set(key.slice(prefix.length).replaceAll('%3D', '=').replaceAll('%25', '%'), value);
  }
  return xattrs;
}

function paxNumber(pax: ReadonlyMap<string, Buffer>, key: string): number | undefined {
  const text = pax.get(key)?.toString('latin1');
  if (text === undefined) return undefined;
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw corrupt(`a pax ${key} that is no number`);
  return value;
}

/** Decimal seconds as nanoseconds; digits beyond the ninth are dropped. */
function paxTime(pax: ReadonlyMap<string, Buffer>, key: string): bigint | undefined {
  const text = pax.get(key)?.toString('latin1');
  if (text === undefined) return undefined;
  const parts = /^(-?)(\d{1,18})(?:\.(\d{0,64}))?$/.exec(text);
  if (parts === null) throw corrupt(`a pax ${key} that is no time`);
  const ns = BigInt(parts[2] ?? '0') * 1_000_000_000n + BigInt((parts[3] ?? '').padEnd(9, '0').slice(0, 9));
  return parts[1] === '-' ? -ns : ns;
}

function checkSum(block: Buffer): void {
  const declared = numberField(block, 148, 8, 'checksum');
  const blank = Buffer.from(block).fill(0x20, 148, 156);
  if (declared !== BigInt(checksum(blank))) throw corrupt('a header with a wrong checksum');
}

function wholeNumber(block: Buffer, at: number, length: number, what: string): number {
  const value = Number(numberField(block, at, length, what));
  if (!Number.isSafeInteger(value) || value < 0) throw corrupt(`a header with an impossible ${what}`);
  return value;
}

/** Octal text, or GNU's base 256: the first bit set, then a big-endian two's complement number. */
function numberField(block: Buffer, at: number, length: number, what: string): bigint {
  const field = block.subarray(at, at + length);
  const first = field.readUInt8(0);
  if ((first & 0x80) !== 0) {
    const magnitude = BigInt(`0x${field.toString('hex')}`);
    const bits = BigInt(length * 8);
    return first === 0xff ? magnitude - (1n << bits) : magnitude & ((1n << (bits - 1n)) - 1n);
  }
  const text = untilNul(field).toString('latin1').trim();
  if (!/^[0-7]*$/.test(text)) throw corrupt(`a header with an unreadable ${what}`);
  return text === '' ? 0n : BigInt(`0o${text}`);
}

function untilNul(bytes: Buffer): Buffer {
  const nul = bytes.indexOf(0);
  return nul === -1 ? bytes : bytes.subarray(0, nul);
}

function corrupt(what: string): ExhibitError {
  return new ExhibitError('bundle-corrupt', `the tar archive is damaged: ${what}`);
}
