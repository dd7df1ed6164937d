import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { auditRecordSchema, journalRecordSchema, kernelRecordSchema } from '../../evidence/log-records.ts';
import type { Manifest } from '../../evidence/manifest.ts';
import { runCli, startAgent } from '../lab/agent.ts';
import { judge, logJudgesObstacle, makeJournal } from '../lab/log-judges.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { labObstacle } from '../lab/requires.ts';
import { compromisedPod, type Victim } from '../lab/victim.ts';
import { exported } from '../unit/fixtures/journal/journals.ts';
import { json, shell } from './readers.ts';

/** A capture of a container on a node whose journal and audit log speak of it; what they say was planted. */

let node: LabNode;
let victim: Victim;
let folder: string;
let bundle: string;
let manifest: Manifest;
/** On the node. */
let pid = 0;
let id = '';

const obstacle = (): string | undefined => labObstacle() ?? logJudgesObstacle();
const onNode = (name: string): string => path.join(node.hostRoot, name);

beforeAll(async () => {
  if (obstacle() !== undefined) return;
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-e2e-'));
  node = await startNode();
  victim = await compromisedPod(node);
  pid = await victim.pod.pid(victim.container);
  id = victim.pod.containerId(victim.container);
  plant();
  await using agent = await startAgent(node, { config: { sink: { url: `file://${folder}/evidence` } } });
  const captured = await agent.exhibit('capture', 'prod/web-0', '--artifacts', 'logs');
  expect(captured.code, captured.stderr).toBe(0);
  const base = path.join(folder, 'evidence', 'lab', 'lab-node');
  bundle = path.join(base, readdirSync(base)[0] ?? 'none');
  manifest = json<Manifest>(bundle, 'manifest.json');
}, 120_000);

afterAll(async () => {
  if (obstacle() !== undefined) return;
  await node[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

beforeEach((context) => {
  const reason = obstacle();
  if (reason !== undefined) context.skip(reason);
});

function plant(): void {
  const nowMs = Date.now();
  const us = (seconds: number) => BigInt(nowMs - seconds * 1000) * 1000n;
  const journal = onNode(`var/log/journal/${'ab'.repeat(16)}`);
  mkdirSync(journal, { recursive: true });
  const entries = [
    exported(us(86_400), { MESSAGE: 'a day ago', _SYSTEMD_UNIT: 'kubelet.service' }, us(90_000)),
    exported(
      us(3),
      { MESSAGE: 'SyncLoop ADD', _SYSTEMD_UNIT: 'kubelet.service', SYSLOG_IDENTIFIER: 'kubelet' },
      us(90_000),
    ),
    exported(us(2), { MESSAGE: 'of nobody', _SYSTEMD_UNIT: 'sshd.service' }, us(90_000)),
    exported(us(0), { MESSAGE: 'from inside', _PID: String(pid), _TRANSPORT: 'syslog' }, us(90_000)),
    exported(us(0), { MESSAGE: `StartContainer for ${id}`, _SYSTEMD_UNIT: 'other.service' }, us(90_000)),
  ];
  makeJournal(path.join(folder, 'planted.journal'), Buffer.concat(entries), { compact: true });
  shell('cp "$1" "$2"', path.join(folder, 'planted.journal'), path.join(journal, 'system.journal'));

  const audit = onNode('var/log/audit');
  mkdirSync(audit, { recursive: true });
  const line = (serial: number, rest: string) =>
    `type=SYSCALL msg=audit(${(nowMs / 1000).toFixed(3)}:${serial}): syscall=59 ${rest}\n`;
  const ended = 4_194_001;
  writeFileSync(
    path.join(audit, 'audit.log'),
    line(1, `ppid=${pid} pid=${ended} comm="sh" exe="/bin/busybox"`) +
      line(2, `ppid=${ended} pid=${ended + 1} comm="nc" exe="/bin/busybox"`) +
      line(3, `ppid=1 pid=${ended + 2} comm="sshd" exe="/usr/sbin/sshd"`),
  );
  const log = shell('ls -d "$1"/var/log/pods/*web-0*/*', node.hostRoot).trim().split('\n')[0] ?? '';
  writeFileSync(path.join(log, '0.log.20260101-000000.gz'), gzipSync('an old line\n'));
}

const member = (name: string, archive = 'node-logs.tar.zst'): string =>
  Buffer.from(shell('zstd -dc "$1" | tar -xO -f - "$2"', path.join(bundle, archive), name), 'latin1').toString();
const lines = (name: string): unknown[] =>
  member(name)
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

test('the journal’s entries about the container are in the bundle, and journalctl reads them there', () => {
  const found = lines('journal.jsonl').map((line) => journalRecordSchema.parse(line));
  expect(found.map(({ message, because }) => `${because}: ${message}`)).toEqual([
    'unit: SyncLoop ADD',
    'pid: from inside',
    `mention: StartContainer for ${id}`,
  ]);
  const again = path.join(folder, 'again.journal');
  makeJournal(again, Buffer.from(member('journal.export')));
  const told = judge('journalctl', ['--file', again, '-o', 'cat', '--no-pager']).stdout.toString();
  expect(told).toBe(`SyncLoop ADD\nfrom inside\nStartContainer for ${id}\n`);
});

test('so are the audit records of its processes, of those that have ended too', () => {
  const found = lines('audit.jsonl').map((line) => auditRecordSchema.parse(line));
  expect(found.map(({ serial, fields }) => `${serial} ${fields.comm}`)).toEqual(['1 sh', '2 nc']);
});

test('so is the kernel’s log, or why it cannot be read', () => {
  const gap = manifest.artifacts.find(({ name }) => name === 'logs')?.gaps.find(({ what }) => what === '/dev/kmsg');
  if (gap !== undefined) expect(gap.errno).toMatch(/^E/);
  else expect(lines('kmsg.jsonl').map((line) => kernelRecordSchema.parse(line)).length).toBeGreaterThan(0);
});

test('so is the container’s log with a compressed rotation as it was', () => {
  const names = manifest.objects.find(({ name }) => name === 'logs.tar.zst')?.members?.map((one) => one.path);
  expect(names).toEqual(['0.log', '0.log.20260101-000000.gz']);
  const text = shell(
    'zstd -dc "$1" | tar -xO -f - 0.log.20260101-000000.gz | gzip -dc',
    path.join(bundle, 'logs.tar.zst'),
  );
  expect(text).toBe('an old line\n');
  for (const line of victim.logLines) expect(member('0.log', 'logs.tar.zst')).toContain(line);
});

test('the bundle verifies', async () => {
  expect(await runCli(['verify', bundle])).toMatchObject({ code: 0 });
});
