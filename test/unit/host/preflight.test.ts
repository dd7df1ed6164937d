import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  deviceKey,
  ghostObstacle,
  ghostOf,
  lockObstacles,
  mappedGhostOf,
  mappingObstacle,
  mayAsk,
  type OpenFile,
  parseMapped,
  targetObstacle,
  watchObstacle,
} from '../../../agent/host/preflight-files.ts';
import { type ProcessLook, parseStatusLook } from '../../../agent/host/preflight-look.ts';
import { listed, shown } from '../../../agent/host/preflight-obstacle.ts';
import { processObstacles, treeOf } from '../../../agent/host/preflight-process.ts';
import { heldTcp, protocolObstacles, tcpObstacles, unixObstacles } from '../../../agent/host/preflight-sockets.ts';
import { parseMountinfo } from '../../../agent/host/process-small.ts';
import type { Obstacle } from '../../../evidence/dump.ts';

const bytes = (text: string) => Buffer.from(text, 'latin1');
const brief = (obstacles: readonly Obstacle[]) =>
  obstacles.map(({ kind, certainty, liftedBy }) => `${kind} ${certainty} ${liftedBy ?? '-'}`);

describe('a process', () => {
  const STATUS = `Name:\tx\nState:\tS (sleeping)\nTgid:\t70\nPid:\t70\nPPid:\t12\nTracerPid:\t0\nNSpid:\t70\t1\nRssAnon:\t     512 kB\nRssFile:\t     900 kB\nRssShmem:\t       4 kB\nVmSwap:\t       8 kB\n`;

  test('says whose child it is, how deep its pids are nested and what of its memory is no copy of a file', () => {
    expect(parseStatusLook(bytes(STATUS))).toEqual({
      ppid: 12,
      tracerPid: 0,
      innerPid: 1,
      pidLevels: 2,
      memoryBytes: 524 * 1024,
    });
  });

  test('cannot forge its status by its name', () => {
    const forged = STATUS.replace('Name:\tx', 'Name:\tx\nPPid:\t999\nTracerPid:\t5');
    expect(parseStatusLook(bytes(forged))).toMatchObject({ ppid: 12, tracerPid: 0 });
  });

  test('any bytes give a status or none', () => {
    fc.assert(fc.property(fc.uint8Array(), (noise) => void parseStatusLook(noise)));
    expect(parseStatusLook(bytes(''))).toBeUndefined();
  });

  const look = (
    pid: number,
    ppid: number,
    more: Partial<ProcessLook['status']> = {},
    net = 'net:[1]',
  ): ProcessLook => ({
    pid,
    status: { ppid, tracerPid: 0, innerPid: pid, pidLevels: 2, memoryBytes: 0, ...more },
    namespaces: { net },
    descriptors: [],
    notes: [],
  });

  test('that was put in from outside is not part of the tree that CRIU takes', () => {
    const looks = [look(90, 5), look(70, 5, { innerPid: 1 }), look(71, 70), look(72, 71), look(91, 90)];
    const tree = treeOf(looks, () => 0);
    expect(tree.root?.pid).toBe(70);
    expect(tree.dumped.map(({ pid }) => pid)).toEqual([70, 71, 72]);
    expect(tree.beside.map(({ pid }) => pid)).toEqual([90, 91]);
  });

  test('that began first is the first where the pod shares its pids', () => {
    const starts = new Map([
      [90, 20],
      [70, 10],
    ]);
    expect(treeOf([look(90, 5), look(70, 5)], (pid) => starts.get(pid) ?? 0).root?.pid).toBe(70);
  });

  test('that is its own ancestor, by readings of different moments, ends no search', () => {
    expect(treeOf([look(1, 2), look(2, 1)], () => 0)).toEqual({
      root: undefined,
      dumped: [],
      beside: expect.any(Array),
    });
  });

  test('that is traced, or in another namespace than the first, is an obstacle', () => {
    const looks = [
      look(70, 5, { innerPid: 1 }),
      look(71, 70, { tracerPid: 4 }),
      look(72, 70, { pidLevels: 3 }, 'net:[2]'),
    ];
    expect(processObstacles(treeOf(looks, () => 0)).map(({ kind, pid }) => `${kind} ${pid}`)).toEqual([
      'traced 71',
      'nested-namespace 72',
      'nested-namespace 72',
    ]);
  });
});

describe('sockets', () => {
  /** Recorded on Linux 6.18. */
  const TCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1267 00000000:0000 0A 00000000:00000001 00:00000000 00000000     0        0 202129 2 00000000b9e8c165 100 0 0 10 0
   1: 0100007F:1267 0100007F:8BC6 08 00000000:00000001 00:00000000 00000000     0        0 0 1 000000004c411618 20 4 0 10 -1
   2: 0100007F:8BC6 0100007F:1267 05 00000000:00000000 03:0000176F 00000000     0        0 0 3 000000000f0227b8
   3: 0100007F:A5AE 0100007F:1267 08 00000000:00000000 03:00001770 00000000     0        0 203295 3 00000000bf3e2790
   4: 0100007F:A5AE 0100007F:1267 01 00000000:00000000 03:00001770 00000000     0        0 999 3 00000000bf3e2790
`;
  const holders = new Map([
    [202129, { pid: 7, fd: 3 }],
    [203295, { pid: 7, fd: 4 }],
    [5, { pid: 8, fd: 5 }],
  ]);

  test('are judged when somebody holds them: a connection, and one that waits to be accepted', () => {
    const sockets = heldTcp(bytes(TCP), 'ipv4', holders);
    expect(tcpObstacles(sockets, holders, new Map()).map(({ what }) => what)).toEqual([
      'TCP 127.0.0.1:4711 listens, and 1 connections wait to be accepted',
      'TCP 127.0.0.1:42414 to 127.0.0.1:4711, close-wait',
    ]);
  });

  test('beneath an MPTCP socket have its inode and are no TCP', () => {
    const protocols = new Map([
      [202129, 'MPTCP'],
      [203295, 'MPTCPv6'],
      [5, 'AF_VSOCK'],
    ]);
    expect(tcpObstacles(heldTcp(bytes(TCP), 'ipv4', holders), holders, protocols)).toEqual([]);
    expect(brief(protocolObstacles(protocols, holders))).toEqual([
      'mptcp certain -',
      'mptcp certain -',
      'vsock certain -',
    ]);
  });

  test.each([
    'TCP',
    'TCPv6',
    'UDP',
    'UDPv6',
    'UDP-Lite',
    'RAW',
    'RAWv6',
    'PING',
    'UNIX',
    'UNIX-STREAM',
    'NETLINK',
    'PACKET',
  ])('of %s are taken', (protocol) => {
    expect(protocolObstacles(new Map([[5, protocol]]), holders)).toEqual([]);
  });

  test('of what is met nowhere are likely refused', () => {
    expect(brief(protocolObstacles(new Map([[5, 'ALG']]), holders))).toEqual(['unsupported-descriptor likely -']);
  });

  const unix = (inode: number, type: number, peer: number | undefined, more = {}) => {
    return { inode, type, peer, name: '', isShut: false, waiting: [] as number[], ...more };
  };
  test.each([
    ['a pair inside', [unix(5, 1, 202129), unix(202129, 1, 5)], []],
    ['a pair of which the other end is gone', [unix(5, 1, 0, { isShut: true })], []],
    ['a listening one', [unix(5, 1, undefined)], []],
    ['half a pair', [unix(5, 1, 77), unix(77, 1, 5)], ['unix-half-pair certain -']],
    ['half a pair of packets', [unix(5, 5, 77)], ['unix-half-pair certain -']],
    ['one that waits at a listening one', [unix(5, 1, 0), unix(9, 1, undefined, { waiting: [5] })], []],
    ['one that waits elsewhere', [unix(5, 1, 0)], ['unix-half-pair certain -']],
    [
      'a datagram one to the outside',
      [unix(5, 2, 77), unix(77, 2, undefined)],
      ['unix-external certain externalUnixSockets'],
    ],
    ['a datagram one to another namespace', [unix(5, 2, 77)], ['unix-external certain -']],
    ['a datagram one to one that is gone', [unix(5, 2, 0)], []],
    ['one of somebody else', [unix(78, 1, 77), unix(77, 1, 78)], []],
  ])('of unix: %s', (_, table, expected) => {
    expect(brief(unixObstacles(table, holders, false))).toEqual(expected);
  });

  test('whose other end may be in a message are likely refused', () => {
    expect(brief(unixObstacles([unix(5, 1, 77)], holders, true))).toEqual(['unix-half-pair likely -']);
  });
});

describe('files', () => {
  /** Recorded in a container on Linux 6.18; the last two written by hand. */
  const MOUNTS = `109 108 0:51 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
117 109 0:46 /lab /lab rw - tmpfs tmpfs rw
118 109 0:60 / /fuse rw - fuse.sshfs host:/ rw
119 109 0:61 / /nfs rw - nfs4 host:/ rw
`;
  const mounts = new Map(parseMountinfo(bytes(MOUNTS)).map((mount) => [mount.id, mount]));
  const file = (target: string, info = ''): OpenFile => ({ pid: 7, fd: 3, target, info });
  const onMount = (id: number) => `pos:\t0\nflags:\t02\nmnt_id:\t${id}\nino:\t268\n`;

  test.each([
    ['/tmp/a (deleted)', true],
    ['/tmp/a', false],
    ['/memfd:x (deleted)', false],
    ['/SYSV00000000 (deleted)', false],
    ['/dev/zero (deleted)', false],
    ['/secretmem (deleted)', false],
    ['/anon_hugepage (deleted)', false],
    ['/tmp/memfd:x (deleted)', true],
    ['/tmp/a\nb (deleted)', true],
    ['pipe:[5]', false],
  ])('%j is a deleted file: %s', (target, is) => {
    expect(ghostOf(file(target, onMount(109)), mounts) !== undefined).toBe(is);
    const mapped = parseMapped(7, `7f00c000-7f00d000 rw-s 00000000 00:33 268                  ${target}`);
    if (mapped) expect(mappedGhostOf(mapped, mounts) !== undefined).toBe(is);
  });

  test('on file systems that may wait are not asked', () => {
    const asked = [109, 117, 118, 119, 5].map((id) => {
      const ghost = ghostOf(file('/x (deleted)', onMount(id)), mounts);
      return ghost !== undefined && mayAsk(ghost);
    });
    expect(asked).toEqual([true, true, false, false, false]);
  });

  test('that are mapped are found in map_files, and on the mount of their device', () => {
    const mapped = parseMapped(
      7,
      '00400000-00401000 r-xp 00000000 00:2e 17                                 /lab/x (deleted)',
    );
    expect(mapped).toEqual({ pid: 7, range: '400000-401000', device: '0:46', inode: 17, target: '/lab/x (deleted)' });
    if (mapped)
      expect(mappedGhostOf(mapped, mounts)).toMatchObject({ name: 'map_files/400000-401000', mount: { id: 117 } });
  });

  const MIB = 1 << 20;
  test.each([
    ['of 1 MiB', { isRegular: true, links: 0, bytes: MIB }, []],
    ['larger', { isRegular: true, links: 0, bytes: MIB + 4096 }, ['ghost-file certain -']],
    ['with another name', { isRegular: true, links: 1, bytes: 5 }, ['ghost-file likely -']],
    ['that is a folder', { isRegular: false, links: 0, bytes: MIB * 2 }, []],
    ['that was closed', { errno: 'ENOENT' }, []],
    ['that was not asked', undefined, ['ghost-file likely -']],
  ])('deleted: one %s', (_, reading, expected) => {
    const ghost = { pid: 7, name: 'fd/3', target: '/x (deleted)', mount: mounts.get(118) };
    const found = ghostObstacle(ghost, reading);
    expect(brief(found ? [found] : [])).toEqual(expected);
  });

  test('with a lock say which', () => {
    const info = `${onMount(109)}lock:\t1: FLOCK  ADVISORY  WRITE 135 00:33:719 0 EOF\nlock:\t2: POSIX  ADVISORY  READ 135 00:33:719 0 EOF\n`;
    expect(lockObstacles(file('/tmp/locked', info))).toEqual([
      {
        kind: 'file-locks',
        pid: 7,
        what: 'descriptor 3, /tmp/locked, holds a lock (flock, posix)',
        liftedBy: 'fileLocks',
        certainty: 'certain',
      },
    ]);
    expect(lockObstacles(file('/tmp/free', onMount(109)))).toEqual([]);
  });

  /** Recorded: a watch on an overlay, on tmpfs, on proc, and a fanotify mark of a mount. */
  const OVERLAY =
    'inotify wd:1 ino:2cf sdev:33 mask:2 ignored_mask:0 fhandle-bytes:24 fhandle-type:f8 f_handle:00000000fb21\n';
  const TMPFS = 'inotify wd:1 ino:10c sdev:2e mask:2 ignored_mask:0 fhandle-bytes:c fhandle-type:1 f_handle:e6332ffa\n';
  const PROC =
    'inotify wd:1 ino:2b820 sdev:44 mask:2 ignored_mask:0 fhandle-bytes:c fhandle-type:81 f_handle:20b80200\n';
  const MARK = 'fanotify flags:0 event-flags:8000\nfanotify mnt_id:75 mflags:0 mask:20 ignored_mask:0\n';
  test.each([
    ['an overlay', OVERLAY, ['inotify likely -']],
    ['tmpfs', TMPFS, []],
    ['proc', PROC, ['inotify likely -']],
    ['a whole mount', MARK, []],
    ['several', TMPFS + OVERLAY + PROC, ['inotify likely -']],
  ])('watched on %s', (_, info, expected) => {
    const found = watchObstacle(file('anon_inode:inotify', info), new Set());
    expect(brief(found ? [found] : [])).toEqual(expected);
  });

  test('watched and deleted are found by device and inode', () => {
    const ghost = ghostOf(file('/lab/watched (deleted)', onMount(117)), mounts);
    const key = ghost && deviceKey(ghost);
    expect(key).toBe('2e:10c');
    const found = watchObstacle(file('anon_inode:inotify', OVERLAY + TMPFS), new Set([key ?? '']));
    expect(found).toMatchObject({
      certainty: 'certain',
      what: '1 of the 2 watches of descriptor 3 are on deleted files',
    });
  });

  test.each([
    ['anon_inode:[eventpoll]', []],
    ['anon_inode:[eventfd]', []],
    ['anon_inode:[pidfd]', []],
    ['anon_inode:[timerfd]', []],
    ['anon_inode:[signalfd]', []],
    ['anon_inode:inotify', []],
    ['anon_inode:bpf-map', []],
    ['anon_inode:[io_uring]', ['io-uring certain -']],
    ['anon_inode:[perf_event]', ['unsupported-descriptor certain -']],
    ['anon_inode:[userfaultfd]', ['unsupported-descriptor certain -']],
    ['anon_inode:kvm-vm', ['unsupported-descriptor likely -']],
    ['/dev/nvidia0', ['gpu likely -']],
    ['/dev/nvidia-uvm', ['gpu likely -']],
    ['/dev/kfd', ['gpu likely -']],
    ['/dev/dri/renderD128', ['gpu likely -']],
    ['/dev/fuse', ['unsupported-descriptor likely -']],
    ['/dev/null', []],
    ['/srv/dev/nvidia0', []],
  ])('%s', (target, expected) => {
    const found = targetObstacle(7, 'descriptor 3', target);
    expect(brief(found ? [found] : [])).toEqual(expected);
  });

  test.each([
    ['7fffffffe000-7ffffffff000 --xp 00000000 00:00 0                          [uprobes]', 'uprobes'],
    [
      '7f203b17d000-7f203b17e000 rw-s 00000000 00:17 9                          /secretmem (deleted)',
      'unsupported-mapping',
    ],
    ['7fa6ffcd9000-7fa6ffcda000 rw-s 00000000 00:0f 1056                       anon_inode:[io_uring]', 'io-uring'],
    ['7fa6ffcd9000-7fa6ffcda000 rw-s 00000000 00:05 105                        /dev/nvidiactl', 'gpu'],
    ['7fa6ffcd9000-7fa6ffcda000 rw-s 00000000 00:05 105                        /dev/shm/x', undefined],
    ['7ffd08e1b000-7ffd08e3c000 rw-p 00000000 00:00 0                          [stack]', undefined],
  ])('mapped: %s', (line, kind) => {
    const mapped = parseMapped(7, line);
    expect(mapped && mappingObstacle(mapped)?.kind).toBe(kind);
  });

  test('any text is taken', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (noise) => {
        parseMapped(7, noise);
        watchObstacle(file('anon_inode:inotify', `inotify ${noise}`), new Set());
        lockObstacles(file(noise, `lock:\t${noise}`));
        expect(shown(noise)).not.toMatch(/\p{Cc}/u);
      }),
    );
  });
});

describe('what is listed', () => {
  const some = (kind: Obstacle['kind'], count: number): Obstacle[] =>
    Array.from({ length: count }, (_, index) => ({ kind, what: `${index}`, certainty: 'certain' }));

  test('is a hundred at most, with the first of every kind', () => {
    const few = listed([...some('tcp-established', 5000), ...some('inotify', 3), ...some('vsock', 1)]);
    expect(few).toHaveLength(100);
    expect(few.filter(({ kind }) => kind !== 'tcp-established').map(({ kind, what }) => `${kind} ${what}`)).toEqual([
      'vsock 0',
      'inotify 0',
      'inotify 1',
      'inotify 2',
    ]);
    expect(few[0]).toMatchObject({ kind: 'tcp-established', what: '0' });
  });

  test('shows no characters that act on a terminal', () => {
    expect(shown('/tmp/\x1b[2Ja\n\xff')).toBe('/tmp/\\u{1b}[2Ja\\u{a}\ufffd');
    expect(shown('x'.repeat(5000)).length).toBeLessThan(300);
  });
});
