import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openS3Sink } from '../../../agent/sink/s3.ts';
import type { Sink } from '../../../agent/sink/sink.ts';
import { openVault } from '../../../agent/sink/vault.ts';
import { createFrameWriter } from '../../../evidence/frames.ts';
import { BUCKET, type FakeS3, startFakeS3 } from './fake-s3.ts';

const PART_BYTES = 5 * 2 ** 20;
const KEY = 'node/id/memory.tar.zst';
const signal = new AbortController().signal;

let server: FakeS3;
let folder: string;
let sinks: AsyncDisposableStack;
beforeEach(async () => {
  server = await startFakeS3();
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-digest-'));
  sinks = new AsyncDisposableStack();
});
afterEach(async () => {
  await sinks[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

/** Each as another process would open it, on the same vault. */
async function openSink(): Promise<Sink> {
  const vault = await openVault(folder, Buffer.alloc(32, 7));
  const config = { url: `s3://${BUCKET}`, endpoint: server.endpoint, forcePathStyle: true, partBytes: PART_BYTES };
  const credentials = { accessKeyId: 'key', secretAccessKey: 'secret' };
  return sinks.use(openS3Sink({ ...config, writeAhead: true }, { credentials, vault }));
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

describe('the digest that a frame writer lends to its sink', () => {
  test.each([100, 1_000_000, 2 * PART_BYTES + 1, 3 * PART_BYTES])(
    'is that of what S3 has in the end, of %d bytes',
    async (sizeBytes) => {
      const sink = await openSink();
      await using object = await sink.open(KEY, { contentType: 'application/zstd', signal });
      const frames = createFrameWriter(object, { level: 0, frameBytes: 300_000 });
      await frames.write(randomBytes(sizeBytes));
      const { stored } = await frames.end();
      expect(await object.commit()).toBe('stored');
      const there = server.objects.get(KEY) ?? Buffer.alloc(0);
      expect(stored).toEqual({ sizeBytes: there.length, sha256: sha256(there) });
    },
  );

  test('says of an object that its writer never ended what the next process makes of it', async () => {
    const sink = await openSink();
    await using object = await sink.open(KEY, { contentType: 'application/zstd', signal });
    const written: Uint8Array[] = [];
    const lend = object.writeDigested;
    if (lend === undefined) throw new Error('the sink wants no digest');
    const tee = {
      write: object.write,
      writeDigested: async (...[chunk, digest]: Parameters<typeof lend>) => {
        written.push(Buffer.from(chunk));
        await lend(chunk, digest);
      },
    };
    const frames = createFrameWriter(tee, { level: 0, frameBytes: 700_001, inFlight: 2 });
    for (let chunk = 0; chunk < 20; chunk += 1) await frames.write(randomBytes(1_000_003));
    // As its process would have ended: what is still on its way must not take records from under the next one.
    await sinks.disposeAsync();
    sinks = new AsyncDisposableStack();
    const next = await openSink();
    const answer = await next.settle(KEY, signal);
    const there = server.objects.get(KEY) ?? Buffer.alloc(0);
    expect(answer).toMatchObject({ kind: 'cut', sizeBytes: there.length, sha256: sha256(there) });
    expect(there.length).toBeGreaterThanOrEqual(2 * PART_BYTES);
    expect(there.equals(Buffer.concat(written).subarray(0, there.length))).toBe(true);
  });
});
