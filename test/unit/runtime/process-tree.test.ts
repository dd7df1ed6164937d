import { expect, test } from 'vitest';
import {
  allProcesses,
  descendantsOf,
  type ProcessStat,
  parseStat,
  processStat,
} from '../../../agent/runtime/process-tree.ts';

test('a command with brackets and spaces does not move the fields', () => {
  const line = '42 (a) b (c)) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 1';
  expect(parseStat(line)).toEqual({
    pid: 42,
    parent: 1,
    state: 'S',
    startTicks: 777,
    isKernelThread: false,
    comm: 'a) b (c)',
  });
});

test('a kernel thread is told by its flag', () => {
  expect(parseStat('2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 0 0 0')?.isKernelThread).toBe(true);
});

test.each(['', '42', '42 (a', '42 (a) S 1'])('%j is no process', (line) => {
  expect(parseStat(line)).toBeUndefined();
});

test('this process is among all processes, below its parent', () => {
  const all = allProcesses('/proc');
  expect(descendantsOf([process.ppid], all).some(({ pid }) => pid === process.pid)).toBe(true);
  expect(processStat('/proc', process.pid)?.parent).toBe(process.ppid);
  expect(processStat('/proc', 2 ** 30)).toBeUndefined();
});

test('parents come before children, and a loop of parents ends', () => {
  const stat = (pid: number, parent: number): ProcessStat => ({
    pid,
    parent,
    state: 'S',
    startTicks: 1,
    isKernelThread: false,
    comm: '',
  });
  const all = [stat(5, 4), stat(4, 3), stat(3, 1), stat(9, 1), stat(7, 8), stat(8, 7)];
  expect(descendantsOf([3], all).map(({ pid }) => pid)).toEqual([3, 4, 5]);
  expect(descendantsOf([7], all).map(({ pid }) => pid)).toEqual([7, 8]);
  expect(descendantsOf([99], all)).toEqual([]);
});
