/**
 * Bytes that nothing compresses and no two MiB of which are alike, at the price of reading a file in memory: a random block, read
 * from a tmpfs again and again, each MiB with its number stamped in. Making random bytes would cost more than storing them.
 */
import { createHash, randomFillSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';

export const CHUNK_BYTES = 2 ** 20;
const BLOCK_CHUNKS = 64;

/** Makes the block; on a tmpfs, or a disk is measured. */
export function makeBlock(file: string): void {
  writeFileSync(file, randomFillSync(Buffer.allocUnsafe(BLOCK_CHUNKS * CHUNK_BYTES)));
}

/** `fresh`: every chunk is memory of its own, for a reader that keeps them; else all are the same buffer. */
export async function* readBlock(file: string, sizeBytes: number, fresh: boolean): AsyncGenerator<Buffer> {
  await using handle = await open(file);
  let buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  for (let chunk = 0; chunk * CHUNK_BYTES < sizeBytes; chunk += 1) {
    if (fresh) buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    await handle.read(buffer, 0, CHUNK_BYTES, (chunk % BLOCK_CHUNKS) * CHUNK_BYTES);
    buffer.writeBigUInt64LE(BigInt(chunk));
    yield buffer.subarray(0, Math.min(CHUNK_BYTES, sizeBytes - chunk * CHUNK_BYTES));
  }
}

/** What a reader of all of it must find. */
export async function digestOf(file: string, sizeBytes: number): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of readBlock(file, sizeBytes, false)) hash.update(chunk);
  return hash.digest('hex');
}
