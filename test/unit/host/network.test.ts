import { isIPv6, SocketAddress } from 'node:net';
import { endianness } from 'node:os';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { jsonLine } from '../../../agent/host/decode.ts';
import { scanDump } from '../../../agent/host/netlink.ts';
import { describeInterfaces } from '../../../agent/host/network.ts';
import {
  formatIpv6,
  inNetwork,
  ipv4FromWord,
  ipv6FromBytes,
  ipv6FromWords,
  prefixLength,
} from '../../../agent/host/network-address.ts';
import { parseInet, parseLocalAddresses } from '../../../agent/host/network-inet.ts';
import { parseNetlink, parsePacket, parseUnix } from '../../../agent/host/network-local.ts';
import * as netlink from '../../../agent/host/network-netlink.ts';
import * as route from '../../../agent/host/network-route.ts';
import { readRecording, recordedFacts } from '../fixtures/proc/proc-tree.ts';

const fact = recordedFacts('specimen');
const tree = readRecording('specimen');
const table = (name: string): Buffer => tree.get(`${fact('pid')}/net/${name}`) ?? Buffer.alloc(0);
const bytes = (text: string) => Buffer.from(text, 'latin1');

describe('addresses', () => {
  test('words are turned round, bytes are not', () => {
    expect(endianness()).toBe('LE');
    expect(ipv4FromWord('0100007F')).toBe('127.0.0.1');
    expect(ipv6FromWords('B80D01200000000067452301EFCDAB89')).toBe('2001:db8::123:4567:89ab:cdef');
    expect(ipv6FromWords('0000000000000000FFFF00000100007F')).toBe('::ffff:127.0.0.1');
    expect(ipv6FromBytes('fe800000000000000000000000000001')).toBe('fe80::1');
    expect(ipv4FromWord('7F')).toBeUndefined();
  });

  test('IPv6 is written as the C library of this machine reads it', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (address) => {
        const text = formatIpv6(address);
        expect(isIPv6(text)).toBe(true);
        const full = Array.from({ length: 8 }, (_, i) =>
          (((address[i * 2] ?? 0) << 8) | (address[i * 2 + 1] ?? 0)).toString(16),
        ).join(':');
        const same = (a: string) => new SocketAddress({ address: a, family: 'ipv6' }).address;
        expect(same(text)).toBe(same(full));
      }),
    );
  });

  test('zeros are shortened once, where there are most, and a single one is not', () => {
    const of = (...groups: number[]) =>
      formatIpv6(new Uint8Array(groups.flatMap((group) => [group >> 8, group & 255])));
    expect(of(0, 0, 0, 0, 0, 0, 0, 0)).toBe('::');
    expect(of(1, 0, 0, 2, 0, 0, 0, 3)).toBe('1:0:0:2::3');
    expect(of(1, 0, 2, 3, 4, 5, 6, 7)).toBe('1:0:2:3:4:5:6:7');
  });

  test('masks', () => {
    expect(prefixLength('255.255.240.0')).toBe(20);
    expect(inNetwork('192.0.2.7', '192.0.2.0', '255.255.255.0')).toBe(true);
    expect(inNetwork('192.0.3.7', '192.0.2.0', '255.255.255.0')).toBe(false);
  });
});

describe('tables', () => {
  test('the recorded connection is read from both ends', () => {
    const sockets = [...parseInet(table('tcp'), 'tcp', 'ipv4')];
    const established = sockets.filter(({ state }) => state === 'established');
    expect(
      established.map(({ localPort, remotePort }) => localPort === fact('port') || remotePort === fact('port')),
    ).toEqual([true, true]);
    expect(established.find(({ localPort }) => localPort === fact('port'))?.receiveQueueBytes).toBe(6);
  });

  test('timers, retransmits and owners of a line are in their places', () => {
    const line =
      '  46: 010310AC:9C4C 030310AC:1770 01 00000150:00000002 01:00000019 00000003  1000        0 54165785 4 cd1e6040 25 4 27 3 -1\n';
    expect([...parseInet(bytes(line), 'tcp', 'ipv4')]).toEqual([
      {
        protocol: 'tcp',
        family: 'ipv4',
        localAddress: '172.16.3.1',
        localPort: 40012,
        remoteAddress: '172.16.3.3',
        remotePort: 6000,
        state: 'established',
        sendQueueBytes: 336,
        receiveQueueBytes: 2,
        timer: 'retransmit',
        timerTicks: 25,
        retransmits: 3,
        uid: 1000,
        inode: 54165785,
      },
    ]);
  });

  test('a unix name with a newline swallows the lines that are no sockets', () => {
    const text =
      'Num       RefCount Protocol Flags    Type St Inode Path\n00000000ca556bdd: 00000002 00000000 00010000 0001 01  42 @a b\nnoise\n\n00000000ca556bde: 00000003 00000000 00000000 0002 03  43 /run/x\n';
    expect(parseUnix(bytes(text))).toMatchObject([
      { inode: 42, path: '@a b\nnoise\n', abstract: true, listening: true, nameHasNewlines: true, type: 'stream' },
      { inode: 43, path: '/run/x', type: 'dgram', state: 'connected' },
    ]);
  });

  test('a sniffer is seen', () => {
    const text =
      'sk               RefCnt Type Proto  Iface R Rmem   User   Inode\nffff9c8a8e5f0800 3      3    0003   2     1 0      0      4711\n';
    expect(parsePacket(bytes(text))).toEqual([
      { protocol: 'packet', type: 'raw', etherType: '0x3', interfaceIndex: 2, running: true, uid: 0, inode: 4711 },
    ]);
  });

  test('routes, neighbours and interfaces of the recorded machine', () => {
    expect(route.parseRoutes(table('route'))[0]).toMatchObject({
      destination: '0.0.0.0/0',
      gateway: '192.0.2.1',
      flags: ['up', 'gateway'],
    });
    expect(route.parseRoutes6(table('ipv6_route')).find(({ destination }) => destination === '::/0')).toMatchObject({
      gateway: 'fd00::1',
    });
    expect(route.parseArp(table('arp'))[0]).toMatchObject({ address: '192.0.2.1', state: 'complete' });
    expect(parseLocalAddresses(table('fib_trie'))).toEqual(['127.0.0.1', '192.0.2.2']);
    const tables = new Map(['dev', 'if_inet6', 'fib_trie', 'route'].map((name) => [name, table(name)]));
    expect(describeInterfaces(tables, {}).find(({ name }) => name === 'eth0')).toMatchObject({
      addressesDerived: true,
      addresses: [{ address: '192.0.2.2' }, { address: 'fd00::2', prefix: 64, scope: 'global' }, { scope: 'link' }],
      counters: { receiveBytes: expect.any(Number) },
    });
  });
});

describe('any bytes', () => {
  const parsers: Record<string, (input: Uint8Array) => unknown> = {
    tcp: (input) => [...parseInet(input, 'tcp', 'ipv4')],
    tcp6: (input) => [...parseInet(input, 'tcp', 'ipv6')],
    unix: parseUnix,
    netlink: parseNetlink,
    packet: parsePacket,
    route: route.parseRoutes,
    ipv6_route: route.parseRoutes6,
    arp: route.parseArp,
    dev: route.parseDevices,
    if_inet6: route.parseAddresses6,
    fib_trie: parseLocalAddresses,
  };
  for (const [name, parse] of Object.entries(parsers)) {
    test(`${name} never throws, whole or changed`, () => {
      const changed = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 8 }).map((edits) => {
        const copy = new Uint8Array(table(name));
        for (const [at, value] of edits) if (copy.length > 0) copy[at % copy.length] = value;
        return copy;
      });
      fc.assert(
        fc.property(fc.oneof(fc.uint8Array({ maxLength: 400 }), changed), (input) => {
          expect(jsonLine(parse(input))).not.toContain('\n');
        }),
        { numRuns: 60 },
      );
    });
  }

  test('netlink dumps with lengths that lie never throw and always end', () => {
    const header = fc.tuple(
      fc.integer({ min: 0, max: 80 }),
      fc.constantFrom(2, 3, 16, 20, 24, 28),
      fc.uint8Array({ maxLength: 120 }),
    );
    fc.assert(
      fc.property(fc.array(header, { maxLength: 4 }), (messages) => {
        const input = Buffer.concat(
          messages.map(([length, type, body]) => {
            const head = Buffer.alloc(16);
            head.writeUInt32LE(length, 0);
            head.writeUInt16LE(type, 4);
            return Buffer.concat([head, body]);
          }),
        );
        const links = netlink.parseLinks(input);
        netlink.parseAddresses(input);
        netlink.parseNeighbours(input, links);
        netlink.parseTableRoutes(input, links);
        netlink.parseUnixPeers(input);
        expect(scanDump(input).errno).toBeGreaterThanOrEqual(0);
      }),
    );
  });
});
