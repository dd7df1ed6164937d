import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { jsonLine, latin1, unescapeOctal, worded } from '../../../agent/host/decode.ts';
import { capabilityNames, openFlagNames, signalNames } from '../../../agent/host/decode-flags.ts';
import { classifyTarget, parseFdinfo } from '../../../agent/host/process-descriptor.ts';
import { endOf, type JoinableEnd, joinEnds } from '../../../agent/host/process-join.ts';
import { isMemfdName, parseMaps, summariseMaps } from '../../../agent/host/process-maps.ts';
import * as small from '../../../agent/host/process-small.ts';
import { parseStat, tickTime } from '../../../agent/host/process-stat.ts';
import { parseStatus } from '../../../agent/host/process-status.ts';
import { placesOf } from '../../../agent/host/process-tree.ts';
import { readRecording, recordedFacts } from '../fixtures/proc/proc-tree.ts';

const fact = recordedFacts('specimen');
const tree = readRecording('specimen');
const recorded = (name: string, pid = fact('pid')) => tree.get(`${pid}/${name}`) ?? Buffer.alloc(0);
const bytes = (text: string) => Buffer.from(text, 'latin1');

describe('stat', () => {
  test('a name with a parenthesis, a newline and a byte that is not UTF-8 does not shift the fields', () => {
    const stat = parseStat(recorded('stat'));
    expect(stat?.comm).toEqual(bytes(') R 1 (\n\xff x'));
    expect(stat).toMatchObject({ pid: fact('pid'), state: 'S', threads: 1, startTicks: expect.any(Number) });
    expect(stat?.argEnd).toBeGreaterThan(stat?.argStart ?? 0n);
  });

  test('start times are ticks after the boot time', () => {
    const clock = { bootTimeMs: Date.UTC(2026, 0, 1), ticksPerSecond: 100 };
    expect(tickTime(12_345, clock)).toBe('2026-01-01T00:02:03.450Z');
    expect(tickTime(Number.MAX_VALUE, clock)).toBeUndefined();
  });

  test('the 64-bit fields keep every bit', () => {
    const stat = parseStat(bytes(`7 (x) S 1 ${'0 '.repeat(20)}18446744073709551615 0`));
    expect(stat?.residentLimit).toBe(18446744073709551615n);
  });

  test('what is no stat file is undefined', () => {
    for (const text of ['', '1', '1 (x', ') 1 (', '1 () ', '() S 1', '1 (x) LONG 1'])
      expect(parseStat(bytes(text))).toBeUndefined();
  });
});

describe('status', () => {
  test('capabilities, ids and memory of the specimen are read', () => {
    const status = parseStatus(recorded('status'));
    expect(status.uids).toEqual({ real: 0, effective: 0, saved: 0, filesystem: 0 });
    expect(status.capabilities.effective).toContain('cap_sys_admin');
    expect(status.capabilities.effective).not.toContain('cap_sys_resource');
    expect(status.capabilities.ambient).toEqual([]);
    expect(status.nsPid).toEqual([fact('pid')]);
    expect(status.memoryBytes.VmRSS).toBeGreaterThan(1e6);
    expect(status).toMatchObject({ seccomp: 'disabled', noNewPrivileges: false, tracerPid: 0, kernelThread: false });
  });

  test('a zombie and a kernel thread have no memory', () => {
    expect(parseStatus(recorded('status', fact('zombie')))).toMatchObject({ state: 'Z', memoryBytes: {} });
    expect(parseStatus(recorded('status', 2))).toMatchObject({ kernelThread: true, memoryBytes: {} });
  });

  test('a line that a name smuggled in before the true one does not win', () => {
    expect(parseStatus(bytes('Name:\tx\nUid:\t1\t1\t1\t1\nUid:\t0\t0\t0\t0\n')).uids?.real).toBe(0);
  });

  test('bits without a name keep their number', () => {
    expect(capabilityNames((1n << 0n) | (1n << 40n) | (1n << 63n))).toEqual([
      'cap_chown',
      'cap_checkpoint_restore',
      'cap_63',
    ]);
    expect(signalNames(0x4004n)).toEqual(['SIGQUIT', 'SIGTERM']);
  });
});

describe('maps', () => {
  test('the deleted executable and the anonymous executable region of the specimen are found', () => {
    const summary = summariseMaps(parseMaps(recorded('maps')));
    const region = `0x${fact('region').toString(16)}`;
    expect(summary.anonymousExecutable).toEqual([
      {
        start: region,
        end: `0x${(fact('region') + 4096).toString(16)}`,
        permissions: 'rwxp',
        sizeBytes: 4096,
        name: '',
      },
    ]);
    expect(summary.files.filter((file) => file.deleted)).toMatchObject([
      { path: '/tmp/spec/perl (deleted)', executable: true, regions: 5 },
    ]);
  });

  test('the code that the kernel maps everywhere is not called injected', () => {
    const text = 'ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n';
    const [region] = parseMaps(bytes(text));
    expect(region?.end).toBe('ffffffffff601000');
    expect(summariseMaps(parseMaps(bytes(text))).anonymousExecutableTotal).toBe(0);
  });

  test('an executable stack or heap is anonymous executable memory', () => {
    expect(summariseMaps(parseMaps(bytes('1000-2000 rwxp 0 00:00 0 [stack]\n'))).anonymousExecutable).toHaveLength(1);
  });

  test('a memfd is told from a file that is only called so', () => {
    expect(isMemfdName('/memfd:x (deleted)')).toBe(true);
    expect(isMemfdName('/tmp/memfd:x (deleted)')).toBe(false);
  });
});

describe('descriptors', () => {
  test('flags are decoded for both architectures', () => {
    expect(openFlagNames(0o2004002, 'x86_64')).toEqual(['O_RDWR', 'O_NONBLOCK', 'O_CLOEXEC']);
    expect(openFlagNames(0o200000, 'x86_64')).toEqual(['O_RDONLY', 'O_DIRECTORY']);
    expect(openFlagNames(0o40000, 'aarch64')).toEqual(['O_RDONLY', 'O_DIRECTORY']);
    expect(openFlagNames(0o4010001, 'x86_64')).toEqual(['O_WRONLY', 'O_SYNC']);
  });

  test('fdinfo gives position, flags and mount, and keeps the other lines', () => {
    expect(parseFdinfo('pos:\t42\nflags:\t0100002\nmnt_id:\t27\nino:\t9\neventfd-count: 1\n')).toEqual({
      position: 42,
      flags: 0o100002,
      mountId: 27,
      inode: 9,
      details: ['eventfd-count: 1'],
    });
  });

  test('targets say what they are', () => {
    expect(classifyTarget('socket:[17]')).toEqual({ type: 'socket', inode: 17 });
    expect(classifyTarget('anon_inode:[io_uring]')).toEqual({ type: 'anonymous' });
    expect(classifyTarget('net:[4026531833]')).toEqual({ type: 'namespace', inode: 4026531833 });
    expect(classifyTarget('/tmp/socket:[17]')).toEqual({ type: 'path' });
  });

  test('both ends of a pipe find each other, and inherited copies are listed apart', () => {
    const end = (fd: number, direction: JoinableEnd['direction'], key = 'pipe  5') => ({ fd, key, direction });
    const writer = end(4, 'writes');
    const reader = end(3, 'reads');
    const joinedOf = joinEnds([
      { pid: 1, ends: [writer] },
      { pid: 2, ends: [reader, end(9, 'reads')] },
    ]);
    expect(joinedOf(1, writer)).toEqual({
      peers: [
        { pid: 2, fd: 3 },
        { pid: 2, fd: 9 },
      ],
    });
    expect(joinedOf(2, reader)).toEqual({ peers: [{ pid: 1, fd: 4 }], sharedWith: [{ pid: 2, fd: 9 }] });
  });

  test('a FIFO opened for both has everybody as its peer, and itself not', () => {
    const both = { fd: 1, key: 'fifo 2 3', direction: 'both' } as const;
    const joinedOf = joinEnds([{ pid: 1, ends: [both, { fd: 2, key: 'fifo 2 3', direction: 'reads' }] }]);
    expect(joinedOf(1, both)).toEqual({ peers: [{ pid: 1, fd: 2 }] });
  });

  test('connected sockets are peers, and copies of one socket share it', () => {
    const socket = (fd: number, inode: number) => ({ fd, key: `socket ${inode}`, direction: 'none' }) as const;
    const joinedOf = joinEnds(
      [
        { pid: 1, ends: [socket(3, 70), socket(4, 71)] },
        { pid: 2, ends: [socket(3, 70)] },
      ],
      new Map([
        [70, 71],
        [71, 70],
      ]),
    );
    expect(joinedOf(1, socket(3, 70))).toEqual({ peers: [{ pid: 1, fd: 4 }], sharedWith: [{ pid: 2, fd: 3 }] });
    expect(joinedOf(1, socket(4, 71)).peers).toEqual([
      { pid: 1, fd: 3 },
      { pid: 2, fd: 3 },
    ]);
  });

  test('what has another end is told by its inode, an eventfd by its number', () => {
    expect(endOf({ fd: 3, type: 'pipe', target: 'pipe:[5]', inode: 5, flags: ['O_WRONLY'] })).toMatchObject({
      direction: 'writes',
    });
    expect(
      endOf({ fd: 3, type: 'anonymous', target: 'anon_inode:[eventfd]', details: ['eventfd-id: 7'] }),
    ).toMatchObject({ key: 'eventfd-id: 7' });
    expect(endOf({ fd: 3, type: 'file', target: '/a', inode: 5 })).toBeUndefined();
  });
});

describe('short files', () => {
  test('the recorded ones are read', () => {
    expect(small.parseCgroup(recorded('cgroup'))).toContainEqual({ hierarchy: 0, controllers: [], path: '/' });
    expect(small.parseLimits(recorded('limits'))).toMatchObject({ 'Max open files': ['20000', '20000'] });
    expect(small.parseMountinfo(recorded('mountinfo')).find((mount) => mount.mountPoint === '/')).toMatchObject({
      type: 'ext4',
      id: 27,
    });
    expect(small.parseSyscall(recorded('syscall'))).toMatchObject({ kind: 'syscall', number: 0 });
    expect(small.parseIo(recorded('io'))).toMatchObject({ write_bytes: expect.any(Number) });
    expect(small.parseIdMap(recorded('uid_map'))).toEqual([{ inside: 0, outside: 0, length: 4294967295 }]);
    expect(small.parseAuditId(recorded('loginuid'))).toBeUndefined();
    expect(small.parseAuditId(bytes('1000'))).toBe(1000);
    expect(small.parseAuxv(recorded('auxv')).get('ticksPerSecond')).toBe(100n);
    expect(small.parseStack(recorded('stack'))[0]).toMatch(/^\w+\+0x/);
  });

  test('a mount point with a space and a newline is unescaped', () => {
    const [mount] = small.parseMountinfo(bytes('1 2 0:3 / /a\\040b\\012c rw shared:1 master:2 - tmpfs none rw\n'));
    expect(mount).toMatchObject({ mountPoint: '/a b\nc', propagation: ['shared:1', 'master:2'], type: 'tmpfs' });
    expect(unescapeOctal('\\777')).toBe('\\777');
  });

  test('bytes that are not UTF-8 are beside their words', () => {
    expect(worded('path', bytes('/\xff'))).toEqual({ path: '/\ufffd', pathBase64: 'L/8=' });
    expect(worded('path', bytes('/a'))).toEqual({ path: '/a' });
  });
});

describe('any bytes', () => {
  const parsers = {
    parseStat,
    parseStatus,
    parseMaps: (b: Uint8Array) => summariseMaps(parseMaps(b)),
    parseFdinfo: (b: Uint8Array) => parseFdinfo(latin1(b)),
    ...small,
  };
  const near = fc.constantFrom('stat', 'status', 'maps', 'cgroup', 'limits', 'mountinfo', 'io', 'auxv').chain((name) =>
    fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 8 }).map((edits) => {
      const copy = Buffer.from(recorded(name));
      for (const [at, value] of edits) copy[at % copy.length] = value;
      return new Uint8Array(copy);
    }),
  );
  for (const [name, parse] of Object.entries(parsers)) {
    test(`${name} never throws, and what it gives is one line of JSON`, () => {
      fc.assert(
        fc.property(fc.oneof(fc.uint8Array({ maxLength: 400 }), near), (input) => {
          const result = parse(input);
          expect(jsonLine({ result: result instanceof Map ? [...result] : result })).not.toContain('\n');
        }),
        { numRuns: 60 },
      );
    });
  }

  test('every name survives a stat line', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 15 }), (comm) => {
        const line = Buffer.concat([bytes('7 ('), comm, bytes(`) R 1 ${'0 '.repeat(48)}`)]);
        expect(latin1(parseStat(line)?.comm ?? Buffer.alloc(0))).toBe(latin1(comm));
      }),
    );
  });
});

describe('the tree', () => {
  const node = (pid: number, ppid: number, tracerPid?: number) => ({ pid, ppid, tracerPid });

  test('depth is counted from those whose parent is not there, and a circle ends', () => {
    const placeOf = placesOf([node(1, 0), node(2, 1), node(3, 2), node(8, 9), node(9, 8)]);
    expect([1, 2, 3, 8, 9].map((pid) => placeOf(pid).depth)).toEqual([0, 1, 2, 1, 0]);
  });

  test('children and tracees are listed with their parent and tracer', () => {
    const placeOf = placesOf([node(1, 0), node(2, 1, 3), node(3, 1)]);
    expect(placeOf(1).children).toEqual([2, 3]);
    expect(placeOf(3).tracees).toEqual([2]);
  });
});
