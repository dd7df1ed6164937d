import { describe } from 'vitest';
import type { NodeOptions } from '../lab/node.ts';
import { freezeBench } from './freeze-bench.ts';
import { everyFreezer, everyPause } from './freeze-cases.ts';

/** The faults of freeze.test.ts and freeze-cgroup.test.ts with an old containerd, and with cgroups of version 1. */

const onNode = (options: NodeOptions): string => `on containerd ${options.release} with cgroup ${options.cgroup}`;

for (const options of [
  { release: '1.6', cgroup: 'v2' },
  { release: '1.6', cgroup: 'v1' },
  { release: '2.1', cgroup: 'v1' },
] as const) {
  describe(`the runtime's pause ${onNode(options)}`, () => everyPause(freezeBench('containerd', 'runtime', options)));
}

describe(`the version 2 freezer ${onNode({ release: '1.6', cgroup: 'v2' })}`, () =>
  everyFreezer(freezeBench('cgroup-v2', 'auto', { release: '1.6' })));

describe(`the version 1 freezer ${onNode({ release: '1.6', cgroup: 'v1' })}`, () =>
  everyFreezer(freezeBench('cgroup-v1', 'cgroup', { release: '1.6', cgroup: 'v1' })));
