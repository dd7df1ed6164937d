import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, type TestContext, test } from 'vitest';
import type { Answer } from '../../agent/capture/guard.ts';
import { compile, missing, start, statusOf, type Workload } from './freeze-workload.ts';

/** A guard whose agent reads nothing, while it has more to tell than a pipe holds. */

const THREADS = 1_500;
const GUARD = path.join(import.meta.dirname, '../../agent/capture/guard.ts');

let built: ReturnType<typeof compile> | undefined;
const guards: ChildProcess[] = [];
beforeAll(() => {
  if (missing('gcc') === undefined) built = compile();
});
afterEach(() => {
  for (const guard of guards.splice(0)) guard.kill('SIGKILL');
});
afterAll(() => built?.[Symbol.dispose]());

const stands = ({ pid }: Workload): boolean => statusOf(pid, 'State') === 'T';

/** Runs free again, every thread of it. */
const isFree = ({ pid }: Workload): boolean =>
  readdirSync(`/proc/${pid}/task`).every(
    (tid) => 'SR'.includes(statusOf(Number(tid), 'State')) && statusOf(Number(tid), 'TracerPid') === '0',
  );

async function until(what: () => boolean, boundMs: number): Promise<void> {
  const bound = performance.now() + boundMs;
  while (!what() && performance.now() < bound) await sleep(10);
  expect(what()).toBe(true);
}

/** A guard that holds the workload; nobody has read what it says after `ready`. */
async function held(context: TestContext, workload: Workload, deadlineMs: number) {
  const guard = spawn(process.execPath, [GUARD], { stdio: ['pipe', 'ignore', 'inherit', 'pipe'], detached: true });
  guards.push(guard);
  const answers = guard.stdio[3];
  if (guard.stdin === null || !(answers instanceof Readable)) return context.skip('there are no pipes');
  const order = (words: unknown) => guard.stdin?.write(`${JSON.stringify(words)}\n`);
  order({ type: 'hold', spec: { kind: 'signal', pids: [workload.pid] }, procRoot: '/proc' });
  await once(answers, 'readable');
  order({ type: 'freeze', deadlineMs });
  await until(() => stands(workload), 10_000);
  return { guard, answers, order };
}

function workloadOf(context: TestContext): Promise<Workload> {
  if (built === undefined || !existsSync(built.program)) return context.skip(missing('gcc') ?? 'no workload');
  return start(built.program, String(THREADS));
}

test('its deadline thaws all the same', async (context) => {
  await using workload = await workloadOf(context);
  const { answers } = await held(context, workload, 3_000);
  await sleep(1_000);
  expect(stands(workload)).toBe(true);
  await until(() => isFree(workload), 5_000);
  // What it had to say is there for an agent that comes back to it.
  const heard: Answer[] = [];
  for await (const line of createInterface({ input: answers })) {
    heard.push(JSON.parse(line) as Answer);
    if (heard.at(-1)?.type === 'thawed') break;
  }
  const read = heard.flatMap((answer) => (answer.type === 'registers' ? answer.threads : []));
  expect(read).toHaveLength(THREADS);
  expect(JSON.stringify(read).length).toBeGreaterThan(256 * 1024);
});

test('so does the end of the agent, and the guard ends though nobody takes its last words', async (context) => {
  await using workload = await workloadOf(context);
  const { guard } = await held(context, workload, 60_000);
  await sleep(200);
  guard.stdin?.end();
  await until(() => isFree(workload), 5_000);
  await once(guard, 'exit');
});
