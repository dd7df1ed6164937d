import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { drain, parseKernelMessage, readKernelLog } from '../../../agent/host/kmsg.ts';
import { SystemError } from '../../../agent/host/libc.ts';
import { requireProgram } from '../evidence/programs.ts';

const message = (text: string) => parseKernelMessage(Buffer.from(text, 'latin1'));

/** read(2) of /dev/kmsg as these answers have it; an errno's name is thrown. */
function reads(...answers: (string | { errno: 'EAGAIN' | 'EPIPE' | 'EINVAL' })[]): (into: Buffer) => number {
  return (into) => {
    const answer = answers.shift() ?? { errno: 'EAGAIN' as const };
    if (typeof answer !== 'string') throw new SystemError(answer.errno, 'read');
    return into.write(answer);
  };
}

describe('a message of the kernel', () => {
  test('has its level, its place, its time and its text', () => {
    expect(message('6,339,5140900,-;NET: Registered PF_INET\n')).toEqual({
      priority: 6,
      facility: 0,
      sequence: 339n,
      monotonicUs: 5_140_900n,
      message: Buffer.from('NET: Registered PF_INET'),
      dictionary: new Map(),
    });
  });

  test('has its dictionary, and what the kernel escaped is as it was', () => {
    const usb = message('14,1,2,c,caller=T12,more;a;b \\x1b[31m\\xff\\x5c\n SUBSYSTEM=usb\n DEVICE=c189:\\x001\n');
    expect(usb).toMatchObject({ priority: 6, facility: 1, message: Buffer.from('a;b \x1b[31m\xff\\', 'latin1') });
    expect(usb?.dictionary).toEqual(
      new Map([
        ['SUBSYSTEM', 'usb'],
        ['DEVICE', 'c189:\u00001'],
      ]),
    );
  });

  test('is none without its head', () => {
    for (const text of ['', ';', '6,1;x', 'x,1,2,-;y', '6,1,2,-']) expect(message(text), text).toBeUndefined();
  });
});

describe('the log', () => {
  test('is read until there is no more', () => {
    expect(drain(reads('6,1,2,-;a\n', '6,2,3,-;b\n'))).toMatchObject({
      records: [{ length: 10 }, { length: 10 }],
      overwritten: 0,
      cut: false,
    });
  });

  test('goes on after records that were overwritten, and counts them', () => {
    expect(drain(reads({ errno: 'EPIPE' }, '6,9,2,-;a\n'))).toMatchObject({
      records: [{ length: 10 }],
      overwritten: 1,
    });
  });

  test('fails with what the kernel says', () => {
    expect(() => drain(reads({ errno: 'EINVAL' }))).toThrow(/EINVAL/);
  });
});

describe('/dev/kmsg', () => {
  let root = '';
  beforeEach(() => {
    root = mkdtempSync(path.join(tmpdir(), 'exhibit-kmsg-'));
    mkdirSync(path.join(root, 'dev'));
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  test('that is a file, a link or another device is not opened', (context) => {
    const kmsg = path.join(root, 'dev/kmsg');
    const open = () => readKernelLog({ procRoot: '/proc', hostRoot: root });
    writeFileSync(kmsg, '6,1,2,-;forged\n');
    expect(open).toThrow(/ENODEV/);
    rmSync(kmsg);
    symlinkSync('/dev/kmsg', kmsg);
    expect(open).toThrow(/ENODEV/);
    rmSync(kmsg);
    if (process.getuid?.() !== 0) context.skip('needs root to make a device');
    execFileSync('mknod', [kmsg, 'c', '1', '3']);
    expect(open).toThrow(/ENODEV/);
  });

  test('says what dmesg says', (context) => {
    requireProgram(context, 'dmesg');
    if (process.getuid?.() !== 0) context.skip('needs root to read the kernel log');
    const before = execFileSync('dmesg', ['--raw'], { encoding: 'latin1' });
    const ours = readKernelLog({ procRoot: '/proc', hostRoot: '' }).records.map(parseKernelMessage);
    const known = new Set(ours.map((one) => one?.message.toString('latin1').split('\n', 1)[0]));
    const lines = before
      // Not trimEnd: a message may end with a space.
      .replace(/\n$/, '')
      .split('\n')
      .slice(-50)
      .map((line) => line.replace(/^<\d+>(\[ *[\d.]+\] )?/, ''));
    expect(ours.every((one) => one !== undefined)).toBe(true);
    expect(lines.filter((line) => !known.has(line) && !line.includes('\\x'))).toEqual([]);
  });
});
