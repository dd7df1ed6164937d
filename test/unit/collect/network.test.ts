import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { networkCollector } from '../../../agent/collect/network.ts';
import { openInlineReader } from '../../../agent/host/procfs-reader.ts';
import { placeRecording, recordedFacts } from '../fixtures/proc/proc-tree.ts';
import { fakeContext, jsonLines, startSpecimen } from './proc-context.ts';

const canTrace = process.platform === 'linux' && process.getuid?.() === 0 && existsSync('/usr/bin/perl');
const hasSs = existsSync('/usr/bin/ss');

describe('a recorded tree', () => {
  const fact = recordedFacts('specimen');
  const host = placeRecording('specimen');
  afterAll(() => host[Symbol.dispose]());

  test('gives sockets with their owners, and the tables they were read from', async () => {
    const { context, written } = fakeContext(host, [fact('pid')]);
    await networkCollector({ openReader: openInlineReader }).collect(context);
    const sockets = jsonLines(written, 'sockets.jsonl');
    const listener = sockets.find(
      ({ state, localPort }) => String(state) === 'listen' && Number(localPort) === fact('port'),
    );
    expect(listener).toMatchObject({
      protocol: 'tcp',
      localAddress: '127.0.0.1',
      owners: [{ pid: fact('pid'), fd: fact('server') }],
    });
    const accepted = sockets.find(({ owners }) => Number(owners?.[0]?.fd) === fact('accepted'));
    expect(accepted).toMatchObject({
      state: 'established',
      receiveQueueBytes: 6,
      peer: { owners: [{ pid: fact('pid'), fd: fact('client') }] },
    });
    expect(sockets.find(({ protocol, abstract }) => String(protocol) === 'unix' && abstract)).toMatchObject({
      path: `@exhibit-${fact('pid')}\nnot a line`,
      nameHasNewlines: true,
      listening: true,
    });
    const folder = [...written.members.keys()].find((name) => name.endsWith('/tcp'));
    expect(written.members.get(folder ?? '')).toEqual(readFileSync(`${host.procRoot}/${fact('pid')}/net/tcp`));
    // A recording is no namespace that one could enter.
    const unreachable = written.gaps.map(({ what, errno }) => `${what.replace(/.*: /, '')} ${errno}`);
    expect(unreachable).toEqual(['packet filters ENOENT', 'traffic control ENOENT', 'sockets ENOENT']);
  });
});

describe.skipIf(!canTrace)('a real process (skipped without root or perl)', () => {
  test('both ends of its connection and of its socket pair know each other', async () => {
    await using specimen = await startSpecimen();
    const { fact } = specimen;
    const { context, written } = fakeContext({ procRoot: '/proc', hostRoot: '' }, [fact('pid')]);
    await networkCollector().collect(context);
    const sockets = jsonLines(written, 'sockets.jsonl');
    const byFd = (name: string) =>
      sockets.find(({ owners }) =>
        owners?.some(({ pid, fd }) => Number(pid) === fact('pid') && Number(fd) === fact(name)),
      );
    expect(byFd('client')).toMatchObject({
      remotePort: fact('port'),
      peer: { owners: [{ pid: fact('pid'), fd: fact('accepted') }] },
    });
    expect(byFd('left')).toMatchObject({
      protocol: 'unix',
      peer: { owners: [{ pid: fact('pid'), fd: fact('right') }] },
    });
    expect(byFd('udp')).toMatchObject({ protocol: 'udp', state: 'unconnected', localPort: fact('udpPort') });
    expect(jsonLines(written, 'interfaces.jsonl').find(({ name }) => String(name) === 'lo')).toMatchObject({
      index: 1,
      addresses: expect.arrayContaining([expect.objectContaining({ address: '127.0.0.1' })]),
    });
    expect([...written.members.keys()].some((name) => /^mntns-\d+\/etc\/hosts$/.test(name))).toBe(true);
  });

  test.skipIf(!hasSs)('ss(8) lists the same listening TCP sockets (skipped without ss)', async () => {
    await using specimen = await startSpecimen();
    const { context, written } = fakeContext({ procRoot: '/proc', hostRoot: '' }, [specimen.fact('pid')]);
    const listed = () =>
      execFileSync('ss', ['-Hltn'], { encoding: 'utf8' })
        .split('\n')
        .filter(Boolean)
        .map((line) => (line.split(/\s+/)[3] ?? '').replaceAll(/[[\]]/g, '').replace(/^\*:/, ':::'));
    const before = new Set(listed());
    await networkCollector().collect(context);
    const after = new Set(listed());
    const ours = jsonLines(written, 'sockets.jsonl')
      .filter(({ protocol, state }) => String(protocol) === 'tcp' && String(state) === 'listen')
      .map(({ localAddress, localPort }) => `${localAddress}:${localPort}`);
    expect(ours).toContain(`127.0.0.1:${specimen.fact('port')}`);
    // Others on this machine may come and go: what was there before and after must be found, and nothing else.
    for (const socket of before.intersection(after)) expect(ours).toContain(socket);
    for (const socket of ours) expect(before.union(after)).toContain(socket);
  });
});
