import { latin1, wordsOf } from './decode.ts';
import { formatIpv6 } from './network-address.ts';

/**
 * Netlink as bytes: messages and attributes of netlink(7). Headers and lengths are in the machine's order, little endian on both
 * architectures of EKS; what netfilter puts into attributes is in network order. Nothing here trusts a length: what does not
 * fit ends the walk.
 */

const HEADER_BYTES = 16;
/** NLM_F_REQUEST | NLM_F_DUMP. */
export const DUMP_FLAGS = 0x301;
/** NLM_F_REQUEST alone: one answer. */
export const ASK_FLAGS = 0x1;
/** NLM_F_DUMP_INTR: what is dumped changed meanwhile, so that lines may be missing or be there twice. */
const INTERRUPTED = 0x10;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
/** Bit 15 and 14 of an attribute's type are flags (nested, network order). */
const TYPE_MASK = 0x3fff;

export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly body: Buffer;
  /** The whole message with its header and padding. */
  readonly bytes: Buffer;
}

/** Messages of a dump; stops where the lengths make no sense. */
export function* messages(bytes: Uint8Array): Generator<Message> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + HEADER_BYTES <= buffer.length; ) {
    const length = buffer.readUInt32LE(at);
    if (length < HEADER_BYTES || at + length > buffer.length) return;
    yield {
      type: buffer.readUInt16LE(at + 4),
      flags: buffer.readUInt16LE(at + 6),
      body: buffer.subarray(at + HEADER_BYTES, at + length),
      bytes: buffer.subarray(at, Math.min(buffer.length, at + align(length))),
    };
    at += align(length);
  }
}

function align(length: number): number {
  return (length + 3) & ~3;
}

/** A request with its body, which is padded here. */
export function encodeRequest(type: number, flags: number, body: Uint8Array): Buffer {
  const message = Buffer.alloc(HEADER_BYTES + align(body.length));
  message.writeUInt32LE(message.length, 0);
  message.writeUInt16LE(type, 4);
  message.writeUInt16LE(flags, 6);
  message.writeUInt32LE(1, 8);
  message.set(body, HEADER_BYTES);
  return message;
}

/** A string attribute with its NUL. */
export function encodeAttribute(type: number, value: Uint8Array): Buffer {
  const attribute = Buffer.alloc(align(4 + value.length + 1));
  attribute.writeUInt16LE(4 + value.length + 1, 0);
  attribute.writeUInt16LE(type, 2);
  attribute.set(value, 4);
  return attribute;
}

export interface DumpState {
  readonly done: boolean;
  /** Positive, as errno(3) has it; 0 when the kernel did not refuse. */
  readonly errno: number;
  readonly interrupted: boolean;
}

/** Whether the dump has come to its end, the errno with which the kernel refused it, and whether it can be believed. */
export function scanDump(bytes: Uint8Array): DumpState {
  let interrupted = false;
  for (const { type, flags, body } of messages(bytes)) {
    interrupted ||= (flags & INTERRUPTED) !== 0;
    if (type !== NLMSG_ERROR && type !== NLMSG_DONE) continue;
    const code = body.length >= 4 ? body.readInt32LE(0) : 0;
    return { done: true, errno: code < 0 ? -code : 0, interrupted };
  }
  return { done: false, errno: 0, interrupted };
}

/** Attributes in their order, repeated ones too. */
export function* attributeList(bytes: Buffer): Generator<readonly [number, Buffer]> {
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = bytes.readUInt16LE(at);
    if (length < 4 || at + length > bytes.length) return;
    yield [bytes.readUInt16LE(at + 2) & TYPE_MASK, bytes.subarray(at + 4, at + length)];
    at += align(length);
  }
}

/** By type; the last one of a type that is repeated. */
export function attributes(bytes: Buffer | undefined): Map<number, Buffer> {
  return new Map(bytes === undefined ? [] : attributeList(bytes));
}

export function u8(bytes: Buffer | undefined): number | undefined {
  return bytes !== undefined && bytes.length >= 1 ? bytes.readUInt8(0) : undefined;
}

export function u32(bytes: Buffer | undefined): number | undefined {
  return bytes !== undefined && bytes.length >= 4 ? bytes.readUInt32LE(0) : undefined;
}

/** In network order, as netfilter writes its numbers; shorter ones are read as what they are. */
export function be(bytes: Buffer | undefined): number | undefined {
  if (bytes === undefined || bytes.length === 0) return undefined;
  if (bytes.length >= 8) return numberOf(bytes.readBigUInt64BE(0));
  if (bytes.length >= 4) return bytes.readUInt32BE(0);
  return bytes.length >= 2 ? bytes.readUInt16BE(0) : bytes.readUInt8(0);
}

/** Counters beyond 2^53 are no longer exact; nobody has counted that far. */
function numberOf(value: bigint): number {
  return Number(value);
}

export function cString(bytes: Buffer | undefined): string | undefined {
  return bytes === undefined ? undefined : wordsOf(latin1(bytes).split('\0', 1)[0] ?? '');
}

export function addressText(bytes: Buffer | undefined): string | undefined {
  if (bytes?.length === 4) return bytes.join('.');
  return bytes?.length === 16 ? formatIpv6(bytes) : undefined;
}
