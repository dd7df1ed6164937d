import { mkdir, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test, vi } from 'vitest';
import {
  artifactRecord,
  type Contents,
  inventoryLine,
  type TimelineBundle,
  timelineBundle,
} from '../evidence/timeline/timeline-bundle.ts';
import { exhibit, shell, TEST_TIMEOUT_MS } from './run.ts';
import { judgesObstacle, mactimeObstacle, type Row, readAsMactime, readAsTimesketch } from './timeline-judges.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

const jsonLines = (...values: object[]) => values.map((value) => `${JSON.stringify(value)}\n`).join('');
const cri = (time: string, text: string) => `${time} stdout F ${text}\n`;

/** Something of every kind, each with a time of its own in November 2023. */
const EVERYTHING: Contents = {
  archives: {
    'spec.tar.zst': {
      'cri-container-status.json': JSON.stringify({
        status: { createdAt: '1699999990000000000', startedAt: '1699999995000000000', finishedAt: '0' },
      }),
      'cri-pod-status.json': JSON.stringify({ status: { createdAt: '1699999980000000000' } }),
      'containerd-container.json': JSON.stringify({ createdAt: '2023-11-14T22:13:09.000Z', updatedAt: 'never' }),
      'docker-inspect.json': JSON.stringify({ State: { FinishedAt: '0001-01-01T00:00:00Z' } }),
      'image-config.json': JSON.stringify({
        created: '2023-01-02T03:04:05.5Z',
        history: [{ created: '2023-01-02T03:04:04Z', created_by: 'RUN make' }, { comment: 'no time' }],
      }),
    },
    'processes.tar.zst': {
      'proc/17/status': 'Name:\tsh\n',
      'processes.jsonl': `${JSON.stringify({
        pid: 17,
        ppid: 1,
        comm: 'sh',
        commandLine: ['sh', '-c', 'id; id'],
        startedAt: '2023-11-14T22:13:21.250Z',
        executable: {
          path: '/bin/busybox',
          deleted: false,
          inode: 99,
          mode: 0o755,
          uid: 0,
          gid: 0,
          sizeBytes: 9,
          modifiedAt: '2023-11-01T00:00:00.000Z',
          changedAt: '2023-11-02T00:00:00.000Z',
          sha256: 'cd'.repeat(32),
        },
        descriptors: [],
      })}\n`,
      'recovered.jsonl': `${JSON.stringify({ member: 'recovered/17/exe', path: '/tmp/gone', heldBy: ['17/exe'], sizeBytes: 5, modifiedNs: '1699999996000000000', changedNs: 5 })}\n`,
    },
    'network.tar.zst': {
      'conntrack.jsonl': jsonLines(
        {
          protocol: 'tcp',
          original: { source: '10.0.0.7', sourcePort: 4711, destination: 'fd00::1', destinationPort: 443 },
          state: 'ESTABLISHED',
          startedAt: '2023-11-14T22:13:21.500Z',
        },
        { protocol: 'udp', original: { source: '10.0.0.7', destination: '10.0.0.1' } },
      ),
    },
    'logs.tar.zst': {
      '0.log': cri('2023-11-14T23:13:22.000000001+01:00', 'listening'),
      '0.log.20231114.gz': gzipSync(cri('2023-11-14T22:13:10Z', 'rotated')),
      'c-json.log': `${JSON.stringify({ log: 'docker says\n', stream: 'stderr', time: '2023-11-14T22:13:23.5Z' })}\n`,
    },
    'node-logs.tar.zst': {
      'journal.jsonl': `${JSON.stringify({ at: '2023-11-14T22:13:24.000001Z', realtimeUs: '1700000004000001', unit: 'kubelet.service', identifier: 'kubelet', pid: 800, priority: 6, message: 'started container' })}\n`,
      'kmsg.jsonl': `${JSON.stringify({ at: '2023-11-14T22:13:25.000000Z', realtimeUs: '1700000005000000', priority: 4, message: 'segfault at 0' })}\n`,
      'audit.jsonl': `${JSON.stringify({ at: '2023-11-14T22:13:26.000000Z', realtimeUs: '1700000006000000', serial: '41', type: 'EXECVE', fields: { pid: '17', exe: '/bin/sh' }, arguments: ['sh', '-c', 'id'] })}\n`,
    },
    'node.tar.zst': {
      'bpf.jsonl': `${JSON.stringify({ id: 7, name: 'hide_pid', type: 'kprobe', loadedAt: '2023-11-14T22:13:27.000Z' })}\n`,
    },
  },
  lists: {
    'rootfs.inventory.jsonl.zst': [
      inventoryLine({
        lower: {
          layer: 2,
          type: 'file',
          sizeBytes: 3,
          mode: '755',
          uid: 0,
          gid: 0,
          mtimeNs: '1600000000000000000',
          ctimeNs: '1600000001000000000',
          inode: '5',
        },
      }),
      inventoryLine({
        path: 'etc/.wh.passwd',
        overlayPath: 'etc/passwd',
        type: 'character-device',
        sizeBytes: 0,
        change: 'deleted',
        nlink: 3,
        inode: '13',
        sha256: undefined,
      }),
      inventoryLine({
        path: 'usr/',
        type: 'directory',
        inode: '14',
        mode: '755',
        sha256: undefined,
        mtimeNs: '1700000300000000000',
        atimeNs: '1700000300000000000',
        ctimeNs: '1700000300000000000',
        birthNs: '0',
      }),
      inventoryLine({ path: 'lib', type: 'symlink', linkPath: 'usr/lib', inode: '15', sha256: undefined }),
    ],
    'rootfs.findings.jsonl.zst': [
      {
        kind: 'timestomped',
        severity: 'high',
        reasons: ['mtime-before-birth'],
        path: 'tmp/dropper',
        type: 'file',
        inode: '12',
        mode: '4755',
        uid: 0,
        gid: 7,
        sizeBytes: 4,
        mtimeNs: '1500000000000000000',
        ctimeNs: '1700000200000000001',
        birthNs: '1700000000000000000',
      },
    ],
    'volumes.inventory.jsonl.zst': [
      inventoryLine({
        path: '1/.exhibit-escaped.wh.file',
        overlayPath: 'data/.wh.file',
        volume: 1,
        change: undefined,
        notStored: 'budget',
        sizeBytes: 0,
        apparentBytes: '123456789',
        inode: '77',
      }),
      inventoryLine({ path: '1', overlayPath: 'data', volume: 1, type: 'directory', change: undefined, inode: '78' }),
      inventoryLine({ path: 'srv/left-out', inArchive: false, volume: 2, change: undefined, inode: '79' }),
      inventoryLine({ path: '9/unknown', volume: 9, change: undefined, inode: '80' }),
    ],
  },
  artifacts: {
    spec: ['spec.tar.zst'],
    processes: ['processes.tar.zst'],
    network: ['network.tar.zst'],
    rootfs: ['rootfs.inventory.jsonl.zst', 'rootfs.findings.jsonl.zst', 'volumes.inventory.jsonl.zst'],
    logs: ['logs.tar.zst', 'node-logs.tar.zst', 'node.tar.zst'],
  },
};

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
      '2023-11-14T22:13:27.000000+00:00|eBPF kprobe 7 hide_pid loaded|logs|bpf.jsonl',
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

describe('a large timeline', () => {
  const large = (): Contents => ({
    lists: {
      'rootfs.inventory.jsonl.zst': Array.from({ length: 30_000 }, (_, index) =>
        inventoryLine({
          path: `usr/lib/file-${index}`,
          inode: String(index),
          mtimeNs: `${1_700_000_000 + ((index * 7919) % 10_000)}000000005`,
        }),
      ),
    },
    artifacts: { rootfs: ['rootfs.inventory.jsonl.zst'] },
  });

  test('is sorted outside of memory, and leaves nothing in the folder for it', async () => {
    await using bundle = await timelineBundle(large());
    const temp = path.join(bundle.folder, 'temp');
    await mkdir(temp);
    const script =
      '$EXHIBIT timeline "$B" --temp "$T" --format csv | tail -n +2 > "$T/out" && LC_ALL=C sort -c -s -t, -k1,1 "$T/out" && wc -l < "$T/out"';
    const ran = await shell(script, { env: { B: bundle.folder, T: temp } });
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(Number(ran.stdout.toString())).toBe(30_000 * 4 + 6);
    expect(await readdir(temp)).toEqual(['out']);
  });

  test('ends quietly when its reader hangs up', async () => {
    await using bundle = await timelineBundle(large());
    const ran = await shell('set -o pipefail; $EXHIBIT timeline "$B" | head -n 2', { env: { B: bundle.folder } });
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(ran.stdout.toString().trimEnd().split('\n')).toHaveLength(2);
  });

  test('leaves nothing in the folder when Ctrl-C ends it', async () => {
    await using bundle = await timelineBundle(large());
    const temp = path.join(bundle.folder, 'temp');
    await mkdir(temp);
    const ran = await exhibit(['timeline', bundle.folder, '--temp', temp], {
      when: { text: /datetime/, act: (child) => void child.kill('SIGINT') },
    });
    expect(ran).toMatchObject({ code: 130, stderr: 'exhibit: Stopped by SIGINT.\n' });
    expect(await readdir(temp)).toEqual([]);
  });

  test('that cannot be sorted in the folder says which option helps', async () => {
    await using bundle = await timelineBundle(large());
    const ran = await exhibit(['timeline', bundle.folder, '--temp', '/nonexistent']);
    expect(ran).toMatchObject({ code: 2, stderr: expect.stringContaining('name a folder with room by --temp') });
  });
});

describe('a damaged bundle', () => {
  test('still has everything else, says what is missing and ends with exit code 1', async ({ skip }) => {
    if (judgesObstacle() !== undefined) skip(judgesObstacle());
    await using bundle = await timelineBundle(EVERYTHING);
    await truncate(path.join(bundle.folder, 'rootfs.inventory.jsonl.zst'), 100);
    await rm(path.join(bundle.folder, 'logs.tar.zst'));
    await writeFile(path.join(bundle.folder, 'request.json'), '{}');
    const ran = await exhibit(['timeline', bundle.folder]);
    expect(ran.code).toBe(1);
    expect(ran.stderr.split('\n')).toEqual([
      'exhibit: request.json: it has not the shape of format version 1',
      expect.stringMatching(/^exhibit: rootfs\.inventory\.jsonl\.zst: .*; what comes after is missing$/),
      expect.stringMatching(/^exhibit: logs\.tar\.zst: .*no object.*; what comes after is missing$/),
      'exhibit: The timeline is not complete, 3 things could not be read: run `exhibit verify` on this bundle.',
      '',
    ]);
    const rows = readAsTimesketch('jsonl', ran.stdout);
    expect(seen(rows, 'kernel: segfault at 0')).toHaveLength(1);
    expect(rows.filter(({ object }) => object === 'logs.tar.zst' || object === 'request.json')).toEqual([]);
  });

  test('with lines that are garbage tells how many, and has the others', async ({ skip }) => {
    if (judgesObstacle() !== undefined) skip(judgesObstacle());
    await using bundle = await timelineBundle({
      lists: { 'rootfs.inventory.jsonl.zst': ['garbage', inventoryLine(), '[]', '{"path":"x"}'] },
      artifacts: { rootfs: ['rootfs.inventory.jsonl.zst'] },
    });
    const ran = await exhibit(['timeline', bundle.folder, '--json']);
    expect(ran.code).toBe(1);
    const [missing, error] = ran.stderr
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(missing).toEqual({
      missing: {
        object: 'rootfs.inventory.jsonl.zst',
        why: '3 lines are left out, the first: line 1 is not JSON of the shape that is expected',
      },
    });
    expect(error).toMatchObject({ error: { code: 'bundle-corrupt' } });
    expect(readAsTimesketch('jsonl', ran.stdout).filter(({ path }) => path === '/tmp/dropper')).toHaveLength(4);
  });
});
