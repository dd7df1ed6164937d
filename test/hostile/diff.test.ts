import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { type DefaultTreeAdapterTypes, parse } from 'parse5';
import { describe, expect, test, vi } from 'vitest';
import { readManifest } from '../../cli/bundle.ts';
import { factsOfBundle } from '../../cli/diff-bundle.ts';
import { openBundle } from '../../evidence/bundle.ts';
import { compare } from '../../evidence/diff/compare.ts';
import { CHANGES_LIMITS, changesSchema, diffDocument } from '../../evidence/diff/document.ts';
import { exhibit, TEST_TIMEOUT_MS } from '../unit/cli/run.ts';
import { client, factsIn, process, socket, someFacts, webBundle } from '../unit/evidence/diff/facts-bundle.ts';
import { byteChange, changeBytes, fuzzing } from '../unit/evidence/mutate.ts';
import { fc } from '../unit/evidence/properties.ts';
import { readerOf } from '../unit/evidence/sample-bundle.ts';
import { inventoryLine, timelineBundle } from '../unit/evidence/timeline/timeline-bundle.ts';

/** Bundles that were made to break whoever compares them: a terminal, a browser, memory, and our readers. */

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

const EVIL = `</code></td><script>alert(1)</script><img src=x onerror=alert(2)>\n\x1b[2J\u202e"'&lt;`;

const evilBundle = () =>
  timelineBundle(
    webBundle({
      processes: [process(7, `/tmp/${EVIL}`, { commandLine: ['sh', EVIL], comm: EVIL, anomalies: [{ kind: EVIL }] })],
      mapped: [{ path: `/lib/${EVIL}`, sha256: 'a'.repeat(64) }],
      sockets: [socket({ localAddress: EVIL }), client(EVIL, 1)],
      passwd: `${EVIL.replaceAll('\n', '')}:x:0:0::${EVIL.replaceAll('\n', '')}:/bin/sh\n`,
      files: [inventoryLine({ path: `tmp/${EVIL}`, linkPath: EVIL }), inventoryLine({ path: '__proto__' })],
      modules: [{ name: EVIL, taints: [EVIL] }, { name: '__proto__' }],
      artifacts: {
        processes: {
          gaps: [{ what: EVIL, why: EVIL, at: '2026-11-22T10:00:00.000Z' }],
          gapCount: 1,
          status: 'partial',
        },
      },
    }),
  );

type Node = DefaultTreeAdapterTypes.ChildNode;
const elementsOf = (html: string): string[] => {
  const found: string[] = [];
  const walk = (nodes: readonly Node[]) => {
    for (const node of nodes) {
      if (!('childNodes' in node)) continue;
      found.push([node.nodeName, ...('attrs' in node ? node.attrs.map(({ name }) => name) : [])].join(' '));
      walk(node.childNodes);
    }
  };
  walk(parse(html).childNodes);
  return found;
};
const OURS = new Set([
  ...[
    'html lang',
    'head',
    'meta charset',
    'meta http-equiv content',
    'title',
    'style',
    'body',
    'h1',
    'h2',
    'p',
    'ul',
    'li',
  ],
  ...['table', 'thead', 'tbody', 'tr', 'th scope', 'td', 'code'],
]);

describe('a diff of hostile evidence', () => {
  test('makes no element of a page out of it, and no control of a terminal', async () => {
    await using before = await timelineBundle(webBundle());
    await using after = await evilBundle();
    const page = path.join(after.folder, 'page.html');
    expect((await exhibit(['diff', before.folder, after.folder, '--html', page])).code).toBe(4);
    const html = await readFile(page, 'utf8');
    expect(elementsOf(html).filter((one) => !OURS.has(one))).toEqual([]);
    expect(html).toContain('&lt;script&gt;alert(1)');
    for (const options of [[], ['--json']]) {
      const { stdout } = await exhibit(['diff', before.folder, after.folder, ...options]);
      expect(stdout.toString()).toContain('alert(1)');
      expect(stdout.toString()).not.toMatch(/(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
    }
  });

  test('keeps names that are special to a language apart', async () => {
    const facts = await factsIn(webBundle({ modules: [{ name: '__proto__' }, { name: 'constructor' }] }));
    const { modules } = compare(someFacts(), facts).kinds;
    expect(modules.new.map(({ key }) => key)).toEqual(['__proto__', 'constructor']);
    expect(compare(facts, facts).kinds.modules.changed).toEqual([]);
  });
});

describe('a bundle with a byte changed anywhere', () => {
  test('gives facts or one of our errors, and facts are always comparable', async () => {
    await using bundle = await timelineBundle(webBundle());
    await using folder = await openBundle(bundle.folder);
    const objects = new Map<string, Buffer>();
    for await (const { name } of folder.list()) objects.set(name, await readFile(path.join(bundle.folder, name)));
    const { signal } = new AbortController();
    const manifest = await readManifest(folder, signal);
    const good = await factsOfBundle({ reader: folder, manifest, signal, progress: undefined });
    const names = manifest.objects.map(({ name }) => name).filter((name) => name !== 'request.json');
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...names), byteChange, async (name, change) => {
        const changed = new Map(objects);
        changed.set(name, changeBytes(objects.get(name) ?? Buffer.alloc(0), change, [...objects.values()]));
        const facts = await factsOfBundle({ reader: readerOf(changed), manifest, signal, progress: undefined });
        const document = diffDocument(compare(good, facts), CHANGES_LIMITS);
        changesSchema.parse({ version: 1, captureId: 'c', workload: [], diff: document });
      }),
      fuzzing(150),
    );
  });
});

describe('an endless list', () => {
  test('is read to a limit, and says which', async () => {
    const sockets = Array.from({ length: 200_100 }, (_, index) =>
      client(`10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`, 1),
    );
    const { kinds } = await factsIn(webBundle({ sockets: [...sockets, socket({})] }));
    expect(kinds.peers.state).toBe('partial');
    expect(kinds.peers.why[0]).toBe('only the first 200000 connections are looked at');
    expect(kinds.peers.entries.size).toBeGreaterThan(90_000);
  });

  test('of accounts too', async () => {
    const { kinds } = await factsIn(webBundle({ passwd: 'a:x:1:1::/:/\n'.repeat(30_000) }));
    expect(kinds.users).toMatchObject({
      state: 'partial',
      why: ['only the first 20000 lines of a list of accounts are looked at'],
    });
  });

  test('does not make changes.json larger than a reader takes', () => {
    const text = '\u0001'.repeat(1024);
    const all = Object.fromEntries(
      Array.from({ length: 200 }, (_, index) => [`${index}`, { list: Array(64).fill(text) }]),
    );
    const document = diffDocument(compare(someFacts(), someFacts({ files: all, users: all })), CHANGES_LIMITS);
    for (const kind of ['files', 'users'] as const) {
      expect(document.kinds[kind]?.counts.new).toBe(200);
      expect(JSON.stringify(document.kinds[kind]).length).toBeLessThan(CHANGES_LIMITS.characters + 1000);
    }
  });
});
