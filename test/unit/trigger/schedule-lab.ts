import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect } from 'vitest';
import { type CaptureRequest, createCaptures, type Execute } from '../../../agent/capture/captures.ts';
import { countIncidents } from '../../../agent/capture/incidents.ts';
import { openJournal } from '../../../agent/capture/journal.ts';
import { asContainerId, type ContainerSummary } from '../../../agent/runtime/runtime.ts';
import { openSchedules, type SchedulesOptions } from '../../../agent/trigger/schedule.ts';
import { scheduleBudgetSchema, scheduleSchema } from '../../../agent/trigger/schedule-options.ts';

/** Schedules of a real registry and journal, whose clock and captures the test holds. */

/** Of the test that runs. */
export let folder: string;

/** Gives each test of the file a folder. */
export function eachWithFolder(): void {
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'exhibit-schedules-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));
}

export const START = Date.parse('2026-05-01T10:00:00Z');

/** A clock that stands still until it is told; who sleeps is woken in order. */
export function createClock() {
  let now = START;
  const sleepers = new Set<{ atMs: number; wake: () => void }>();
  /** How many loops use it. */
  let users = 0;
  const busy: (() => boolean)[] = [];
  /** Until every loop sleeps and every run has ended that is not held. */
  const rest = async () => {
    const isAtRest = () => sleepers.size >= users && !busy.some((isBusy) => isBusy());
    for (let turn = 0; turn < 3; turn += 1) {
      await expect.poll(isAtRest, { interval: 1, timeout: 10_000 }).toBe(true);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  };
  return {
    now: () => now,
    busy,
    use: (loops: number) => {
      users += loops;
    },
    sleep: (ms: number, signal: AbortSignal) =>
      new Promise<void>((resolve, reject) => {
        const sleeper = { atMs: now + ms, wake: resolve };
        sleepers.add(sleeper);
        const end = () => {
          sleepers.delete(sleeper);
          reject(new Error('woken'));
        };
        signal.addEventListener('abort', end, { once: true });
      }),
    rest,
    async to(text: string) {
      const end = Date.parse(`2026-05-01T${text}Z`);
      await rest();
      for (;;) {
        const [first] = [...sleepers].sort((a, b) => a.atMs - b.atMs);
        if (first === undefined || first.atMs > end) break;
        sleepers.delete(first);
        now = Math.max(now, first.atMs);
        first.wake();
        await rest();
      }
      now = end;
    },
    /** As when somebody sets it: nobody is woken early. */
    jump(ms: number) {
      now += ms;
      for (const sleeper of sleepers) sleeper.atMs += ms;
    },
  };
}

export const container = (name: string, over: Partial<ContainerSummary> = {}): ContainerSummary => ({
  id: asContainerId(name.padEnd(64, '0').replaceAll(/[^0-9a-f]/g, 'a')),
  name: 'web',
  pod: { namespace: 'prod', name, uid: 'u', sandboxId: 's' },
  labels: new Map([['app', 'web']]),
  image: 'i',
  state: 'running',
  createdAt: '',
  ...over,
});

export const endsAtOnce: Execute = async (captureId, _request, { emit }) => {
  emit({ kind: 'accepted', target: 't', bundleUrl: `file:///e/${captureId}`, stages: ['seal'] });
  const stage = {
    stage: 'seal',
    status: 'captured',
    reason: '',
    wallMs: 1,
    pauseMs: 0,
    gapCount: 0,
    storedBytes: 1000,
  };
  emit({ kind: 'stage-ended', result: stage });
  return { state: 'complete' };
};

interface LabOptions {
  readonly schedules?: readonly object[];
  readonly budget?: object;
  readonly containers?: readonly ContainerSummary[];
  readonly execute?: Execute;
  /** Its captures do not end by themselves. */
  readonly isHeld?: boolean;
  readonly clock?: ReturnType<typeof createClock>;
  readonly more?: Partial<SchedulesOptions>;
}

export async function startLab(options: LabOptions = {}) {
  const clock = options.clock ?? createClock();
  const lines: string[] = [];
  const log = pino({}, { write: (line: string) => void lines.push(line) });
  const begun: CaptureRequest[] = [];
  const counted = countIncidents((captureId, request, hooks) => {
    if (request.requester.trigger === 'schedule') begun.push(request);
    return (options.execute ?? endsAtOnce)(captureId, request, hooks);
  });
  const journal = await openJournal(path.join(folder, 'state'), () => undefined);
  const captures = createCaptures({ journal, execute: counted.execute, now: clock.now, log });
  const schedules = await openSchedules({
    schedules: (options.schedules ?? [{}]).map((one) =>
      scheduleSchema.parse({
        ...{ name: 'base', cron: '*/10 * * * *', jitterMs: 0, selector: { namespaces: ['prod'] }, ...one },
      }),
    ),
    budget: scheduleBudgetSchema.parse({ waitMs: 500, ...options.budget }),
    ...{ node: 'n', stateDir: folder, captures, incidents: counted.incidents, now: clock.now, sleep: clock.sleep, log },
    runtime: { list: async () => [...(options.containers ?? [container('web-0')])] },
    ...options.more,
  });
  const loops = options.schedules?.length ?? 1;
  clock.use(loops);
  if (!options.isHeld) clock.busy.push(() => schedules.status().some(({ isRunning }) => isRunning));
  let isOver = false;
  return {
    ...{ clock, begun, captures, schedules },
    log: () => lines.join(''),
    async [Symbol.asyncDispose]() {
      if (isOver) return;
      isOver = true;
      clock.use(-loops);
      await captures.drain(0);
      await schedules[Symbol.asyncDispose]();
    },
  };
}

/** Runs until it is let go. */
export function held(): { execute: Execute; release: () => void } {
  let gate = Promise.withResolvers<void>();
  return {
    execute: async (captureId, request, hooks) => {
      hooks.emit({ kind: 'accepted', target: 't', bundleUrl: `file:///e/${captureId}`, stages: [] });
      const aborted = new Promise<void>((resolve) => hooks.signal.addEventListener('abort', () => resolve()));
      await Promise.race([gate.promise, aborted]);
      return { state: request.requester.trigger === 'schedule' ? 'complete' : 'partial' };
    },
    release: () => {
      gate.resolve();
      gate = Promise.withResolvers();
    },
  };
}

export const incident: CaptureRequest = {
  ...{ captureId: '', selector: 'prod/db-0', artifacts: ['processes'], caseId: '', reason: '' },
  ...{ consistency: 'live', scope: 'container', requester: { trigger: 'socket', identity: 'root' } },
};
