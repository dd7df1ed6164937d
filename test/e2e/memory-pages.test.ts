import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { memoryCollector } from '../../agent/collect/memory.ts';
import type { RegionRecord } from '../../evidence/elfregion.ts';
import { type FakeContext, fakeContext } from '../unit/collect/memory-context.ts';
import { startVictim, type Victim, whyNoVictims } from '../unit/collect/memory-victim.ts';
import { program } from './readers.ts';

/**
 * Needles in swapped pages and in huge pages. The machine lends 32 MiB of swap space and two huge pages for the length of
 * this file; where it cannot, the test is skipped.
 */

const reason = whyNoVictims('gdb', 'mkswap', 'swapon', 'swapoff');
const HUGE_PAGES = '/proc/sys/vm/nr_hugepages';

let folder: string | undefined;
let hugePagesBefore: string | undefined;
let victim: Victim | undefined;
let fake: FakeContext | undefined;

beforeAll(async () => {
  if (reason !== undefined) return;
  folder = lendSwap();
  hugePagesBefore = readFileSync(HUGE_PAGES, 'utf8');
  writeFileSync(HUGE_PAGES, String(Number(hugePagesBefore) + 2));
  victim = await startVictim(1);
  fake = fakeContext({ pids: [victim.pid] });
  await memoryCollector().collect(fake.context);
});

afterAll(() => {
  victim?.[Symbol.dispose]();
  fake?.[Symbol.dispose]();
  if (hugePagesBefore !== undefined) writeFileSync(HUGE_PAGES, hugePagesBefore);
  if (folder === undefined) return;
  program('swapoff', [path.join(folder, 'swap')]);
  rmSync(folder, { recursive: true, force: true });
});

/** The folder of a swap file in use, or undefined when this machine does not take one. */
function lendSwap(): string | undefined {
  const place = mkdtempSync(path.join(tmpdir(), 'exhibit-swap-'));
  const file = path.join(place, 'swap');
  writeFileSync(file, Buffer.alloc(32 << 20), { mode: 0o600 });
  const isUsed = program('mkswap', [file]).code === 0 && program('swapon', [file]).code === 0;
  if (isUsed) return place;
  rmSync(place, { recursive: true, force: true });
  return undefined;
}

function regionOf(place: string): RegionRecord | undefined {
  const address = victim?.places.get(place) ?? 0n;
  return fake?.regions(victim?.pid ?? 0).find((each) => BigInt(each.start) <= address && address < BigInt(each.end));
}

function expectNeedle(place: string): void {
  const address = `0x${victim?.places.get(place)?.toString(16)}`;
  const core = fake?.file(`${victim?.pid}/core`) ?? '';
  const { stdout } = program('gdb', ['-nx', '-batch', '-ex', `core-file ${core}`, '-ex', `x/s ${address}`]);
  expect(stdout).toContain(`NEEDLE-${place}-${victim?.token}`);
}

test('a needle in a swapped page is found, and the record says that it was swapped', (context) => {
  if (reason !== undefined) context.skip(reason);
  if (folder === undefined) context.skip('this machine takes no swap file');
  const region = regionOf('pagedout');
  if (region?.swappedBytes === 0) context.skip('the kernel did not swap the page out');
  expect(region?.swappedBytes).toBeGreaterThan(0);
  expect(region?.capturedBytes).toBe((region?.swappedBytes ?? 0) + (region?.residentBytes ?? 0));
  expectNeedle('pagedout');
});

test('a needle in a huge page is found', (context) => {
  if (reason !== undefined) context.skip(reason);
  if (victim?.places.has('huge') !== true) context.skip('this machine has no free huge pages');
  expect(regionOf('huge')).toMatchObject({ kind: 'huge-pages', residentBytes: 2 << 20, capturedBytes: 2 << 20 });
  expectNeedle('huge');
});
