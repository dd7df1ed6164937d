import { defineConfig } from 'vitest/config';

/** Forked processes, not threads: the lab's machines die with the main thread of the process that started them. */
const shared = { pool: 'forks' as const };

/** Tests of pure code and of small real parts. */
const quick = (name: string) => ({
  test: { ...shared, name, include: [`test/${name}/**/*.test.ts`], testTimeout: 20_000, sequence: { groupOrder: 0 } },
});

export default defineConfig({
  test: {
    /** The machines that run this have two cores. */
    maxWorkers: 2,
    projects: [
      quick('unit'),
      quick('contract'),
      quick('hostile'),
      {
        test: {
          ...shared,
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          /** Each starts a whole node and measures pauses: one at a time, after the others. */
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
