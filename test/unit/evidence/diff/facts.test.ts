import { describe, expect, test } from 'vitest';
import { createFactsBuilder, parseFacts, serialiseFacts, unpackFields } from '../../../../evidence/facts/facts.ts';
import { inventoryLine } from '../timeline/timeline-bundle.ts';
import { client, digest, factsIn, fieldsOf, INVENTORY, process, socket, webBundle } from './facts-bundle.ts';

const gap = (what: string, pid?: number) => ({
  what,
  why: 'gone',
  at: '2026-11-22T10:00:00.000Z',
  ...(pid === undefined ? {} : { pid }),
});
const gaps = (...all: ReturnType<typeof gap>[]) => ({ status: 'partial' as const, gaps: all, gapCount: all.length });

describe('the facts of a bundle', () => {
  test('are known of every kind whose artifact is whole', async () => {
    const { kinds } = await factsIn(webBundle());
    expect(Object.entries(kinds).map(([kind, { state, why }]) => [kind, state, why])).toEqual(
      Object.keys(kinds).map((kind) => [kind, 'known', []]),
    );
  });

  test('have processes by executable and digest, with every command line, user and number', async () => {
    const { kinds } = await factsIn(
      webBundle({
        processes: [
          process(7, '/usr/bin/web'),
          process(8, '/usr/bin/web', { commandLine: ['web', '--worker', 'a b'], status: { uids: { effective: 33 } } }),
          process(9, '/usr/bin/web', {
            executable: { path: '/usr/bin/web (deleted)', deleted: true, sha256: digest('d') },
          }),
          { pid: 10, comm: 'kthread', kernelThread: true },
        ],
      }),
    );
    expect(fieldsOf(kinds.processes)).toEqual({
      [`/usr/bin/web sha256:${digest('a')}`]: {
        ...{ executable: '/usr/bin/web', sha256: digest('a'), deleted: false, memfd: false, count: 2, anomalies: [] },
        users: [0, 33],
        commands: ['/usr/bin/web', 'web --worker "a b"'],
      },
      [`/usr/bin/web sha256:${digest('d')}`]: {
        ...{ executable: '/usr/bin/web', sha256: digest('d'), deleted: true, count: 1, anomalies: [], users: [0] },
        commands: ['/usr/bin/web'],
      },
      '(kthread)': { executable: '(kthread)', count: 1, anomalies: [], commands: [''] },
    });
  });

  test('have mapped libraries, without the executables', async () => {
    const { kinds } = await factsIn(webBundle());
    expect(fieldsOf(kinds.libraries)).toEqual({ '/lib/libc.so': { path: '/lib/libc.so', sha256: [digest('c')] } });
  });

  test('have open ports with who holds them, and peers by who called whom', async () => {
    const { kinds } = await factsIn(
      webBundle({
        sockets: [
          client('10.0.0.9', 4711),
          client('10.0.0.9', 4712),
          client('203.0.113.7', 443, { localPort: 50_000 }),
          client('2001:db8::1', 443, { localPort: 50_001, state: 'syn-sent', owners: [] }),
          socket({}),
          socket({ localAddress: '::', localPort: 8080, owners: [] }),
          socket({ protocol: 'udp', localPort: 53, state: 'unconnected' }),
          { protocol: 'packet', type: 'raw', namespace: 1, owners: [{ pid: 7, fd: 4 }] },
          { protocol: 'unix', path: '/run/s', namespace: 1, owners: [] },
        ],
      }),
    );
    const executables = ['/usr/bin/web'];
    expect(fieldsOf(kinds.ports)).toEqual({
      'tcp 10.0.0.7:80': { protocol: 'tcp', address: '10.0.0.7', port: 80, executables },
      'tcp [::]:8080': { protocol: 'tcp', address: '::', port: 8080 },
      'udp 10.0.0.7:53': { protocol: 'udp', address: '10.0.0.7', port: 53, executables },
      packet: { protocol: 'packet', address: '*', port: 0, executables },
    });
    expect(fieldsOf(kinds.peers)).toEqual({
      'in tcp 10.0.0.9 to port 80': { direction: 'in', protocol: 'tcp', address: '10.0.0.9', port: 80, executables },
      'out tcp 203.0.113.7:443': { direction: 'out', protocol: 'tcp', address: '203.0.113.7', port: 443, executables },
      'out tcp [2001:db8::1]:443': { direction: 'out', protocol: 'tcp', address: '2001:db8::1', port: 443 },
    });
  });

  test('leave out the node’s sockets that the target does not hold, and say so', async () => {
    const { kinds } = await factsIn(
      webBundle({
        sockets: [socket({}), socket({ localPort: 10_250, owners: [] })],
        artifacts: { network: { facts: { rootFiles: ['etc/passwd'], namespaces: [{ inode: 1, host: true }] } } },
      }),
    );
    expect([...kinds.ports.entries.keys()]).toEqual(['tcp 10.0.0.7:80']);
    expect(kinds.ports).toMatchObject({ state: 'known', why: [expect.stringContaining('left out')] });
  });

  test('have accounts without a hash', async () => {
    const { kinds } = await factsIn(webBundle({ passwd: 'toor:$6$salt$hash:0:0::/:/bin/sh\n# no\n\n' }));
    expect(fieldsOf(kinds.users)).toEqual({
      'user toor': {
        ...{ account: 'user', name: 'toor', uids: [0], gids: [0], homes: ['/'], shells: ['/bin/sh'] },
        passwords: ['set here'],
      },
      'group root': { account: 'group', name: 'root', gids: [0], members: [] },
      'group www': { account: 'group', name: 'www', gids: [33], members: ['ann', 'bob'] },
    });
    expect(JSON.stringify([...kinds.users.entries])).not.toContain('salt');
  });

  test('have changed files by the container’s own names, and not those that are as in the image', async () => {
    const lower = { layer: 0, type: 'directory', mode: '755', uid: 0, gid: 7, sizeBytes: 0 };
    const directory = { type: 'directory', change: 'metadata', mode: '755', sha256: undefined, lower };
    const { kinds } = await factsIn(
      webBundle({
        files: [
          inventoryLine({ path: 'tmp/dropper' }),
          inventoryLine({ path: 'etc/.wh.motd', overlayPath: 'etc/motd', change: 'deleted', type: 'character-device' }),
          inventoryLine({ path: 'etc/same', change: 'unchanged' }),
          inventoryLine({ ...directory, path: 'etc/' }),
          inventoryLine({ ...directory, path: 'srv/', mode: '777' }),
          inventoryLine({ path: 'lib', type: 'symlink', linkPath: '/tmp', sha256: undefined, change: 'modified' }),
          inventoryLine({ path: 'n\ufffd', pathBase64: 'bv8=' }),
        ],
      }),
    );
    const file = {
      change: 'added',
      type: 'file',
      sha256: digest('ab').slice(0, 64),
      mode: '4755',
      owner: '0:7',
      size: 4,
    };
    expect(fieldsOf(kinds.files)).toEqual({
      '/tmp/dropper': file,
      '/etc/motd': { change: 'deleted', type: 'whiteout' },
      '/srv': { change: 'metadata', type: 'directory', mode: '777', owner: '0:7' },
      '/lib': { change: 'modified', type: 'symlink', mode: '4755', owner: '0:7', target: '/tmp' },
      '/n\ufffd (base64:bv8=)': file,
    });
  });

  test('have kernel modules', async () => {
    const { kinds } = await factsIn(
      webBundle({ modules: [{ name: 'evil', in: ['proc'], listedOnce: true, taints: ['unsigned'] }] }),
    );
    expect(fieldsOf(kinds.modules)).toEqual({
      evil: { name: 'evil', builtIn: false, listedOnce: true, taints: ['unsigned'] },
    });
  });

  test('name the container of a process where there are several', async () => {
    const container = { runtime: 'cri', kind: 'container' as const, labels: {}, initPid: 7 };
    const target = {
      ...container,
      id: 'x',
      name: 'web',
      pids: [7],
      companions: [{ ...container, id: 'y', name: 'side', pids: [8] }],
    };
    const contents = webBundle({ processes: [process(7, '/usr/bin/web'), process(8, '/usr/bin/web')] });
    const { kinds } = await factsIn({ ...contents, manifest: { ...contents.manifest, target } });
    expect(Object.values(fieldsOf(kinds.processes))).toMatchObject([{ containers: ['side', 'web'] }]);
  });

  test('survive being kept and read again', async () => {
    const facts = await factsIn(webBundle());
    expect(parseFacts(serialiseFacts(facts))).toEqual(facts);
    expect(parseFacts('{}')).toBeUndefined();
    expect(parseFacts('{')).toBeUndefined();
  });
});

describe('what a bundle does not say', () => {
  test('is unknown, with the reason', async () => {
    const contents = webBundle({
      artifacts: { node: { status: 'skipped', reason: 'no need' }, rootfs: { status: 'failed' } },
    });
    const artifacts = contents.manifest?.artifacts?.filter(({ name }) => name !== 'network') ?? [];
    const { kinds } = await factsIn({ ...contents, manifest: { artifacts } });
    expect(kinds).toMatchObject({
      processes: { state: 'known' },
      ports: { state: 'unknown', why: ['network was not taken'] },
      peers: { state: 'unknown' },
      users: { state: 'unknown' },
      modules: { state: 'unknown', why: ['node was skipped: no need'] },
      files: { state: 'unknown', why: ['rootfs failed'] },
    });
  });

  test('is unknown of accounts that an older agent did not look for', async () => {
    const contents = webBundle({ artifacts: { network: { facts: {} } } });
    const { 'network.tar.zst': _, ...archives } = contents.archives ?? {};
    const older = { ...contents, archives: { ...archives, 'network.tar.zst': { 'sockets.jsonl': '' } } };
    expect((await factsIn(older)).kinds.users).toMatchObject({ state: 'unknown' });
    const none = webBundle();
    const image = { ...none, archives: { ...none.archives, 'network.tar.zst': { 'sockets.jsonl': '' } } };
    expect((await factsIn(image)).kinds.users).toMatchObject({ state: 'known' });
  });

  test.each([
    ['a process that has no line', { processes: gaps(gap('pid 99', 99)) }, ['processes', 'libraries']],
    ['maps of one that has', { processes: gaps(gap('pid 7 maps', 7)) }, ['libraries']],
    ['another file of one that has', { processes: gaps(gap('pid 7 stack', 7)) }, []],
    ['more than are listed', { processes: { status: 'partial' as const, gapCount: 1 } }, ['processes', 'libraries']],
    ['a table of sockets', { network: gaps(gap('netns-1/tcp')) }, ['ports', 'peers']],
    ['recovered content', { processes: gaps(gap('recovered/9/exe (9/exe)')) }, []],
    ['a table of routes', { network: gaps(gap('netns-1/route')) }, []],
    ['packet filters', { network: gaps(gap('netns-1/netfilter/nftables-rule.nlmsg')) }, []],
    ['accounts', { network: gaps(gap('mntns-2/etc/passwd (etc/passwd in the root of pid 7)', 7)) }, ['users']],
    ['tracing', { node: gaps(gap('sys/kernel/tracing/enabled_functions')) }, []],
    ['modules', { node: gaps(gap('sys/module/evil')) }, ['modules']],
    ['a part of the layer', { rootfs: gaps(gap('names beyond 64 MiB')) }, ['files']],
  ])('makes partial what a gap is about: %s', async (_, artifacts, partial) => {
    const { kinds } = await factsIn(webBundle({ artifacts }));
    expect(
      Object.entries(kinds)
        .filter(([, { state }]) => state === 'partial')
        .map(([kind]) => kind),
    ).toEqual(partial);
  });

  test('is not a command line where none could be read', async () => {
    const processes = [process(7, '/usr/bin/web', { commandLine: [] })];
    const artifacts = { processes: gaps(gap('pid 7 cmdline, environ, maps, types of open files', 7)) };
    const { kinds } = await factsIn(webBundle({ processes, artifacts }));
    expect(kinds.processes.state).toBe('known');
    expect(Object.keys(Object.values(fieldsOf(kinds.processes))[0] ?? {})).not.toContain('commands');
  });

  test('is no more than the file where only a file could not be read', async () => {
    const files = [inventoryLine({ path: 'a', gap: { why: 'EIO' }, sha256: undefined })];
    const { kinds } = await factsIn(webBundle({ files, artifacts: { rootfs: gaps(gap('a')) } }));
    expect(kinds.files).toMatchObject({ state: 'known' });
  });

  test('is partial after lines that are none', async () => {
    const { kinds } = await factsIn(webBundle({ files: ['{', inventoryLine(), '{"path":1}'] }));
    expect(kinds.files.entries.size).toBe(1);
    expect(kinds.files).toMatchObject({
      state: 'partial',
      why: [`line 1 of ${INVENTORY} is not JSON of the shape that is expected, and 1 more lines`],
    });
  });
});

describe('facts that are gathered', () => {
  test('stop at their limits, and say so', () => {
    const builder = createFactsBuilder({ entries: 2, characters: 1000 });
    for (const key of ['a', 'b', 'c']) builder.add(key, { key });
    builder.add('a', { key: 'a', more: ['x'.repeat(1000)] });
    const { entries, state, why } = builder.build();
    expect([...entries.keys()]).toEqual(['a', 'b']);
    expect(state).toBe('partial');
    expect(why).toEqual(['only the first 2 are looked at', 'only the first 1000 characters of them are looked at']);
  });

  test('keep the first values of a long list whatever the order in which they come', () => {
    const values = Array.from({ length: 200 }, (_, index) => `v${String(index).padStart(3, '0')}`);
    const gather = (order: readonly string[]) => {
      const builder = createFactsBuilder({ entries: 10, characters: 100_000 });
      for (const value of order) builder.add('k', { list: [value] });
      return unpackFields(builder.build().entries.get('k') ?? '').list;
    };
    expect(gather(values)).toEqual(values.slice(0, 64));
    expect(gather(values.toReversed())).toEqual(values.slice(0, 64));
  });
});
