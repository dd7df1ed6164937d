import { createHash, randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { decodeFrames } from '../../../evidence/frame-decoder.ts';
import { createFrameWriter, type FrameOptions, memoryBound } from '../../../evidence/frames.ts';
import { openSeekable } from '../../../evidence/seekable.ts';
import { gather, MemorySink, pieces } from './memory-sink.ts';
import { requireProgram, run } from './programs.ts';
import { fc } from './properties.ts';

const FRAME = 4096;
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

async function pack(content: Uint8Array, options: FrameOptions = {}, ...sizes: number[]) {
  const sink = new MemorySink();
  const writer = createFrameWriter(sink, { frameBytes: FRAME, ...options });
  for (const piece of pieces(content, ...sizes)) await writer.write(piece);
  return { totals: await writer.end(), stored: sink.bytes };
}

const rangesOf = (bytes: Buffer) => async (start: number, end: number) => bytes.subarray(start, end);

describe('a frame stream', () => {
  for (const sizeBytes of [0, 1, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME, 10 * FRAME + 7]) {
    for (const level of [0, 1, -5, 3]) {
      it(`holds ${sizeBytes} bytes at level ${level}, and zstd agrees`, async (context) => {
        requireProgram(context, 'zstd');
        const content = Buffer.concat([randomBytes(Math.ceil(sizeBytes / 2)), Buffer.alloc(sizeBytes)]).subarray(
          0,
          sizeBytes,
        );
        const { totals, stored } = await pack(content, { level });
        expect(totals).toEqual({
          content: { sha256: sha256(content), sizeBytes },
          stored: { sha256: sha256(stored), sizeBytes: stored.length },
          frames: Math.ceil(sizeBytes / FRAME),
        });
        expect(run(['zstd', '-t'], stored)).toMatchObject({ status: 0 });
        expect(run(['zstd', '-dc'], stored).stdout.equals(content)).toBe(true);
        expect((await gather(decodeFrames([stored]))).equals(content)).toBe(true);
      });
    }
  }

  it('comes back whatever the pieces it is written and read in', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 5 * 256 }),
        fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 4 }),
        fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 4 }),
        fc.constantFrom(0, 1, -1),
        async (content, writeSizes, readSizes, level) => {
          const { stored } = await pack(content, { level, frameBytes: 256 }, ...writeSizes);
          expect(await gather(decodeFrames(pieces(stored, ...readSizes)))).toEqual(Buffer.from(content));
        },
      ),
    );
  });

  it('holds frames with blocks of every usual length at the default frame size', async (context) => {
    requireProgram(context, 'zstd');
    const content = Buffer.concat([randomBytes(3_000_000), Buffer.alloc(1_500_000, 'exhibit ')]);
    for (const level of [0, 1]) {
      const { stored, totals } = await pack(content, { level, frameBytes: 1024 * 1024 }, 100_000);
      expect(totals.frames).toBe(5);
      expect(run(['zstd', '-dc'], stored).stdout.equals(content)).toBe(true);
      expect((await gather(decodeFrames(pieces(stored, 65_536)))).equals(content)).toBe(true);
    }
  });

  it('lets a caller reuse the buffer of a write that has resolved', async () => {
    const sink = new MemorySink();
    const writer = createFrameWriter(sink, { frameBytes: 100 });
    const buffer = Buffer.alloc(333);
    const written: Buffer[] = [];
    for (let round = 0; round < 20; round += 1) {
      buffer.fill(round);
      written.push(Buffer.from(buffer));
      await writer.write(buffer);
    }
    await writer.end();
    expect((await gather(decodeFrames([sink.bytes]))).equals(Buffer.concat(written))).toBe(true);
  });

  it('holds back its writer while the sink holds it back', async () => {
    const gate = Promise.withResolvers<void>();
    let taken = 0;
    const slow = {
      async write(chunk: Uint8Array) {
        await gate.promise;
        taken += chunk.length;
      },
    };
    const writer = createFrameWriter(slow, { frameBytes: FRAME, inFlight: 3 });
    let accepted = 0;
    const writing = (async () => {
      for (let round = 0; round < 50; round += 1) {
        await writer.write(randomBytes(FRAME));
        accepted += 1;
      }
    })();
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(accepted).toBe(3);
    expect(taken).toBe(0);
    gate.resolve();
    await writing;
    expect(taken).toBeGreaterThan(40 * FRAME);
  });

  it('keeps its memory within its bound, however long the stream', { timeout: 60_000 }, async () => {
    const nothing = { write: async () => undefined };
    const block = randomBytes(1024 * 1024);
    const measure = async (blocks: number) => {
      let peak = 0;
      const writer = createFrameWriter(nothing);
      for (let round = 0; round < blocks; round += 1) {
        await writer.write(block);
        peak = Math.max(peak, process.memoryUsage.rss());
      }
      await writer.end();
      return peak;
    };
    const before = process.memoryUsage.rss();
    const peak = await measure(400);
    // Node frees a finished frame's buffers when its collector comes around, which is what the other half is for.
    expect(peak - before).toBeLessThan(2 * memoryBound() + 64 * 1024 * 1024);
  });

  it('reports the error of its sink at once and takes nothing after it', async () => {
    const broken = { write: () => Promise.reject(new Error('disk full')) };
    const writer = createFrameWriter(broken, { frameBytes: 10, inFlight: 1 });
    await expect(
      (async () => {
        for (;;) await writer.write(Buffer.alloc(10));
      })(),
    ).rejects.toThrow('disk full');
    await expect(writer.write(Buffer.alloc(1))).rejects.toThrow('the frame writer is failed');
    await expect(writer.end()).rejects.toThrow('the frame writer is failed');
  });

  it('refuses two writes at a time', async () => {
    const writer = createFrameWriter(new MemorySink(), { frameBytes: 10 });
    const first = writer.write(Buffer.alloc(1000));
    await expect(writer.write(Buffer.alloc(1))).rejects.toThrow('busy');
    await first;
  });
});

describe('random access', () => {
  it('gives the bytes that are there, for any range', async () => {
    const content = randomBytes(1000);
    const { stored } = await pack(content, { frameBytes: 64 });
    const seekable = await openSeekable(rangesOf(stored), stored.length);
    expect(seekable).toMatchObject({ contentBytes: 1000, frames: 16 });
    await fc.assert(
      fc.asyncProperty(fc.nat(1100), fc.nat(1100), async (offset, length) => {
        expect(Buffer.from(await seekable.read(offset, length))).toEqual(content.subarray(offset, offset + length));
      }),
    );
  });

  it('reads only the frames it needs', async () => {
    const { stored } = await pack(randomBytes(100 * FRAME));
    let readBytes = 0;
    const seekable = await openSeekable(async (start, end) => {
      readBytes += end - start;
      return stored.subarray(start, end);
    }, stored.length);
    const tableBytes = readBytes;
    await seekable.read(50 * FRAME - 1, 2);
    expect(readBytes - tableBytes).toBeLessThan(2 * FRAME + 64);
    expect(tableBytes).toBeLessThan(1000);
  });

  it('reads an empty stream', async () => {
    const { stored } = await pack(Buffer.alloc(0));
    const seekable = await openSeekable(rangesOf(stored), stored.length);
    expect(seekable.contentBytes).toBe(0);
    expect(await seekable.read(0, 10)).toHaveLength(0);
  });
});
