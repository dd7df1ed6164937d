import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import type { Answer } from '../../agent/trigger/folder-answer.ts';
import { startAgent } from '../lab/agent.ts';

/** More than any node asks of itself in a day, at once, at an agent as a process whose policy lets few of them through. */

const FILES = 10_000;
/** These name a process that is there, which takes a look at all processes; the others one that is not. */
const EVERY = 10;
/** No pid: they end below pid_max (proc(5)), of which this is the most. */
const NO_PID = 4_194_304;
const ALLOWED = 25;
/** Of the answers, the names and what is known of each: some KiB a file. */
const MOST_GROWTH_KIB = 200 * 1024;

const peakKib = (pid: number): number =>
  Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]);

test('10,000 requests at once are answered each one time, captured as the policy allows, in bounded memory', async (context) => {
  if (process.getuid?.() !== 0) context.skip('needs root: the agent reads processes of others');
  const at = mkdtempSync(path.join(tmpdir(), 'exhibit-flood-'));
  const requestFolder = { path: path.join(at, 'requests') };
  const policy = { triggers: { folder: { rate: { captures: ALLOWED, perMs: 3_600_000 } } } };
  await using agent = await startAgent(undefined, { folder: at, config: { requestFolder, policy } });
  const target = spawn('sleep', ['1000'], { stdio: 'ignore' });
  await once(target, 'spawn');
  try {
    const folder = path.join(agent.folder, 'requests');
    const staged = path.join(agent.folder, 'staged');
    mkdirSync(staged);
    const requestOf = (index: number) => {
      const pid = index % EVERY === 0 ? target.pid : NO_PID;
      return JSON.stringify({ target: `pid:${pid}`, artifacts: ['spec'], consistency: 'live' });
    };
    const names = Array.from({ length: FILES }, (_, index) => `r${index}.json`);
    for (const [index, name] of names.entries())
      writeFileSync(path.join(staged, name), requestOf(index), { mode: 0o600 });
    const before = peakKib(agent.pid);
    for (const name of names) renameSync(path.join(staged, name), path.join(folder, name));
    const answered = () => readdirSync(folder).filter((name) => name.endsWith('.answer.json')).length;
    await expect.poll(answered, { timeout: 800_000, interval: 500 }).toBe(FILES);
    const answers = () =>
      names.map((name) => JSON.parse(readFileSync(path.join(folder, `${name}.answer.json`), 'utf8')) as Answer);
    await expect
      .poll(() => answers().filter(({ state }) => state === 'accepted').length, { timeout: 60_000, interval: 500 })
      .toBe(0);
    const told = answers();
    const refused = told.filter(({ state }) => state === 'refused');
    expect(refused.length).toBe(FILES - ALLOWED);
    expect(new Set(told.map(({ captureId }) => captureId)).size).toBe(FILES);
    const byPolicy = refused.filter(({ error }) => error?.includes('policy.triggers.folder.rate'));
    expect(byPolicy.length).toBe(FILES / EVERY - ALLOWED);
    const notThere = refused.filter(({ error }) => error?.includes(`process ${NO_PID}`));
    expect(notThere.length).toBe(FILES - FILES / EVERY);
    const taken = told.filter(({ state }) => state !== 'refused').map(({ captureId }) => captureId);
    const base = path.join(agent.evidence, 'lab', 'this-machine');
    expect((existsSync(base) ? readdirSync(base) : []).sort()).toEqual(taken.sort());
    expect(peakKib(agent.pid) - before).toBeLessThan(MOST_GROWTH_KIB);
  } finally {
    target.kill('SIGKILL');
  }
}, 900_000);
