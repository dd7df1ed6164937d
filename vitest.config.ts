import { defineConfig } from 'vitest/config';

/** Forked processes, not threads: the lab's machines die with the main thread of the process that started them. */
const shared = { pool: 'forks' as const };

/** Tests of pure code and of small real parts. */
const quick = (name: string) => ({
  test: { ...shared, name, include: [`test/${name}/**/*.test.ts`], testTimeout: 20_000, sequence: { groupOrder: 0 } },
});

/** These measure pauses, watch who runs and who stands still, or fill memory: nothing else may want the machine meanwhile. */
const ALONE = [
  'freeze',
  'docker-freeze',
  'scope-pod',
  'memory',
  'checkpoint',
  'preflight',
  'capture-matrix',
  'faults',
  'kubernetes',
];
const alone = ALONE.map((name) => `test/e2e/${name}*.test.ts`);

/** Each starts a whole node, or several. */
const whole = (
  name: string,
  more: { include: string[]; exclude: string[]; maxWorkers: number; groupOrder: number },
) => {
  const { groupOrder, ...rest } = more;
  return { test: { ...shared, ...rest, name, testTimeout: 120_000, hookTimeout: 120_000, sequence: { groupOrder } } };
};

export default defineConfig({
  test: {
    /** The machines that run this have two cores. */
    maxWorkers: 2,
    projects: [
      quick('unit'),
      quick('contract'),
      quick('hostile'),
      whole('e2e', { include: ['test/e2e/**/*.test.ts'], exclude: alone, maxWorkers: 2, groupOrder: 1 }),
      whole('e2e-alone', { include: alone, exclude: [], maxWorkers: 1, groupOrder: 2 }),
    ],
  },
});
