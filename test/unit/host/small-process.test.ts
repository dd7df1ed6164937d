import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { describe, expect, test } from 'vitest';

const moduleOf = (name: string) => JSON.stringify(path.resolve('agent', name));

/** A program that has no descriptor left, as it is when a container's limit is reached, and starts what an agent starts. */
const PROGRAM = `
import { closeSync, openSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { spawnGuard } from ${moduleOf('capture/guard-link.ts')};
import { childLines } from ${moduleOf('host/bounded-child.ts')};
import { openAsker } from ${moduleOf('host/preflight-ask.ts')};
import { openReader } from ${moduleOf('host/procfs-reader.ts')};
import { startDumpGuard } from ${moduleOf('runtime/dump-guard-link.ts')};
const host = { procRoot: '/proc', hostRoot: '' };
const { signal } = new AbortController();
const starts = {
  guard: async () => spawnGuard(),
  lines: () => childLines(new URL('file:///none'), [], { patienceMs: 1000, totalMs: 1000, signal }).next(),
  asker: async () => openAsker(host, signal),
  reader: () => openReader(host).ask({}, signal).next(),
  dump: async () => { if ((await startDumpGuard({ host })).started) throw new Error('it did start'); },
};
const open = [];
try { for (;;) open.push(openSync('/dev/null')); } catch {}
const said = {};
for (const [name, start] of Object.entries(starts)) said[name] = await start().then(() => 'well', ({ message }) => message);
await turn();
await turn();
for (const fd of open) closeSync(fd);
console.log(JSON.stringify(said));
`;

describe('a process of the agent for which no descriptor is left', () => {
  test('fails in a sentence, and the agent lives; a dump goes on without a guard', () => {
    const argv = ['-c', 'ulimit -n 80; exec "$0" --input-type=module -e "$1"', process.execPath, PROGRAM];
    const said: unknown = JSON.parse(execFileSync('bash', argv, { encoding: 'utf8', timeout: 30_000 }));
    const sentence = 'no descriptors are left to start a process of the agent';
    expect(said).toEqual({ guard: sentence, lines: sentence, asker: sentence, reader: sentence, dump: 'well' });
  }, 40_000);
});
