import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createAttributor } from '../../../agent/host/audit-attribution.ts';
import { auditPids, auditStamp, parseAuditLine } from '../../../agent/host/audit-record.ts';
import { judge, requireLogJudges } from '../../lab/log-judges.ts';

/** Two processes of a target whose process is 2000, among others; 2101 is cron's in the end. */
const FILE = fileURLToPath(new URL('../fixtures/audit/records.txt', import.meta.url));
const LINES = readFileSync(FILE, 'latin1').trimEnd().split('\n');
const ID = 'fedcba9876543210'.repeat(4);
const END_US = 1_762_000_100_000_000n;

function attributed(options: { since?: bigint; fromUs?: bigint; mentions?: string[] } = {}) {
  const attributor = createAttributor({
    fromUs: options.fromUs ?? 0n,
    toUs: END_US,
    pidsSinceUs: new Map([[2000, options.since ?? 0n]]),
    mentions: options.mentions ?? [],
  });
  for (const line of LINES) attributor.see(line);
  const lines = LINES.filter((line) => attributor.attribute(line) !== undefined);
  return { attributor, lines, serials: [...new Set(lines.map((line) => auditStamp(line)?.serial))] };
}

const typed = (serial: string, type: string) => {
  const line = LINES.find((one) => one.startsWith(`type=${type} `) && auditStamp(one)?.serial === serial);
  return parseAuditLine(line ?? '');
};

describe('audit records', () => {
  test('are attributed to a target by its pids, its ids and their events, and to the processes that these started', () => {
    const { attributor, serials } = attributed({ mentions: [ID] });
    expect(serials).toEqual(['101', '102', '104', '105', '106']);
    expect(attributor).toMatchObject({ learned: 2, forgotten: 1, overflow: 0 });
  });

  test('are told apart by why they are taken', () => {
    const { attributor, lines } = attributed({ mentions: [ID] });
    const why = lines.map((line) => [auditStamp(line)?.serial, line.split(' ', 1)[0], attributor.attribute(line)]);
    expect(why).toContainEqual(['101', 'type=SYSCALL', 'pid']);
    expect(why).toContainEqual(['101', 'type=PATH', 'event']);
    expect(why).toContainEqual(['105', 'type=PROCTITLE', 'mention']);
    expect(why).toContainEqual(['105', 'type=SYSCALL', 'event']);
  });

  test('of a pid from before its process was started are not taken', () => {
    expect(attributed({ since: 1_762_000_010_100_001n }).serials).toEqual([]);
    expect(attributed({ since: 1_762_000_010_100_000n }).serials).toEqual(['101', '102', '104', '106']);
  });

  test('from before the window are not taken', () => {
    expect(attributed({ fromUs: 1_762_000_011_000_000n }).serials).toEqual([]);
  });

  test('cannot be forged by what a program put into a name or into a message', () => {
    expect(auditPids('type=SYSCALL msg=audit(1.000:1): comm="x pid=2000 " pid=7 ppid=8 exe="/a pid=9"')).toEqual({
      pid: 7,
      ppid: 8,
      opid: undefined,
    });
    expect(auditPids(LINES.find((line) => line.includes('msg=audit(1762000016.500:107)')) ?? '')).toMatchObject({
      pid: 3300,
    });
  });

  test('are those that ausearch finds for the same processes', (context) => {
    requireLogJudges(context);
    // `-p` and `-pp` want the pid itself; what ausearch cannot know is when 2101 became another's.
    const asked = [
      ['-p', '2100'],
      ['-pp', '2000'],
      ['-pp', '2100'],
      ['-p', '2101'],
    ];
    const found = asked.flatMap((argv) => {
      const { stdout, stderr, status } = judge('ausearch', [...argv, '--raw', '-if', FILE]);
      expect(status, stderr).toBe(0);
      return stdout.toString('latin1').trimEnd().split('\n');
    });
    const isReused = (line: string) => ['108', '109'].includes(auditStamp(line)?.serial ?? '');
    const cut = (line: string) => line.split('\x1d', 1)[0] ?? '';
    const expected = LINES.filter((line) => found.map(cut).includes(cut(line)) && !isReused(line));
    const ours = attributed().lines.filter((line) => !line.includes(':104):'));
    expect(expected.length).toBeGreaterThan(8);
    expect(ours).toEqual(expected);
  });
});

describe('a record', () => {
  test('has its fields without quotes and without the kernel’s hex', () => {
    expect(typed('101', 'SYSCALL')).toMatchObject({
      type: 'SYSCALL',
      fields: {
        pid: '2100',
        ppid: '2000',
        comm: 'sh',
        exe: '/bin/busybox',
        key: 'exec',
        a0: '55d0',
        ARCH: 'x86_64',
        AUID: 'unset',
      },
    });
    expect(typed('102', 'PATH')?.fields.name).toBe('/tmp/a b/new\nline');
    expect(typed('109', 'SYSCALL')?.fields.comm).toBe('a ');
  });

  test('has a command line of its arguments', () => {
    expect(typed('101', 'EXECVE')?.arguments).toEqual(['sh', '-c', 'cat /etc/shadow ; echo "quacs"']);
    expect(typed('101', 'PROCTITLE')?.arguments).toEqual(['sh', '-c', 'cat /etc/shadow ; echo "quacs"']);
    const parts = parseAuditLine('type=EXECVE msg=audit(1.000:1): argc=2 a0="x" a1_len=6 a1[0]="abc" a1[1]=64656A');
    expect(parts?.arguments).toEqual(['x', 'abcdej']);
  });

  test('of a program has what the program put into its message', () => {
    expect(typed('106', 'USER_LOGIN')?.fields).toMatchObject({
      pid: '2101',
      op: 'login',
      acct: 'ad min',
      addr: '203.0.113.5',
      res: 'failed',
      UID: 'root',
    });
    expect(typed('107', 'USER_AUTH')?.fields).toMatchObject({ pid: '3300', acct: 'a "b ' });
  });

  test('keeps bytes that are no text', () => {
    const record = parseAuditLine('type=PATH msg=audit(1.000:1): item=0 name=2F746D702FFF');
    expect(record?.fields.name).toBe('/tmp/\ufffd');
    expect(record?.fieldsBase64).toEqual({ name: Buffer.from('/tmp/\xff', 'latin1').toString('base64') });
  });

  test('has a node where auditd writes one', () => {
    expect(parseAuditLine('node=ip-10-0-0-1 type=CWD msg=audit(5.001:9): cwd="/"')).toMatchObject({
      node: 'ip-10-0-0-1',
      type: 'CWD',
    });
  });

  test('reads as ausearch interprets it', (context) => {
    requireLogJudges(context);
    const { stdout } = judge('ausearch', ['-i', '-if', FILE]);
    const told = stdout.toString().split('\n');
    const titles = told.flatMap((line) => /^type=PROCTITLE .*: proctitle=(.*) $/.exec(line)?.[1] ?? []);
    const ours = LINES.map(parseAuditLine).flatMap((record) =>
      record?.type === 'PROCTITLE' ? (record.arguments?.join(' ') ?? '') : [],
    );
    expect(titles).toEqual(ours);
  });

  test('is none, whatever it is made of, or has the type and the stamp of its line', () => {
    const piece = fc.constantFrom(
      'type=A ',
      'msg=audit(1.000:1):',
      ' pid=1',
      '"',
      "'",
      ' a0=4142',
      " msg='",
      '=',
      '\x1d',
      ' [0]',
      'node=x ',
      ' name=GG',
      ' __proto__=1',
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(piece, fc.string({ maxLength: 6 })), { maxLength: 30 }), (pieces) => {
        const line = pieces.join('');
        expect(parseAuditLine(line) === undefined).toBe(auditStamp(line) === undefined);
        auditPids(line);
      }),
    );
  });
});
