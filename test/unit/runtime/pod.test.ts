import { describe, expect, test } from 'vitest';
import { ownTarget, podScoped, wholeOf } from '../../../agent/runtime/pod.ts';
import {
  asContainerId,
  asPid,
  type ContainerSummary,
  type FreezeSpec,
  type Pid,
  type Runtime,
  type Target,
} from '../../../agent/runtime/runtime.ts';
import { parseSelector } from '../../../agent/runtime/select.ts';
import { ExhibitError } from '../../../evidence/error.ts';
import { targetSchema } from '../../../evidence/manifest.ts';

/** A node with some containers, as any runtime shows it. */

const { signal } = new AbortController();
const WEB = { namespace: 'prod', name: 'web-0', uid: 'u1', sandboxId: 's1' };

interface Fake {
  readonly name: string;
  readonly pod?: ContainerSummary['pod'] | 'none';
  readonly state?: ContainerSummary['state'];
  /** Hours of the day. */
  readonly created?: number;
  readonly pids?: number[];
  readonly freeze?: FreezeSpec | 'never';
  /** It ends after it was listed. */
  readonly ends?: boolean;
  readonly image?: string;
}

const idOf = (name: string) => asContainerId(Buffer.from(name).toString('hex').padEnd(64, '0'));

function summary({ name, pod = WEB, state = 'running', created = 0 }: Fake): ContainerSummary {
  return {
    id: idOf(name),
    name: name.replace(/@.*/, ''),
    ...(pod === 'none' ? {} : { pod }),
    labels: new Map([['app', 'web']]),
    image: 'i',
    state,
    createdAt: new Date(Date.UTC(2026, 10, 1, created)).toISOString(),
  };
}

function targetOf(fake: Fake): Target {
  const { id, name, pod } = summary(fake);
  const pids = fake.pids ?? [1];
  const specOf: FreezeSpec = { kind: 'containerd', socket: '/s', namespace: 'k8s.io', containerId: id };
  return {
    record: {
      runtime: 'cri',
      kind: 'container',
      id,
      name,
      ...(pod === undefined ? {} : { pod }),
      labels: {},
      initPid: pids[0] ?? 1,
      pids,
    },
    freeze: fake.freeze === 'never' ? undefined : (fake.freeze ?? specOf),
    rootfs: undefined,
    mounts: [],
    logPath: undefined,
    documents: [],
    notes: fake.freeze === 'never' ? ['it cannot stop itself'] : [],
    companions: [],
  };
}

/** `fakes` may be changed by the test: it is what the node has now. */
function nodeOf(fakes: Fake[], more: Partial<Runtime> = {}): Runtime {
  return {
    kind: 'cri',
    identify: async () => ({ name: 'containerd', version: '2' }),
    list: async () => fakes.map(summary),
    async resolve(selector) {
      const found = fakes.find(({ name, pids = [1] }) =>
        selector.kind === 'container'
          ? idOf(name) === selector.id
          : selector.kind === 'pid' && pids.includes(selector.pid),
      );
      if (found === undefined) throw new ExhibitError('target-not-found', 'no such container');
      if (found.ends) throw new ExhibitError('target-not-running', 'it has just ended');
      return targetOf(found);
    },
    pids: async ({ record }) =>
      (fakes.find(({ name }) => idOf(name) === record.id)?.pids ?? []).map(asPid) satisfies Pid[],
    pauseOf: () => undefined,
    rungs: [],
    resumeIfPaused: async () => false,
    [Symbol.asyncDispose]: async () => undefined,
    ...more,
  };
}

const resolve = (text: string, fakes: Fake[]) => podScoped(nodeOf(fakes)).resolve(parseSelector(text), signal);

const side: Fake = { name: 'side', created: 2, pids: [20, 21] };
const app: Fake = { name: 'app', created: 1, pids: [10, 11] };
const init: Fake = { name: 'init', created: 0, state: 'exited' };

describe('the scope pod', () => {
  test('needs no container named: the one that was created first is the target, the others are its companions', async () => {
    const target = await resolve('prod/web-0', [side, app, init]);
    expect(target.record.name).toBe('app');
    expect(target.companions.map(({ record }) => record.name)).toEqual(['side']);
    expect(targetSchema.parse(target.record).companions).toMatchObject([{ name: 'side', pids: [20, 21] }]);
    expect(target.freeze).toMatchObject({
      kind: 'group',
      members: [{ containerId: idOf('app') }, { containerId: idOf('side') }],
    });
  });

  test('says what is whose, how to get the rest, and what does not run', async () => {
    const { notes } = await resolve('prod/web-0', [side, app, init]);
    expect(notes).toEqual([
      expect.stringMatching(/pause process.*neither stopped nor read/),
      'checkpoint, volumes, rootfs, logs, spec, image are those of the container app, the first that was created',
      'those of side: exhibit capture prod/web-0/side --scope container --artifacts checkpoint,volumes,rootfs,logs,spec',
      'containers of the pod that do not run: init (exited)',
    ]);
  });

  test('a name that a shell would obey is not part of the command', async () => {
    const hostile = { ...side, name: '$(reboot)' };
    expect((await resolve('prod/web-0', [app, hostile])).notes.join()).toContain(
      `exhibit capture ${idOf(hostile.name)} --scope container`,
    );
  });

  test('a container that is named is the target', async () => {
    for (const text of ['prod/web-0/side', idOf('side').slice(0, 12), 'app=web:side', 'pid:21']) {
      const target = await resolve(text, [side, app]);
      expect(target.record.name, text).toBe('side');
      expect(target.companions.map(({ record }) => record.name)).toEqual(['app']);
      expect(target.notes.join()).toContain('are those of the container side');
      expect(target.notes.join()).not.toContain('the first that was created');
    }
  });

  test('a pod with one container is that container', async () => {
    const target = await resolve('prod/web-0', [app, init]);
    expect(target.companions).toEqual([]);
    expect(target.record).not.toHaveProperty('companions');
    expect(target.freeze).toMatchObject({ kind: 'containerd', containerId: idOf('app') });
  });

  test('an earlier attempt of a container that runs again is no other container', async () => {
    const { companions, notes } = await resolve('prod/web-0', [app, { ...app, name: 'app@0', state: 'exited' }]);
    expect(companions).toEqual([]);
    expect(notes.join()).not.toContain('do not run');
  });

  test('a container that ends before it is looked at is left out and said, unless it was the one named', async () => {
    const dying = { ...app, ends: true };
    const target = await resolve('prod/web-0', [dying, side]);
    expect(target.record.name).toBe('side');
    expect(target.notes[0]).toBe('the container app ended before it could be looked at');
    await expect(resolve('prod/web-0/app', [dying, side])).rejects.toMatchObject({ code: 'target-not-running' });
    await expect(resolve('prod/web-0', [dying])).rejects.toMatchObject({ code: 'target-not-running' });
  });

  test('one that cannot be stopped keeps the pod from being stopped', async () => {
    const target = await resolve('prod/web-0', [app, { ...side, freeze: 'never' }]);
    expect(target.freeze).toBeUndefined();
    expect(target.notes.at(-1)).toMatch(/captured live.*because side cannot be stopped/);
    expect(target.record.companions?.[0]?.notes).toEqual(['it cannot stop itself']);
  });

  test('labels that fit several pods are ambiguous, also when a pod was made again under its name', async () => {
    const other = { ...side, pod: { ...WEB, uid: 'u2' } };
    await expect(resolve('app=web', [app, other])).rejects.toMatchObject({
      code: 'target-ambiguous',
      message: expect.stringContaining('fits several pods'),
    });
    expect((await resolve('app=web', [app, side])).companions).toHaveLength(1);
  });

  test('what is in no pod is refused with a sentence', async () => {
    const lone: Fake = { ...app, pod: 'none' };
    for (const text of [idOf('app').slice(0, 12), 'app=web', 'pid:10']) {
      await expect(resolve(text, [lone]), text).rejects.toMatchObject({
        code: 'usage',
        message: expect.stringMatching(/^The scope pod needs a pod, and .* is in none: say --scope container$/),
      });
    }
  });

  test('a pod without a running container is not running, an unknown one is not found', async () => {
    await expect(resolve('prod/web-0', [init])).rejects.toMatchObject({ code: 'target-not-running' });
    await expect(resolve('prod/db-0', [app])).rejects.toMatchObject({ code: 'target-not-found' });
  });

  test('a silent runtime is not taken for a container that ended', async () => {
    const silent: Runtime['resolve'] = async (selector) => {
      if (selector.kind === 'container' && selector.id === idOf('app')) return targetOf(app);
      throw new ExhibitError('runtime-unreachable', 'no answer');
    };
    const runtime = podScoped(nodeOf([app, side], { resolve: silent }));
    await expect(runtime.resolve(parseSelector('prod/web-0'), signal)).rejects.toMatchObject({
      code: 'runtime-unreachable',
    });
  });
});

describe('the processes of a pod', () => {
  test('are those of every container, each once, the target’s first', async () => {
    const runtime = podScoped(nodeOf([side, app]));
    const target = await runtime.resolve(parseSelector('prod/web-0'), signal);
    expect(await runtime.pids(target, signal)).toEqual([10, 11, 20, 21]);
    expect(await runtime.pids(ownTarget(target), signal)).toEqual([10, 11]);
    expect(wholeOf(target).map(({ freeze }) => freeze?.kind)).toEqual(['containerd', 'containerd']);
  });

  test('that were seen at any time are told by container at the end, with what came and went', async () => {
    const fakes: Fake[] = [app, side];
    const runtime = podScoped(nodeOf(fakes));
    const target = await runtime.resolve(parseSelector('prod/web-0'), signal);
    fakes[1] = { ...side, pids: [20, 99] };
    await runtime.pids(target, signal);
    fakes.splice(1, 1, { ...side, name: 'side@2', created: 5, pids: [30] });
    const record = targetSchema.parse(await runtime.conclude(target, signal));
    expect(record.pids).toEqual([10, 11]);
    expect(record.companions?.[0]?.pids).toEqual([20, 21, 99]);
    expect(record.notes).toEqual([
      expect.stringMatching(/^the container side \(.{12}, created at 2026-11-01T05:.*neither stopped nor read/),
      expect.stringMatching(/^the container side \(.{12}\) ended during the capture$/),
    ]);
  });

  test('are told also when the runtime does not answer at the end', async () => {
    let silent = false;
    const fakes = [app, side];
    const list = async () => {
      if (silent) throw new ExhibitError('runtime-unreachable', 'no answer');
      return fakes.map(summary);
    };
    const runtime = podScoped(nodeOf(fakes, { list }));
    const target = await runtime.resolve(parseSelector('prod/web-0'), signal);
    silent = true;
    expect((await runtime.conclude(target, signal)).notes).toEqual([
      expect.stringContaining('is not known: no answer'),
    ]);
  });
});
