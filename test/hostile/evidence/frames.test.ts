import { randomBytes } from 'node:crypto';
import { zstdCompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { isExhibitError } from '../../../evidence/error.ts';
import { decodeFrames } from '../../../evidence/frame-decoder.ts';
import { createFrameWriter } from '../../../evidence/frames.ts';
import { createSeekTable } from '../../../evidence/seek-table.ts';
import { openSeekable } from '../../../evidence/seekable.ts';
import { rawFrame } from '../../../evidence/zstd.ts';
import { gather, MemorySink, pieces } from '../../unit/evidence/memory-sink.ts';
import { fc } from '../../unit/evidence/properties.ts';

async function stream(content: Uint8Array, frameBytes = 64): Promise<Buffer> {
  const sink = new MemorySink();
  const writer = createFrameWriter(sink, { frameBytes });
  await writer.write(content);
  await writer.end();
  return sink.bytes;
}

async function rejects(bytes: Uint8Array, words?: RegExp): Promise<void> {
  const error: unknown = await gather(decodeFrames([bytes])).then(
    () => undefined,
    (caught: unknown) => caught,
  );
  expect(isExhibitError(error, 'bundle-corrupt'), String(error)).toBe(true);
  if (words !== undefined) expect(String(error)).toMatch(words);
}

/** `frames` with a table that tells the truth about them. */
function withTable(...frames: readonly { readonly bytes: Uint8Array; readonly contentBytes: number }[]): Buffer {
  const table = createSeekTable();
  for (const { bytes, contentBytes } of frames) table.add(bytes.length, contentBytes);
  return Buffer.concat([...frames.map((frame) => frame.bytes), table.encode()]);
}

describe('reading frames that somebody else wrote', () => {
  it('says corrupt for any garbage', async () => {
    await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), (bytes) => rejects(bytes)));
    await rejects(randomBytes(3_000_000));
  });

  it('says corrupt for a stream cut at any byte', async () => {
    const whole = await stream(randomBytes(200));
    for (let length = 0; length < whole.length; length += 1) await rejects(whole.subarray(0, length));
  });

  it('never gives other content for a stream with any bit flipped', async () => {
    const content = Buffer.alloc(150, 'evidence and more evidence ');
    const whole = await stream(content);
    for (let bit = 0; bit < whole.length * 8; bit += 1) {
      const flipped = Buffer.from(whole);
      flipped[bit >>> 3] = (flipped[bit >>> 3] ?? 0) ^ (1 << (bit & 7));
      const read = await gather(decodeFrames([flipped])).catch((error: unknown) => {
        expect(isExhibitError(error, 'bundle-corrupt'), String(error)).toBe(true);
        return content;
      });
      expect(read.equals(content)).toBe(true);
    }
  });

  it('says corrupt for bytes after the seek table', async () => {
    await rejects(Buffer.concat([await stream(randomBytes(10)), Buffer.alloc(1)]), /after the seek table/);
  });

  it('says corrupt for a seek table that lies about one frame', async () => {
    const frame = rawFrame(Buffer.from('hello'));
    await rejects(withTable({ bytes: frame, contentBytes: 6 }), /does not agree/);
    const twice = withTable({ bytes: frame, contentBytes: 5 }, { bytes: frame, contentBytes: 5 });
    await rejects(twice.subarray(frame.length), /does not agree/);
  });

  it('refuses a frame that declares more than a frame may hold', async () => {
    const bomb = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024), { pledgedSrcSize: 64 * 1024 * 1024 });
    await rejects(withTable({ bytes: bomb, contentBytes: 64 * 1024 * 1024 }), /declares 67108864 bytes/);
  });

  it('refuses a frame that holds more than it declares', async () => {
    const bomb = zstdCompressSync(Buffer.alloc(1024 * 1024), { pledgedSrcSize: 1024 * 1024 });
    // A content size of four bytes follows the descriptor of a single segment.
    expect(bomb[4]).toBe(0xa0);
    const lying = Buffer.from(bomb);
    lying.writeUInt32LE(1000, 5);
    await rejects(withTable({ bytes: lying, contentBytes: 1000 }));
  });

  it('refuses a frame that does not say how much it holds', async () => {
    const chunks = zstdCompressSync(Buffer.from('x'.repeat(100)));
    const silent = Buffer.concat([
      chunks.subarray(0, 4),
      Buffer.from([0x00, 0x00]),
      rawFrame(Buffer.from('x')).subarray(9),
    ]);
    await rejects(withTable({ bytes: silent, contentBytes: 1 }), /does not declare/);
  });

  it('reads a million blocks of nothing, byte by byte, in reasonable time', async () => {
    const blocks = 300_000;
    const head = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00]);
    const bytes = Buffer.concat([head, Buffer.alloc(blocks * 3), Buffer.from([1, 0, 0])]);
    const whole = withTable({ bytes, contentBytes: 0 });
    const start = performance.now();
    await gather(decodeFrames(pieces(whole, 1))).catch(() => undefined);
    expect(performance.now() - start).toBeLessThan(15_000);
  });
});

describe('seeking in what somebody else wrote', () => {
  it('says corrupt, or gives bytes, for a stream with any byte changed', async () => {
    const whole = await stream(randomBytes(200));
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(255), async (at, value) => {
        const bytes = Buffer.from(whole);
        bytes[at] = value;
        try {
          const seekable = await openSeekable(async (start, end) => bytes.subarray(start, end), bytes.length);
          await seekable.read(0, 200);
        } catch (error) {
          expect(isExhibitError(error, 'bundle-corrupt'), String(error)).toBe(true);
        }
      }),
    );
  });

  it('does not make room for a table of two billion frames that is not there', async () => {
    const footer = createSeekTable().encode();
    Buffer.from(footer.buffer, footer.byteOffset).writeUInt32LE(0x7ffffff, footer.length - 9);
    const opened = openSeekable(async (start, end) => footer.subarray(start, end), footer.length);
    await expect(opened).rejects.toThrow(/does not fit/);
  });
});
