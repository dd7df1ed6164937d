import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { startFreezer } from '../../agent/capture/freeze.ts';
import { guardOf, soon, untilGone } from './freeze-bench.ts';
import { statusOf } from './freeze-workload.ts';

/** Anonymous memory of a guard that is ready, in KiB. */
async function guardKib(pid: number, codeCache: string): Promise<number> {
  let guard: number;
  let kib: number;
  {
    await using _freezer = await startFreezer({ kind: 'signal', pids: [pid] }, soon(), { codeCache });
    guard = guardOf(process.pid);
    kib = Number(statusOf(guard, 'RssAnon'));
  }
  await untilGone(guard);
  return kib;
}

test('a guard stays small, and half as small where an earlier one has left its compiled code', async () => {
  const target = spawn('sleep', ['60']);
  const codeCache = mkdtempSync(path.join(tmpdir(), 'exhibit-code-'));
  try {
    const first = await guardKib(target.pid ?? 0, codeCache);
    const second = await guardKib(target.pid ?? 0, codeCache);
    console.log(`anonymous memory of a guard: ${first} KiB, with its code compiled before ${second} KiB`);
    expect(readdirSync(codeCache).length).toBeGreaterThan(0);
    expect(first).toBeLessThan(60 * 1024);
    expect(second).toBeLessThan(0.75 * first);
  } finally {
    rmSync(codeCache, { recursive: true });
    target.kill('SIGKILL');
    await once(target, 'exit');
  }
});
