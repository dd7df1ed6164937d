import { execFileSync } from 'node:child_process';
import { afterEach, describe, expect, test } from 'vitest';
import { hurryIo, ioPriority, setIoPriority } from '../../../agent/host/io-priority.ts';

/** util-linux as the judge, of the process and of a child. */
const judged = (): string => execFileSync('ionice', ['-p', String(process.pid)], { encoding: 'latin1' }).trim();
const ofChild = (): string => execFileSync('ionice', [], { encoding: 'latin1' }).trim();

afterEach(() => void setIoPriority('normal'));

describe('the priority of disk requests', () => {
  test.each([
    ['low', 'best-effort: prio 7'],
    ['idle', 'idle'],
    ['normal', 'best-effort: prio 4'],
  ] as const)('%s is what ionice calls %s, also of children', (priority, words) => {
    expect(setIoPriority(priority)).toBe(true);
    expect([judged(), ofChild(), ioPriority()]).toEqual([words, words, priority]);
  });

  test('is the usual one while something is in a hurry, and then what it was', () => {
    setIoPriority('low');
    const calmDown = hurryIo();
    expect(judged()).toBe('best-effort: prio 4');
    calmDown();
    expect(judged()).toBe('best-effort: prio 7');
  });
});
