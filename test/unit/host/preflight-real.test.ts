import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { preflight } from '../../../agent/host/preflight.ts';
import { mapsSchema, openAsker } from '../../../agent/host/preflight-ask.ts';
import { asPid } from '../../../agent/runtime/runtime.ts';
import { type Obstacle, preflightSchema } from '../../../evidence/dump.ts';
import { zooSource } from '../../lab/cache.mjs';
import { compileC } from '../../lab/planted.ts';

const signal = () => AbortSignal.timeout(15_000);
const brief = (obstacles: readonly Obstacle[]) =>
  obstacles.map(({ kind, certainty, liftedBy }) => `${kind} ${certainty} ${liftedBy ?? '-'}`);

describe.skipIf(process.platform !== 'linux')('a /proc that makes one wait', () => {
  const proc = mkdtempSync(path.join(tmpdir(), 'exhibit-preflight-'));
  afterAll(() => rmSync(proc, { recursive: true, force: true }));
  const MAPS = '7fffffffe000-7ffffffff000 --xp 00000000 00:00 0                          [uprobes]\n';

  test('costs that one process, and is a note', async () => {
    for (const pid of [7, 8, 9]) {
      mkdirSync(path.join(proc, String(pid), 'fd'), { recursive: true });
      writeFileSync(path.join(proc, String(pid), 'status'), `Name:\tx\nPPid:\t${pid === 7 ? 1 : 7}\nNSpid:\t${pid}\n`);
      if (pid !== 8) writeFileSync(path.join(proc, String(pid), 'maps'), MAPS);
    }
    // Opening a FIFO waits for somebody who writes.
    execFileSync('mkfifo', [path.join(proc, '8', 'maps')]);
    const host = { procRoot: proc, hostRoot: '' };
    const found = await preflight(host, [7, 8, 9].map(asPid), signal(), {
      openAsker: (where, ends) => openAsker(where, ends, 200),
    });
    expect(found.obstacles.map(({ kind, pid }) => `${kind} ${pid}`)).toEqual(['uprobes 7', 'uprobes 9']);
    expect(found.notes).toEqual(['the mappings of process 8 cannot be read (stalled)']);
  });

  test('everywhere ends all the same', async () => {
    await using asker = openAsker({ procRoot: proc, hostRoot: '' }, signal(), 100);
    const items = Array.from({ length: 50 }, () => ({ pid: 8 }));
    const answers = await asker.ask({ ask: 'maps', items }, mapsSchema);
    expect(answers).toEqual(items.map(() => ({ errno: 'stalled' })));
  });

  test('and an abort ends it at once, with its reason', async () => {
    const controller = new AbortController();
    const running = preflight({ procRoot: proc, hostRoot: '' }, [asPid(8)], controller.signal);
    setTimeout(() => controller.abort(new Error('enough')), 100);
    await expect(running).rejects.toThrow('enough');
  });
});

test('processes that are gone are left out', async () => {
  const found = await preflight({ procRoot: '/proc', hostRoot: '' }, [asPid(4_000_000)], signal());
  expect(preflightSchema.parse(found)).toMatchObject({ processes: 0, obstacleCount: 0, dumpBytes: 0, notes: [] });
});

/** Real processes of this machine; real containers are in test/e2e/preflight.test.ts. */
describe.skipIf(process.platform !== 'linux')('a real process of this machine', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-obstacles-'));
  const program = path.join(folder, 'obstacles');
  let noCompiler: string | undefined;
  beforeAll(() => {
    noCompiler = compileC(zooSource('obstacles.c'), program);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test.for<[string, string[]]>([
    ['nothing', []],
    ['tcp-established', ['tcp-established certain openTcp']],
    ['tcp-backlog', ['tcp-backlog certain -']],
    ['tcp-listen', []],
    ['mptcp-listen', ['mptcp certain -']],
    ['vsock', ['vsock certain -']],
    ['udp-unconnected', []],
    ['unix-pair-stream', []],
    ['unix-half-pair-stream', []],
    ['io-uring', ['io-uring certain -']],
    ['io-uring-mapped', ['io-uring certain -']],
    ['ghost-large', ['ghost-file certain -']],
    ['ghost-small', []],
    ['lock-flock', ['file-locks certain fileLocks']],
    ['lock-posix', ['file-locks certain fileLocks']],
    ['traced', ['traced certain -']],
    ['memfd', []],
  ])('that holds %s', async ([kind, expected], { skip }) => {
    if (noCompiler !== undefined) skip(noCompiler);
    const own = path.join(folder, kind);
    mkdirSync(own);
    const child = spawn(program, [kind, own], { stdio: 'ignore', detached: true });
    try {
      const said = path.join(own, 'said');
      while (!existsSync(said) || readFileSync(said, 'utf8') === '') await sleep(5);
      const words = readFileSync(said, 'utf8');
      if (words.startsWith('none')) skip(`needs what this machine refuses: ${words}`);
      const pid = child.pid ?? 0;
      const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
      const found = await preflight({ procRoot: '/proc', hostRoot: '' }, [pid, ...children].map(asPid), signal());
      expect([...new Set(brief(found.obstacles))]).toEqual(expected);
      // Entering a network namespace takes root, be it one's own.
      if (found.notes.some((note) => note.includes('EPERM'))) skip(`needs root: ${found.notes.join()}`);
      expect(found.notes.filter((note) => !note.includes('refused (E'))).toEqual([]);
      expect(preflightSchema.parse(found).obstacleCount).toBeGreaterThanOrEqual(expected.length);
    } finally {
      process.kill(-(child.pid ?? 0), 'SIGKILL');
    }
  });
});
