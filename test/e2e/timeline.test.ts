import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { runCli, startAgent } from '../lab/agent.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { compromisedPod, type Victim } from '../lab/victim.ts';
import {
  judgesObstacle,
  mactimeObstacle,
  type Row,
  readAsMactime,
  readAsTimesketch,
} from '../unit/cli/timeline-judges.ts';
import { shell } from './readers.ts';

/** What was done to a container on a real containerd is in the timeline of its bundle, when it was done, from where it is known. */

let node: LabNode;
let victim: Victim;
let folder: string;
let bundle: string;
/** Around the break-in, and when the capture had ended; ns. */
let before: bigint;
let between: bigint;
let after: bigint;
let rows: readonly Row[];
let containerLog: string;

const nowNs = (): bigint => BigInt(Date.now()) * 1_000_000n;
/** Kernels stamp files with a clock that is up to a tick behind (ktime_get_coarse), and /proc counts in hundredths. */
const TICK_NS = 20_000_000n;

beforeAll(async () => {
  if (labObstacle() !== undefined || judgesObstacle() !== undefined) return;
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-timeline-e2e-'));
  node = await startNode();
  before = nowNs();
  victim = await compromisedPod(node);
  between = nowNs();
  await using agent = await startAgent(node, { config: { sink: { url: `file://${folder}/evidence` } } });
  const captured = await agent.exhibit('capture', 'prod/web-0', '--artifacts', 'processes,memory,rootfs,logs,spec');
  after = nowNs();
  if (captured.code !== 0) throw new Error(captured.stderr);
  const base = path.join(folder, 'evidence', 'lab', 'lab-node');
  bundle = path.join(base, readdirSync(base)[0] ?? 'none');
  containerLog = readFileSync(`${node.hostRoot}${victim.pod.logFolder}/${victim.container}/0.log`, 'utf8');
  rows = readAsTimesketch('jsonl', Buffer.from((await timeline('jsonl')).stdout));
}, 120_000);

afterAll(async () => {
  if (labObstacle() !== undefined || judgesObstacle() !== undefined) return;
  await node[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

beforeEach((context) => {
  requireLab(context);
  const reason = judgesObstacle();
  if (reason !== undefined) context.skip(reason);
});

async function timeline(format: string, ...options: string[]) {
  const ran = await runCli(['timeline', bundle, '--format', format, ...options]);
  expect(ran).toMatchObject({ code: 0, stderr: '' });
  return ran;
}

const of = (wanted: Row): Row[] =>
  rows.filter((row) => Object.entries(wanted).every(([name, value]) => row[name] === value));
const nsOf = (row: Row | undefined): bigint => BigInt(row?.timestamp_ns ?? 0);

function expectWithin(row: Row | undefined, fromNs: bigint, toNs: bigint): void {
  expect(nsOf(row)).toBeGreaterThanOrEqual(fromNs - TICK_NS);
  expect(nsOf(row)).toBeLessThanOrEqual(toNs + TICK_NS);
}

test('a backdated file is there at the time that it claims, and at the time that it was made', () => {
  const file = { path: victim.files.backdated, artifact: 'rootfs', object: 'rootfs.inventory.jsonl.zst' };
  const claimed = of({ ...file, timestamp_ns: `${victim.backdatedMtimeSec}000000000` });
  expect(claimed.map(({ timestamp_desc }) => timestamp_desc)).toEqual([
    expect.stringContaining('Content Modification Time'),
  ]);
  const changed = of(file).filter((row) => String(row.timestamp_desc).includes('Metadata Modification Time'));
  expect(changed).toHaveLength(1);
  expectWithin(changed[0], before, between);
});

test('files that were made, and one that was deleted, are there at that time', () => {
  for (const created of victim.files.created) {
    const times = of({ path: created, object: 'rootfs.inventory.jsonl.zst' }).filter((row) =>
      String(row.timestamp_desc).includes('Metadata'),
    );
    expect(times, created).toHaveLength(1);
    expectWithin(times[0], before, between);
  }
  const deleted = of({ path: victim.files.deleted, timestamp_desc: 'Content Deletion Time' });
  expect(deleted).toHaveLength(1);
  expectWithin(deleted[0], before, between);
  const inImage = rows.filter(({ path, layer }) => path === victim.files.changed && layer !== undefined);
  expect(inImage.length).toBeGreaterThan(0);
});

test('the program whose file is gone is there when it was started, and with its recovered file', () => {
  const started = rows.filter(
    ({ message }) => String(message).includes(victim.dropped.argv0) && String(message).includes('started'),
  );
  expect(started).toMatchObject([
    { artifact: 'processes', object: 'processes.tar.zst', member: 'processes.jsonl', sha256: victim.dropped.sha256 },
  ]);
  expectWithin(started[0], before, between);
  const recovered = rows.filter(
    ({ member, sha256 }) => member === 'recovered.jsonl' && sha256 === victim.dropped.sha256,
  );
  expect(recovered.length).toBeGreaterThan(0);
});

test('every line of the container’s log is there, at the nanosecond that GNU date reads', () => {
  for (const text of victim.logLines) {
    const line = containerLog.split('\n').find((one) => one.endsWith(` F ${text}`)) ?? '';
    const ns = shell('date -u -d "$1" +%s%N', line.split(' ')[0] ?? '').trim();
    const found = rows.filter(({ message }) => String(message).endsWith(`: ${text}`));
    expect(found).toMatchObject([{ timestamp_ns: ns, artifact: 'logs', object: 'logs.tar.zst', member: '0.log' }]);
  }
});

test('pod and container are there when the runtime made them', () => {
  for (const message of ['pod sandbox created', 'container created', 'container started']) {
    const [row] = of({ message, artifact: 'spec' });
    expectWithin(row, before, between);
  }
});

test('what the capture itself did is there as capture, and nothing of it is before the request', () => {
  const own = of({ artifact: 'capture' }).filter(({ data_type }) => data_type === 'exhibit:capture');
  expect(own.map(({ message }) => message)).toEqual(
    expect.arrayContaining([
      expect.stringMatching(/^exhibit: capture of prod\/web-0 requested/),
      'exhibit: target frozen (cgroup-v2)',
      'exhibit: target thawed by the agent',
      'exhibit: reading of rootfs began',
      expect.stringMatching(/^exhibit: capture (complete|partial), sealed after this$/),
    ]),
  );
  for (const row of own) expectWithin(row, between, after);
});

test('mactime shows the backdated file in 2020, and the break-in', async ({ skip }) => {
  const reason = mactimeObstacle();
  if (reason !== undefined) skip(reason);
  const shown = readAsMactime(Buffer.from((await timeline('body')).stdout));
  const claimed = shown.filter(
    ({ name, time }) => name === `${victim.files.backdated} [rootfs]` && time === '2020-02-02T02:02:02Z',
  );
  expect(claimed).toMatchObject([{ letters: expect.stringMatching(/^m/) }]);
  expect(shown.some(({ name }) => name.startsWith('[processes] pid '))).toBe(true);
  for (const text of victim.logLines)
    expect(shown.map(({ name }) => name)).toContainEqual(expect.stringContaining(`: ${text}`));
});

test('CSV has the same rows', async () => {
  expect(readAsTimesketch('csv', Buffer.from((await timeline('csv')).stdout))).toHaveLength(rows.length);
});
