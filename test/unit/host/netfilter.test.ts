import { describe, expect, test } from 'vitest';
import { parseConntrack, parseConntrackText } from '../../../agent/host/conntrack.ts';
import { detailsByKey, detailsKey, parseInetDiag, parseVsockDiag } from '../../../agent/host/inet-diag.ts';
import { parseLegacy } from '../../../agent/host/iptables-legacy.ts';
import { encodeRequest, scanDump } from '../../../agent/host/netlink.ts';
import { parseSctpAssociations, parseSctpEndpoints } from '../../../agent/host/network-sctp.ts';
import { describeNftables, generationOf, setNames } from '../../../agent/host/nftables.ts';
import { dump, nftablesDumps, recording } from '../fixtures/node/kernel-recording.ts';

describe('a recorded ruleset', () => {
  const objects = [...describeNftables(nftablesDumps())];

  test('has what was put into it', () => {
    const tables = objects.flatMap((one) => (one.object === 'table' ? [`${one.family} ${one.table}`] : []));
    expect(tables).toEqual(['inet filter', 'ip nat', 'netdev early', 'ip filter', 'ip6 filter']);
    const input = objects.find((one) => one.object === 'chain' && one.name === 'input');
    expect(input).toMatchObject({ type: 'filter', hook: 'input', priority: -5, policy: 'accept' });
    const loop = objects.find((one) => one.object === 'rule' && one.comment === 'loop');
    expect(loop).toMatchObject({
      expressions: [
        { name: 'meta', key: 'iif', register: 1 },
        { name: 'cmp', op: 'eq', data: '01000000' },
        { name: 'counter' },
        { name: 'immediate', data: { verdict: 'accept' } },
      ],
    });
    expect(objects.find((one) => one.object === 'rule' && one.comment === 'hello')).toMatchObject({ family: 'ip' });
    expect(generationOf(dump('nftables-generation.nlmsg'))).toBeGreaterThan(0);
    expect([...setNames(dump('nftables-sets.nlmsg'))].map(({ set }) => set.toString())).toContain('bad6');
  });

  test('shows a limit, a redirection and a jump of a map as they were written', () => {
    const text = JSON.stringify(objects);
    expect(text).toContain('"rate":5');
    expect(text).toContain('"name":"redir"');
    expect(objects).toContainEqual(
      expect.objectContaining({
        object: 'element',
        set: 'ports',
        key: '0018',
        data: { verdict: 'jump', chain: 'other' },
      }),
    );
  });
});

describe('a recorded table of iptables-legacy', () => {
  const rules = parseLegacy('iptables', dump('iptables-filter.info'), dump('iptables-filter.entries'));

  test('has chains of its own, masks with holes, inversions and jumps', () => {
    const of = (chain: string) => rules.filter((rule) => rule.chain === chain);
    expect(of('INPUT')).toMatchObject([
      { source: '10.0.0.0/8', inInterface: 'veth+', protocol: 6, target: 'MINE', comment: 'a comment' },
      { destination: '10.0.0.0/255.0.255.0', target: 'MINE', goto: true },
      { inInterface: 'eth0', inverted: ['inInterface'] },
      { object: 'policy', target: 'ACCEPT' },
    ]);
    expect(of('INPUT')[2]).not.toHaveProperty('target');
    expect(of('FORWARD')).toMatchObject([{ object: 'policy', target: 'DROP' }]);
    expect(of('MINE')).toMatchObject([
      { destination: '192.0.2.4/32', inverted: ['destination', 'protocol'], target: 'DROP' },
      { matches: ['tcp', 'mark'], target: 'RETURN' },
    ]);
    // Its RETURN was not written by anybody.
    expect(of('EMPTY')).toEqual([]);
  });

  test('of IPv6 has addresses and a jump without return', () => {
    const six = parseLegacy('ip6tables', dump('ip6tables-filter.info'), dump('ip6tables-filter.entries'));
    expect(six.filter((rule) => rule.chain === 'OUTPUT')).toMatchObject([
      { destination: '2001:db8::/32', outInterface: 'lo', target: 'REJECT' },
      { source: '::1/128', inverted: ['source'], protocol: 6, target: 'MINE', goto: true },
      { object: 'policy' },
    ]);
  });
});

describe('recorded connections', () => {
  test('are told by netlink with counters and status', () => {
    const found = [...parseConntrack(dump('conntrack.nlmsg'))];
    expect(found.find(({ protocol, family }) => protocol === 'udp' && family === 'ipv6')).toMatchObject({
      original: { source: '::1', destinationPort: 4712, packets: 1, bytes: 49 },
      status: expect.not.arrayContaining(['seen-reply']),
    });
    expect(found.find(({ protocol }) => protocol === 'tcp')).toMatchObject({
      original: { destination: '127.0.0.1', destinationPort: 4711 },
      status: expect.arrayContaining(['seen-reply', 'assured']),
    });
  });

  test('are the same from the text of /proc', () => {
    const found = [...parseConntrackText(Buffer.from(recording.conntrack))];
    expect(found.find(({ family }) => family === 'ipv6')).toMatchObject({
      protocol: 'udp',
      original: { source: '::1', destinationPort: 4712, packets: 1, bytes: 49 },
      status: [],
      timeoutSeconds: 30,
    });
    expect(found.find(({ family }) => family === 'ipv4')).toMatchObject({
      protocol: 'tcp',
      state: 'ESTABLISHED',
      reply: { source: '127.0.0.1', sourcePort: 4711 },
      status: ['seen-reply', 'assured'],
      mark: 0,
    });
  });

  test('of ICMP have an identifier and no port', () => {
    const line =
      'ipv4     2 icmp     1 29 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=7 src=10.0.0.2 dst=10.0.0.1 type=0 code=0 id=7 mark=0 use=2\n';
    expect([...parseConntrackText(Buffer.from(line))]).toMatchObject([
      { protocol: 'icmp', original: { icmp: { id: 7, type: 8, code: 0 } } },
    ]);
  });
});

describe('what sock_diag tells', () => {
  test('is found by inode, and by addresses for a socket that nobody holds', () => {
    const socket = [...parseInetDiag(dump('inet-tcp.nlmsg'))].find(({ remotePort }) => remotePort === 4711);
    if (socket === undefined) throw new Error('nothing was recorded');
    expect(socket).toMatchObject({ family: 'ipv4', localAddress: '127.0.0.1', details: { congestion: 'bbr' } });
    expect(socket.details.tcp?.rttUs).toBeGreaterThan(0);
    expect(detailsByKey([dump('inet-tcp.nlmsg')]).get(detailsKey(socket))).toEqual(socket.details);
    expect(detailsKey({ ...socket, inode: 0 })).toContain('127.0.0.1');
  });

  /** This kernel has neither SCTP nor vsock_diag: made after the kernel's own sources, not recorded. */
  test('of vsock is a line with both ends', () => {
    const body = Buffer.alloc(32);
    body.writeUInt8(40, 0);
    body.writeUInt8(1, 1);
    body.writeUInt8(10, 2);
    for (const [index, value] of [3, 1024, 0xffffffff, 0xffffffff, 4711].entries())
      body.writeUInt32LE(value, 4 + index * 4);
    expect([...parseVsockDiag(encodeRequest(20, 0, body))]).toEqual([
      {
        protocol: 'vsock',
        type: 'stream',
        state: 'listen',
        localCid: 3,
        localPort: 1024,
        remoteCid: 0xffffffff,
        remotePort: 0xffffffff,
        inode: 4711,
      },
    ]);
  });

  test('of SCTP, from /proc, is a line for each association and endpoint', () => {
    const associations =
      ' ASSOC     SOCK   STY SST ST HBKT ASSOC-ID TX_QUEUE RX_QUEUE UID INODE LPORT RPORT LADDRS <-> RADDRS HBINT INS OUTS MAXRT T1X T2X RTXC wmema wmemq sndbuf rcvbuf\n' +
      '0000000012345678 0000000087654321 2   1   3  0       5        0       12     0 4711 5000  6000  127.0.0.1 10.0.0.1 <-> *10.0.0.2 10.0.0.3 \t   30000    10    10   10    0    0        0        1        0   212992   212992\n';
    expect([...parseSctpAssociations(Buffer.from(associations))]).toEqual([
      {
        protocol: 'sctp',
        state: 'established',
        localAddresses: ['127.0.0.1', '10.0.0.1'],
        localPort: 5000,
        remoteAddresses: ['10.0.0.2', '10.0.0.3'],
        remotePort: 6000,
        sendQueueBytes: 0,
        receiveQueueBytes: 12,
        uid: 0,
        inode: 4711,
      },
    ]);
    const endpoints =
      ' ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS\n' +
      '0000000012345678 0000000087654321 2   10  44   5000      0 4712 127.0.0.1 \n';
    expect([...parseSctpEndpoints(Buffer.from(endpoints))]).toMatchObject([
      { state: 'endpoint', localPort: 5000, localAddresses: ['127.0.0.1'], inode: 4712 },
    ]);
  });
});

describe('the end of a dump', () => {
  const end = (type: number, code: number, flags = 0) => {
    const body = Buffer.alloc(4);
    body.writeInt32LE(code);
    return encodeRequest(type, flags, body);
  };

  test('is told from a refusal', () => {
    expect(scanDump(end(3, 0))).toEqual({ done: true, errno: 0, interrupted: false });
    expect(scanDump(end(2, -1))).toEqual({ done: true, errno: 1, interrupted: false });
    expect(scanDump(Buffer.alloc(0))).toEqual({ done: false, errno: 0, interrupted: false });
  });

  test('tells whether it was interrupted, on whichever message that stands', () => {
    expect(scanDump(Buffer.concat([end(0x10, 0, 0x10), end(3, 0)]))).toMatchObject({ done: true, interrupted: true });
    expect(scanDump(end(3, 0, 0x12))).toMatchObject({ interrupted: true });
  });
});
