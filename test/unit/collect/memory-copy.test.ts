import { spawn } from 'node:child_process';
import { createHash, randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Copier, leaveForLater } from '../../../agent/collect/memory-copy.ts';
import { liveReader } from '../../../agent/collect/memory-live.ts';
import type { Captured, Origin } from '../../../agent/collect/memory-picture.ts';
import { capturedOf } from '../../../agent/collect/memory-store.ts';
import { CopyRoom, reserve } from '../../../agent/host/copy-room.ts';
import { tagOf } from '../../../agent/host/copy-thread.ts';
import { type CopyThreads, startCopyThreads } from '../../../agent/host/copy-threads.ts';
import { openMemory, type ProcessMemory } from '../../../agent/host/memory.ts';
import { vmCalls } from '../../../agent/host/vm.ts';
import { asPid } from '../../../agent/runtime/runtime.ts';

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
  return {
    fd: -1,
    readSync,
    read: async (address, into) => readSync(address, into),
    [Symbol.dispose]: () => undefined,
  };
}

const HOST = { procRoot: '/proc', hostRoot: '' };

/** Memory of this very process: real system calls, and no rights needed. */
function ownMemory(bytes: number): { view: Uint8Array; address: bigint } {
  const shared = new Uint8Array(new SharedArrayBuffer(bytes + PAGE));
  const at = vmCalls()?.addressOf(shared) ?? 0n;
  const skip = Number(-at & 4095n);
  const view = shared.subarray(skip, skip + bytes);
  randomFillSync(view);
  return { view, address: at + BigInt(skip) };
}

/** The last page of a mapping of ours behind which nothing is mapped. */
function beforeHole(pages: number): bigint {
  const lines = readFileSync('/proc/self/maps', 'latin1').split('\n').filter(Boolean);
  const ends = lines.map((line) => /^([0-9a-f]+)-([0-9a-f]+) (r.)/.exec(line));
  for (const [index, match] of ends.entries()) {
    const end = BigInt(`0x${match?.[2] ?? '0'}`);
    const next = BigInt(`0x${ends[index + 1]?.[1] ?? '0'}`);
    if (match?.[3] === 'rw' && next - end > BigInt(pages * PAGE)) return end - 4096n;
  }
  throw new Error('no hole');
}

interface Bench {
  readonly room: CopyRoom;
  readonly threads: CopyThreads;
  readonly copier: Copier;
  readonly captured: Captured;
}

async function withCopier(
  options: { roomBytes: number; isOver?: () => boolean },
  work: (bench: Bench) => Promise<void>,
): Promise<void> {
  const room = new CopyRoom(options.roomBytes, PAGE);
  await using threads = await startCopyThreads(room, PAGE, { count: 2 });
  const moment = { isOver: options.isOver ?? (() => false) };
  const copier = new Copier({ threads, room, moment, pageBytes: PAGE, jobBytes: 4 << 20 });
  await work({ room, threads, copier, captured: { extents: [], gaps: [] } });
}

/** Both ways: process_vm_readv and /proc/PID/mem. */
const WAYS = [
  ['through process_vm_readv', process.pid],
  ['through /proc/PID/mem', 0],
] as const;

const own = (pid: number, memory: ProcessMemory): Origin => ({ memory, delta: 0n, pid, mayWait: false });

/** A piece may be given back when the next is asked for. */
function taken(room: CopyRoom, at: number | undefined, bytes: number): Buffer {
  const pieces: Buffer[] = [];
  for (const piece of room.take(at ?? -1, bytes)) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe.each(WAYS)('copying %s', (_, pid) => {
  test('what is in the room is what is in memory, however it lies', async () => {
    const { view, address } = ownMemory(24 << 20);
    using memory = openMemory(HOST, asPid(process.pid));
    const pages = view.byteLength / PAGE;
    const cuts = fc.uniqueArray(fc.integer({ min: 1, max: pages - 1 }), { minLength: 1, maxLength: 3000 });
    await fc.assert(
      fc.asyncProperty(cuts, async (list) => {
        await withCopier({ roomBytes: 32 << 20 }, async ({ room, copier, captured }) => {
          const edges = [0, ...list.toSorted((a, b) => a - b), pages];
          // Every other run.
          for (let index = 0; index + 1 < edges.length; index += 2) {
            const [from = 0, to = 0] = edges.slice(index, index + 2);
            const range = { start: address + BigInt(from * PAGE), end: address + BigInt(to * PAGE) };
            copier.add(captured, range, own(pid, memory));
          }
          await copier.settle(signal);
          expect(copier.leftBytes).toBe(0);
          room.seal();
          for (const extent of captured.extents) {
            const from = Number(extent.start - address);
            const bytes = taken(room, extent.at, extent.bytes);
            expect(digest(bytes)).toBe(digest(view.subarray(from, from + extent.bytes)));
          }
        });
      }),
      { numRuns: 5 },
    );
  });

  test('a page that cannot be read is a gap, and what is around it is copied', async () => {
    using memory = openMemory(HOST, asPid(process.pid));
    const start = beforeHole(2);
    await withCopier({ roomBytes: 1 << 20 }, async ({ copier, captured }) => {
      copier.add(captured, { start, end: start + 3n * 4096n }, own(pid, memory));
      const there = ownMemory(PAGE);
      copier.add(captured, { start: there.address, end: there.address + 4096n }, own(pid, memory));
      await copier.settle(signal);
      expect(captured.extents.map(({ start: at, bytes }) => [at, bytes])).toEqual([
        [start, PAGE],
        [there.address, PAGE],
      ]);
      expect(captured.gaps).toMatchObject([{ start: start + 4096n, end: start + 3n * 4096n, errno: 'EIO' }]);
    });
  });

  test('what does not fit into the room is left to be read live, and only that', async () => {
    const { address } = ownMemory(6 << 20);
    using memory = openMemory(HOST, asPid(process.pid));
    await withCopier({ roomBytes: (5 << 20) + 1 }, async ({ copier, captured }) => {
      copier.add(captured, { start: address, end: address + (6n << 20n) }, own(pid, memory));
      await copier.settle(signal);
      expect(copier).toMatchObject({ copiedBytes: 5 << 20, leftBytes: 1 << 20, stoppedBy: 'buffer' });
      const left = captured.extents.filter((extent) => extent.at === undefined);
      expect(left).toMatchObject([{ start: address + (5n << 20n), bytes: 1 << 20, isLive: true }]);
    });
  });

  test('a process that is gone is a gap, never a hang', async () => {
    const child = spawn('sleep', ['60'], { stdio: 'ignore' });
    await once(child, 'spawn');
    using memory = openMemory(HOST, asPid(child.pid ?? 0));
    child.kill('SIGKILL');
    await once(child, 'exit');
    await withCopier({ roomBytes: 1 << 20 }, async ({ copier, captured }) => {
      copier.add(captured, { start: 0x10000n, end: 0x18000n }, own(pid === 0 ? 0 : (child.pid ?? 0), memory));
      await copier.settle(signal);
      expect(captured.extents).toEqual([]);
      expect(captured.gaps).toMatchObject([{ start: 0x10000n, end: 0x18000n, why: expect.stringContaining('ended') }]);
    });
  });

  test('thousands of failing pages do not hold the target: the rest is tried after the thaw', async () => {
    using memory = openMemory(HOST, asPid(process.pid));
    const start = beforeHole(1000) + 4096n;
    await withCopier({ roomBytes: 8 << 20 }, async ({ copier, captured }) => {
      copier.add(captured, { start, end: start + 1000n * 4096n }, own(pid, memory));
      await copier.settle(signal);
      expect(captured.gaps).toMatchObject([{ start, errno: 'EIO' }]);
      expect(copier.leftBytes).toBeGreaterThan(400 * PAGE);
      expect(copier.leftBytes).toBeLessThan(600 * PAGE);
    });
  });
});

describe('the moment', () => {
  test('when it is over, nothing more is copied', async () => {
    const { address } = ownMemory(8 << 20);
    using memory = openMemory(HOST, asPid(process.pid));
    await withCopier({ roomBytes: 8 << 20, isOver: () => true }, async ({ copier, captured }) => {
      copier.add(captured, { start: address, end: address + (8n << 20n) }, own(0, memory));
      await copier.settle(signal);
      expect(copier).toMatchObject({ copiedBytes: 0, leftBytes: 8 << 20, stoppedBy: 'moment' });
    });
  });

  test('what was copied after it is called live', async () => {
    const { address } = ownMemory(8 << 20);
    using memory = openMemory(HOST, asPid(process.pid));
    await withCopier({ roomBytes: 8 << 20 }, async ({ copier, captured }) => {
      copier.add(captured, { start: address, end: address + (8n << 20n) }, own(0, memory));
      await copier.settle(signal);
      expect(copier.callLiveSince(Date.now() + 1000)).toBe(0);
      expect(copier.callLiveSince(0)).toBe(8 << 20);
      expect(captured.extents.every((extent) => extent.isLive)).toBe(true);
    });
  });

  test('the signal ends the copy', async () => {
    const { address } = ownMemory(1 << 20);
    using memory = openMemory(HOST, asPid(process.pid));
    await withCopier({ roomBytes: 8 << 20 }, async ({ copier, captured }) => {
      copier.add(captured, { start: address, end: address + (1n << 20n) }, own(0, memory));
      await expect(copier.settle(AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
    });
  });

  test('threads that ended are an error, not a wait', async () => {
    using memory = openMemory(HOST, asPid(process.pid));
    await withCopier({ roomBytes: 1 << 20 }, async ({ copier, captured, threads }) => {
      await threads[Symbol.asyncDispose]();
      copier.add(captured, { start: 0x10000n, end: 0x11000n }, own(0, memory));
      await expect(copier.settle(signal)).rejects.toThrow('were ended');
    });
  });
});

describe('comparing with what was read before', () => {
  test('what is as it was is not copied, and what changed is', async () => {
    const { view, address } = ownMemory(1 << 20);
    using memory = openMemory(HOST, asPid(process.pid));
    await withCopier({ roomBytes: 4 << 20 }, async ({ copier, captured, threads, room }) => {
      const half = 512 << 10;
      const same: number[] = [];
      const tags = [0, half].map((at) => tagOf(threads.key, view.subarray(at, at + half)));
      view[half + 7] = (view[half + 7] ?? 0) ^ 1;
      tags.forEach((tag, index) => {
        const start = address + BigInt(index * half);
        const block = { into: captured, origin: own(process.pid, memory), start, bytes: half };
        copier.compare({ ...block, tag, onSame: () => same.push(index) });
      });
      await copier.settle(signal);
      expect(same).toEqual([0]);
      expect(captured.extents).toMatchObject([{ start: address + BigInt(half), bytes: half }]);
      room.seal();
      const copied = taken(room, captured.extents[0]?.at, half);
      expect(digest(copied)).toBe(digest(view.subarray(half)));
    });
  });
});

async function readAll(region: Captured, reader = liveReader(PAGE, signal)): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for (const extent of region.extents) for await (const chunk of reader.read(region, extent)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function planned(pages: number, memory: ProcessMemory): Captured {
  const region: Captured = { extents: [], gaps: [] };
  leaveForLater(region, { start: BASE, end: BASE + BigInt(pages * PAGE) }, originOf(memory));
  return region;
}

const originOf = (memory: ProcessMemory): Origin => ({ memory, delta: 0n, pid: 0, mayWait: false });

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
    const gone: ProcessMemory = { fd: -1, readSync: () => 0, read: async () => 0, [Symbol.dispose]: () => undefined };
    const region = planned(3000, gone);
    expect((await readAll(region)).equals(Buffer.alloc(3000 * PAGE))).toBe(true);
    expect(region.gaps).toHaveLength(1);
    expect(region.gaps[0]?.why).toContain('ended');
    expect(capturedOf(region).capturedBytes).toBe(0);
  });

  test('memory that nobody brings costs 5 s once, not for ever', { timeout: 30_000 }, async () => {
    const never: ProcessMemory = {
      fd: -1,
      readSync: () => 0,
      read: () => new Promise(() => undefined),
      [Symbol.dispose]: () => undefined,
    };
    const region = planned(10, never);
    leaveForLater(region, { start: BASE, end: BASE + BigInt(10 * PAGE) }, originOf(never));
    const started = performance.now();
    expect((await readAll(region)).byteLength).toBe(20 * PAGE);
    expect(performance.now() - started).toBeLessThan(9000);
    expect(region.gaps[0]?.why).toContain('userfaultfd');
  });
});

describe('the room', () => {
  test('gives a place once, in whole pages, until it is full', () => {
    const room = new CopyRoom(5 * PAGE - 1, PAGE);
    expect(room.limitBytes).toBe(4 * PAGE);
    expect(reserve(room.share, 3 * PAGE, PAGE)).toEqual({ at: 0, bytes: 3 * PAGE });
    expect(reserve(room.share, 3 * PAGE, PAGE)).toEqual({ at: 3 * PAGE, bytes: PAGE });
    expect(reserve(room.share, PAGE, PAGE)).toBeUndefined();
  });

  test('gives its memory back as it is taken', async () => {
    const room = new CopyRoom(256 << 20, PAGE);
    await using threads = await startCopyThreads(room, PAGE, { count: 2 });
    const resident = (): number => process.memoryUsage.rss();
    const before = resident();
    await threads.touch(256 << 20);
    expect(resident() - before).toBeGreaterThan(200 << 20);
    reserve(room.share, 128 << 20, PAGE);
    room.seal();
    expect(resident() - before).toBeLessThan(180 << 20);
    for (const _ of room.take(0, 128 << 20));
    expect(resident() - before).toBeLessThan(64 << 20);
  });
});
