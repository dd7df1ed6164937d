import { describe, expect, test } from 'vitest';
import { changesOf, compare, type Diff, differs } from '../../../../evidence/diff/compare.ts';
import { diffDocument, diffSchema } from '../../../../evidence/diff/document.ts';
import { remarksOf } from '../../../../evidence/diff/remarks.ts';
import { FACT_KINDS, type Facts, type Fields, kindsOf, packFields } from '../../../../evidence/facts/facts.ts';
import { fc } from '../properties.ts';
import { digest, someFacts } from './facts-bundle.ts';

const scalar = fc.oneof(fc.string({ maxLength: 3 }), fc.integer({ min: 0, max: 3 }), fc.boolean());
const value = fc.oneof(
  scalar,
  fc.uniqueArray(fc.constantFrom('a', 'b', 'c'), { maxLength: 3 }).map((list) => list.sort()),
);
const fields: fc.Arbitrary<Fields> = fc.dictionary(fc.constantFrom('x', 'y', 'z', 'count'), value, { maxKeys: 4 });
const executable = fc.record(
  {
    executable: fc.constantFrom('/bin/a', '/bin/b'),
    sha256: fc.constantFrom('1', '2'),
    count: fc.integer({ min: 1, max: 3 }),
    commands: fc.uniqueArray(fc.constantFrom('a', 'b'), { maxLength: 2 }).map((list) => list.sort()),
    deleted: fc.boolean(),
  },
  { requiredKeys: ['executable', 'count', 'commands'] },
);
const keyOf = (one: { executable: string; sha256?: string | undefined }) =>
  one.sha256 === undefined ? one.executable : `${one.executable} sha256:${one.sha256}`;

const entries = {
  processes: fc
    .array(executable, { maxLength: 4 })
    .map((all) => new Map(all.map((one) => [keyOf(one), packFields(one)]))),
  others: fc
    .dictionary(fc.constantFrom('k', 'l', 'm', 'n'), fields)
    .map((all) => new Map(Object.entries(all).map(([key, one]) => [key, packFields(one)]))),
};
const facts: fc.Arbitrary<Facts> = fc
  .tuple(
    ...FACT_KINDS.map((kind) =>
      fc.record({
        state: fc.constantFrom('known' as const, 'known' as const, 'partial' as const, 'unknown' as const),
        why: fc.constant([]),
        entries: kind === 'processes' ? entries.processes : entries.others,
      }),
    ),
  )
  .map((all) => ({
    about: someFacts().about,
    kinds: kindsOf((kind) => all[FACT_KINDS.indexOf(kind)] ?? someFacts().kinds[kind]),
  }));

const mirrored = ({ before, after, kinds }: Diff): Diff => ({
  before: after,
  after: before,
  kinds: kindsOf((kind) => {
    const one = kinds[kind];
    return {
      comparable: one.comparable,
      why: { before: one.why.after, after: one.why.before },
      new: one.gone,
      gone: one.new,
      changed: one.changed.map((item) => ({ key: item.key, before: item.after, after: item.before })),
      perhapsNew: one.perhapsGone,
      perhapsGone: one.perhapsNew,
    };
  }),
});

describe('a comparison', () => {
  test('of a bundle with itself is empty', () => {
    fc.assert(
      fc.property(facts, (one) => {
        const diff = compare(one, one);
        expect(differs(diff)).toBe(false);
        for (const kind of FACT_KINDS) {
          const { perhapsNew, perhapsGone } = diff.kinds[kind];
          expect([...perhapsNew, ...perhapsGone]).toEqual([]);
        }
        expect(remarksOf(diff).list).toEqual([]);
      }),
    );
  });

  test('the other way round is its mirror', () => {
    fc.assert(
      fc.property(facts, facts, (a, b) => {
        expect(compare(b, a)).toEqual(mirrored(compare(a, b)));
      }),
    );
  });

  test('never says of what one side does not know that it came, went or changed', () => {
    fc.assert(
      fc.property(facts, facts, (a, b) => {
        const { kinds } = compare(a, b);
        for (const kind of FACT_KINDS) {
          const one = kinds[kind];
          if (a.kinds[kind].state !== 'known') expect(one.new).toEqual([]);
          if (b.kinds[kind].state !== 'known') expect(one.gone).toEqual([]);
          const isUnknown = [a, b].some((side) => side.kinds[kind].state === 'unknown');
          expect(one.comparable === 'no').toBe(isUnknown);
          if (isUnknown) expect([one.changed, one.perhapsNew, one.perhapsGone]).toEqual([[], [], []]);
        }
      }),
    );
  });

  test('accounts for every thing of both sides, once', () => {
    fc.assert(
      fc.property(facts, facts, (a, b) => {
        const { kinds } = compare(a, b);
        for (const kind of FACT_KINDS.filter((one) => one !== 'processes' && kinds[one].comparable !== 'no')) {
          const one = kinds[kind];
          const [old, now] = [a.kinds[kind].entries, b.kinds[kind].entries];
          const came = [...one.new, ...one.perhapsNew].map(({ key }) => key);
          const went = [...one.gone, ...one.perhapsGone].map(({ key }) => key);
          expect(came).toEqual([...now.keys()].filter((key) => !old.has(key)).sort());
          expect(went).toEqual([...old.keys()].filter((key) => !now.has(key)).sort());
          for (const { key } of one.changed) expect(old.get(key)).not.toBe(now.get(key));
        }
      }),
    );
  });

  test('has a document of the documented shape, with counts of all and lists that stop', () => {
    fc.assert(
      fc.property(facts, facts, fc.integer({ min: 0, max: 3 }), (a, b, items) => {
        const diff = compare(a, b);
        const document = diffDocument(diff, { items, characters: 10_000 });
        expect(diffSchema.parse(JSON.parse(JSON.stringify(document)))).toEqual(document);
        for (const kind of FACT_KINDS) {
          const one = document.kinds[kind];
          expect(one?.counts.new).toBe(diff.kinds[kind].new.length);
          expect(one?.new.length).toBe(Math.min(items, diff.kinds[kind].new.length));
        }
      }),
    );
  });
});

describe('what changed in a thing', () => {
  const changes = (before: Fields, after: Fields) =>
    changesOf({ before: packFields(before), after: packFields(after) });

  test('is told field by field, of lists what came and went', () => {
    expect(changes({ mode: '755', list: ['a', 'b'], same: 1 }, { mode: '4755', list: ['b', 'c'], same: 1 })).toEqual([
      { field: 'list', new: ['c'], gone: ['a'] },
      { field: 'mode', before: '755', after: '4755' },
    ]);
  });

  test('is nothing where one side does not know', () => {
    expect(changes({ sha256: 'a' }, {})).toEqual([]);
    const one = { '/f': { size: 1, sha256: 'a' } };
    expect(compare(someFacts({ files: one }), someFacts({ files: { '/f': { size: 1 } } })).kinds.files.changed).toEqual(
      [],
    );
  });
});

describe('a process whose digest one side does not know', () => {
  const web = { executable: '/w', count: 1, commands: ['w'] };
  const key = `/w sha256:${digest('a')}`;

  test('is the same path’s process', () => {
    const before = someFacts({ processes: { [key]: { ...web, sha256: digest('a') } } });
    const after = someFacts({ processes: { '/w': web } });
    expect(differs(compare(before, after))).toBe(false);
  });

  test('is so with every process of that path, and counted with them', () => {
    const other = `/w sha256:${digest('b')}`;
    const before = someFacts({
      processes: { [key]: { ...web, sha256: digest('a') }, [other]: { ...web, sha256: digest('b') } },
    });
    const after = someFacts({ processes: { '/w': { ...web, count: 2 } } });
    expect(differs(compare(before, after))).toBe(false);
    const more = someFacts({ processes: { '/w': { ...web, count: 3 } } });
    expect(compare(before, more).kinds.processes.changed).toEqual([
      { key: '/w', before: packFields({ ...web, count: 2 }), after: packFields({ ...web, count: 3 }) },
    ]);
  });
});

describe('remarks', () => {
  const remarks = (before: Facts, after: Facts) =>
    remarksOf(compare(before, after)).list.map(({ severity, reason, key, perhaps }) =>
      [severity, reason, key, ...(perhaps ? ['perhaps'] : [])].join(' '),
    );
  const nothing = someFacts();

  test.each<[string, Parameters<typeof someFacts>[0], string[]]>([
    [
      'a program of the writable layer',
      { processes: { '/x': { executable: '/x' } }, files: { '/x': { change: 'added', type: 'file', mode: '0755' } } },
      ['high executable-not-in-image /x', 'medium new-program /x'],
    ],
    ['a program of the image', { processes: { '/x': { executable: '/x' } } }, ['medium new-executable /x']],
    ['a deleted program', { processes: { '/x': { executable: '/x', deleted: true } } }, ['high executable-deleted /x']],
    ['a port for all', { ports: { p: { protocol: 'tcp', address: '0.0.0.0', port: 1 } } }, ['high new-port p']],
    ['a local port', { ports: { p: { protocol: 'tcp', address: '127.0.0.1', port: 1 } } }, ['medium new-port p']],
    ['a peer', { peers: { p: { direction: 'out', address: '203.0.113.7' } } }, ['medium new-peer p']],
    ['a local peer', { peers: { p: { direction: 'out', address: '::1' } } }, ['low new-peer p']],
    ['a client', { peers: { p: { direction: 'in', address: '203.0.113.7' } } }, ['low new-client p']],
    ['a setuid file', { files: { f: { change: 'added', type: 'file', mode: '4755' } } }, ['high set-id f']],
    ['a device', { files: { f: { change: 'added', type: 'block-device', mode: '600' } } }, ['high device-node f']],
    [
      'a plain or deleted file',
      { files: { f: { change: 'added', type: 'file', mode: '644' }, g: { change: 'deleted' } } },
      [],
    ],
    [
      'a library of the writable layer',
      { libraries: { '/l': { path: '/l' } }, files: { '/l': { change: 'modified', type: 'file', mode: '644' } } },
      ['high library-not-in-image /l'],
    ],
    ['a library of the image', { libraries: { '/l': { path: '/l' } } }, ['low new-library /l']],
    ['a second root', { users: { u: { account: 'user', uids: [0] } } }, ['high new-root-account u']],
    ['an account', { users: { u: { account: 'user', uids: [7] } } }, ['high new-user u']],
    ['a group', { users: { g: { account: 'group', gids: [7] } } }, ['medium new-user g']],
    ['a module', { modules: { m: { name: 'm' } } }, ['high new-module m']],
  ])('are made of %s that is new, and not when it goes', (_, kinds, expected) => {
    expect(remarks(nothing, someFacts(kinds))).toEqual(expected);
    expect(remarks(someFacts(kinds), nothing)).toEqual([]);
  });

  test('are made of what changed', () => {
    const before = someFacts({
      processes: { p: { users: [33], commands: ['a'], anomalies: [], count: 1 } },
      ports: { t: { executables: ['/web'] } },
      files: { f: { type: 'file', mode: '755', sha256: 'a' } },
      libraries: { l: { sha256: ['a'] } },
      users: { u: { shells: ['/bin/false'] } },
      modules: { m: { taints: [] } },
    });
    const after = someFacts({
      processes: { p: { users: [0, 33], commands: ['a', 'b'], anomalies: ['ptraced'], count: 2 } },
      ports: { t: { executables: ['/evil'] } },
      files: { f: { type: 'file', mode: '4755', sha256: 'a' } },
      libraries: { l: { sha256: ['b'] } },
      users: { u: { shells: ['/bin/sh'] } },
      modules: { m: { taints: ['unsigned'] } },
    });
    expect(remarks(before, after)).toEqual([
      'high new-privilege p',
      'high new-anomaly p',
      'high port-changed-hands t',
      'high set-id f',
      'high changed-library l',
      'high account-changed u',
      'high module-changed m',
      'medium new-command p',
    ]);
  });

  test('say perhaps where before may have had it', () => {
    const before = {
      ...nothing,
      kinds: { ...nothing.kinds, modules: { ...nothing.kinds.modules, state: 'partial' as const } },
    };
    expect(remarks(before, someFacts({ modules: { m: {} } }))).toEqual(['high new-module m perhaps']);
  });
});
