import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { watchFreezer } from '../../../agent/host/freezer-watch.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'exhibit-freezer-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function set(frozen: boolean): void {
  writeFileSync(path.join(folder, 'cgroup.freeze'), frozen ? '1\n' : '0\n');
  writeFileSync(path.join(folder, 'cgroup.events'), `populated 1\nfrozen ${frozen ? 1 : 0}\n`);
}

test('adds up the time in which the cgroup stood still', async () => {
  set(false);
  const watch = watchFreezer({ version: 2, folder });
  await sleep(60);
  set(true);
  const begin = performance.now();
  await sleep(120);
  set(false);
  const stoodMs = performance.now() - begin;
  await sleep(60);
  const seenMs = watch.stop() ?? 0;
  expect(seenMs).toBeGreaterThan(stoodMs / 2);
  expect(seenMs).toBeLessThan(stoodMs * 2);
});

test('says that it does not know where there is no freezer', () => {
  expect(watchFreezer({ version: 2, folder: '/nowhere' }).stop()).toBeUndefined();
});
