import { readFileSync } from 'node:fs';
import { beforeEach, expect, test } from 'vitest';
import { memoryCollector } from '../../agent/collect/memory.ts';
import { readHeaders } from '../../evidence/elfheader.ts';
import { fakeContext } from '../unit/collect/memory-context.ts';
import { startVictim, whyNoVictims } from '../unit/collect/memory-victim.ts';

const reason = whyNoVictims();
beforeEach((context) => {
  if (reason !== undefined) context.skip(reason);
});

/** The most that a process may have here, less what it has anyway; 100,000 where the machine was set so. */
const MAPPINGS = Math.min(100_000, Number(readFileSync('/proc/sys/vm/max_map_count', 'utf8')) - 200);

test(`a process with ${MAPPINGS} mappings is captured`, { timeout: 120_000 }, async () => {
  using victim = await startVictim(1, 0, MAPPINGS);
  using fake = fakeContext({ pids: [victim.pid], deadlineMs: 60_000, bufferBytes: 512 << 20 });
  await memoryCollector().collect(fake.context);
  const regions = fake.regions(victim.pid);
  expect(regions.length).toBeGreaterThan(MAPPINGS);
  const core = readFileSync(fake.file(`${victim.pid}/core`));
  expect(core.includes(`NEEDLE-many-${victim.token}`)).toBe(true);
  expect(readHeaders(core)?.programHeaders.length).toBeGreaterThan(MAPPINGS);
  expect(fake.gaps).toEqual([]);
});

test('a reservation of a tebibyte costs nothing, also without a buffer', async () => {
  using victim = await startVictim(1);
  using fake = fakeContext({ pids: [victim.pid], bufferBytes: 0 });
  const started = performance.now();
  await memoryCollector().collect(fake.context);
  expect(performance.now() - started).toBeLessThan(10_000);
  expect(fake.members.get(`${victim.pid}/core`)?.came).toBeLessThan(16 << 20);
});

test('a pid that never was is a gap and the archive is whole', async () => {
  using fake = fakeContext({ pids: [4_194_304], consistency: 'live' });
  await memoryCollector().collect(fake.context);
  expect(fake.gaps).toMatchObject([{ pid: 4_194_304, errno: 'ENOENT' }]);
});

test('a cancelled capture ends at once and leaves the target running', async () => {
  using victim = await startVictim(16);
  const cancel = new AbortController();
  using fake = fakeContext({
    pids: [victim.pid],
    signal: cancel.signal,
    onFrozen: () => cancel.abort(new Error('cancelled')),
  });
  await expect(memoryCollector().collect(fake.context)).rejects.toThrow('cancelled');
  const status = readFileSync(`/proc/${victim.pid}/status`, 'latin1');
  // Not T, t or D.
  expect(status).toMatch(/State:\t[RS]/);
});
