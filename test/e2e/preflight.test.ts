import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { preflight } from '../../agent/host/preflight.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { dumpByCriu, type HeldObstacle, holdObstacle, installObstacles, LAB_OBSTACLES } from '../lab/obstacles.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';

/** What the preflight says of real containers, and what CRIU does with them then. */

let node: LabNode;
let noCompiler: string | undefined;

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  node = await startNode();
  noCompiler = installObstacles(node);
});

afterAll(async () => {
  await node?.[Symbol.asyncDispose]();
});

beforeEach((context) => {
  requireLab(context);
  if (noCompiler !== undefined) context.skip(noCompiler);
});

function look(held: HeldObstacle) {
  return preflight({ procRoot: node.procRoot, hostRoot: node.hostRoot }, held.pids(), AbortSignal.timeout(10_000));
}

async function stateOf({ containerId }: HeldObstacle): Promise<string | undefined> {
  const { stdout } = await node.exec(['ctr', '-n', 'k8s.io', 'tasks', 'ls']);
  const row = stdout
    .toString()
    .split('\n')
    .find((line) => line.startsWith(containerId));
  return row?.trim().split(/\s+/).at(-1);
}

describe('CRIU and its forecast agree on a container with', () => {
  test.for(LAB_OBSTACLES)('$name', async (obstacle, context) => {
    const { predicted, refusal } = obstacle;
    await using held = await holdObstacle(node, obstacle);
    if (held.refused !== undefined) return context.skip(`needs a kernel that gives it: ${held.refused}`);

    const { obstacles, notes, dumpBytes } = await look(held);
    const kinds = new Map(
      obstacles.map(({ kind, certainty, liftedBy }) => [kind, { kind, certainty, ...(liftedBy ? { liftedBy } : {}) }]),
    );
    expect([...kinds.values()]).toEqual(predicted === undefined ? [] : [predicted]);
    expect(notes).toEqual(obstacle.beside ? [expect.stringContaining('put in from outside')] : []);
    expect(dumpBytes).toBeGreaterThan(0);

    const plain = await dumpByCriu(node, held.containerId, []);
    expect(plain.made, plain.errors).toBe(refusal === undefined);
    if (refusal !== undefined) expect(plain.errors).toMatch(refusal);
    expect(await stateOf(held)).toBe('RUNNING');

    if (refusal === undefined) return;
    // Without an option that lifts it, no option does.
    const options = predicted?.liftedBy
      ? [predicted.liftedBy]
      : (['openTcp', 'fileLocks', 'externalUnixSockets'] as const);
    const lifted = await dumpByCriu(node, held.containerId, options);
    expect(lifted.made, lifted.errors).toBe(predicted?.liftedBy !== undefined);
    expect(await stateOf(held)).toBe('RUNNING');
  });
});
