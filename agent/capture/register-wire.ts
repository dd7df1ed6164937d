/** Registers on their way from the guard to the agent: sets of bytes without the zeros at their end, in base64. */
import { z } from 'zod';
import type { RegisterBytes, ThreadRead } from '../host/registers.ts';

/** linux/elf.h */
const NT_PRSTATUS = 1;
const NT_FPREGSET = 2;

/** Note type, size in bytes, the bytes up to the last that is not zero. An XSAVE area is mostly zeros. */
export type WireSet = readonly [type: number, sizeBytes: number, base64: string];

export interface WireThread {
  readonly tid: number;
  readonly sets: readonly WireSet[];
}

/** Larger than any set that Linux has: 11,008 bytes with AMX, and arm64's SVE is not read. */
const MAX_SET_BYTES = 64 * 1024;

const wireSet = z.tuple([z.number().int(), z.number().int().min(0).max(MAX_SET_BYTES), z.string()]);
export const wireThread = z.object({ tid: z.number().int().positive(), sets: z.array(wireSet) });

/** Register sets as PTRACE_GETREGSET gives them, in the layout that core notes have. */
export interface RegisterSet {
  /** NT_PRSTATUS: the machine's `user_regs_struct`. */
  readonly general: Uint8Array;
  /** NT_FPREGSET. */
  readonly floating?: Uint8Array;
  /** NT_X86_XSTATE or, on arm64, NT_ARM_TLS; with the note's type. */
  readonly extra?: readonly RegisterBytes[];
}

export function encodeThread({ tid, sets }: ThreadRead): WireThread {
  return { tid, sets: sets.map(({ type, bytes }) => [type, bytes.byteLength, withoutZeros(bytes)]) };
}

function withoutZeros(bytes: Uint8Array): string {
  let end = bytes.byteLength;
  while (end > 0 && bytes[end - 1] === 0) end -= 1;
  return Buffer.from(bytes.buffer, bytes.byteOffset, end).toString('base64');
}

/** Undefined for a thread without general registers. */
export function decodeThread({ sets }: WireThread): RegisterSet | undefined {
  const decoded = sets.map(([type, sizeBytes, base64]) => {
    const bytes = new Uint8Array(sizeBytes);
    bytes.set(Buffer.from(base64, 'base64').subarray(0, sizeBytes));
    return { type, bytes };
  });
  const general = decoded.find(({ type }) => type === NT_PRSTATUS)?.bytes;
  const floating = decoded.find(({ type }) => type === NT_FPREGSET)?.bytes;
  const extra = decoded.filter(({ type }) => type !== NT_PRSTATUS && type !== NT_FPREGSET);
  if (general === undefined) return undefined;
  return { general, ...(floating === undefined ? {} : { floating }), ...(extra.length === 0 ? {} : { extra }) };
}
