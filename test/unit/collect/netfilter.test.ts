import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { networkCollector } from '../../../agent/collect/network.ts';
import { parseConntrack } from '../../../agent/host/conntrack.ts';
import { LEGACY_COMMANDS, NFT_COMMANDS, RULESET } from '../fixtures/node/rules.ts';
import { type Namespace, namespaceObstacle, openNamespace } from './namespace.ts';
import { fakeContext, type Json, jsonLines, type Written } from './proc-context.ts';
import { startSmallNode } from './small-node.ts';

const HOST = { procRoot: '/proc', hostRoot: '' };

async function collect(namespace: Namespace): Promise<Written> {
  const { context, written } = fakeContext(HOST, [namespace.pid]);
  await networkCollector().collect(context);
  return written;
}

const of = (lines: readonly Json[], object: string) => lines.filter((line) => String(line.object) === object);

const nftObstacle = namespaceObstacle('nft', 'iptables-nft');
describe.skipIf(nftObstacle !== undefined)(`nftables (${nftObstacle ?? 'judged by nft'})`, () => {
  let namespace: Namespace;
  let written: Written;
  let lines: Json[];
  let judge: Json[];

  beforeAll(async () => {
    namespace = await openNamespace();
    namespace.run('nft', ['-f', '-'], RULESET);
    for (const [program, ...argv] of NFT_COMMANDS) namespace.run(program, argv);
    written = await collect(namespace);
    lines = jsonLines(written, 'nftables.jsonl');
    judge = JSON.parse(namespace.run('nft', ['-j', 'list', 'ruleset'])).nftables;
  });
  afterAll(() => namespace?.[Symbol.asyncDispose]());
  const judged = (kind: string): Json[] => judge.flatMap((one) => (one[kind] === undefined ? [] : [one[kind]]));

  test('leaves no gap', () => {
    expect(written.gaps).toEqual([]);
  });

  test('tables and chains are those that nft lists, with hooks, priorities and policies', () => {
    const table = (one: Json) => `${one.family} ${one.name ?? one.table} ${one.handle}`;
    expect(of(lines, 'table').map(table).sort()).toEqual(judged('table').map(table).sort());
    const chain = ({ family, table, name, handle, type, hook, policy }: Json, priority: unknown) =>
      [family, table, name, handle, type, hook, priority, policy].map(String).join(' ');
    expect(
      of(lines, 'chain')
        .map((one) => chain(one, one.priority))
        .sort(),
    ).toEqual(
      judged('chain')
        .map((one) => chain(one, one.prio))
        .sort(),
    );
    expect(of(lines, 'table').find(({ name, table }) => String(name ?? table) === 'filter')).toMatchObject({
      comment: 'the filter',
    });
    expect(of(lines, 'chain').find(({ name }) => String(name) === 'ingress')).toMatchObject({ devices: ['lo'] });
  });

  test('rules have the handles, comments and counters that nft lists', () => {
    const rule = (one: Json) => `${one.family} ${one.table} ${one.chain} ${one.handle}`;
    expect(of(lines, 'rule').map(rule)).toEqual(expect.arrayContaining(judged('rule').map(rule)));
    expect(of(lines, 'rule')).toHaveLength(judged('rule').length);
    for (const theirs of judged('rule')) {
      const mine = of(lines, 'rule').find((one) => rule(one) === rule(theirs));
      if (theirs.comment !== undefined) expect(mine?.comment).toBe(theirs.comment);
      const counter = [...(theirs.expr ?? [])].find((expression) => typeof expression.counter === 'object')?.counter;
      const counted = [...(mine?.expressions ?? [])].find(({ name }) => String(name) === 'counter');
      expect(counted === undefined, rule(theirs)).toBe(counter === undefined);
      if (counter !== undefined && Number(counter.packets) === 0)
        expect(counted).toMatchObject({ packets: 0, bytes: 0 });
    }
  });

  test('sets, maps and their elements are those that nft lists', () => {
    const set = (one: Json) => `${one.family} ${one.table} ${one.name} ${one.handle}`;
    // nft shows an anonymous set inside of its rule.
    const named = (object: string) => of(lines, object).filter(({ name }) => !String(name).startsWith('__'));
    expect(named('set').map(set).sort()).toEqual(judged('set').map(set).sort());
    expect(named('map').map(set).sort()).toEqual(judged('map').map(set).sort());
    const elements = (name: string) => of(lines, 'element').filter((one) => String(one.set) === name);
    expect(elements('bad6')).toMatchObject([{ key: '2001:db8::7' }]);
    expect(elements('bad').find(({ key }) => String(key) === '192.0.2.7')).toMatchObject({ comment: 'one of them' });
    expect(elements('ports').find(({ key }) => String(key) === '0018')).toMatchObject({
      data: { verdict: 'jump', chain: 'other' },
    });
    expect(of(lines, 'set').find(({ name }) => String(name) === 'bad')).toMatchObject({ comment: 'bad ones' });
    expect(of(lines, 'set').find(({ name }) => String(name) === 'seen')).toMatchObject({
      flags: expect.arrayContaining(['timeout', 'eval']),
      timeoutMs: 300_000,
      sizeMax: 1024,
    });
  });

  test('named counters and quotas are objects with their values', () => {
    const object = (name: string) => of(lines, 'object').find((one) => String(one.name) === name);
    expect(object('hits')).toMatchObject({ kind: 'counter', fields: { packets: 0, bytes: 0 } });
    expect(object('some')).toMatchObject({ kind: 'quota', fields: { bytes: 100 * 1024 * 1024 } });
  });

  test('what rules do is told in words', () => {
    const rules = of(lines, 'rule').map((one) => JSON.stringify(one.expressions));
    for (const word of [
      ...[
        '"verdict":"jump"',
        '"key":"l4proto"',
        '"base":"transport"',
        '"name":"masq"',
        '"type":"snat"',
        '"type":"dnat"',
      ],
      ...['"name":"redir"', '"set":"bad"', '"key":"state"', '"prefix":"seen: "', '"type":"tcp-reset"', '"name":"fib"'],
      ...['"name":"dynset"', '"extension":"statistic"', '"key":"skuid"'],
    ]) {
      expect(rules.join('\n')).toContain(word);
    }
    expect(of(lines, 'rule').find(({ comment }) => String(comment) === 'hello')).toMatchObject({
      family: 'ip',
      chain: 'FORWARD',
    });
  });

  test('no member is named as a folder of others, so that tar can unpack all of them', () => {
    const names = [...written.members.keys()];
    const folders = new Set(
      names.flatMap((name) => name.split('/').map((_, index, all) => all.slice(0, index).join('/'))),
    );
    expect(names.filter((name) => folders.has(name))).toEqual([]);
  });

  test('the archive has what the kernel sent', () => {
    const folder = [...written.members.keys()].filter((name) => name.includes('/netfilter/nftables-'));
    for (const kind of ['tables', 'chains', 'rules', 'sets', 'elements', 'objects', 'flowtables', 'generation']) {
      expect(folder.some((name) => name.endsWith(`nftables-${kind}.nlmsg`))).toBe(true);
    }
  });
});

const legacyObstacle = namespaceObstacle('iptables-legacy', 'ip6tables-legacy');
describe.skipIf(legacyObstacle !== undefined)(
  `iptables (${legacyObstacle ?? 'judged by iptables-legacy-save'})`,
  () => {
    /** Rules of a save file, without what only the extensions know. */
    interface Saved {
      readonly table: string;
      readonly chain: string;
      readonly packets: number;
      readonly line: string;
    }
    const saved = (text: string): { rules: Saved[]; policies: string[] } => {
      let table = '';
      const rules: Saved[] = [];
      const policies: string[] = [];
      for (const line of text.split('\n')) {
        if (line.startsWith('*')) table = line.slice(1);
        const [, chain, policy] = /^:(\S+) (\S+)/.exec(line) ?? [];
        if (policy !== undefined && policy !== '-') policies.push(`${table} ${chain} ${policy}`);
        const [, packets, name, rest = ''] = /^\[(\d+):\d+\] -A (\S+) ?(.*)$/.exec(line) ?? [];
        if (name !== undefined) rules.push({ table, chain: name, packets: Number(packets), line: rest });
      }
      return { rules, policies };
    };
    const word = (line: string, option: string): string | undefined =>
      new RegExp(`(?:^| )${option} (\\S+)`).exec(line)?.[1];

    test('rules, policies and their parts are those that iptables-legacy-save lists', async ({ skip }) => {
      await using namespace = await openNamespace();
      try {
        for (const [program, ...argv] of LEGACY_COMMANDS) namespace.run(program, argv);
      } catch (error) {
        skip(`needs iptables-legacy in the kernel: ${error}`);
      }
      const written = await collect(namespace);
      expect(written.gaps).toEqual([]);
      const lines = jsonLines(written, 'iptables.jsonl');
      for (const family of ['iptables', 'ip6tables']) {
        const mine = lines.filter((one) => String(one.family) === family);
        const { rules, policies } = saved(namespace.run(`${family}-legacy-save`, ['-c']));
        expect(
          of(mine, 'policy')
            .map(({ table, chain, target }) => `${table} ${chain} ${target}`)
            .sort(),
        ).toEqual(policies.sort());
        const ours = of(mine, 'rule');
        expect(ours.map(({ table, chain }) => `${table} ${chain}`).sort()).toEqual(
          rules.map(({ table, chain }) => `${table} ${chain}`).sort(),
        );
        const place = (list: readonly { table: unknown; chain: unknown }[], index: number) =>
          list.slice(0, index + 1).filter((one) => one.table === list[index]?.table && one.chain === list[index]?.chain)
            .length;
        rules.forEach((theirs, index) => {
          const rule = ours.find(
            (one, at) =>
              String(one.table) === theirs.table &&
              String(one.chain) === theirs.chain &&
              place(ours as unknown as { table: unknown; chain: unknown }[], at) === place(rules, index),
          );
          const inverted = [...(rule?.inverted ?? [])].map(String);
          const sign = (field: string) => (inverted.includes(field) ? '! ' : '');
          for (const [field, option] of [
            ['source', '-s'],
            ['destination', '-d'],
            ['inInterface', '-i'],
            ['outInterface', '-o'],
          ] as const) {
            const value = rule?.[field] === undefined ? undefined : String(rule[field]);
            expect(value, `${theirs.line}: ${field}`).toBe(word(theirs.line, option));
            expect(theirs.line.includes(`! ${option} `), theirs.line).toBe(sign(field) !== '');
          }
          const target = word(theirs.line, '-j') ?? word(theirs.line, '-g');
          expect(rule?.target === undefined ? undefined : String(rule.target), theirs.line).toBe(target);
          expect(rule?.goto === undefined, theirs.line).toBe(word(theirs.line, '-g') === undefined);
          const matches = [...theirs.line.matchAll(/-m (\S+)/g)].map(([, name]) => name);
          expect([...(rule?.matches ?? [])].map(String), theirs.line).toEqual(matches);
          expect(rule?.packets).toBe(theirs.packets);
        });
      }
      expect(lines.find(({ comment }) => String(comment) === 'a comment')).toBeDefined();
    });

    test('a table that is not there is not created by looking', async () => {
      await using namespace = await openNamespace();
      const tables = () => namespace.run('cat', ['/proc/self/net/ip_tables_names', '/proc/self/net/ip6_tables_names']);
      const before = tables();
      await collect(namespace);
      expect(before).toBe('');
      expect(tables()).toBe(before);
    });
  },
);

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

const tcObstacle = namespaceObstacle('tc', 'python3');
describe.skipIf(tcObstacle !== undefined)(`traffic control (${tcObstacle ?? 'judged by tc'})`, () => {
  test('qdiscs and filters are those that tc shows', async () => {
    await using namespace = await openNamespace();
    namespace.run('tc', ['qdisc', 'add', 'dev', 'lo', 'clsact']);
    const filter = ['filter', 'add', 'dev', 'lo', 'egress', 'protocol', 'ip', 'prio', '7', 'bpf'];
    namespace.run('tc', [...filter, 'direct-action', 'bytecode', '1,6 0 0 4294967295']);
    const written = await collect(namespace);
    expect(written.gaps).toEqual([]);
    const lines = jsonLines(written, 'traffic-control.jsonl');
    const shown: Json[] = JSON.parse(namespace.run('tc', ['-j', 'qdisc', 'show']));
    expect(of(lines, 'qdisc').map((one) => `${one.interface} ${one.kind} ${one.handle}`)).toEqual(
      shown.map((one) => `${one.dev} ${one.kind} ${one.handle}`),
    );
    const filters: Json[] = JSON.parse(namespace.run('tc', ['-j', 'filter', 'show', 'dev', 'lo', 'egress']));
    const [theirs] = filters.filter(({ options }) => options !== undefined);
    expect(of(lines, 'filter')).toMatchObject([
      {
        interface: 'lo',
        parent: 'egress',
        kind: String(theirs?.kind),
        priority: Number(theirs?.pref),
        handle: String(theirs?.options?.handle),
        etherType: '0x800',
        bpf: { instructions: '06000000ffffffff', directAction: true },
      },
    ]);
  });

  test('a packet socket shows the filter that it waits with', async () => {
    const SNIFF = `
import ctypes, socket, struct, sys
sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 7))
sniffer.setsockopt(socket.SOL_SOCKET, 26, struct.pack('HxxxxxxP', 1, ctypes.addressof(code)))
print('there', flush=True)
sys.stdin.read()
`;
    const sniffer = spawn('unshare', ['--net', 'python3', '-c', SNIFF], { stdio: ['pipe', 'pipe', 'inherit'] });
    try {
      await once(sniffer.stdout, 'data');
      const written = await collect({ pid: sniffer.pid ?? 0 } as Namespace);
      expect(jsonLines(written, 'sockets.jsonl').filter(({ protocol }) => String(protocol) === 'packet')).toMatchObject(
        [{ etherType: '0x3', filter: '0600000007000000', owners: [{ pid: sniffer.pid }] }],
      );
    } finally {
      const ended = once(sniffer, 'exit');
      sniffer.stdin.end();
      await ended;
    }
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
      const written = await collect({ pid: holder.pid ?? 0 } as Namespace);
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
