import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type CaptureRequest, createCaptures, type Execute } from '../../../agent/capture/captures.ts';
import { countIncidents } from '../../../agent/capture/incidents.ts';
import { openJournal } from '../../../agent/capture/journal.ts';
import { parseConfig } from '../../../agent/config.ts';
import { asContainerId, type ContainerSummary } from '../../../agent/runtime/runtime.ts';
import { openSchedules, type SchedulesOptions } from '../../../agent/trigger/schedule.ts';
import { scheduleBudgetSchema, scheduleSchema } from '../../../agent/trigger/schedule-options.ts';
import { chooseTargets } from '../../../agent/trigger/schedule-targets.ts';
import { ExhibitError } from '../../../evidence/error.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-schedules-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const START = Date.parse('2026-05-01T10:00:00Z');

/** A clock that stands still until it is told; who sleeps is woken in order. */
function createClock() {
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

const container = (name: string, over: Partial<ContainerSummary> = {}): ContainerSummary => ({
  id: asContainerId(name.padEnd(64, '0').replaceAll(/[^0-9a-f]/g, 'a')),
  name: 'web',
  pod: { namespace: 'prod', name, uid: 'u', sandboxId: 's' },
  labels: new Map([['app', 'web']]),
  image: 'i',
  state: 'running',
  createdAt: '',
  ...over,
});

const endsAtOnce: Execute = async (captureId, _request, { emit }) => {
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

async function startLab(options: LabOptions = {}) {
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
function held(): { execute: Execute; release: () => void } {
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

const incident: CaptureRequest = {
  ...{ captureId: '', selector: 'prod/db-0', artifacts: ['processes'], caseId: '', reason: '' },
  ...{ consistency: 'live', scope: 'container', requester: { trigger: 'socket', identity: 'root' } },
};

describe('a schedule', () => {
  test('captures every running container that it selects, lightly, and says for which time', async () => {
    const containers = [
      container('web-1'),
      container('web-0'),
      container('old-0', { state: 'exited' }),
      container('db-0', { labels: new Map() }),
      container('web-9', { pod: { namespace: 'test', name: 'web-9', uid: 'u', sandboxId: 's' } }),
    ];
    await using lab = await startLab({
      containers,
      schedules: [{ selector: { namespaces: ['prod'], labels: { app: 'web' } }, case: 'BASE', keepDays: 30 }],
    });
    await lab.clock.to('10:10:00');
    expect(lab.begun.map(({ selector }) => selector)).toEqual([containers[1]?.id, containers[0]?.id]);
    expect(lab.begun[0]).toMatchObject({
      ...{ artifacts: ['processes', 'network', 'node', 'rootfs'], consistency: 'live', caseId: 'BASE' },
      requester: { trigger: 'schedule', identity: 'base' },
      schedule: { name: 'base', tick: '2026-05-01T10:10:00.000Z', keepDays: 30 },
    });
    await lab.clock.to('10:29:59');
    expect(lab.begun).toHaveLength(4);
    expect(lab.schedules.status()).toMatchObject([
      { name: 'base', nextMs: Date.parse('2026-05-01T10:30:00Z'), isRunning: false, counts: { runs: 2, captures: 4 } },
    ]);
  });

  test('takes no more targets than it may, and says so', async () => {
    const containers = ['a', 'b', 'c'].map((name) => container(name));
    await using lab = await startLab({ containers, schedules: [{ maxTargets: 2 }] });
    await lab.clock.to('10:10:00');
    expect(lab.begun).toHaveLength(2);
    expect(lab.schedules.status()[0]?.trouble).toBe('1 more targets than maxTargets (2)');
  });

  test('asks for light artifacts where none are named, which the policy may then narrow, and for named ones as they are', async () => {
    await using lab = await startLab({ schedules: [{}, { name: 'named', artifacts: ['processes'] }] });
    await lab.clock.to('10:10:00');
    const light = lab.begun.find(({ requester }) => requester.identity === 'base');
    expect(light).toMatchObject({ artifacts: ['processes', 'network', 'node', 'rootfs'], artifactsByDefault: true });
    const named = lab.begun.find(({ requester }) => requester.identity === 'named');
    expect(named?.artifacts).toEqual(['processes']);
    expect(named).not.toHaveProperty('artifactsByDefault');
  });

  test('never runs twice at a time: what comes meanwhile is left out and counted', async () => {
    const { execute, release } = held();
    await using lab = await startLab({ execute, isHeld: true });
    await lab.clock.to('10:10:00');
    await expect.poll(() => lab.begun.length).toBe(1);
    await lab.clock.to('10:35:00');
    expect(lab.begun).toHaveLength(1);
    expect(lab.schedules.status()[0]).toMatchObject({ isRunning: true, counts: { overlapped: 2 } });
    release();
    await expect.poll(() => lab.schedules.status()[0]?.isRunning).toBe(false);
    await lab.clock.to('10:40:00');
    await expect.poll(() => lab.begun.length).toBe(2);
  });

  test('goes on after a runtime that did not answer, and a capture that did not begin', async () => {
    let calls = 0;
    await using lab = await startLab({
      execute: async (captureId, request, hooks) => {
        if (lab.begun.length === 1) throw new ExhibitError('target-not-running', 'gone');
        return await endsAtOnce(captureId, request, hooks);
      },
      more: {
        runtime: {
          list: async () => {
            calls += 1;
            if (calls === 1) throw new ExhibitError('runtime-unreachable', 'nobody answers');
            return [container('web-0')];
          },
        },
      },
    });
    await lab.clock.to('10:10:00');
    expect(lab.schedules.status()[0]).toMatchObject({
      trouble: 'nobody answers',
      counts: { failures: 1, captures: 0 },
    });
    await lab.clock.to('10:20:00');
    expect(lab.schedules.status()[0]).toMatchObject({ trouble: 'prod/web-0/web: gone', counts: { failures: 2 } });
    await lab.clock.to('10:30:00');
    expect(lab.schedules.status()[0]).toMatchObject({ trouble: undefined, counts: { captures: 1, failures: 2 } });
  });
});

describe('after a restart', () => {
  test('a run whose time came meanwhile is made up for, once', async () => {
    const clock = createClock();
    const first = await startLab({ clock });
    await clock.to('10:10:00');
    await first[Symbol.asyncDispose]();
    clock.jump(35 * 60_000);
    await using second = await startLab({ clock });
    await clock.rest();
    expect(second.begun.map(({ schedule }) => schedule?.tick)).toEqual(['2026-05-01T10:40:00.000Z']);
    expect(second.schedules.status()[0]?.counts.missed).toBe(2);
  });

  test('of which nothing is known, as after a reboot, no run was missed', async () => {
    const clock = createClock();
    const first = await startLab({ clock });
    await clock.to('10:10:00');
    await first[Symbol.asyncDispose]();
    rmSync(path.join(folder, 'schedules.json'));
    clock.jump(35 * 60_000);
    await using second = await startLab({ clock });
    await clock.rest();
    expect(second.begun).toEqual([]);
    await clock.to('10:50:00');
    expect(second.begun).toHaveLength(1);
  });

  test.each([
    ['nonsense', '{'],
    ['something else', '[]'],
    ['an endless list', `{"last":{},"spent":[${'{},'.repeat(9)}{}]}`],
  ])('that finds %s where it remembered begins anew', async (_what, content) => {
    writeFileSync(path.join(folder, 'schedules.json'), content);
    await using lab = await startLab();
    await lab.clock.to('10:10:00');
    expect(lab.begun).toHaveLength(1);
    expect(JSON.parse(readFileSync(path.join(folder, 'schedules.json'), 'utf8'))).toMatchObject({
      last: { base: Date.parse('2026-05-01T10:10:00Z') },
    });
  });

  test('a run in the middle of which the agent died is not begun again', async () => {
    const clock = createClock();
    const { execute } = held();
    const first = await startLab({ clock, execute, isHeld: true });
    await clock.to('10:10:00');
    await expect.poll(() => first.begun.length).toBe(1);
    await using second = await startLab({ clock });
    await clock.rest();
    expect(second.begun).toEqual([]);
    await first[Symbol.asyncDispose]();
  });
});

describe('the budget of the node', () => {
  test('is never more captures at a time than it says, over all schedules', async () => {
    let running = 0;
    let most = 0;
    await using lab = await startLab({
      schedules: ['a', 'b', 'c'].map((name) => ({ name })),
      containers: ['x', 'y'].map((name) => container(name)),
      budget: { concurrent: 2, waitMs: 60_000 },
      execute: async (captureId, request, hooks) => {
        running += 1;
        most = Math.max(most, running);
        await new Promise((resolve) => setTimeout(resolve, 5));
        running -= 1;
        return await endsAtOnce(captureId, request, hooks);
      },
    });
    await lab.clock.to('10:10:00');
    await expect.poll(() => lab.begun.length).toBe(6);
    await expect.poll(() => lab.schedules.status().every(({ isRunning }) => !isRunning)).toBe(true);
    expect(most).toBeLessThanOrEqual(2);
  });

  test('is never more captures an hour, a restart does not change that, and what is left out is counted', async () => {
    const clock = createClock();
    const containers = ['x', 'y'].map((name) => container(name));
    const first = await startLab({ clock, containers, budget: { capturesPerHour: 5 } });
    await clock.to('10:20:00');
    expect(first.begun).toHaveLength(4);
    await first[Symbol.asyncDispose]();
    await using second = await startLab({ clock, containers, budget: { capturesPerHour: 5 } });
    await clock.to('10:50:00');
    expect(second.begun).toHaveLength(1);
    expect(second.schedules.status()[0]?.counts.overBudget).toBe(5);
    expect(second.schedules.status()[0]?.trouble).toMatch(/5 scheduled captures in the last hour/);
    await clock.to('11:10:00');
    expect(second.begun.length).toBeGreaterThan(1);
  });

  test('is never more bytes an hour than what was begun with less', async () => {
    await using lab = await startLab({ budget: { bytesPerHour: 2000 } });
    await lab.clock.to('10:50:00');
    expect(lab.begun).toHaveLength(2);
    expect(lab.schedules.status()[0]?.counts.overBudget).toBe(3);
  });

  test('is nothing while an incident is captured: a scheduled capture waits', async () => {
    const { execute, release } = held();
    await using lab = await startLab({ execute, isHeld: true, budget: { waitMs: 60_000 } });
    await lab.captures.start(incident);
    await lab.clock.to('10:10:00');
    expect(lab.begun).toEqual([]);
    expect(lab.schedules.status()[0]?.isRunning).toBe(true);
    release();
    await expect.poll(() => lab.begun.length).toBe(1);
  });

  test('is nothing while an incident is captured: one that waited for too long is left out', async () => {
    const { execute } = held();
    await using lab = await startLab({ execute, isHeld: true, budget: { waitMs: 50 } });
    await lab.captures.start(incident);
    await lab.clock.to('10:10:00');
    await expect.poll(() => lab.schedules.status()[0]?.counts.overBudget).toBe(1);
    expect(lab.begun).toEqual([]);
    expect(lab.schedules.status()[0]?.trouble).toMatch(/an incident capture runs, for longer than waitMs/);
  });
});

describe('a selector', () => {
  test('of one target asks for no list', () => {
    expect(chooseTargets({ target: 'unit:kubelet.service' }, [], 1)).toEqual({
      ...{ targets: [{ selector: 'unit:kubelet.service', name: 'unit:kubelet.service' }], leftOut: 0 },
    });
  });
});

describe('the configuration', () => {
  const config = (schedules: string, more = "sink: { url: 'file:///e' }") =>
    parseConfig(`${more}\nschedules:\n${schedules}`, 'f', {});
  const good = "  - { name: base, cron: '*/5 * * * *', selector: { namespaces: ['*'] } }";

  test('has light defaults', () => {
    const read = config(good);
    expect(read.schedules).toMatchObject([
      {
        ...{ timeZone: 'UTC', jitterMs: 60_000, consistency: 'live', missed: 'once', maxTargets: 50 },
      },
    ]);
    expect(read.scheduleBudget).toMatchObject({ concurrent: 1, capturesPerHour: 120 });
  });

  test.each([
    [
      "  - { name: base, cron: 'x', selector: { pods: [a] } }",
      /schedules\.0\.cron: expected a cron expression of five/,
    ],
    ["  - { name: base, cron: '0 0 31 2 *', selector: { pods: [a] } }", /fires some time/],
    ["  - { name: base, cron: '* * * * * * *', selector: { pods: [a] } }", /five fields/],
    [
      "  - { name: base, cron: '* * * * *', timeZone: Mars, selector: { pods: [a] } }",
      /timeZone: expected a time zone/,
    ],
    ["  - { name: base, cron: '* * * * *', timeZone: '+02:00', selector: { pods: [a] } }", /a time zone/],
    ["  - { name: base, cron: '* * * * *', selector: {} }", /one of namespaces/],
    ["  - { name: base, cron: '* * * * *', selector: { target: 'a/b', pods: [a] } }", /or target alone/],
    ["  - { name: 'Bad Name', cron: '* * * * *', selector: { pods: [a] } }", /a-z, 0-9/],
    [`${good}\n${good}`, /each name once/],
    [
      "  - { name: base, cron: '* * * * *', selector: { pods: [a] }, sinks: [thief] }",
      /schedules\.0\.sinks\.0: expected one of default, found "thief"/,
    ],
  ])('%s is a fault', (schedules, words) => {
    expect(() => config(schedules)).toThrow(words);
  });

  test('leaves room for the tags that schedules set', () => {
    const tags = (count: number) =>
      `sink: { url: 's3://b', tags: { ${Array.from({ length: count }, (_, index) => `t${index}: x`).join(', ')} } }`;
    expect(() => config(good, tags(7))).toThrow(/at most 6 tags/);
    expect(config(good, tags(6)).schedules).toHaveLength(1);
  });
});
