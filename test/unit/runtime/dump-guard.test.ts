import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants, existsSync } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { libc } from '../../../agent/host/libc.ts';
import { DUMPED, OVER, READY } from '../../../agent/runtime/dump-guard.ts';

const PROGRAM = fileURLToPath(new URL('../../../agent/runtime/dump-guard.ts', import.meta.url));
const HOST = { procRoot: '/proc', hostRoot: '' };
/** More than a pipe holds, so that a writer waits for its reader. */
const BIG = Buffer.alloc(1024 * 1024, 7);

let folder: string;
let fifo: string;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'exhibit-dump-guard-'));
  fifo = path.join(folder, 'checkpoint.fifo');
  libc().mkfifo(Buffer.from(fifo), 0o600);
});
afterEach(() => rm(folder, { recursive: true }));

async function startGuard() {
  const child = spawn(process.execPath, [PROGRAM], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  child.stdin.write(`${JSON.stringify({ host: HOST, fifo })}\n`);
  const [said] = await once(child.stdout, 'data');
  expect(String(said).trim()).toBe(READY);
  return { child, ended };
}

/** A writer as containerd is one: with both ends open, it hears of no reader's death. */
async function write(): Promise<void> {
  await using handle = await open(fifo, constants.O_RDWR);
  for (let at = 0; at < BIG.length; ) at += (await handle.write(BIG, at)).bytesWritten;
}

describe('the dump guard', () => {
  test('reads the FIFO of a dead agent dry, and removes it', async () => {
    const { child, ended } = await startGuard();
    const written = write();
    child.stdin.end();
    await written;
    await ended;
    expect(existsSync(fifo)).toBe(false);
  });

  test('waits for a runtime that opens the FIFO later', async () => {
    const { child, ended } = await startGuard();
    child.stdin.end();
    await sleep(500);
    expect(existsSync(fifo)).toBe(true);
    await write();
    await ended;
    expect(existsSync(fifo)).toBe(false);
  });

  test('does nothing when it is told that all is over', async () => {
    const { child, ended } = await startGuard();
    child.stdin.end(`${DUMPED}\n${OVER}\n`);
    await ended;
    expect(existsSync(fifo)).toBe(true);
  });

  test('is not ended by a signal that its agent gets as well', async () => {
    const { child, ended } = await startGuard();
    for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) child.kill(name);
    await sleep(200);
    const written = write();
    child.stdin.end();
    await written;
    expect(await ended).toEqual([0, null]);
  });
});
