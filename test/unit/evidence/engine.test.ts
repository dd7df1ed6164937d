import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { chooseEngine, NODE_ENGINE, nativeEngine, type PackEngine } from '../../../evidence/engine.ts';
import { decodeFrames } from '../../../evidence/frame-decoder.ts';
import { createFrameWriter, type FrameOptions } from '../../../evidence/frames.ts';
import { openNativeLibraries, tryNativeLibraries } from '../../../evidence/native.ts';
import { frameBound } from '../../../evidence/zstd.ts';
import { gather, MemorySink, pieces } from './memory-sink.ts';
import { requireProgram, run, type Skippable } from './programs.ts';
import { fc } from './properties.ts';

const MIB = 1024 * 1024;
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

function requireNative(context: Skippable) {
  const libraries = tryNativeLibraries();
  return libraries ?? context.skip('needs a Node that exports zstd and libcrypto, and koffi for this platform');
}

async function pack(content: Uint8Array, options: FrameOptions, ...sizes: number[]) {
  const sink = new MemorySink();
  const writer = createFrameWriter(sink, options);
  for (const piece of pieces(content, ...sizes)) await writer.write(piece);
  return { totals: await writer.end(), stored: sink.bytes };
}

/** Compressible, random and zeros, a third each. */
function mixed(sizeBytes: number): Buffer {
  const third = Math.ceil(sizeBytes / 3);
  return Buffer.concat([Buffer.alloc(third, 'GET /healthz 200\n'), randomBytes(third), Buffer.alloc(third)], sizeBytes);
}

describe('the libraries within Node', () => {
  it('make the digests and frames that Node makes, however the content is cut', async (context) => {
    const native = nativeEngine(requireNative(context));
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 5 * 256 }),
        fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 4 }),
        fc.constantFrom(0, 1, -3, 9),
        async (content, sizes, level) => {
          const ours = await pack(content, { level, frameBytes: 256, engine: native }, ...sizes);
          const nodes = await pack(content, { level, frameBytes: 256, engine: NODE_ENGINE }, ...sizes);
          expect(ours.totals.content).toEqual(nodes.totals.content);
          expect(ours.totals.stored.sha256).toBe(sha256(ours.stored));
          expect(await gather(decodeFrames(pieces(ours.stored, 100)))).toEqual(Buffer.from(content));
        },
      ),
    );
  });

  it('make streams that zstd and sha256sum agree with', async (context) => {
    const native = nativeEngine(requireNative(context));
    requireProgram(context, 'zstd', 'sha256sum', 'openssl');
    const content = mixed(7 * MIB + 12_345);
    for (const level of [-3, 0, 1, 19]) {
      const { totals, stored } = await pack(content, { level, engine: native }, 300_000);
      expect(run(['zstd', '-t'], stored)).toMatchObject({ status: 0 });
      expect(run(['zstd', '-dc'], stored).stdout.equals(content)).toBe(true);
      expect(run(['sha256sum'], stored).stdout.toString()).toBe(`${totals.stored.sha256}  -\n`);
      expect(run(['openssl', 'dgst', '-sha256', '-r'], content).stdout.toString()).toContain(totals.content.sha256);
    }
  });

  it('say in zstd’s words why a frame cannot be made', async (context) => {
    const libraries = requireNative(context);
    const content = randomBytes(1000);
    await expect(libraries.compress(content, Buffer.alloc(10), 1)).rejects.toThrow(/zstd could not .*too small/);
    // The context of the failed call is as good as new.
    const room = Buffer.alloc(frameBound(content.length));
    const stored = room.subarray(0, await libraries.compress(content, room, 1));
    expect(Buffer.from((await gather(decodeOne(stored))) ?? []).equals(content)).toBe(true);
  });

  it('serve many streams at once', { timeout: 60_000 }, async (context) => {
    const native = nativeEngine(requireNative(context));
    const content = mixed(64 * 1024);
    const all = await Promise.all(
      Array.from({ length: 60 }, () => pack(content, { frameBytes: 4096, engine: native }, 5000)),
    );
    for (const { totals, stored } of all) {
      expect(totals.content.sha256).toBe(sha256(content));
      expect(totals.stored.sha256).toBe(sha256(stored));
      expect((await gather(decodeFrames([stored]))).equals(content)).toBe(true);
    }
  });

  it('do not keep a program alive that dropped a stream in mid-frame', (context) => {
    requireNative(context);
    const frames = path.resolve(import.meta.dirname, '../../../evidence/frames.ts');
    const script = `
      const { createFrameWriter } = await import(${JSON.stringify(frames)});
      const writer = createFrameWriter({ write: async () => undefined }, { level: 19 });
      void writer.write(Buffer.alloc(5_000_000, 'some text '));
    `;
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], { timeout: 15_000 });
    expect({ status: child.status, signal: child.signal, stderr: child.stderr.toString() }).toEqual({
      status: 0,
      signal: null,
      stderr: '',
    });
  });

  it('are not looked for by a stream that is small, and not missed by one that is large', async () => {
    const mustNot = () => {
      throw new Error('looked for');
    };
    expect(chooseEngine(4000, mustNot).kind).toBe('node');
    const engine = chooseEngine(MIB, () => undefined);
    expect(engine.kind).toBe('node');
    const content = mixed(3 * MIB + 1);
    const { totals, stored } = await pack(content, { engine }, 100_000);
    expect(totals.content.sha256).toBe(sha256(content));
    expect(totals.stored.sha256).toBe(sha256(stored));
  });

  it('are refused as a whole where one of their functions is missing', () => {
    expect(() => openNativeLibraries('libc.so.6')).toThrow();
  });
});

/** The content of one frame without a seek table, as Node reads it. */
async function* decodeOne(frame: Uint8Array): AsyncGenerator<Uint8Array> {
  const { zstdDecompressSync } = await import('node:zlib');
  yield zstdDecompressSync(frame);
}

describe('a frame writer whose engine fails', () => {
  const failing = (part: Partial<PackEngine>): PackEngine => ({ ...NODE_ENGINE, ...part });

  it('reports a frame that cannot be compressed, and ends', async () => {
    let frames = 0;
    const engine = failing({
      compress: async (content, room, level) => {
        frames += 1;
        if (frames === 3) throw new Error('the thread is gone');
        return NODE_ENGINE.compress(content, room, level);
      },
    });
    const sink = new MemorySink();
    const writer = createFrameWriter(sink, { frameBytes: 100, engine });
    await writer.write(randomBytes(350));
    await expect(writer.end()).rejects.toThrow('the thread is gone');
    await expect(writer.write(Buffer.alloc(1))).rejects.toThrow('the frame writer is failed');
    expect(sink.chunks).toHaveLength(2);
  });

  it('reports a digest that cannot be made, and gives none', async () => {
    const engine = failing({
      createDigest: () => ({
        update: async () => {
          throw new Error('no more hashing');
        },
        digest: () => sha256(Buffer.alloc(0)),
      }),
    });
    const writer = createFrameWriter(new MemorySink(), { frameBytes: 100, engine });
    await writer.write(randomBytes(350));
    await expect(writer.end()).rejects.toThrow('no more hashing');
  });

  it('leaves nothing that disturbs the next stream when its sink fails in mid-frame', async (context) => {
    const engine = nativeEngine(requireNative(context));
    let writes = 0;
    const broken = {
      write: async () => {
        writes += 1;
        if (writes === 2) throw new Error('disk full');
      },
    };
    const writer = createFrameWriter(broken, { frameBytes: 64 * 1024, inFlight: 2, engine });
    await expect(
      (async () => {
        for (let round = 0; round < 20; round += 1) await writer.write(randomBytes(100_000));
      })(),
    ).rejects.toThrow('disk full');
    const content = mixed(MIB);
    const { totals, stored } = await pack(content, { frameBytes: 64 * 1024, engine }, 100_000);
    expect(totals.content.sha256).toBe(sha256(content));
    expect((await gather(decodeFrames([stored]))).equals(content)).toBe(true);
  });
});

describe('compression off', () => {
  it('stores zeros as their length and all else as it is', async (context) => {
    requireProgram(context, 'zstd');
    const content = Buffer.concat([Buffer.alloc(2 * MIB), randomBytes(MIB + 5), Buffer.alloc(MIB)]);
    const { totals, stored } = await pack(content, { level: 0 }, 700_000);
    expect(totals.content.sha256).toBe(sha256(content));
    expect(stored.length).toBeLessThan(1.3 * MIB);
    expect(run(['zstd', '-dc'], stored).stdout.equals(content)).toBe(true);
    expect((await gather(decodeFrames(pieces(stored, 65_536)))).equals(content)).toBe(true);
  });
});
