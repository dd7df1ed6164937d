import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  describeDaemon,
  finishedAt,
  mountPointOf,
  mountsOf,
  overlayAt,
  parseInfo,
  parseInspected,
  parseTop,
  parseVersion,
  rootfsOfDriver,
  stateOf,
  summaries,
} from '../../../agent/runtime/docker-inspect.ts';
import { logLines, logNotes, logOf } from '../../../agent/runtime/docker-logs.ts';
import { rootfsOf } from '../../../agent/runtime/snapshot.ts';

/** Answers of a real Docker 28.5, see fixtures/docker/record.ts. */
type Recorded = Record<
  | 'version'
  | 'info'
  | 'list'
  | 'inspect'
  | 'inspectEnded'
  | 'top'
  | 'topPids'
  | 'logsBase64'
  | 'nodeMountinfo'
  | 'mountinfo',
  string
>;
const recorded = (name: string) =>
  JSON.parse(readFileSync(new URL(`../fixtures/docker/${name}.json`, import.meta.url), 'utf8')) as Recorded;
const OVERLAY2 = recorded('overlay2');
const STORE = recorded('containerd-store');

const bytes = (text: string) => Buffer.from(text);
const inspected = (of: Recorded, change: object = {}) =>
  parseInspected(bytes(JSON.stringify({ ...(JSON.parse(of.inspect) as object), ...change })));
const folders = (of: Recorded) => parseInfo(bytes(of.info));

describe('the list', () => {
  test('is read with names, labels, states and times', () => {
    const [ended, web] = summaries(bytes(OVERLAY2.list));
    expect(web).toMatchObject({ name: 'web-1', state: 'running', image: 'lab.exhibit/workload:1' });
    expect(web?.createdAt).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z$/);
    expect(Object.fromEntries(web?.labels ?? [])).toEqual({
      'com.docker.compose.project': 'shop',
      'com.docker.compose.service': 'web',
    });
    expect(web?.pod).toBeUndefined();
    expect(ended).toMatchObject({ name: 'ended', state: 'exited' });
  });

  const one = { Id: 'ab', Names: ['/web'], Image: 'i', Created: 1, State: 'running', Labels: null };
  const named = (change: object) => summaries(bytes(JSON.stringify([{ ...one, ...change }])))[0]?.name;

  test('takes the container’s own name among those of links, and the id of one without', () => {
    expect(named({ Names: ['/other/alias', '/web'] })).toBe('web');
    expect(named({ Names: null })).toBe('ab');
    expect(named({ Names: ['/other/alias'] })).toBe('ab');
  });

  test('keeps odd names as they are: they are shown escaped and picked by id', () => {
    expect(named({ Names: ['/\u001b[31mred'] })).toBe('\u001b[31mred');
    expect(named({ Names: ['/ name with spaces '] })).toBe(' name with spaces ');
  });

  test('leaves sandboxes out and knows pods by kubelet’s labels', () => {
    const labels = { 'io.kubernetes.pod.namespace': 'prod', 'io.kubernetes.pod.name': 'web-0' };
    const list = [
      { ...one, Labels: { ...labels, 'io.kubernetes.docker.type': 'podsandbox' } },
      {
        ...one,
        Id: 'cd',
        Labels: { ...labels, 'io.kubernetes.container.name': 'app', 'io.kubernetes.sandbox.id': 'ab' },
      },
    ];
    const found = summaries(bytes(JSON.stringify(list)));
    expect(found).toMatchObject([
      { id: 'cd', name: 'app', pod: { namespace: 'prod', name: 'web-0', uid: '', sandboxId: 'ab' } },
    ]);
  });

  test.each([
    ['created', 'created'],
    ['running', 'running'],
    ['paused', 'paused'],
    ['restarting', 'exited'],
    ['removing', 'exited'],
    ['dead', 'exited'],
    ['hovering', 'unknown'],
  ])('a %s container is %s', (state, expected) => expect(stateOf(state)).toBe(expected));
});

describe('one container', () => {
  test('says when it ended, and nothing while it runs', () => {
    expect(finishedAt(inspected(OVERLAY2))).toBeUndefined();
    expect(finishedAt(parseInspected(bytes(OVERLAY2.inspectEnded)))).toMatch(/^\d{4}-\d\d-\d\dT/);
  });

  test('has its layers in the answer with the overlay2 driver, the top-most first', () => {
    const finding = rootfsOfDriver(inspected(OVERLAY2), folders(OVERLAY2));
    expect(finding).toMatchObject({ rootfs: { kind: 'overlay', userXattr: false } });
    if (typeof finding === 'string' || !('rootfs' in finding)) throw new Error('no rootfs');
    expect(finding.rootfs.upper).toMatch(/^\/var\/lib\/docker\/overlay2\/[0-9a-f]{64}\/diff$/);
    expect(finding.rootfs.lowers).toHaveLength(4);
    expect(finding.rootfs.lowers[0]).toMatch(/-init\/diff$/);
  });

  test('of a Docker without root has its overlay attributes under user', () => {
    const finding = rootfsOfDriver(inspected(OVERLAY2), { ...folders(OVERLAY2), userXattr: true });
    expect(finding).toMatchObject({ rootfs: { userXattr: true } });
  });

  test('has them in the node’s mounts with containerd’s image store', () => {
    const one = inspected(STORE);
    expect(rootfsOfDriver(one, folders(STORE))).toBe('ask-mounts');
    const mount = overlayAt(STORE.nodeMountinfo, mountPointOf(one, folders(STORE)));
    expect(mount && rootfsOf([mount])).toMatchObject({
      rootfs: { upper: expect.stringMatching(/snapshots\/\d+\/fs$/) },
    });
    expect(overlayAt(STORE.mountinfo, '/')).toEqual(mount);
    expect(overlayAt(STORE.nodeMountinfo, '/nowhere')).toBeUndefined();
  });

  test('has lower folders that containerd shortened, made whole again', () => {
    const line =
      '49 80 0:47 / /m rw - overlay overlay rw,lowerdir=4/fs:3/fs,upperdir=/s/snapshots/5/fs,workdir=/s/snapshots/5/work';
    expect(overlayAt(line, '/m')?.options).toContain('lowerdir=/s/snapshots/4/fs:/s/snapshots/3/fs');
  });

  test('has a mount point with a space and a folder with a comma, as the kernel writes them', () => {
    const line = '1 2 0:3 / /a\\040b rw - overlay overlay rw,lowerdir=/x\\054y,upperdir=/u,workdir=/w';
    expect(overlayAt(line, '/a b')?.options).toContain('lowerdir=/x,y');
  });

  test('of another driver has a note instead', () => {
    const finding = rootfsOfDriver(
      inspected(OVERLAY2, { GraphDriver: { Name: 'btrfs', Data: null } }),
      folders(OVERLAY2),
    );
    expect(finding).toEqual({ note: expect.stringContaining('btrfs') });
  });

  test('has binds, volumes, tmpfs and Docker’s own three files as mounts', () => {
    const { Id } = inspected(OVERLAY2);
    const own = (name: string) => ({
      hostPath: `/var/lib/docker/containers/${Id}/${name}`,
      type: 'bind',
      readOnly: false,
    });
    expect(mountsOf(inspected(OVERLAY2)).sort((a, b) => a.containerPath.localeCompare(b.containerPath))).toEqual([
      { containerPath: '/data', hostPath: '/var/lib/docker/volumes/data/_data', type: 'volume', readOnly: false },
      { containerPath: '/etc/hostname', ...own('hostname') },
      { containerPath: '/etc/hosts', ...own('hosts') },
      { containerPath: '/etc/resolv.conf', ...own('resolv.conf') },
      { containerPath: '/mnt', hostPath: '/tmp', type: 'bind', readOnly: true },
      { containerPath: '/scratch', hostPath: '', type: 'tmpfs', readOnly: true },
    ]);
  });

  test('has its processes in docker top, whatever columns were asked for', () => {
    const { State } = inspected(OVERLAY2);
    expect(parseTop(bytes(OVERLAY2.top))).toEqual([State.Pid]);
    expect(parseTop(bytes(OVERLAY2.topPids))).toEqual([State.Pid]);
    expect(parseTop(bytes('{"Titles":["PID"],"Processes":null}'))).toEqual([]);
    expect(parseTop(bytes('{"Titles":["CMD"],"Processes":[["sh"]]}'))).toEqual([]);
  });
});

describe('what the doctor asks', () => {
  const described = (of: Recorded, change: object = {}) =>
    describeDaemon(bytes(of.version), bytes(JSON.stringify({ ...(JSON.parse(of.info) as object), ...change })));

  test('is the storage driver, and whether Docker itself makes checkpoints', () => {
    expect(described(OVERLAY2)).toMatchObject({
      checkpoints: true,
      snapshotters: [{ name: 'overlay2', containers: 2 }],
    });
    expect(described(STORE).snapshotters).toEqual([{ name: 'overlayfs', containers: 2 }]);
    expect(described(OVERLAY2, { Driver: 'btrfs' }).snapshotters[0]?.obstacle).toContain('cannot be told apart');
    expect(described(OVERLAY2, { Containers: 0 }).snapshotters).toEqual([]);
    expect(describeDaemon(bytes('{"Version":"1","ApiVersion":"1"}'), bytes(OVERLAY2.info)).checkpoints).toBe(false);
  });
});

describe('an answer that is not Docker’s', () => {
  test('is an error that says so, never a crash', () => {
    for (const parse of [summaries, parseInspected, parseInfo, parseTop, parseVersion]) {
      for (const text of ['', '<html>', 'null', '{}', '[{}]', '{"message":"no"}', '"x"']) {
        expect(() => parse(bytes(text)), text).toThrowError(expect.objectContaining({ code: 'runtime-failed' }));
      }
      fc.assert(
        fc.property(fc.json(), (text) => {
          try {
            parse(bytes(text));
          } catch (error) {
            expect(error).toMatchObject({ code: 'runtime-failed' });
          }
        }),
      );
    }
  });

  test('of a missing version is none', () => expect(parseVersion(bytes(OVERLAY2.version)).Version).toMatch(/^28\./));
});

describe('the log', () => {
  const withDriver = (Type: string) => inspected(OVERLAY2, { HostConfig: { LogConfig: { Type } } });
  const { Id } = inspected(OVERLAY2);

  test('of json-file is the file that Docker names', () => {
    const finding = logOf(inspected(OVERLAY2), folders(OVERLAY2));
    expect(finding).toMatchObject({
      certain: true,
      ask: false,
      file: `/var/lib/docker/containers/${Id}/${Id}-json.log`,
    });
    expect(logNotes(finding, true, false)).toEqual([]);
  });

  test.each([
    ['local', `/var/lib/docker/containers/${Id}/local-logs/container.log`, /protobuf/],
    ['journald', `/var/lib/docker/containers/${Id}/container-cached.log`, /driver is journald.*sent elsewhere/],
    ['none', undefined, /keeps nothing/],
  ])('of %s', (driver, file, note) => {
    const finding = logOf(withDriver(driver), folders(OVERLAY2));
    expect(finding.file).toBe(file);
    expect(logNotes(finding, true, true)).toEqual([expect.stringMatching(note)]);
  });

  test('that neither a file nor Docker can tell is said to be missing', () => {
    const [note] = logNotes(logOf(withDriver('fluentd'), folders(OVERLAY2)), false, false);
    expect(note).toMatch(/keeps no file.*could not tell/);
  });

  test('as docker logs tells it, stream by stream', () => {
    const body = Buffer.from(OVERLAY2.logsBase64, 'base64');
    const lines = logLines({ contentType: 'application/vnd.docker.multiplexed-stream', body });
    expect(lines.map(({ stream, log }) => [stream, log])).toEqual(
      expect.arrayContaining([
        ['stdout', 'out\n'],
        ['stderr', 'err\n'],
      ]),
    );
    for (const { time } of lines) expect(time).toMatch(/^2\d{3}-\d\d-\d\dT[\d:.]+Z$/);
  });

  test('keeps bytes that are no text, lines without an end and frames that were cut', () => {
    const frame = (stream: number, text: Buffer) => {
      const header = Buffer.alloc(8);
      header.writeUInt8(stream, 0);
      header.writeUInt32BE(text.length, 4);
      return Buffer.concat([header, text]);
    };
    const contentType = 'application/vnd.docker.multiplexed-stream';
    const whole = Buffer.concat([frame(1, Buffer.from([0xff, 10])), frame(2, Buffer.from('no end'))]);
    expect(logLines({ contentType, body: whole })).toEqual([
      { stream: 'stdout', time: '', logBase64: '/wo=' },
      { stream: 'stderr', time: '', log: 'no end' },
    ]);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.nat(80), (noise, cut) => {
        const body = Buffer.concat([whole, noise]).subarray(0, cut);
        expect(Array.isArray(logLines({ contentType, body }))).toBe(true);
      }),
    );
  });

  test('of a terminal has no frames', () => {
    const body = Buffer.from('2026-11-27T15:21:26.398802292Z one\r\n');
    expect(logLines({ contentType: 'application/vnd.docker.raw-stream', body })).toEqual([
      { stream: 'stdout', time: '2026-11-27T15:21:26.398802292Z', log: 'one\r\n' },
    ]);
  });
});
