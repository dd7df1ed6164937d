import { describe, expect, test } from 'vitest';
import type { AgentLinks, Answer } from '../../../../controller/link/link.ts';
import { openLookups } from '../../../../controller/link/lookups.ts';
import type { Bus, NodeRow, Store, Topic } from '../../../../controller/store/store.ts';
import { quiet } from './lab.ts';

/** Replicas that share one bus. `lose` says which of the messages never arrive. */
function sharedBus(names: readonly string[], lose: (topic: Topic, from: string) => boolean = () => false) {
  const handlers: { topic: Topic; handler: (message: string) => void }[] = [];
  return names.map(
    (replicaId): Bus => ({
      replicaId,
      replicas: async () => names,
      publish: async (topic, message) => {
        if (Buffer.byteLength(message) > 2 ** 20) throw new Error('too large for the bus');
        if (lose(topic, replicaId)) return;
        setImmediate(() =>
          handlers.filter((one) => one.topic === topic).forEach(({ handler }) => void handler(message)),
        );
      },
      subscribe: (topic, handler) => {
        const one = { topic, handler };
        handlers.push(one);
        return { [Symbol.dispose]: () => void handlers.splice(handlers.indexOf(one), 1) };
      },
      onGap: () => ({ [Symbol.dispose]: () => undefined }),
    }),
  );
}

function linksOf(nodes: readonly string[], containerBytes = 10): AgentLinks {
  return {
    connected: () => nodes.map((node) => ({ cluster: 'prod', node })),
    async *lookup(wanted) {
      for (const node of nodes) {
        const name = { cluster: 'prod', node };
        if (!wanted(name)) continue;
        await new Promise((resolve) => setImmediate(resolve));
        const id = node.padEnd(containerBytes, 'x');
        const container = { id, name: 'c', namespace: '', pod: '', image: '', state: '', createdAt: '', labels: {} };
        yield { kind: 'found', node: name, containers: [container] } as const;
      }
    },
    wake: () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  };
}

function storeOf(bus: Bus, placed: Readonly<Record<string, readonly string[]>>): Pick<Store, 'bus' | 'nodes'> {
  const rows = Object.entries(placed).flatMap(([replicaId, nodes]) =>
    nodes.map((node) => ({ cluster: 'prod', node, replicaId }) as NodeRow),
  );
  return { bus, nodes: async () => ({ rows }) };
}

const everywhere = { clusters: ['*'], node: '' };

async function asked(answers: AsyncIterable<Answer>): Promise<string[]> {
  const all: string[] = [];
  for await (const one of answers) all.push(`${one.node.node} ${one.kind}`);
  return all.sort();
}

function replicas(
  placed: Readonly<Record<string, readonly string[]>>,
  options: { lose?: (topic: Topic, from: string) => boolean; containerBytes?: number; timeoutMs?: number } = {},
) {
  const buses = sharedBus(Object.keys(placed), options.lose);
  const owned = new DisposableStack();
  const [first] = buses.map((bus) =>
    owned.use(
      openLookups(linksOf(placed[bus.replicaId] ?? [], options.containerBytes), storeOf(bus, placed), {
        log: quiet,
        replicaTimeoutMs: options.timeoutMs ?? 5_000,
      }),
    ),
  );
  if (first === undefined) throw new Error('no replica');
  return { first, [Symbol.dispose]: () => owned.dispose() };
}

describe('a lookup over replicas', () => {
  test('has one answer of every agent, wherever its stream is', async () => {
    using lab = replicas({ a: ['n1', 'n2'], b: ['n3'], c: [] });
    const answers = await asked(lab.first.lookup(everywhere, { namespace: '' }, AbortSignal.timeout(5_000)));
    expect(answers).toEqual(['n1 found', 'n2 found', 'n3 found']);
  });

  test('asks only the nodes that are wanted', async () => {
    using lab = replicas({ a: ['n1', 'n2'], b: ['n1x', 'n3'] });
    const signal = AbortSignal.timeout(5_000);
    expect(await asked(lab.first.lookup({ clusters: ['pr*'], node: 'n3' }, { namespace: '' }, signal))).toEqual([
      'n3 found',
    ]);
    expect(await asked(lab.first.lookup({ clusters: ['other'], node: '' }, { namespace: '' }, signal))).toEqual([]);
  });

  test('names the agents of a replica that does not answer', async () => {
    using lab = replicas({ a: ['n1'], b: ['n2', 'n3'] }, { lose: (topic) => topic === 'ask', timeoutMs: 50 });
    const answers = await asked(lab.first.lookup(everywhere, { namespace: '' }, AbortSignal.timeout(5_000)));
    expect(answers).toEqual(['n1 found', 'n2 unreached', 'n3 unreached']);
  });

  test('names the agents whose part of an answer was lost', async () => {
    let parts = 0;
    const lose = (topic: Topic) => {
      if (topic === 'answer') parts += 1;
      return topic === 'answer' && parts === 1;
    };
    using lab = replicas({ a: [], b: ['n1', 'n2'] }, { lose, containerBytes: 100_000, timeoutMs: 100 });
    const answers = await asked(lab.first.lookup(everywhere, { namespace: '' }, AbortSignal.timeout(5_000)));
    expect(answers).toEqual(['n1 unreached', 'n2 found']);
  });

  test('fits the bus however much the agents answer', async () => {
    const nodes = Array.from({ length: 60 }, (_, index) => `n${index}`);
    using lab = replicas({ a: [], b: nodes }, { containerBytes: 50_000 });
    const answers = await asked(lab.first.lookup(everywhere, { namespace: '' }, AbortSignal.timeout(5_000)));
    expect(answers.length).toBe(60);
    expect(answers.every((one) => one.endsWith(' found'))).toBe(true);
  });
});
