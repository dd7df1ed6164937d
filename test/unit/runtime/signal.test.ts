import { expect, test } from 'vitest';
import { allStand } from '../../../agent/runtime/pause/signal.ts';
import type { ProcessStat } from '../../../agent/runtime/process-tree.ts';

const one = (pid: number, parent: number, state: string): ProcessStat => ({
  pid,
  parent,
  state,
  startTicks: 1,
  isKernelThread: false,
  comm: 'x',
});

test('a tree stands when each process is stopped or ended', () => {
  expect(allStand([one(1, 0, 'T'), one(2, 1, 'Z'), one(3, 1, 't')])).toBe(true);
  expect(allStand([one(1, 0, 'T'), one(2, 1, 'S')])).toBe(false);
});

test('a parent that waits in vfork for a child that was stopped stands', () => {
  expect(allStand([one(1, 0, 'D'), one(2, 1, 'T')])).toBe(true);
});

test('a process that waits for a disk does not', () => {
  expect(allStand([one(1, 0, 'D'), one(2, 1, 'R')])).toBe(false);
  expect(allStand([one(1, 0, 'D')])).toBe(false);
});
