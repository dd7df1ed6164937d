import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { networkCollector } from '../../../agent/collect/network.ts';
import { parseConntrack } from '../../../agent/host/conntrack.ts';
import { collect, namespaceObstacle, openNamespace } from './namespace.ts';
import { fakeContext, jsonLines } from './proc-context.ts';
import { startSmallNode } from './small-node.ts';

const conntrackObstacle = namespaceObstacle('conntrack', 'nft', 'python3');
describe.skipIf(conntrackObstacle !== undefined)(`connections (${conntrackObstacle ?? 'judged by conntrack'})`, () => {
  const TALK = `
import socket
for family, address in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1')):
    server = socket.socket(family, socket.SOCK_STREAM)
    server.bind((address, 4711)); server.listen()
    client = socket.create_connection((address, 4711))
    other, _ = server.accept()
    client.sendall(b'x' * 1000); other.recv(1000)
    datagram = socket.socket(family, socket.SOCK_DGRAM)
    datagram.sendto(b'x', (address, 4712))
    client.close(); other.close()
`;
  const pairs = (text: string): Record<string, string>[] => {
    const all = [...text.matchAll(/(\w+)=(\S+)/g)].map(([, key = '', value = '']) => [key, value] as const);
    const second = all.findLastIndex(([key]) => key === 'src');
    return [Object.fromEntries(all.slice(0, second)), Object.fromEntries(all.slice(second))];
  };

  test('are those that conntrack lists, with states, counters, marks and start times', async () => {
    await using namespace = await openNamespace();
    namespace.run(
      'nft',
      ['-f', '-'],
      'table inet t { chain c { type filter hook output priority 0; ct mark set 0x17; }; }',
    );
    namespace.run('sh', [
      '-c',
      'cd /proc/sys/net/netfilter && echo 1 > nf_conntrack_acct && echo 1 > nf_conntrack_timestamp',
    ]);
    namespace.run('python3', ['-c', TALK]);
    const written = await collect(namespace);
    const listed = namespace
      .run('sh', ['-c', 'conntrack -L -o extended,id; conntrack -f ipv6 -L -o extended,id'])
      .split('\n')
      .filter((line) => line.includes('src='));
    expect(listed.length).toBeGreaterThanOrEqual(4);
    const lines = jsonLines(written, 'conntrack.jsonl');
    for (const line of listed) {
      const [original = {}, reply = {}] = pairs(line);
      const mine = lines.find(({ id }) => String(id) === reply.id);
      const tuple = (of: Record<string, string>) => ({
        source: of.src,
        destination: of.dst,
        sourcePort: Number(of.sport),
        destinationPort: Number(of.dport),
        packets: Number(of.packets),
        bytes: Number(of.bytes),
      });
      expect(mine, line).toMatchObject({
        family: line.split(/ +/)[0],
        protocol: line.split(/ +/)[2],
        mark: 0x17,
        original: tuple(original),
        reply: tuple(reply),
      });
      const state = /\d+ ([A-Z_]{4,}) src=/.exec(line)?.[1];
      if (state !== undefined) expect(mine?.state).toBe(state);
      expect([...(mine?.status ?? [])].map(String).includes('seen-reply')).toBe(!line.includes('[UNREPLIED]'));
      expect([...(mine?.status ?? [])].map(String).includes('assured')).toBe(line.includes('[ASSURED]'));
      expect(Math.abs(Date.parse(String(mine?.startedAt)) - Date.now())).toBeLessThan(60_000);
    }
    expect(written.gaps).toEqual([]);
  });
});

describe.skipIf(namespaceObstacle('nft', 'python3') !== undefined)('a pod behind address translation', () => {
  test('is found in the connections of the node, and nobody else is', async ({ skip }) => {
    await using node = await startSmallNode();
    if (node.facts.pod === undefined) skip(`needs a veth and nftables: ${node.facts.podError}`);
    const { context, written } = fakeContext(node.host, [Number(node.facts.pod)]);
    await networkCollector().collect(context);
    expect(written.gaps).toEqual([]);
    const onNode = jsonLines(written, 'conntrack.jsonl').filter((one) => Boolean(one.node));
    expect(onNode).toMatchObject([
      {
        protocol: 'udp',
        original: { source: '10.9.0.2', destination: '192.0.2.9', destinationPort: 4713 },
        // What the other side sees.
        reply: { source: '192.0.2.9', destination: '192.0.2.1' },
        status: expect.arrayContaining(['src-nat']),
      },
    ]);
    const raw = [...written.members.keys()].filter((name) => name.endsWith('conntrack-of-target.nlmsg'));
    expect(raw).toHaveLength(1);
    expect([...parseConntrack(written.members.get(raw[0] ?? '') ?? Buffer.alloc(0))]).toHaveLength(1);
    expect(written.notes.join()).toMatch(/was chosen from \d+ entries/);
  });
});

const ssObstacle = namespaceObstacle('ss', 'python3');
describe.skipIf(ssObstacle !== undefined)(`details of sockets (${ssObstacle ?? 'judged by ss'})`, () => {
  const HOLD = `
import socket, sys
server = socket.socket(); server.bind(('127.0.0.1', 0)); server.listen()
client = socket.create_connection(server.getsockname())
other, _ = server.accept()
client.sendall(b'x' * 5000); other.recv(1000)
print(server.getsockname()[1], flush=True)
sys.stdin.read()
`;
  test('round trip time, congestion control and control group are those that ss shows', async () => {
    const holder = spawn('unshare', ['--net', 'sh', '-c', 'ip link set lo up && exec python3 -c "$0"', HOLD], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    });
    try {
      const [port] = await once(holder.stdout, 'data');
      const written = await collect({ pid: holder.pid ?? 0 });
      const shown = execFileSync('nsenter', ['-t', String(holder.pid), '-n', 'ss', '-Htinoe', 'state', 'established'], {
        encoding: 'utf8',
      });
      const connections = jsonLines(written, 'sockets.jsonl').filter(({ state }) => String(state) === 'established');
      expect(connections).toHaveLength(2);
      for (const connection of connections) {
        const text = shown
          .split(/\n(?=\S)/)
          .find((one) => one.includes(`ino:${connection.inode} `) || one.includes(`ino:${connection.inode}\n`));
        expect(text, shown).toBeDefined();
        expect(text).toContain(` ${connection.congestion} `);
        const [, rtt, variation] = /rtt:([\d.]+)\/([\d.]+)/.exec(text ?? '') ?? [];
        expect(Number(connection.tcp?.rttUs) / 1000).toBeCloseTo(Number(rtt), 3);
        expect(Number(connection.tcp?.rttVariationUs) / 1000).toBeCloseTo(Number(variation), 3);
        const acked = /bytes_acked:(\d+)/.exec(text ?? '')?.[1];
        const received = /bytes_received:(\d+)/.exec(text ?? '')?.[1];
        expect(Number(connection.tcp?.bytesAcked)).toBe(Number(acked ?? 0));
        expect(Number(connection.tcp?.bytesReceived)).toBe(Number(received ?? 0));
        expect(connection.owners).toMatchObject([{ pid: holder.pid }]);
      }
      expect(connections.map(({ remotePort }) => Number(remotePort))).toContain(Number(String(port)));
      expect(connections.every(({ cgroupId }) => Number(cgroupId) > 0)).toBe(true);
    } finally {
      const ended = once(holder, 'exit');
      holder.stdin.end();
      await ended;
    }
  });
});
