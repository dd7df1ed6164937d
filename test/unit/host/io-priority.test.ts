import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { hurryIo, ioPriority, setIoPriority } from '../../../agent/host/io-priority.ts';

/** util-linux as the judge, of the process and of a child. */
const judged = (): string => execFileSync('ionice', ['-p', String(process.pid)], { encoding: 'latin1' }).trim();
const ofChild = (): string => execFileSync('ionice', [], { encoding: 'latin1' }).trim();

afterEach(() => void setIoPriority('normal'));

/** Around a freeze, in a program that has no descriptor left. */
const WITHOUT_DESCRIPTORS = `
import { closeSync, openSync } from 'node:fs';
import { hurryIo, ioPriority, setIoPriority } from ${JSON.stringify(path.resolve('agent/host/io-priority.ts'))};
setIoPriority('low');
const open = [];
try { for (;;) open.push(openSync('/dev/null')); } catch {}
const calmDown = hurryIo();
const said = [ioPriority()];
calmDown();
said.push(ioPriority());
for (const fd of open) closeSync(fd);
console.log(said.join());
`;

describe('the priority of disk requests', () => {
  test('is that of the calling thread at least where no descriptor is left, and a thaw does not fail for it', () => {
    const argv = ['-c', 'ulimit -n 80; exec "$0" --input-type=module -e "$1"', process.execPath, WITHOUT_DESCRIPTORS];
    expect(execFileSync('bash', argv, { encoding: 'latin1', timeout: 20_000 }).trim()).toBe('normal,low');
  });

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
