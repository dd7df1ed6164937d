import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import { validate, version } from 'uuid';
import { describe, expect, test } from 'vitest';
import type { CaptureHandle, CaptureRequest } from '../../../agent/capture/captures.ts';
import { parseConfig } from '../../../agent/config.ts';
import { readDockerEvent } from '../../../agent/runtime/docker-exits.ts';
import { type ExitEvent, readEnvelope } from '../../../agent/runtime/exits.ts';
import { asContainerId, type ContainerSummary, type Runtime } from '../../../agent/runtime/runtime.ts';
import { exitCaptureId, startExitTrigger } from '../../../agent/trigger/exit.ts';
import { Burst } from '../../../agent/trigger/exit-burst.ts';
import { type Ended, exitsSchema, ruleFor } from '../../../agent/trigger/exit-rules.ts';
import { ExhibitError } from '../../../evidence/error.ts';
import type { EndedRecord } from '../../../evidence/manifest.ts';
import { loadTaskEvents } from '../../../proto/load.ts';

const NOW = 1_800_000_000_000;
const END = new Date(NOW - 1000).toISOString();

const container = (id: string, namespace = 'prod'): ContainerSummary => ({
  ...{ id: asContainerId(id), name: 'web', image: 'i', state: 'exited', createdAt: END },
  pod: { namespace, name: 'web-0', uid: 'u', sandboxId: 's' },
  labels: new Map([['app', 'web']]),
});

describe('a rule for containers that end', () => {
  const ended = (over: Partial<Ended> = {}): Ended => ({ exitCode: 3, oom: false, container: container('c'), ...over });
  const outside = { name: 'web', labels: new Map() };
  test.each<[string, object, Partial<Ended>, boolean]>([
    ['a failure, unless told', {}, {}, true],
    ['no success, unless told', {}, { exitCode: 0 }, false],
    ['any code', { exitCodes: 'any' }, { exitCode: 0 }, true],
    ['the codes that it names', { exitCodes: [3, 137] }, {}, true],
    ['no other code', { exitCodes: [137] }, {}, false],
    ['what memory ran out for', { oom: true }, { oom: true, exitCode: 0 }, true],
    ['nothing else then', { oom: true }, { exitCode: 137 }, false],
    ['a namespace', { namespaces: ['pr*'] }, {}, true],
    ['no other namespace', { namespaces: ['dev', 'test'] }, {}, false],
    ['no container of no pod, where a namespace is named', { namespaces: ['*'] }, { container: outside }, false],
    ['a container of no pod else', {}, { container: outside }, true],
    ['all of its labels', { labels: { app: 'web' } }, {}, true],
    ['no label of another value', { labels: { app: 'web', tier: 'api' } }, {}, false],
    ['a name', { names: ['w*'] }, {}, true],
    ['no other name', { names: ['api'] }, {}, false],
  ])('fits %s', (_, match, over, fits) => {
    const { rules } = exitsSchema.parse({ rules: [{ match }] });
    expect(ruleFor(rules, ended(over)) !== undefined).toBe(fits);
  });

  test('is the first that fits', () => {
    const { rules } = exitsSchema.parse({ rules: [{ name: 'a', match: { oom: true } }, { name: 'b' }, { name: 'c' }] });
    expect(ruleFor(rules, ended())?.name).toBe('b');
  });

  test.each([
    ['what needs a process', 'artifacts: [memory]', 'exits.rules.0.artifacts.0'],
    ['a sink that is none', 'sinks: [elsewhere]', 'elsewhere'],
    ['a key that is none', 'macht: {}', 'exits.rules.0.macht'],
  ])('cannot ask for %s', (_, rule, fault) => {
    expect(() => parseConfig(`sink: { url: "file:///e" }\nexits: { rules: [{ ${rule} }] }`, 'f', {})).toThrow(fault);
  });
});

describe('an event', () => {
  const { TaskExit, TaskOOM } = loadTaskEvents();
  const envelope = (topic: string, type: string, value: Buffer, namespace = 'k8s.io') =>
    readEnvelope({ timestamp: null, namespace, topic, event: { type_url: type, value } }, 'k8s.io');
  const exit = (id: string) =>
    TaskExit.serialize({
      containerId: 'c',
      id,
      pid: 7,
      exitStatus: 3,
      exitedAt: { seconds: 1_800_000_000, nanos: 5_999_999 },
    });

  test('of containerd is read by its topic and type', () => {
    expect(envelope('/tasks/exit', 'containerd.events.TaskExit', exit('c'))).toEqual({
      ...{ kind: 'exit', containerId: 'c', exitCode: 3, finishedAtMs: 1_800_000_000_005 },
    });
    const oom = TaskOOM.serialize({ containerId: 'c' });
    expect(envelope('/tasks/oom', 'containerd.events.TaskOOM', oom)).toEqual({ kind: 'oom', containerId: 'c' });
  });

  test("of an exec, of another namespace or of another kind is none of the container's", () => {
    expect(envelope('/tasks/exit', 'containerd.events.TaskExit', exit('exec-1'))).toBeUndefined();
    expect(envelope('/tasks/exit', 'containerd.events.TaskExit', exit('c'), 'moby')).toBeUndefined();
    expect(envelope('/tasks/start', 'containerd.events.TaskStart', exit('c'))).toBeUndefined();
  });

  test('of Docker is read by its action', () => {
    const event = (Action: string, exitCode = '3') =>
      readDockerEvent(JSON.stringify({ Type: 'container', Action, Actor: { ID: 'c', Attributes: { exitCode } } }));
    expect(event('die')).toEqual({ kind: 'exit', containerId: 'c', exitCode: 3, finishedAtMs: undefined });
    expect(event('oom')).toEqual({ kind: 'oom', containerId: 'c' });
    expect(event('exec_die')).toBeUndefined();
    expect(readDockerEvent('{"Type": 7')).toBeUndefined();
  });
});

describe('a burst', () => {
  const taking = (bound: object) => {
    const [taken, gates]: [number[], PromiseWithResolvers<void>[]] = [[], []];
    const end = new AbortController();
    const burst = new Burst<number>(exitsSchema.parse({ bound }).bound, {
      take: (item) => {
        taken.push(item);
        const gate = Promise.withResolvers<void>();
        gates.push(gate);
        return gate.promise;
      },
      ...{ signal: end.signal, now: () => 0 },
    });
    return { burst, taken, gates, end };
  };

  test('takes so many at a time, lets so many wait, and drops the later ones', async () => {
    const { burst, taken, gates } = taking({ concurrent: 2, perMinute: 600, queue: 3 });
    const kept = Array.from({ length: 10 }, (_, item) => burst.offer(item));
    expect(kept.filter(Boolean)).toHaveLength(5);
    expect([taken, burst.waiting, burst.dropped]).toEqual([[0, 1], 3, 5]);
    while (taken.length < 5 || gates.length > 0) {
      gates.shift()?.resolve();
      await turn();
    }
    await burst.idle();
    expect(taken).toEqual([0, 1, 2, 3, 4]);
  });

  test('waits for the minute to pass, and ends when it is told to', async () => {
    const { burst, taken, gates, end } = taking({ concurrent: 2, perMinute: 1, queue: 3 });
    burst.offer(1);
    burst.offer(2);
    gates[0]?.resolve();
    await turn();
    expect(taken).toEqual([1]);
    end.abort();
    await burst.idle();
    expect(burst.waiting).toBe(1);
  });
});

interface Scene {
  readonly rules?: object[];
  readonly bound?: object;
  readonly events: (turn: number) => AsyncIterable<ExitEvent>;
  readonly containers: readonly ContainerSummary[];
  readonly ends?: Readonly<Record<string, EndedRecord>>;
  readonly start?: (request: CaptureRequest) => Promise<boolean>;
  /** Its captures do not end. */
  readonly hangs?: boolean;
}

/** Runs the trigger until `until` holds, and ends it. */
async function play(
  { rules = [{}], bound = {}, events, containers, ends = {}, start, hangs }: Scene,
  until: (seen: Played) => boolean,
) {
  const seen: Played = { requests: [], lists: 0, subscriptions: 0, logged: [] };
  const log = pino({ level: 'info' }, { write: (line: string) => seen.logged.push(JSON.parse(line)) });
  const never = new Promise<never>(() => undefined);
  const trigger = startExitTrigger({
    config: exitsSchema.parse({ rules, bound }),
    events: async function* (signal) {
      seen.subscriptions += 1;
      yield* events(seen.subscriptions);
      await Promise.race([never, new Promise((_, reject) => signal.addEventListener('abort', reject))]);
    },
    runtime: {
      list: async () => {
        seen.lists += 1;
        return [...containers];
      },
      endOf: async (id: string) => ends[id] ?? { finishedAt: END, exitCode: 3 },
    } as unknown as Runtime,
    captures: {
      start: async (request): Promise<CaptureHandle> => {
        seen.requests.push(request);
        const created = (await start?.(request)) ?? true;
        return { captureId: request.captureId, created, events: async function* () {} };
      },
    },
    ...{ now: () => NOW, log, times: { backoffMs: 1, backoffMostMs: 1, sweepAfterMs: 20, oomGraceMs: 20 } },
  });
  while (!until(seen)) await turn();
  if (hangs !== true) await trigger.idle();
  await trigger[Symbol.asyncDispose]();
  return { ...seen, counts: { ...trigger.counts } };
}

interface Played {
  readonly requests: CaptureRequest[];
  lists: number;
  subscriptions: number;
  readonly logged: Record<string, unknown>[];
}

const exit = (containerId: string, exitCode = 3): ExitEvent => ({
  kind: 'exit',
  containerId,
  exitCode,
  finishedAtMs: 1,
});

describe('the trigger of containers that end', () => {
  test('asks for what the rule says, once for each container', async () => {
    const { requests, counts } = await play(
      {
        rules: [{ name: 'crash', case: 'C-7', artifacts: ['logs'] }],
        containers: [container('abcd')],
        events: async function* () {
          yield exit('abcd');
          yield exit('abcd');
          yield exit('the-sandbox');
        },
      },
      ({ requests }) => requests.length > 0,
    );
    expect(requests).toEqual([
      {
        ...{ captureId: exitCaptureId('abcd', Date.parse(END)), selector: 'abcd', artifacts: ['logs'], ended: true },
        ...{ caseId: 'C-7', reason: 'the container ended: exit code 3', consistency: 'live', scope: 'container' },
        requester: { trigger: 'exit', identity: 'rule crash' },
      },
    ]);
    expect(counts).toMatchObject({ matched: 1, dropped: 0, failed: 0 });
  });

  test('survives a thousand ends at once: few lists, bounded captures, the rest counted and logged', async () => {
    const containers = Array.from({ length: 1000 }, (_, i) => container(`c${i}`));
    let [running, most] = [0, 0];
    const { requests, lists, counts, logged } = await play(
      {
        ...{ containers, bound: { concurrent: 3, perMinute: 600, queue: 50 } },
        events: async function* () {
          for (const { id } of containers) yield exit(id);
        },
        start: async () => {
          running += 1;
          most = Math.max(most, running);
          await turn();
          running -= 1;
          return true;
        },
      },
      ({ requests }) => requests.length >= 50,
    );
    expect(most).toBe(3);
    expect(requests.length + counts.dropped).toBe(1000);
    expect(counts).toMatchObject({ matched: 1000, failed: 0 });
    expect(counts.dropped).toBeGreaterThan(900 - 53);
    expect(lists).toBeLessThan(20);
    const told = logged.filter(({ msg }) => msg === 'too many containers ended at once: not captured');
    expect(told.map(({ dropped }) => dropped)).toEqual([1, 10, 100]);
  });

  test('subscribes again when the runtime goes, and looks for what ended meanwhile and not long ago', async () => {
    const old = new Date(NOW - 700_000).toISOString();
    const { requests, subscriptions, logged } = await play(
      {
        containers: [container('aaaa'), container('bbbb'), { ...container('cccc'), state: 'running' }],
        ends: { bbbb: { finishedAt: old, exitCode: 3 } },
        events: async function* (turn) {
          if (turn < 3) throw new ExhibitError('runtime-unreachable', 'containerd is away');
          yield* [];
        },
      },
      ({ requests }) => requests.length > 0,
    );
    expect(subscriptions).toBe(3);
    expect(requests.map(({ selector }) => selector)).toEqual(['aaaa']);
    expect(logged.filter(({ error }) => error === 'containerd is away')).toHaveLength(2);
  });

  test('waits a moment for the word that memory ran out, where that makes a difference', async () => {
    const asked = async (order: ExitEvent[], oomKilled = false) => {
      const scene = {
        rules: [{ name: 'oom', match: { oom: true } }, { name: 'other' }],
        containers: [container('abcd')],
        ends: { abcd: { finishedAt: END, exitCode: 137, oomKilled } },
        events: async function* () {
          yield* order;
        },
      };
      return (await play(scene, ({ requests }) => requests.length > 0)).requests[0]?.requester.identity;
    };
    const oom: ExitEvent = { kind: 'oom', containerId: 'abcd' };
    expect(await asked([oom, exit('abcd', 137)])).toBe('rule oom');
    expect(await asked([exit('abcd', 137), oom])).toBe('rule oom');
    expect(await asked([exit('abcd', 137)], true)).toBe('rule oom');
    expect(await asked([exit('abcd', 137)])).toBe('rule other');
    expect(await asked([exit('abcd', 3)])).toBe('rule other');
  });

  test('does not wait for its captures when the agent stops', async () => {
    const { counts } = await play(
      {
        containers: [container('abcd')],
        events: async function* () {
          yield exit('abcd');
        },
        start: () => new Promise(() => undefined),
        hangs: true,
      },
      ({ requests }) => requests.length > 0,
    );
    expect(counts).toMatchObject({ matched: 1, captured: 0, failed: 0 });
  });

  test('goes on after a capture that is refused, and knows one that was taken already', async () => {
    const ids = ['aaaa', 'bbbb', 'cccc', 'dddd'];
    const { counts, logged } = await play(
      {
        containers: ids.map((id) => container(id)),
        events: async function* () {
          for (const id of ids) yield exit(id);
        },
        start: async ({ selector }) => {
          if (selector === 'aaaa') throw new ExhibitError('refused', 'the policy says no');
          if (selector === 'bbbb') throw new ExhibitError('capture-conflict', 'asked for otherwise');
          return selector !== 'cccc';
        },
      },
      ({ requests }) => requests.length === 4,
    );
    expect(counts).toMatchObject({ matched: 4, failed: 1, known: 2 });
    expect(logged.filter(({ error }) => error === 'the policy says no')).toHaveLength(1);
  });
});

describe('the id of the capture of an end', () => {
  test('is a UUIDv7 of that end, the same for whoever hears of it', () => {
    const id = exitCaptureId('abcd', NOW);
    expect([validate(id), version(id)]).toEqual([true, 7]);
    expect(Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16)).toBe(NOW);
    expect(exitCaptureId('abcd', NOW)).toBe(id);
    expect(exitCaptureId('abce', NOW)).not.toBe(id);
  });
});
