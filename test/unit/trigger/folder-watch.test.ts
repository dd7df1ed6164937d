import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';

const WATCH = path.resolve(import.meta.dirname, '../../../agent/trigger/folder-watch.ts');

/** Watches its argument, writes a file into it when watching has begun, and prints how it was told. */
const PROGRAM = `
  import { writeFileSync } from 'node:fs';
  import { watchFolder } from ${JSON.stringify(WATCH)};
  const folder = process.argv[1];
  const told = Promise.withResolvers();
  const warnings = [];
  const log = { debug() {}, warn: (fields, words) => warnings.push(words) };
  const watch = await watchFolder(folder, () => told.resolve(), log);
  const timer = setInterval(() => writeFileSync(folder + '/' + Date.now() + '.json', ''), 300);
  await told.promise;
  clearInterval(timer);
  await watch[Symbol.asyncDispose]();
  console.log(JSON.stringify({ kind: watch.kind, warnings }));
`;

function watched(before: readonly string[]): unknown {
  const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-watch-'));
  try {
    const argv = [...before, process.execPath, '--input-type=module', '--eval', PROGRAM, folder];
    return JSON.parse(
      execFileSync(argv[0] ?? '', argv.slice(1), { timeout: 15_000, stdio: ['ignore', 'pipe', 'pipe'] }).toString(),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A user namespace has limits of its own (user_namespaces(7)): nobody else's inotify is touched. */
const WITHOUT_INOTIFY = [
  'unshare',
  '-Ur',
  'sh',
  '-c',
  'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"',
  'sh',
];
const mayLimit = spawnSync(WITHOUT_INOTIFY[0] ?? '', [...WITHOUT_INOTIFY.slice(1), 'true']).status === 0;

describe('the watch on the request folder', () => {
  test('is told by the kernel', () => {
    expect(watched([])).toEqual({ kind: 'inotify', warnings: [] });
  });

  test.skipIf(!mayLimit)(
    'polls where inotify has reached its limit (needs user namespaces with limits of their own)',
    () => {
      expect(watched(WITHOUT_INOTIFY)).toEqual({
        ...{ kind: 'polling', warnings: ['no inotify for the request folder: it is polled'] },
      });
    },
  );
});
