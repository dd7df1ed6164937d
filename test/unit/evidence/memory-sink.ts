import type { OpenObject, SinkObject } from '../../../evidence/write.ts';

/** Keeps what it is given; a byte sink and, with `openIn`, a whole sink. */
export class MemorySink implements SinkObject {
  readonly chunks: Uint8Array[] = [];
  committed = false;
  disposed = false;

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.chunks.push(Uint8Array.prototype.slice.call(chunk));
  }

  async commit(): Promise<void> {
    this.committed = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.disposed = true;
  }
}

/** Objects by name, as a sink's folder would have them: only committed ones count. */
export function openIn(objects: Map<string, Buffer>): OpenObject {
  return async (name) => {
    const sink = new MemorySink();
    return {
      write: (chunk) => sink.write(chunk),
      commit: async () => {
        objects.set(name, sink.bytes);
      },
      [Symbol.asyncDispose]: async () => undefined,
    };
  };
}

/** `bytes` in pieces of the given sizes, round and round. */
export function* pieces(bytes: Uint8Array, ...sizes: number[]): Generator<Uint8Array> {
  for (let at = 0, index = 0; at < bytes.length; index += 1) {
    const size = sizes[index % sizes.length] ?? bytes.length;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

export async function gather(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(Uint8Array.prototype.slice.call(chunk));
  return Buffer.concat(parts);
}
