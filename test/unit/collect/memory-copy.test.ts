import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CopyBuffer } from '../../../agent/collect/memory-buffer.ts';
import { copyMoment, leaveForLater } from '../../../agent/collect/memory-copy.ts';
import { liveReader } from '../../../agent/collect/memory-live.ts';
import type { RegionCapture } from '../../../agent/collect/memory-picture.ts';
import { planRegion } from '../../../agent/collect/memory-plan.ts';
import { capturedOf } from '../../../agent/collect/memory-store.ts';
import { parseMaps } from '../../../agent/host/maps.ts';
import type { ProcessMemory } from '../../../agent/host/memory.ts';
import { PAGE as STATE } from '../../../agent/host/pagemap.ts';

const PAGE = 4096;
const BASE = 0x10000000n;
const signal = new AbortController().signal;

/** Reads as /proc/PID/mem does: up to the first bad page, EIO when that is the first. Every page holds its number. */
function fakeMemory(bad: ReadonlySet<number> = new Set()): ProcessMemory {
  const readSync = (address: bigint, into: Uint8Array): number => {
    const first = Number((address - BASE) / 4096n);
    const pages = into.byteLength / PAGE;
    for (let page = 0; page < pages; page += 1) {
      if (bad.has(first + page)) {
        if (page === 0) throw Object.assign(new Error('EIO'), { code: 'EIO' });
        return page * PAGE;
      }
      into.fill((first + page) % 251, page * PAGE, (page + 1) * PAGE);
    }
    return into.byteLength;
  };
  return { readSync, read: async (address, into) => readSync(address, into), [Symbol.dispose]: () => undefined };
}

function regionOf(pages: number, memory: ProcessMemory): RegionCapture {
  const end = BASE + BigInt(pages * PAGE);
  const [vma] = parseMaps(`${BASE.toString(16)}-${end.toString(16)} rw-p 00000000 00:00 0\n`).vmas;
  if (vma === undefined) throw new Error('no mapping');
  const runs = [{ start: BASE, end, state: STATE.present }];
  const plan = planRegion(vma, runs, { flagsOf: () => [], waitingDevices: new Set() });
  return { plan, memory, extents: [], gaps: [] };
}

const holds = { isOver: () => false };
const options = { pageBytes: PAGE, signal };

/** Page number -> its first byte, of everything that the extents say is in the buffer. */
function bufferedPages(region: RegionCapture, buffer: CopyBuffer): Map<number, number> {
  const pages = new Map<number, number>();
  for (const extent of region.extents) {
    if (extent.at === undefined) continue;
    const bytes = Buffer.concat([...buffer.take(extent.at, extent.bytes)]);
    for (let at = 0; at < bytes.byteLength; at += PAGE) {
      pages.set(Number((extent.start - BASE) / 4096n) + at / PAGE, bytes[at] ?? -1);
    }
  }
  return pages;
}

describe('copying while the target stands still', () => {
  test('every page is in the buffer or is a gap of exactly that page', async () => {
    const shape = fc.integer({ min: 1, max: 64 }).chain((pages) => {
      return fc.record({ pages: fc.constant(pages), bad: fc.uniqueArray(fc.nat(pages - 1), { maxLength: pages }) });
    });
    await fc.assert(
      fc.asyncProperty(shape, async ({ pages, bad }) => {
        const buffer = new CopyBuffer(1 << 20, PAGE);
        const region = regionOf(pages, fakeMemory(new Set(bad)));
        await copyMoment([region], buffer, holds, options);
        const good = Array.from({ length: pages }, (_, page) => page).filter((page) => !bad.includes(page));
        expect(bufferedPages(region, buffer)).toEqual(new Map(good.map((page) => [page, page % 251])));
        const lost = region.gaps.flatMap((gap) => {
          const first = Number((gap.start - BASE) / 4096n);
          return Array.from({ length: Number((gap.end - gap.start) / 4096n) }, (_, index) => first + index);
        });
        expect(lost).toEqual(bad.toSorted((a, b) => a - b));
        expect(region.gaps.every((gap) => gap.errno === 'EIO')).toBe(true);
      }),
      { numRuns: 50 },
    );
  });

  test('a copy goes on across chunks of the buffer', async () => {
    const pages = 40 * 256;
    const buffer = new CopyBuffer(64 << 20, PAGE);
    const region = regionOf(pages, fakeMemory());
    const result = await copyMoment([region], buffer, holds, options);
    expect(result).toEqual({ frozenBytes: pages * PAGE, leftBytes: 0, stoppedBy: 'nothing' });
    const found = bufferedPages(region, buffer);
    expect(found.size).toBe(pages);
    expect([...found].every(([page, value]) => value === page % 251)).toBe(true);
  });

  test('what does not fit into the buffer is left to be read live, and only that', async () => {
    const buffer = new CopyBuffer(10 * PAGE + 17, PAGE);
    const region = regionOf(25, fakeMemory());
    const result = await copyMoment([region], buffer, holds, options);
    expect(result).toEqual({ frozenBytes: 10 * PAGE, leftBytes: 15 * PAGE, stoppedBy: 'buffer' });
    expect(region.extents).toEqual([
      { start: BASE, bytes: 10 * PAGE, at: 0, isLive: false },
      { start: BASE + BigInt(10 * PAGE), bytes: 15 * PAGE, at: undefined, isLive: true },
    ]);
  });

  test('without a buffer everything is left', async () => {
    const region = regionOf(3, fakeMemory());
    await copyMoment([region], new CopyBuffer(0, PAGE), holds, options);
    expect(region.extents).toEqual([{ start: BASE, bytes: 3 * PAGE, at: undefined, isLive: true }]);
  });

  test('when the moment ends, what was copied since it was last seen to hold is marked live', async () => {
    const buffer = new CopyBuffer(256 << 20, PAGE);
    const region = regionOf(50 * 1024, fakeMemory());
    let asked = 0;
    const result = await copyMoment([region], buffer, { isOver: () => ++asked > 1 }, options);
    expect(result.stoppedBy).toBe('moment');
    expect(result.frozenBytes).toBe(64 << 20);
    const [held, unsure, left] = region.extents;
    expect(held).toMatchObject({ bytes: 64 << 20, at: 0, isLive: false });
    expect(unsure).toMatchObject({ bytes: 64 << 20, at: 64 << 20, isLive: true });
    expect(left).toMatchObject({ at: undefined, isLive: true });
    expect(region.extents.reduce((sum, extent) => sum + extent.bytes, 0)).toBe(50 * 1024 * PAGE);
    expect(capturedOf(region).liveBytes).toBe(50 * 1024 * PAGE - (64 << 20));
  });

  test('thousands of failing pages do not hold the target: the rest is tried after the thaw', async () => {
    const all = new Set(Array.from({ length: 10_000 }, (_, page) => page));
    const region = regionOf(10_000, fakeMemory(all));
    const result = await copyMoment([region], new CopyBuffer(1 << 20, PAGE), holds, options);
    expect(result.leftBytes).toBe((10_000 - 2048) * PAGE);
    expect(region.gaps).toHaveLength(1);
  });

  test('the signal ends the copy', async () => {
    const aborted = AbortSignal.abort(new Error('cancelled'));
    const region = regionOf(32 * 1024, fakeMemory());
    const copying = copyMoment([region], new CopyBuffer(256 << 20, PAGE), holds, { pageBytes: PAGE, signal: aborted });
    await expect(copying).rejects.toThrow('cancelled');
  });
});

async function readAll(region: RegionCapture, reader = liveReader(PAGE, signal)): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for (const extent of region.extents) for await (const chunk of reader.read(region, extent)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function planned(pages: number, memory: ProcessMemory): RegionCapture {
  const region = regionOf(pages, memory);
  leaveForLater(region, { start: BASE, end: BASE + BigInt(pages * PAGE) });
  return region;
}

describe('reading live', () => {
  test('exactly the planned bytes come; a failing page is zeros in the core and a gap that says so', async () => {
    const region = planned(600, fakeMemory(new Set([0, 300, 301, 599])));
    const bytes = await readAll(region);
    expect(bytes.byteLength).toBe(600 * PAGE);
    expect([bytes[0], bytes[PAGE], bytes[300 * PAGE], bytes[302 * PAGE]]).toEqual([0, 1, 0, 302 % 251]);
    expect(
      region.gaps.map(({ start, end, zerosInCore }) => [(start - BASE) / 4096n, (end - BASE) / 4096n, zerosInCore]),
    ).toEqual([
      [0n, 1n, true],
      [300n, 302n, true],
      [599n, 600n, true],
    ]);
    expect(capturedOf(region)).toEqual({ capturedBytes: 596 * PAGE, liveBytes: 596 * PAGE });
  });

  test('a process that ended is one gap and as many zeros', async () => {
    const gone: ProcessMemory = { readSync: () => 0, read: async () => 0, [Symbol.dispose]: () => undefined };
    const region = planned(3000, gone);
    expect((await readAll(region)).equals(Buffer.alloc(3000 * PAGE))).toBe(true);
    expect(region.gaps).toHaveLength(1);
    expect(region.gaps[0]?.why).toContain('ended');
    expect(capturedOf(region).capturedBytes).toBe(0);
  });

  test('memory that nobody brings costs 5 s once, not for ever', { timeout: 30_000 }, async () => {
    const never: ProcessMemory = {
      readSync: () => 0,
      read: () => new Promise(() => undefined),
      [Symbol.dispose]: () => undefined,
    };
    const region = planned(10, never);
    leaveForLater(region, { start: BASE, end: BASE + BigInt(10 * PAGE) });
    const started = performance.now();
    expect((await readAll(region)).byteLength).toBe(20 * PAGE);
    expect(performance.now() - started).toBeLessThan(9000);
    expect(region.gaps[0]?.why).toContain('userfaultfd');
  });
});

describe('the copy buffer', () => {
  test('gives back what was kept, in any order, once', () => {
    const buffer = new CopyBuffer(40 << 20, PAGE);
    const kept: { at: number; value: number }[] = [];
    for (let value = 0; value < 30; value += 1) {
      const tail = buffer.tail()?.subarray(0, 1 << 20);
      tail?.fill(value);
      kept.push({ at: buffer.keep(1 << 20), value });
    }
    buffer.seal();
    for (const { at, value } of kept.toReversed()) {
      const bytes = Buffer.concat([...buffer.take(at, 1 << 20)]);
      expect(bytes.every((byte) => byte === value)).toBe(true);
    }
    expect(() => [...buffer.take(0, 1)]).toThrow(RangeError);
  });

  test('never holds more than its limit in whole pages', async () => {
    const buffer = new CopyBuffer(5 * PAGE - 1, PAGE);
    await buffer.touch(1 << 30, signal);
    expect(buffer.tail()?.byteLength).toBe(4 * PAGE);
    buffer.keep(4 * PAGE);
    expect(buffer.tail()).toBeUndefined();
  });
});
