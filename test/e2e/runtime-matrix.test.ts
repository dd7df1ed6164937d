import { afterAll, beforeAll, describe, type TestContext } from 'vitest';
import { type LabNode, type Release, startNode } from '../lab/node.ts';
import { nodeObstacle } from '../lab/requires.ts';
import { containerContracts, everyTarget } from './containers.ts';

/** The runtimes of runtime.test.ts on an old containerd, and where the containers are in cgroups of version 1. */
const NODES: readonly { release: Release; cgroup: 'v1' | 'v2' }[] = [
  { release: '1.6', cgroup: 'v2' },
  { release: '1.6', cgroup: 'v1' },
  { release: '2.1', cgroup: 'v1' },
];

for (const { release, cgroup } of NODES) {
  describe(`containerd ${release} with cgroup ${cgroup}`, () => {
    const obstacle = nodeObstacle(release);
    let started: LabNode | undefined;

    beforeAll(async () => {
      if (obstacle === undefined) started = await startNode({ release, cgroup });
    });
    afterAll(async () => {
      await started?.[Symbol.asyncDispose]();
    });

    const lab = (context: TestContext): LabNode => {
      if (obstacle !== undefined) context.skip(obstacle);
      if (started === undefined) throw new Error('the node did not start');
      return started;
    };

    containerContracts(lab);
    everyTarget(lab, cgroup === 'v1' ? 1 : 2);
  });
}
