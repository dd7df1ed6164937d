import { mkdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { requestRecord } from '../evidence/sample-bundle.ts';
import { EVERYTHING, jsonLines } from '../evidence/timeline/everything.ts';
import { artifactRecord, type TimelineBundle, timelineBundle } from '../evidence/timeline/timeline-bundle.ts';
import { exhibit, TEST_TIMEOUT_MS } from './run.ts';
import { serveAsS3 } from './s3-server.ts';
import { judgesObstacle, mactimeObstacle, type Row, readAsMactime, readAsTimesketch } from './timeline-judges.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

async function jsonl(bundle: TimelineBundle, ...options: string[]): Promise<Row[]> {
  const ran = await exhibit(['timeline', bundle.folder, ...options]);
  expect(ran).toMatchObject({ code: 0, stderr: '' });
  return readAsTimesketch('jsonl', ran.stdout);
}

const seen = (rows: readonly Row[], message: string | RegExp) =>
  rows
    .filter((row) => (typeof message === 'string' ? row.message === message : message.test(String(row.message))))
    .map(({ timestamp_ns, timestamp_desc, artifact, object, member }) =>
      [timestamp_ns, timestamp_desc, artifact, object, member].filter((part) => part !== undefined).join(' '),
    );

describe('timeline', () => {
  test('tells of each file when it was written, read, changed and made, and what the image had', async ({ skip }) => {
    if (judgesObstacle() !== undefined) skip(judgesObstacle());
    await using bundle = await timelineBundle(EVERYTHING);
    const rows = await jsonl(bundle, '--kind', 'file');
    const where = 'rootfs rootfs.inventory.jsonl.zst';
    expect(seen(rows, '/tmp/dropper: file, 4 bytes, added')).toEqual([
      `1700000000000000000 Creation Time ${where}`,
      `1700000000123456789 Content Modification Time ${where}`,
      `1700000100000000000 Last Access Time ${where}`,
      `1700000200000000001 Metadata Modification Time ${where}`,
    ]);
    expect(seen(rows, '/tmp/dropper as in image layer 2: file, 3 bytes')).toEqual([
      `1600000000000000000 Content Modification Time ${where}`,
      `1600000001000000000 Metadata Modification Time ${where}`,
    ]);
    expect(seen(rows, '/etc/passwd deleted (whiteout, then or before: 3 whiteouts share the inode)')).toEqual([
      `1700000200000000001 Content Deletion Time ${where}`,
    ]);
    expect(seen(rows, '/usr: directory, added')).toEqual([
      `1700000300000000000 Content Modification Time; Last Access Time; Metadata Modification Time ${where}`,
    ]);
    expect(rows.find((row) => row.path === '/tmp/dropper')).toMatchObject({
      ...{ hostname: 'node-1', namespace: 'default', pod: 'shop-1', container: 'shop' },
      ...{ data_type: 'fs:stat', file_type: 'file', mode: '755', uid: 0, gid: 0, size: 3, layer: 2 },
    });
    expect(seen(rows, '/bin/busybox: executable of pid 17')).toEqual([
      '1698796800000000000 Content Modification Time processes processes.tar.zst processes.jsonl',
      '1698883200000000000 Metadata Modification Time processes processes.tar.zst processes.jsonl',
    ]);
    expect(seen(rows, /^\/tmp\/gone: deleted, held by 17\/exe/)).toEqual([
      '5 Metadata Modification Time processes processes.tar.zst recovered.jsonl',
      '1699999996000000000 Content Modification Time processes processes.tar.zst recovered.jsonl',
    ]);
  });

  test('shows files of volumes where the container has them', async ({ skip }) => {
    if (judgesObstacle() !== undefined) skip(judgesObstacle());
    await using bundle = await timelineBundle(EVERYTHING);
    const rows = await jsonl(bundle, '--kind', 'file');
    const paths = new Map(
      rows.filter(({ volume }) => volume !== undefined).map(({ inode, path, size }) => [inode, { path, size }]),
    );
    expect(paths).toEqual(
      new Map([
        ['77', { path: '/data/.wh.file', size: 123_456_789 }],
        ['78', { path: '/data', size: 4 }],
        ['79', { path: '/srv/left-out', size: 4 }],
        ['80', { path: '/9/unknown', size: 4 }],
      ]),
    );
  });

  test('tells of processes, logs, container, image and node', async ({ skip }) => {
    if (judgesObstacle() !== undefined) skip(judgesObstacle());
    await using bundle = await timelineBundle(EVERYTHING);
    const rows = await jsonl(bundle, '--kind', 'process,network,log,container,node,finding');
    const told = rows.map(({ datetime, message, artifact, member }) =>
      [datetime, message, artifact, member ?? '-'].join('|'),
    );
    expect(told).toEqual([
      '2017-07-14T02:40:00.000000+00:00|finding timestomped, high: /tmp/dropper (mtime-before-birth)|rootfs|-',
      '2023-01-02T03:04:04.000000+00:00|image layer created by: RUN make|spec|image-config.json',
      '2023-01-02T03:04:05.500000+00:00|image created|spec|image-config.json',
      '2023-11-14T22:13:00.000000+00:00|pod sandbox created|spec|cri-pod-status.json',
      '2023-11-14T22:13:09.000000+00:00|container record created in containerd|spec|containerd-container.json',
      '2023-11-14T22:13:10.000000+00:00|container created|spec|cri-container-status.json',
      '2023-11-14T22:13:10.000000+00:00|stdout: rotated|logs|0.log.20231114.gz',
      '2023-11-14T22:13:15.000000+00:00|container started|spec|cri-container-status.json',
      '2023-11-14T22:13:20.000000+00:00|finding timestomped, high: /tmp/dropper (mtime-before-birth)|rootfs|-',
      '2023-11-14T22:13:21.250000+00:00|pid 17 started: sh -c "id; id"|processes|processes.jsonl',
      '2023-11-14T22:13:21.500000+00:00|connection tcp 10.0.0.7:4711 -> [fd00::1]:443 began, now ESTABLISHED|network|conntrack.jsonl',
      '2023-11-14T22:13:22.000000+00:00|stdout: listening|logs|0.log',
      '2023-11-14T22:13:23.500000+00:00|stderr: docker says|logs|c-json.log',
      '2023-11-14T22:13:24.000001+00:00|journal kubelet[800]: started container|logs|journal.jsonl',
      '2023-11-14T22:13:25.000000+00:00|kernel: segfault at 0|logs|kmsg.jsonl',
      '2023-11-14T22:13:26.000000+00:00|audit EXECVE 41: pid=17 exe=/bin/sh command: sh -c id|logs|audit.jsonl',
      '2023-11-14T22:13:27.000000+00:00|eBPF kprobe 7 loaded: hide_pid|logs|bpf.jsonl',
      '2023-11-14T22:16:40.000000+00:00|finding timestomped, high: /tmp/dropper (mtime-before-birth)|rootfs|-',
      '2026-11-22T10:00:00.000000+00:00|node booted: 6.18|capture|-',
    ]);
  });

  test('has what the agent itself did as artifact capture, and the moment that memory shows', async ({ skip }) => {
    if (judgesObstacle() !== undefined) skip(judgesObstacle());
    const freeze = { consistency: 'frozen', method: 'cgroup-v2', pauseMs: 2 } as const;
    const times = { startedAt: '2026-11-22T10:00:01.000Z', finishedAt: '2026-11-22T10:00:05.000Z' };
    await using bundle = await timelineBundle({
      manifest: {
        ...times,
        freeze: {
          ...freeze,
          notes: [],
          frozenAt: '2026-11-22T10:00:02.000Z',
          thawedAt: '2026-11-22T10:00:02.002Z',
          thawedBy: 'guard',
        },
        artifacts: [
          {
            ...artifactRecord('memory', ['memory.tar.zst']),
            startedAt: '2026-11-22T10:00:02.001Z',
            finishedAt: '2026-11-22T10:00:04.000Z',
          },
          { ...artifactRecord('checkpoint', []), status: 'skipped' },
        ],
      },
    });
    const rows = await jsonl(bundle);
    expect(rows.map(({ timestamp_desc, message, artifact }) => [timestamp_desc, message, artifact].join('|'))).toEqual([
      'Start Time|node booted: 6.18|capture',
      'Recorded Time|exhibit: capture of default/shop-1 requested (uid 0, pid 17, by socket); agent pid 1|capture',
      'Start Time|exhibit: capture started|capture',
      'Start Time|exhibit: target frozen (cgroup-v2)|capture',
      'Recorded Time|memory is as it was at this moment: the target stood still|memory',
      'Start Time|exhibit: reading of memory began|capture',
      'End Time|exhibit: target thawed by the guard|capture',
      'End Time|exhibit: reading of memory ended: captured, gaps: 0|capture',
      'End Time|exhibit: capture complete, sealed after this|capture',
    ]);
  });

  test('names the container of a process that is in another one of the pod', async ({ skip }) => {
    if (judgesObstacle() !== undefined) skip(judgesObstacle());
    const { target } = requestRecord('00');
    const process = (pid: number) => ({ pid, startedAt: '2023-11-14T22:13:21.250Z', commandLine: ['sh'] });
    await using bundle = await timelineBundle({
      archives: { 'processes.tar.zst': { 'processes.jsonl': jsonLines(process(4711), process(99)) } },
      artifacts: { processes: ['processes.tar.zst'] },
      manifest: { target: { ...target, companions: [{ ...target, id: 'f00d', name: 'sidecar', pids: [99] }] } },
    });
    const rows = await jsonl(bundle, '--kind', 'process');
    expect(rows.map(({ pid, container }) => `${pid} ${container}`)).toEqual(['4711 shop', '99 sidecar']);
  });

  test('says what is conspicuous about a process before its own words', async ({ skip }) => {
    if (judgesObstacle() !== undefined) skip(judgesObstacle());
    const anomalies = ['deletedExecutable', 'kernelThreadLookalike', 'deletedExecutable'].map((kind) => ({ kind }));
    const process = { pid: 9, startedAt: '2023-11-14T22:13:21.250Z', commandLine: ['[kworker/0:1]'], anomalies };
    await using bundle = await timelineBundle({
      archives: { 'processes.tar.zst': { 'processes.jsonl': jsonLines(process) } },
      artifacts: { processes: ['processes.tar.zst'] },
    });
    const [row] = await jsonl(bundle, '--kind', 'process');
    expect(row?.message).toBe('pid 9 (deletedExecutable, kernelThreadLookalike) started: [kworker/0:1]');
  });

  test('is the same from S3, and asks for nothing but what it reads', async () => {
    await using bundle = await timelineBundle(EVERYTHING);
    const id = '0192f0c1-0000-7000-8000-000000000001';
    await using s3 = await serveAsS3(bundle.folder, 'evidence', `c1/n1/${id}`);
    const where = [`s3://evidence/c1/n1/${id}`, '--endpoint', s3.endpoint, '--region', 'eu-central-1'];
    const env = { AWS_ACCESS_KEY_ID: 'key', AWS_SECRET_ACCESS_KEY: 'secret' };
    const ran = await exhibit(['timeline', ...where, '--artifact', 'logs,capture'], { env });
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    const local = await exhibit(['timeline', bundle.folder, '--artifact', 'logs,capture']);
    expect(ran.stdout.equals(local.stdout)).toBe(true);
    const asked = new Set(s3.requests.map((request) => path.posix.basename(request.path)));
    expect([...asked].sort()).toEqual([
      'logs.tar.zst',
      'manifest.json',
      'node-logs.tar.zst',
      'node.tar.zst',
      'request.json',
      // Whether the bundle is encrypted.
      'request.json.age',
    ]);
  });

  test('has the same events as CSV, row for row', async ({ skip }) => {
    if (judgesObstacle() !== undefined) skip(judgesObstacle());
    await using bundle = await timelineBundle(EVERYTHING);
    const ran = await exhibit(['timeline', bundle.folder, '--format', 'csv']);
    const rows = readAsTimesketch('csv', ran.stdout);
    const asText = (row: Row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, String(value)]));
    expect(rows).toEqual((await jsonl(bundle)).map(asText));
    expect(ran.stdout.toString().split('\r\n')).toHaveLength(rows.length + 2);
  });

  test('is a body file that mactime reads, with the source of every line', async ({ skip }) => {
    if (mactimeObstacle() !== undefined) skip(mactimeObstacle());
    await using bundle = await timelineBundle(EVERYTHING);
    const ran = await exhibit(['timeline', bundle.folder, '--format', 'body']);
    const rows = readAsMactime(ran.stdout);
    const told = (name: string) =>
      rows.filter((row) => row.name === name).map(({ time, letters }) => `${time} ${letters}`);
    expect(told('/tmp/dropper [rootfs]')).toEqual([
      '2023-11-14T22:13:20Z m..b',
      '2023-11-14T22:15:00Z .a..',
      '2023-11-14T22:16:40Z ..c.',
    ]);
    expect(told('/etc/passwd (deleted) [rootfs]')).toContain('2023-11-14T22:16:40Z ..c.');
    expect(told('/lib -> usr/lib [rootfs]')).toHaveLength(3);
    expect(told('[processes] pid 17 started: sh -c "id; id"')).toContain('2023-11-14T22:13:21Z ...b');
    expect(told('[logs] stdout: listening')).toContain('2023-11-14T22:13:22Z m...');
    expect(rows.find(({ name }) => name === '/tmp/dropper [rootfs]')).toMatchObject({
      size: '4',
      mode: 'r/rrwsr-xr-x',
      inode: '12',
    });
    const lines = ran.stdout.toString().trimEnd().split('\n');
    expect(lines.every((line) => / \[(rootfs|processes)\]\|/.test(line) || /^0\|\[[a-z]+\] /.test(line))).toBe(true);
  });

  test('shows a time span, from its beginning on and up to before its end', async ({ skip }) => {
    if (judgesObstacle() !== undefined) skip(judgesObstacle());
    await using bundle = await timelineBundle(EVERYTHING);
    const span = ['--from', '2023-11-14T22:13:24.000001Z', '--to', '2023-11-14T23:13:26+01:00'];
    const rows = await jsonl(bundle, ...span);
    expect(rows.map(({ message }) => message)).toEqual([
      'journal kubelet[800]: started container',
      'kernel: segfault at 0',
    ]);
    const body = await exhibit([
      'timeline',
      bundle.folder,
      '--format',
      'body',
      '--from',
      '2023-11-14T22:16',
      '--artifact',
      'rootfs',
    ]);
    expect(body.stdout.toString()).toContain(
      '/tmp/dropper [rootfs]|12|r/rrwsr-xr-x|0|7|4|0|0|1700000200.000000001|0\n',
    );
  });

  test.each([
    [['--from', 'yesterday'], /no time/],
    [['--artifact', 'rootfs,nothing'], /knows no nothing: choose from .*capture/],
    [['--kind', ''], /choose from file/],
    [['--format', 'xml'], /xml/],
  ])('ends with exit code 2 for %j', async (options, words) => {
    await using bundle = await timelineBundle({});
    const ran = await exhibit(['timeline', bundle.folder, ...options]);
    expect(ran).toMatchObject({ code: 2, stderr: expect.stringMatching(words) });
    expect(ran.stdout).toHaveLength(0);
  });

  test('writes a new file for its owner, and overwrites none', async () => {
    await using bundle = await timelineBundle(EVERYTHING);
    const out = path.join(bundle.folder, 'out');
    await mkdir(out);
    const ran = await exhibit(['timeline', bundle.folder, '--output', out]);
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(ran.stdout).toHaveLength(0);
    const file = path.join(out, 'timeline.jsonl');
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await readFile(file)).equals((await exhibit(['timeline', bundle.folder])).stdout)).toBe(true);
    expect(await exhibit(['timeline', bundle.folder, '--output', file])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('choose another --output'),
    });
  });
});
