import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { createFrameWriter } from '../../../evidence/frames.ts';
import { openSeekable, type ReadRange } from '../../../evidence/seekable.ts';
import { MemorySink } from './memory-sink.ts';
import { fc } from './properties.ts';

const FRAME = 1024;
const content = randomBytes(64 * FRAME + 100);

async function stored(): Promise<{ bytes: Buffer; read: ReadRange }> {
  const sink = new MemorySink();
  const writer = createFrameWriter(sink, { frameBytes: FRAME });
  await writer.write(content);
  await writer.end();
  const bytes = sink.bytes;
  return { bytes, read: async (start, end) => bytes.subarray(start, end) };
}

describe('random access to a frame stream', () => {
  it('gives the same bytes with any cache and any reading ahead', async () => {
    const { bytes, read } = await stored();
    const reads = fc.array(fc.tuple(fc.nat(content.length + 10), fc.nat(5000), fc.nat(20_000)), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(reads, fc.nat(10 * FRAME), async (wanted, cacheBytes) => {
        const seekable = await openSeekable(read, bytes.length, { cacheBytes });
        for (const [offset, length, aheadBytes] of wanted) {
          const got = Buffer.from(await seekable.read(offset, length, aheadBytes));
          expect(got.equals(content.subarray(offset, offset + length))).toBe(true);
        }
      }),
      { numRuns: 40 },
    );
  });

  it('reads every frame once when it is read from start to end, some of them ahead', async () => {
    const { bytes, read } = await stored();
    let waiting = 0;
    let most = 0;
    const slow: ReadRange = async (start, end) => {
      waiting += 1;
      most = Math.max(most, waiting);
      await new Promise((resolve) => void setImmediate(resolve));
      waiting -= 1;
      return read(start, end);
    };
    const seekable = await openSeekable(slow, bytes.length, { cacheBytes: 8 * FRAME });
    for (let at = 0; at < content.length; at += 300) await seekable.read(at, 300, 4 * FRAME);
    expect(seekable.cost.framesRead).toBe(65);
    expect(seekable.cost.bytesRead).toBeLessThan(bytes.length + 100);
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(5);
  });

  it('keeps the frames of two readers that take turns', async () => {
    const { bytes, read } = await stored();
    const seekable = await openSeekable(read, bytes.length, { cacheBytes: 4 * FRAME });
    for (let at = 0; at < 10 * FRAME; at += 100) {
      await seekable.read(at, 100);
      await seekable.read(32 * FRAME + at, 100);
    }
    expect(seekable.cost.framesRead).toBeLessThanOrEqual(22);
  });

  it('tells a broken frame to whoever asks for it, not to whoever reads before it', async () => {
    const { bytes, read } = await stored();
    const broken = Buffer.from(bytes);
    broken.fill(0, 3000, 3100);
    const seekable = await openSeekable(async (start, end) => broken.subarray(start, end), bytes.length, {
      cacheBytes: 8 * FRAME,
    });
    expect(Buffer.from(await seekable.read(0, 10, 4 * FRAME))).toEqual(content.subarray(0, 10));
    await new Promise((resolve) => void setTimeout(resolve, 20));
    await expect(seekable.read(0, 4 * FRAME)).rejects.toMatchObject({ code: 'bundle-corrupt' });
    await expect(seekable.read(0, 4 * FRAME)).rejects.toMatchObject({ code: 'bundle-corrupt' });
    expect(Buffer.from(await (await openSeekable(read, bytes.length)).read(0, 10))).toEqual(content.subarray(0, 10));
  });
});
