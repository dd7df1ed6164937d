import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LEGACY_COMMANDS, NFT_COMMANDS, RULESET } from '../fixtures/node/rules.ts';
import { collect, linesOf, type Namespace, namespaceObstacle, openNamespace } from './namespace.ts';
import { type Json, jsonLines, type Written } from './proc-context.ts';

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
    expect(linesOf(lines, 'table').map(table).sort()).toEqual(judged('table').map(table).sort());
    const chain = ({ family, table, name, handle, type, hook, policy }: Json, priority: unknown) =>
      [family, table, name, handle, type, hook, priority, policy].map(String).join(' ');
    expect(
      linesOf(lines, 'chain')
        .map((one) => chain(one, one.priority))
        .sort(),
    ).toEqual(
      judged('chain')
        .map((one) => chain(one, one.prio))
        .sort(),
    );
    expect(linesOf(lines, 'table').find(({ name, table }) => String(name ?? table) === 'filter')).toMatchObject({
      comment: 'the filter',
    });
    expect(linesOf(lines, 'chain').find(({ name }) => String(name) === 'ingress')).toMatchObject({ devices: ['lo'] });
  });

  test('rules have the handles, comments and counters that nft lists', () => {
    const rule = (one: Json) => `${one.family} ${one.table} ${one.chain} ${one.handle}`;
    expect(linesOf(lines, 'rule').map(rule)).toEqual(expect.arrayContaining(judged('rule').map(rule)));
    expect(linesOf(lines, 'rule')).toHaveLength(judged('rule').length);
    for (const theirs of judged('rule')) {
      const mine = linesOf(lines, 'rule').find((one) => rule(one) === rule(theirs));
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
    const named = (object: string) => linesOf(lines, object).filter(({ name }) => !String(name).startsWith('__'));
    expect(named('set').map(set).sort()).toEqual(judged('set').map(set).sort());
    expect(named('map').map(set).sort()).toEqual(judged('map').map(set).sort());
    const elements = (name: string) => linesOf(lines, 'element').filter((one) => String(one.set) === name);
    expect(elements('bad6')).toMatchObject([{ key: '2001:db8::7' }]);
    expect(elements('bad').find(({ key }) => String(key) === '192.0.2.7')).toMatchObject({ comment: 'one of them' });
    expect(elements('ports').find(({ key }) => String(key) === '0018')).toMatchObject({
      data: { verdict: 'jump', chain: 'other' },
    });
    expect(linesOf(lines, 'set').find(({ name }) => String(name) === 'bad')).toMatchObject({ comment: 'bad ones' });
    expect(linesOf(lines, 'set').find(({ name }) => String(name) === 'seen')).toMatchObject({
      flags: expect.arrayContaining(['timeout', 'eval']),
      timeoutMs: 300_000,
      sizeMax: 1024,
    });
  });

  test('named counters and quotas are objects with their values', () => {
    const object = (name: string) => linesOf(lines, 'object').find((one) => String(one.name) === name);
    expect(object('hits')).toMatchObject({ kind: 'counter', fields: { packets: 0, bytes: 0 } });
    expect(object('some')).toMatchObject({ kind: 'quota', fields: { bytes: 100 * 1024 * 1024 } });
  });

  test('what rules do is told in words', () => {
    const rules = linesOf(lines, 'rule').map((one) => JSON.stringify(one.expressions));
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
    expect(linesOf(lines, 'rule').find(({ comment }) => String(comment) === 'hello')).toMatchObject({
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
          linesOf(mine, 'policy')
            .map(({ table, chain, target }) => `${table} ${chain} ${target}`)
            .sort(),
        ).toEqual(policies.sort());
        const ours = linesOf(mine, 'rule');
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
