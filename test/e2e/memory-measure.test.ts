import { readFileSync } from 'node:fs';
import { beforeEach, expect, test } from 'vitest';
import { memoryCollector } from '../../agent/collect/memory.ts';
import { openPageMap } from '../../agent/host/pagemap.ts';
import { fakeContext } from '../unit/collect/memory-context.ts';
import { startVictim, whyNoVictims } from '../unit/collect/memory-victim.ts';

/**
 * The stall for a process of MEASURE_MIB (256 unless told), beside the machine's own memcpy in the same minute.
 * Prints one line of JSON; the bounds are only there to notice when it gets absurd on a busy machine.
 */

const MIB = Number(process.env.MEASURE_MIB ?? 256);
const reason = whyNoVictims();
beforeEach((context) => {
  if (reason !== undefined) context.skip(reason);
});

function timed(work: () => void): number {
  const started = performance.now();
  work();
  return performance.now() - started;
}

/** Between touched buffers, 4 MiB at a time, as the collector copies. */
function memcpyMs(): number {
  const step = 4 << 20;
  const from = Buffer.alloc(MIB << 20, 1);
  const to = Buffer.alloc(MIB << 20, 2);
  return timed(() => {
    for (let at = 0; at < from.byteLength; at += step) from.copy(to, at, at, at + step);
  });
}

const highWaterMiB = (): number => {
  return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'latin1'))?.[1]) / 1024;
};

test(`the stall of a process of ${MIB} MiB`, { timeout: 300_000 }, async () => {
  using victim = await startVictim(MIB, 3);
  const before = process.memoryUsage().rss / 2 ** 20;
  using fake = fakeContext({ pids: [victim.pid], bufferBytes: 8 * 2 ** 30, discard: true });
  await memoryCollector().collect(fake.context);
  const bufferedMiB = Number(fake.facts.get('bufferedBytes')) / 2 ** 20;
  const highWater = highWaterMiB();
  const range = [{ start: 0n, end: 0x7ffffffff000n }];
  const method = (name: 'scan' | 'read', ranges: typeof range): number => {
    using map = openPageMap(fake.context.host, victim.pid, 4096, { method: name });
    return map.method === name ? timed(() => map.runs(ranges)) : Number.NaN;
  };
  const bulk = fake.regions(victim.pid).find((each) => each.residentBytes >= MIB << 20);
  const bulkRange = [{ start: BigInt(bulk?.start ?? 0), end: BigInt(bulk?.end ?? 0) }];
  const copy = memcpyMs();
  const figures = {
    mib: MIB,
    stallMs: Math.round(fake.pauseMs()),
    pictureMs: fake.facts.get('pictureMs'),
    copyMs: fake.facts.get('copyMs'),
    memcpyMs: Math.round(copy),
    scanMs: Math.round(method('scan', range) * 10) / 10,
    readPagemapMs: Math.round(method('read', bulkRange) * 10) / 10,
    smapsMs: Math.round(timed(() => void readFileSync(`/proc/${victim.pid}/smaps`)) * 10) / 10,
    mapsMs: Math.round(timed(() => void readFileSync(`/proc/${victim.pid}/maps`)) * 10) / 10,
    rssBeyondBufferMiB: Math.round(highWater - before - bufferedMiB),
    load: readFileSync('/proc/loadavg', 'utf8').split(' ')[0],
  };
  console.log(JSON.stringify(figures));
  expect(figures.stallMs).toBeLessThan(1000 + 20 * copy);
  expect(figures.rssBeyondBufferMiB).toBeLessThan(200);
});
