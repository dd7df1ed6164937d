import { readSync, writeSync } from 'node:fs';
import { DefaultSerializer, deserialize } from 'node:v8';
import { isErrno } from '../../evidence/error.ts';
import { MIB } from './procfs.ts';

/**
 * How agent and reader process talk: a frame is a length (unsigned 32 bits, little endian) and one value in V8's
 * serialisation (structured clone: bytes, bigints and maps stay what they are). Both ends are this program, of this version.
 */
const HEADER_BYTES = 4;

/** A process at its limits: 65,536 descriptors and the largest files. */
export const FRAME_BYTES_MAX = 256 * MIB;

export function encodeFrame(value: unknown): Buffer {
  const serializer = new DefaultSerializer();
  // Room for the length, so that the body need not be copied behind it.
  serializer.writeRawBytes(Buffer.alloc(HEADER_BYTES));
  serializer.writeHeader();
  serializer.writeValue(value);
  const frame = serializer.releaseBuffer();
  frame.writeUInt32LE(frame.length - HEADER_BYTES);
  return frame;
}

/** Cuts frames out of a stream of chunks. Throws on a length that no frame has. */
export function createFrameCutter<Value>(): (chunk: Uint8Array) => Value[] {
  const header = Buffer.alloc(HEADER_BYTES);
  let body: Buffer | undefined;
  let filled = 0;
  return (chunk) => {
    const values: Value[] = [];
    for (let at = 0; at < chunk.length; ) {
      const part = body ?? header;
      const taken = chunk.subarray(at, at + part.length - filled);
      part.set(taken, filled);
      filled += taken.length;
      at += taken.length;
      if (filled < part.length) break;
      filled = 0;
      if (body !== undefined) {
        values.push(deserialize(body));
        body = undefined;
        continue;
      }
      const length = header.readUInt32LE();
      if (length > FRAME_BYTES_MAX) throw new Error(`a frame of ${length} bytes from the reader process`);
      body = Buffer.allocUnsafe(length);
    }
    return values;
  };
}

/** Reads one frame; waits for it. Undefined at the end of the input. */
export function readFrame<Value>(fd: number): Value | undefined {
  const header = readExactly(fd, HEADER_BYTES);
  if (header === undefined) return undefined;
  const body = readExactly(fd, header.readUInt32LE());
  return body === undefined ? undefined : deserialize(body);
}

function readExactly(fd: number, sizeBytes: number): Buffer | undefined {
  const buffer = Buffer.alloc(sizeBytes);
  for (let at = 0; at < sizeBytes; ) {
    const count = whenReady(() => readSync(fd, buffer, at, sizeBytes - at, null));
    if (count === 0) return undefined;
    at += count;
  }
  return buffer;
}

export function writeFrame(fd: number, value: unknown): void {
  const frame = encodeFrame(value);
  for (let at = 0; at < frame.length; ) at += whenReady(() => writeSync(fd, frame, at));
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** The pipe may be set to non-blocking by whoever made it. */
function whenReady(call: () => number): number {
  for (;;) {
    try {
      return call();
    } catch (error) {
      if (!isErrno(error, 'EAGAIN')) throw error;
      Atomics.wait(sleeper, 0, 0, 1);
    }
  }
}
