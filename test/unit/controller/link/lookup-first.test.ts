import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { ContainerSummary, Runtime } from '../../../../agent/runtime/runtime.ts';
import type { Answer } from '../../../../controller/link/link.ts';
import { podDigest } from '../../../../proto/pod-digest.ts';
import { type ControllerLab, controllerLab, fakeRuntime, until } from './lab.ts';

const container = (pod: string): ContainerSummary => ({
  ...{ id: 'c'.repeat(64) as ContainerSummary['id'], name: 'web', labels: new Map(), image: 'i', state: 'running' },
  ...{ createdAt: '', pod: { namespace: 'shop', name: pod, uid: 'u', sandboxId: 's' } },
});

/** A runtime whose containers change, and that counts how often it was asked. */
function countedRuntime(containers: ContainerSummary[]) {
  const state = { containers, lists: 0 };
  const runtime: Runtime = {
    ...fakeRuntime(),
    list: async () => {
      state.lists += 1;
      return state.containers;
    },
  };
  return { state, runtime };
}

const question = (pod: string) => ({
  selector: { pod: { namespace: 'shop', pod, container: '' }, by: 'pod' as const },
  namespace: '',
});

async function firstFound(lab: ControllerLab, pod: string): Promise<{ node: string; before: string[] }> {
  const before: string[] = [];
  const signal = AbortSignal.timeout(10_000);
  for await (const one of lab.controller.links.lookup(() => true, question(pod), signal)) {
    if (isFound(one)) return { node: one.node.node, before };
    before.push(one.node.node);
  }
  throw new Error(`nobody has ${pod}`);
}

const isFound = (one: Answer): boolean => one.kind === 'found' && one.containers.length > 0;

/** The controller heard of the pods when it asks n1 alone for one. */
async function told(
  lab: ControllerLab,
  of: ReturnType<typeof countedRuntime>,
  other: ReturnType<typeof countedRuntime>,
) {
  await until(async () => {
    const before = other.state.lists;
    const { node } = await firstFound(lab, 'web-0');
    return of.state.lists > 0 && node === 'n1' && other.state.lists === before;
  });
}

describe('a question for a pod', () => {
  test('goes to the agent alone that said it has the pod', async () => {
    await using lab = await controllerLab();
    const one = countedRuntime([container('web-0')]);
    const other = countedRuntime([]);
    await lab.node('n1', { runtime: one.runtime });
    await lab.node('n2', { runtime: other.runtime });
    await until(() => lab.controller.links.connected().length === 2);
    await told(lab, one, other);
    // A question that went to both before may reach n2 only now; five in a row that it hears nothing of are no accident.
    await expect
      .poll(
        async () => {
          const before = other.state.lists;
          const found = new Set<string>();
          for (let nth = 0; nth < 5; nth += 1) found.add(JSON.stringify(await firstFound(lab, 'web-0')));
          await sleep(50);
          return { found: [...found], asked: other.state.lists - before };
        },
        { timeout: 10_000 },
      )
      .toEqual({ found: [JSON.stringify({ node: 'n1', before: [] })], asked: 0 });
  });

  test('finds the pod where it is now, though another agent said it has it', async () => {
    await using lab = await controllerLab();
    const one = countedRuntime([container('web-0')]);
    const other = countedRuntime([]);
    await lab.node('n1', { runtime: one.runtime });
    await lab.node('n2', { runtime: other.runtime });
    await until(() => lab.controller.links.connected().length === 2);
    await told(lab, one, other);
    other.state.containers = one.state.containers;
    one.state.containers = [];
    expect(await firstFound(lab, 'web-0')).toEqual({ node: 'n2', before: ['n1'] });
  });

  test('goes to everybody where nobody said so', async () => {
    await using lab = await controllerLab();
    const one = countedRuntime([]);
    const other = countedRuntime([]);
    await lab.node('n1', { runtime: one.runtime });
    await lab.node('n2', { runtime: other.runtime });
    await until(() => lab.controller.links.connected().length === 2);
    other.state.containers = [container('new-1')];
    expect((await firstFound(lab, 'new-1')).node).toBe('n2');
  });

  test('is told apart by a digest of namespace and name', () => {
    // printf shop/web-0 | sha256sum
    expect(podDigest('shop', 'web-0').toString(16)).toBe('ad0f4c26');
    expect(podDigest('shop', 'web-1')).not.toBe(podDigest('shop', 'web-0'));
  });
});
