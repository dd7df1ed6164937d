import { execFileSync } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { z } from 'zod';
import { logsCollector } from '../../../agent/collect/logs.ts';
import { LOGS_DEFAULTS, type LogsOptions } from '../../../agent/collect/logs-options.ts';
import {
  auditRecordSchema,
  journalRecordSchema,
  kernelRecordSchema,
  logSourceSchema,
} from '../../../evidence/log-records.ts';
import { judge, makeJournal, requireLogJudges } from '../../lab/log-judges.ts';
import { exported, type Fields } from '../fixtures/journal/journals.ts';
import { type BundleContext, bundleContext, makeTarget, TARGET_RECORD } from './bundle-context.ts';

/** What the context calls now, in microseconds. */
const NOW_US = 1_762_000_000_000_000n;
const SECOND_US = 1_000_000n;
const ID = '0123456789abcdef'.repeat(4);
const POD = { namespace: 'ns', name: 'pod', uid: '11111111-2222-3333-4444-555555555555', sandboxId: 'f'.repeat(64) };
/** Of no process here, so that its time is the container's. */
const PID = 4_194_303;
const CREATED_AT = new Date(Number((NOW_US - 60n * SECOND_US) / 1000n)).toISOString();
const RECORD = { ...TARGET_RECORD, id: ID, pod: POD, initPid: PID, pids: [PID] };
const MACHINE = 'aa'.repeat(16);

let root = '';
let host = '';
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'exhibit-node-logs-'));
  host = path.join(root, 'host');
  mkdirSync(path.join(host, 'var/log/audit'), { recursive: true });
  mkdirSync(path.join(host, 'var/log/journal', MACHINE), { recursive: true });
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

let runs = 0;
async function collect(
  options: Partial<LogsOptions> = {},
  target = makeTarget({ record: RECORD, createdAt: CREATED_AT }),
): Promise<BundleContext> {
  runs += 1;
  const bundle = bundleContext(path.join(root, `out-${runs}`), target, { hostRoot: host });
  await logsCollector({
    ...LOGS_DEFAULTS,
    node: ['journal', 'audit', 'files'],
    windowMarginMs: 10_000,
    ...options,
  }).collect(bundle.context);
  return bundle;
}

const members = (bundle: BundleContext) =>
  bundle.objects.find(({ name }) => name === 'node-logs.tar.zst')?.members?.map(({ path: name }) => name);
const member = (bundle: BundleContext, name: string): Buffer =>
  execFileSync('tar', ['-xO', name], { input: bundle.content('node-logs.tar.zst'), maxBuffer: 1 << 28 });
function records<Schema extends z.ZodType>(bundle: BundleContext, name: string, schema: Schema): z.output<Schema>[] {
  return member(bundle, name)
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => schema.parse(JSON.parse(line)));
}

const JOURNAL = `/var/log/journal/${MACHINE}/system.journal`;
const ago = (seconds: number): bigint => NOW_US - BigInt(seconds) * SECOND_US;

function plantJournal(entries: readonly [number, Fields][], name = 'system.journal'): string {
  const file = path.join(host, 'var/log/journal', MACHINE, name);
  const bootUs = ago(86_400);
  const made = path.join(root, 'made.journal');
  makeJournal(made, Buffer.concat(entries.map(([seconds, fields]) => exported(ago(seconds), fields, bootUs))));
  renameSync(made, file);
  return file;
}

const ENTRIES: readonly [number, Fields][] = [
  [3600, { MESSAGE: 'kubelet of an hour ago', _SYSTEMD_UNIT: 'kubelet.service' }],
  [
    65,
    {
      MESSAGE: 'pulls the image',
      _SYSTEMD_UNIT: 'kubelet.service',
      _PID: '900',
      PRIORITY: '6',
      SYSLOG_IDENTIFIER: 'kubelet',
    },
  ],
  [64, { MESSAGE: 'somebody else', _SYSTEMD_UNIT: 'sshd.service', _PID: '901' }],
  [62, { MESSAGE: 'another with that pid before', _SYSTEMD_UNIT: 'cron.service', _PID: String(PID) }],
  [50, { MESSAGE: 'oom-kill', _TRANSPORT: 'kernel', PRIORITY: '3' }],
  [
    40,
    {
      MESSAGE: 'speaks for itself',
      _TRANSPORT: 'syslog',
      _SYSTEMD_UNIT: 'other.service',
      _PID: String(PID),
      _COMM: 'sh',
    },
  ],
  [30, { MESSAGE: `starts ${ID}`, _SYSTEMD_UNIT: 'other.service' }],
  [20, { MESSAGE: 'of the slice', _SYSTEMD_CGROUP: `/kubepods/kubepods-pod${POD.uid.replaceAll('-', '_')}.slice/x` }],
  [10, { MESSAGE: Buffer.from([0xff, 0x0a]), _SYSTEMD_UNIT: 'init.scope', UNIT: 'containerd.service', _PID: '1' }],
  [-30, { MESSAGE: 'of the future', _SYSTEMD_UNIT: 'kubelet.service' }],
];

describe('the node’s journal', () => {
  test('gives the units, the kernel, the target’s processes and who speaks of it, within the window', async (context) => {
    requireLogJudges(context);
    plantJournal(ENTRIES);
    const bundle = await collect();
    const found = records(bundle, 'journal.jsonl', journalRecordSchema);
    expect(found.map(({ message, because }) => [message, because.join()])).toEqual([
      ['pulls the image', 'unit'],
      ['oom-kill', 'kernel'],
      ['speaks for itself', 'pid'],
      [`starts ${ID}`, 'mention'],
      ['of the slice', 'mention'],
      ['\ufffd\n', 'unit'],
    ]);
    expect(found[0]).toMatchObject({
      at: '2025-11-01T12:25:35.000000Z',
      realtimeUs: String(ago(65)),
      file: JOURNAL,
      unit: 'kubelet.service',
      identifier: 'kubelet',
      pid: 900,
      priority: 6,
    });
    expect(found[2]).toMatchObject({ transport: 'syslog', identifier: 'sh' });
    expect(found[5]).toMatchObject({ messageBase64: '/wo=' });
    expect(bundle.gaps).toEqual([]);
    expect(records(bundle, 'sources.jsonl', logSourceSchema)).toMatchObject([
      { kind: 'journal', path: JOURNAL, seen: 8, taken: 6 },
    ]);
  });

  test('is exported so that journalctl finds the same entries in it again', async (context) => {
    requireLogJudges(context);
    const file = plantJournal(ENTRIES);
    const bundle = await collect({ units: ['kubelet.service'] });
    const again = path.join(root, 'again.journal');
    makeJournal(again, member(bundle, 'journal.export'));
    const told = judge('journalctl', ['--file', again, '-o', 'cat', '--no-pager', '-a']).stdout.toString();
    expect(told.split('\n')).toEqual([
      'pulls the image',
      'oom-kill',
      'speaks for itself',
      `starts ${ID}`,
      'of the slice',
      '',
    ]);
    const cursors = records(bundle, 'journal.jsonl', journalRecordSchema).map(({ cursor }) => cursor);
    for (const cursor of cursors) {
      const one = judge('journalctl', ['--file', file, '--cursor', cursor, '-n', '1', '-o', 'export', '--no-pager']);
      expect(one.stdout.toString('latin1')).toContain(`__CURSOR=${cursor}\n`);
    }
  });

  test('is taken file by file from old to new, those outside the window unread', async (context) => {
    requireLogJudges(context);
    plantJournal([[7200, { MESSAGE: 'long ago', _SYSTEMD_UNIT: 'kubelet.service' }]], 'system@old.journal');
    plantJournal([[5, { MESSAGE: 'new', _SYSTEMD_UNIT: 'kubelet.service' }]], 'system.journal');
    plantJournal([[30, { MESSAGE: 'rotated', _SYSTEMD_UNIT: 'kubelet.service' }]], 'system@new.journal~');
    const bundle = await collect();
    expect(records(bundle, 'journal.jsonl', journalRecordSchema).map(({ message }) => message)).toEqual([
      'rotated',
      'new',
    ]);
    expect(records(bundle, 'sources.jsonl', logSourceSchema)).toHaveLength(2);
  });

  test('gives its newest entries when the bound does not hold all, and a gap says from when the others are', async (context) => {
    requireLogJudges(context);
    plantJournal(
      Array.from({ length: 50 }, (_, index) => [
        50 - index,
        { MESSAGE: `${index} ${'x'.repeat(1000)}`, _SYSTEMD_UNIT: 'kubelet.service' },
      ]),
    );
    const bundle = await collect({ nodeBytes: 30_000 });
    const found = records(bundle, 'journal.jsonl', journalRecordSchema);
    expect(found.length).toBeGreaterThan(5);
    expect(found.at(-1)?.message).toMatch(/^49 /);
    expect(found.length + Number(/(\d+) older entries/.exec(bundle.gaps[0]?.why ?? '')?.[1])).toBe(50);
    expect(bundle.gaps).toMatchObject([
      { what: JOURNAL, why: expect.stringMatching(/^logs.nodeBytes is spent: .* of 2025-11-01T12:2/) },
    ]);
  });

  test('that is damaged, or none, is a gap beside the others', async (context) => {
    requireLogJudges(context);
    plantJournal([[5, { MESSAGE: 'whole', _SYSTEMD_UNIT: 'kubelet.service' }]], 'system.journal');
    const torn = plantJournal([[6, { MESSAGE: 'torn', _SYSTEMD_UNIT: 'kubelet.service' }]], 'system@torn.journal~');
    const fd = openSync(torn, 'r+');
    // The list of entries is said to lie at the file's end.
    writeSync(fd, Buffer.from([0, 0, 0x80, 0, 0, 0, 0, 0]), 0, 8, 176);
    ftruncateSync(fd, 8 * 1024 * 1024);
    closeSync(fd);
    writeFileSync(path.join(host, 'var/log/journal', MACHINE, 'none.journal'), 'x'.repeat(500));
    symlinkSync('/etc/passwd', path.join(host, 'var/log/journal', MACHINE, 'link.journal'));
    const bundle = await collect();
    expect(records(bundle, 'journal.jsonl', journalRecordSchema).map(({ message }) => message)).toEqual(['whole']);
    expect(bundle.gaps.map(({ what, why }) => [path.basename(what), why])).toEqual([
      ['link.journal', 'a symlink where a log file should be; it is not read'],
      ['none.journal', 'it has no journal signature'],
      ['system@torn.journal~', 'the list of entries breaks off after 0 of 1'],
    ]);
  });
});

describe('the window and what is looked for', () => {
  const messages = (bundle: BundleContext) =>
    records(bundle, 'journal.jsonl', journalRecordSchema).map(({ message }) => message);

  test('are of a service where the target is one, and of the other containers of a pod that is captured as one', async (context) => {
    requireLogJudges(context);
    const other = 'fedcba9876543210'.repeat(4);
    plantJournal([
      [30, { MESSAGE: 'of the service', _SYSTEMD_UNIT: 'shop.service' }],
      [20, { MESSAGE: `kills ${other}`, _SYSTEMD_UNIT: 'other.service' }],
      [10, { MESSAGE: 'of its companion', _PID: '4194302' }],
    ]);
    const companion = { ...TARGET_RECORD, id: other, pids: [4_194_302] };
    const record = { ...RECORD, cgroup: '/system.slice/shop.service', companions: [companion] };
    const bundle = await collect({}, makeTarget({ record, createdAt: CREATED_AT }));
    expect(messages(bundle)).toEqual(['of the service', `kills ${other}`, 'of its companion']);
  });

  test('go back no further than they may, which is a note', async (context) => {
    requireLogJudges(context);
    plantJournal([
      [55, { MESSAGE: 'too old', _SYSTEMD_UNIT: 'kubelet.service' }],
      [30, { MESSAGE: 'young', _SYSTEMD_UNIT: 'kubelet.service' }],
    ]);
    const bundle = await collect({ windowMaxMs: 40_000 });
    expect(messages(bundle)).toEqual(['young']);
    expect(bundle.notes).toContain(
      'the target is older than logs.windowMaxMs: what node logs say from before is left out',
    );
    const unknown = await collect({ windowMaxMs: 40_000 }, makeTarget({ record: RECORD }));
    expect(messages(unknown)).toEqual(['young']);
    expect(unknown.notes).toContainEqual(expect.stringMatching(/^it is not known since when the target lives/));
  });

  test('give a pid to the target only since its process was started', async (context) => {
    requireLogJudges(context);
    // This test's own process, which was started less than an hour ago.
    plantJournal([[3600, { MESSAGE: 'another with this pid', _PID: String(process.pid) }]]);
    const record = { ...RECORD, initPid: process.pid, pids: [process.pid] };
    const createdAt = new Date(Number(ago(7200) / 1000n)).toISOString();
    const bundle = await collect({}, makeTarget({ record, createdAt }));
    expect(members(bundle)).toEqual(['sources.jsonl']);
    expect(records(bundle, 'sources.jsonl', logSourceSchema)).toMatchObject([{ seen: 1, taken: 0 }]);
  });
});

describe('the audit log', () => {
  const stamp = (seconds: number) => {
    const us = ago(seconds);
    return `${us / SECOND_US}.${String((us % SECOND_US) / 1000n).padStart(3, '0')}`;
  };
  const line = (seconds: number, serial: number, rest: string, type = 'SYSCALL') =>
    `type=${type} msg=audit(${stamp(seconds)}:${serial}): ${rest}\n`;

  test('gives the records of the target’s processes, across rotations, as they are and as lines of JSON', async () => {
    const folder = path.join(host, 'var/log/audit');
    const rotated =
      line(40, 10, `ppid=${PID} pid=5000 comm="sh" exe="/bin/sh"`) +
      line(40, 10, 'proctitle=7368002D63', 'PROCTITLE') +
      line(39, 11, 'ppid=1 pid=77 comm="x"');
    const running =
      line(30, 12, 'ppid=5000 pid=5001 comm="cat" exe="/bin/cat"') +
      line(1000, 13, `ppid=1 pid=${PID} comm="old"`) +
      line(20, 14, `op=x ${ID}`, 'USER_CMD');
    writeFileSync(path.join(folder, 'audit.log.1'), rotated);
    writeFileSync(path.join(folder, 'audit.log'), running);
    const nowS = Number(NOW_US / SECOND_US);
    utimesSync(path.join(folder, 'audit.log.1'), nowS - 35, nowS - 35);
    utimesSync(path.join(folder, 'audit.log'), nowS, nowS);
    const bundle = await collect();
    expect(member(bundle, 'audit.log').toString()).toBe(
      [...rotated.split('\n').slice(0, 2), running.split('\n')[0], running.split('\n')[2], ''].join('\n'),
    );
    const found = records(bundle, 'audit.jsonl', auditRecordSchema);
    expect(found.map(({ serial, because }) => `${serial} ${because}`)).toEqual([
      '10 pid',
      '10 event',
      '12 pid',
      '14 mention',
    ]);
    expect(found[1]).toMatchObject({
      type: 'PROCTITLE',
      file: '/var/log/audit/audit.log.1',
      arguments: ['sh', '-c'],
      at: '2025-11-01T12:26:00.000000Z',
    });
    expect(bundle.notes).toContain('audit records named 2 more processes that known ones started');
  });

  test('that is not there is a note, and one that is a link is a gap', async () => {
    expect((await collect()).notes).toContain('the node has no audit log in /var/log/audit');
    symlinkSync('/etc/passwd', path.join(host, 'var/log/audit/audit.log'));
    expect((await collect()).gaps).toMatchObject([{ what: '/var/log/audit/audit.log' }]);
  });

  test('gives its newest records when the bound does not hold all', async () => {
    const lines = Array.from({ length: 40 }, (_, index) =>
      line(40 - index, index, `ppid=1 pid=${PID} comm="c${index}" exe="${'x'.repeat(200)}"`),
    );
    writeFileSync(path.join(host, 'var/log/audit/audit.log'), lines.join(''));
    const bundle = await collect({ nodeBytes: 20_000 });
    const found = records(bundle, 'audit.jsonl', auditRecordSchema);
    expect(found.length).toBeLessThan(40);
    expect(found.at(-1)?.serial).toBe('39');
    expect(bundle.gaps[0]?.why).toBe(`logs.nodeBytes is spent: the oldest ${40 - found.length} records are not stored`);
  });
});

test('the kernel’s log is stored as it is and as lines of JSON', async (context) => {
  if (process.getuid?.() !== 0) context.skip('needs root to make a device and read the kernel log');
  mkdirSync(path.join(host, 'dev'));
  execFileSync('mknod', [path.join(host, 'dev/kmsg'), 'c', '1', '11']);
  const bundle = await collect({ node: ['kernel'] });
  const text = member(bundle, 'kmsg.txt')
    .toString('latin1')
    .split('\n')
    .filter((one) => /^\d/.test(one));
  const found = records(bundle, 'kmsg.jsonl', kernelRecordSchema);
  expect(found.length).toBe(text.length);
  expect(text[0]).toMatch(new RegExp(`^\\d+,${found[0]?.sequence},${found[0]?.monotonicUs},`));
  expect(bundle.gaps).toEqual([]);
});

test('plain logs that were written to in the window are stored with their rotations, the end of a large one', async () => {
  const log = (name: string) => path.join(host, 'var/log', name);
  for (const name of ['messages', 'messages-20251101', 'kubelet.log', 'secret.log', 'messages.old', 'syslog.1.gz'])
    writeFileSync(log(name), name);
  utimesSync(log('kubelet.log'), 1000, 1000);
  const names = [
    'sources.jsonl',
    'files/var/log/messages',
    'files/var/log/messages-20251101',
    'files/var/log/syslog.1.gz',
  ];
  const bundle = await collect();
  expect(members(bundle)?.toSorted()).toEqual(names.toSorted());
  expect(member(bundle, 'files/var/log/messages').toString()).toBe('messages');

  writeFileSync(log('messages'), `${'a'.repeat(500)}the end`);
  for (const name of ['messages-20251101', 'syslog.1.gz']) rmSync(log(name));
  const small = await collect({ nodeBytes: 7 });
  expect(member(small, 'files/var/log/messages').toString()).toBe('the end');
  expect(small.gaps).toMatchObject([{ what: '/var/log/messages', why: 'only its last 7 of 507 bytes are stored' }]);
});

test('a node without logs leaves notes, and without sources no archive', async () => {
  rmSync(path.join(host, 'var'), { recursive: true });
  const bundle = await collect();
  expect(members(bundle)).toEqual(['sources.jsonl']);
  expect(bundle.notes).toContain('the node has no systemd journal');
  expect((await collect({ node: [] })).objects.map(({ name }) => name)).toEqual(['logs.tar.zst']);
});
