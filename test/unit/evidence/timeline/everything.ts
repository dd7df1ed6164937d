import { gzipSync } from 'node:zlib';
import { type Contents, inventoryLine } from './timeline-bundle.ts';

/** A bundle with something of every kind, for tests of whole timelines. */

export const jsonLines = (...values: object[]) => values.map((value) => `${JSON.stringify(value)}\n`).join('');
const cri = (time: string, text: string) => `${time} stdout F ${text}\n`;

/** Something of every kind, each with a time of its own in November 2023. */
export const EVERYTHING: Contents = {
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
