import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import MarkdownIt from 'markdown-it';
import { type DefaultTreeAdapterTypes, parse } from 'parse5';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Block, Document } from '../../../cli/document.ts';
import { toHtml } from '../../../cli/document-html.ts';
import { toMarkdown } from '../../../cli/document-markdown.ts';
import { generateSigner, type Signer } from '../../../evidence/seal.ts';
import { createSealer } from '../../../evidence/sealer.ts';
import { makeAuthority } from '../../lab/tsa.ts';
import { CHAIN_ID, captureIdOf, chainOfBundles, custodyBundle } from '../evidence/custody-bundle.ts';
import { requireProgram } from '../evidence/programs.ts';
import { fc } from '../evidence/properties.ts';
import { writeTo } from '../evidence/sample-bundle.ts';
import { p256Signer, resealedBy } from '../evidence/sealing.ts';
import { answerOver, TSR } from '../evidence/stamping.ts';
import { exhibit, TEST_TIMEOUT_MS } from './run.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

/** What somebody may call a pod who knows that it will be printed. */
const HOSTILE =
  'x|y`</code></td><script>alert(1)</script><img src=x onerror=alert(2)>\n\n# Fake\n| a | [link](javascript:alert(3)) https://evil.example www.evil.example me@evil.example ![i](http://evil.example/p.png) &lt;b&gt; \x1b[2J \u202eevil ~~~ ``` ';

type Node = DefaultTreeAdapterTypes.ChildNode;

/** Every element of a page as a strict HTML parser sees it; fails on the first thing that is not valid HTML. */
function elements(html: string, isPage = true): { name: string; attributes: string[] }[] {
  const errors: string[] = [];
  const document = parse(html, { onParseError: ({ code }) => void errors.push(code) });
  if (isPage) expect(errors).toEqual([]);
  const found: { name: string; attributes: string[] }[] = [];
  const walk = (nodes: readonly Node[]) => {
    for (const node of nodes) {
      if (!('childNodes' in node)) continue;
      found.push({ name: node.nodeName, attributes: node.attrs.map(({ name }) => name) });
      walk(node.childNodes);
    }
  };
  walk(document.childNodes.filter((node) => node.nodeName !== '#documentType'));
  return found;
}

const text = (html: string): string => {
  const words: string[] = [];
  const walk = (nodes: readonly Node[]) => {
    for (const node of nodes) {
      if ('value' in node) words.push(node.value);
      else if ('childNodes' in node) walk(node.childNodes);
    }
  };
  walk(parse(html).childNodes);
  return words.join('');
};

/** The most obliging reader there is: HTML is let through and whatever looks like an address becomes a link. */
const rendered = (markdown: string) => new MarkdownIt({ html: true, linkify: true }).render(markdown);

const OURS = new Set([
  'html',
  'head',
  'body',
  'h1',
  'h2',
  'p',
  'ul',
  'li',
  'table',
  'thead',
  'tbody',
  'tr',
  'th',
  'td',
  'code',
]);

function expectOnlyOurs(html: string, isPage: boolean): void {
  const allowed = isPage ? new Set([...OURS, 'meta', 'title', 'style']) : OURS;
  const strange = elements(html, isPage).filter(
    ({ name, attributes }) =>
      !allowed.has(name) ||
      attributes.some(
        (attribute) => !['scope', 'class', 'lang', 'charset', 'content', 'http-equiv'].includes(attribute),
      ),
  );
  expect(strange).toEqual([]);
}

/** One line of visible characters, however the reader folds white space. */
const folded = (words: string) => words.replaceAll(/\s+/g, ' ');

describe('a document', () => {
  const everywhere = (evil: string): Document => ({
    title: evil,
    blocks: [
      { kind: 'heading', text: evil },
      { kind: 'paragraph', text: evil },
      { kind: 'paragraph', text: { code: evil } },
      { kind: 'list', items: [evil, { code: evil }] },
      { kind: 'fields', rows: [[evil, { code: evil }]] },
      { kind: 'table', headings: [evil, 'b'], rows: [[evil, { code: evil }]] },
      { kind: 'form', headings: [evil], rows: 2 },
    ] satisfies Block[],
  });

  test('has no element in Markdown or HTML but its own, whatever is written in it', () => {
    const nasty = fc.oneof(
      fc.constantFrom(
        HOSTILE,
        '- a',
        '1. b',
        '1) b',
        '    code',
        '```',
        '---',
        '===',
        '+ x',
        '> q',
        '[a]: http://x',
        '\\',
        '`',
        '` `',
        '``',
        '|',
        '\\|',
        'a  ',
        '<!-- ',
        '<?php',
        '&copy;',
        ':::',
        '\t- x',
        '#',
        '##',
        '* * *',
        'www.x.org',
        'WWW.x.org',
        'ftp://x.org',
        'mailto:a@b.org',
        'a@b.org',
        '//x.org',
        'http:/\u200b/x',
      ),
      fc.string({ unit: fc.constantFrom(...'`|\\*_[]()<>!#-+=:/~&;"\' \n\t1.ab@'), maxLength: 40 }),
      fc.string({ unit: 'binary', maxLength: 40 }),
    );
    fc.assert(
      fc.property(nasty, (evil) => {
        const document = everywhere(evil);
        expectOnlyOurs(toHtml(document), true);
        const markdown = rendered(toMarkdown(document));
        expectOnlyOurs(markdown, false);
        const names = elements(markdown, false).map(({ name }) => name);
        expect(names.filter((name) => name === 'table')).toHaveLength(3);
        expect(names.filter((name) => name === 'li')).toHaveLength(2);
        expect(names.filter((name) => name === 'td')).toHaveLength(2 + 2 + 2);
        expect(names.filter((name) => /^h\d$/.test(name))).toEqual(['h1', 'h2']);
      }),
      { numRuns: 400 },
    );
  });

  test('shows names as they are, with what cannot be seen escaped', () => {
    for (const name of ['a|b', '`', '``x`', ' lead', 'trail ', '<b>', '\\', '\\|', '&amp;', 'a\\`b']) {
      const one: Document = { title: 't', blocks: [{ kind: 'table', headings: ['h'], rows: [[{ code: name }]] }] };
      expect(text(toHtml(one))).toContain(name);
      expect(text(rendered(toMarkdown(one)))).toContain(name);
    }
    const seen: Document = { title: 't', blocks: [{ kind: 'paragraph', text: { code: 'a\x1b[2J\u202eb\nc' } }] };
    expect(text(toHtml(seen))).toContain('a\\x1b[2J\\u{202e}b\\nc');
    expect(toMarkdown(seen)).toContain('`a\\x1b[2J\\u{202e}b\\nc`');
  });

  test('loads nothing, runs nothing, and is of no fixed paper', () => {
    const html = toHtml(everywhere('x'));
    expect(html).toContain(
      `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">`,
    );
    expect(html).toContain('@page { size: auto;');
    expect(html).not.toMatch(/url\(|@import|<link|<script|src=/);
  });
});

describe('custody', () => {
  let folder: string;
  let bundle: string;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'exhibit-custody-'));
    bundle = path.join(folder, 'bundle');
    const pod = { namespace: 'default', name: HOSTILE, uid: 'u', sandboxId: 's' };
    const { objects, signer } = await custodyBundle({
      request: {
        exhibitNumber: 'EX-1',
        acquirer: HOSTILE,
        reason: HOSTILE,
        target: {
          runtime: 'cri',
          kind: 'container',
          id: 'c0ffee',
          name: HOSTILE,
          pod,
          labels: {},
          initPid: 1,
          pids: [1],
        },
      },
      events: (all) => all.map((event) => ({ ...event, what: `${event.what} ${HOSTILE}` })),
      change(manifest) {
        const gap = { what: HOSTILE, why: HOSTILE, at: '2026-11-22T10:00:00.000Z' };
        Object.assign(manifest.artifacts[0] ?? {}, { gaps: [gap], gapCount: 3, status: 'captured', reason: HOSTILE });
      },
    });
    await writeTo(bundle, objects);
    await writeFile(path.join(folder, 'key.pem'), signer.publicKey.export({ type: 'spki', format: 'pem' }));
  });
  afterAll(async () => rm(folder, { recursive: true }));

  test('has case, people, times, tools, actions, digests, gaps, footprint, seal, chain and room for signatures', async () => {
    const ran = await exhibit(['custody', bundle, '--trust', path.join(folder, 'key.pem')]);
    const words = folded(text(rendered(ran.stdout.toString())));
    for (const expected of [
      'Case CASE-7',
      'Exhibit number EX-1',
      'Requested by (as the agent saw it) uid 0, pid 17 (socket)',
      'Time zone of the node UTC',
      'time.example.org: add 12.5 ms (± 4), compared at 2026-11-22T10:00:01.000Z',
      'Agent exhibit 0.1.0, pid 1',
      'Node.js v24',
      'Container runtime containerd 2.1.9',
      'Kernel 6.18 x86_64',
      'court: s3://evidence/prod',
      'COMPLIANCE, legal hold',
      'Stopped (frozen) 2026-11-22T10:00:02.000Z',
      '2 more rows in the bundle itself',
      'it stood still for 12.5 ms in all',
      'is a key that you trust',
      `${CHAIN_ID}, number 1`,
      'none: the chain begins here',
      'Timestamp (RFC 3161) none was asked for',
      'The records are what was sealed.',
      'Released by (name, signature)',
      'The other objects were not read',
    ])
      expect(words).toContain(expected);
    const manifest = JSON.parse(await readFile(path.join(bundle, 'manifest.json'), 'utf8'));
    for (const { name, stored } of manifest.objects)
      expect(words).toContain(`${name} ${stored.sizeBytes} ${stored.sha256}`);
  });

  test('says who signed by the names of the trust root, who was to, when it was stamped and by whom', async (context) => {
    requireProgram(context, 'openssl');
    await using authority = await makeAuthority();
    const [first, second] = [generateSigner(), p256Signer()];
    const away = { ...generateSigner(), sign: () => Promise.reject(new Error(HOSTILE)) };
    const sealer = createSealer({
      signers: [first, second, away],
      timestamp: { requestedFrom: ['http://tsa/'], stamp: (message) => answerOver(authority, message) },
    });
    const chain = { chainId: CHAIN_ID, sequence: 1 };
    const parent = await mkdtemp(path.join(folder, 'stamped-'));
    const stamped = path.join(parent, captureIdOf(1));
    const sample = await custodyBundle({ captureId: captureIdOf(1), chain, tiny: true });
    await writeTo(stamped, await resealedBy(sample, sealer));
    const pem = (signer: Signer) => signer.publicKey.export({ type: 'spki', format: 'pem' });
    const root = path.join(parent, 'trust.json');
    const keys = [{ name: 'prod-eu', publicKey: pem(first) }];
    await writeFile(
      root,
      JSON.stringify({ keys, timestampAuthorities: [{ name: 'our TSA', certificate: authority.ca }] }),
    );
    const read = async (...options: string[]) => {
      const ran = await exhibit(['custody', stamped, ...options]);
      expectOnlyOurs(rendered(ran.stdout.toString()), false);
      return folded(text(rendered(ran.stdout.toString())));
    };
    const trusted = await read('--trust', root, '--chain');
    for (const expected of [
      `Signed by key ${first.keyId}, prod-eu (ed25519)`,
      `${first.keyId} is a key that you trust, prod-eu`,
      `Signed by key ${second.keyId} (ecdsa-p256-sha256)`,
      `not trusted: signed by key ${second.keyId}, which is none of the keys you trust`,
      `Was to sign as well ${away.keyId}: x|y`,
      'Stamped by our TSA',
      'Trust in the authority it leads to one that you trust',
      `Chain ${CHAIN_ID}, number 1`,
      'Of its chain are there 1, numbers 1 to 1',
    ])
      expect(trusted).toContain(expected);
    expect(trusted).toMatch(/Timestamp \(RFC 3161\) \d{4}-\d\d-\d\dT[0-9:.]+Z \(± 1500 ms\)/);
    expect(trusted).toMatch(/Serial number, policy [0-9a-f]+, 1\.3\.6\.1\.4\.1\.55555\.1/);
    const without = await read();
    expect(without).toContain('Trust in the authority nothing that you named vouches for it');
    expect(without).toContain(`not trusted: signed by key ${first.keyId}, which nothing here vouches for`);
    await writeFile(path.join(stamped, TSR), 'no answer');
    expect(await read()).toContain(`${TSR} is there, and is no good: see the findings`);
    await rm(path.join(stamped, TSR));
    expect(await read()).toContain(`there was one, and ${TSR} is gone`);
  });

  test('shows no element of a hostile name, in Markdown and on the page', async () => {
    const page = path.join(folder, 'record.html');
    const file = path.join(folder, 'record.md');
    const ran = await exhibit(['custody', bundle, '--html', page, '--out', file]);
    expect(ran.stdout.toString()).toBe('');
    const html = await readFile(page, 'utf8');
    expectOnlyOurs(html, true);
    expect(text(html)).toContain('</code></td><script>alert(1)</script>');
    const markdown = rendered(await readFile(file, 'utf8'));
    expectOnlyOurs(markdown, false);
    expect(text(markdown)).toContain('</code></td><script>alert(1)</script>');
    expect((await stat(page)).mode & 0o777).toBe(0o600);
  });

  test('reads every object with --verify, and its result and exit code are those of verify', async () => {
    const good = await exhibit(['custody', bundle, '--verify', '--json']);
    expect(good.code).toBe(0);
    expect(good.stdout.toString()).toContain('INTACT: nothing differs from what was sealed.');
    const damaged = path.join(folder, 'damaged');
    const { objects } = await custodyBundle({
      change: (_manifest, all) => void all.set('bodyfile.zst', Buffer.from('x')),
    });
    await writeTo(damaged, objects);
    expect((await exhibit(['custody', damaged])).code).toBe(0);
    const bad = await exhibit(['custody', damaged, '--verify']);
    expect(bad.code).toBe(1);
    expect(text(rendered(bad.stdout.toString()))).toContain('NOT INTACT');
  });

  test('says what there is of a capture that was never sealed', async () => {
    const unsealed = path.join(folder, 'unsealed');
    const { objects } = await custodyBundle();
    await writeTo(unsealed, new Map([...objects].filter(([name]) => !name.startsWith('manifest'))));
    const ran = await exhibit(['custody', unsealed]);
    const words = folded(text(rendered(ran.stdout.toString())));
    expect(ran.code).toBe(1);
    expect(words).toContain('the capture was not finished');
    expect(words).toContain('nobody: there is no good seal');
    expect(words).toContain('Case CASE-7');
  });

  test('writes nothing but the files that it was told, overwrites none and follows no link', async () => {
    const before = await readdir(folder);
    const target = path.join(folder, 'target');
    const link = path.join(folder, 'link.html');
    await symlink(target, link);
    await writeFile(path.join(folder, 'there.md'), 'mine');
    const linked = await exhibit(['custody', bundle, '--html', link]);
    expect(linked.code).toBe(2);
    const taken = await exhibit(['custody', bundle, '--out', path.join(folder, 'there.md')]);
    expect(taken.code).toBe(2);
    expect(await readFile(path.join(folder, 'there.md'), 'utf8')).toBe('mine');
    expect((await readdir(folder)).sort()).toEqual([...before, 'link.html', 'there.md'].sort());
  });
});

describe('verify --chain', () => {
  test('of a bundle looks at the captures beside it, and of their folder at all of them', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'exhibit-chain-'));
    try {
      for (const [name, objects] of await chainOfBundles(4)) await writeTo(path.join(folder, name), objects);
      const bundle = path.join(folder, captureIdOf(2));
      const whole = await exhibit(['verify', bundle, '--chain']);
      expect(whole.code).toBe(0);
      expect(whole.stdout.toString()).toMatch(/^INTACT\n.*\nCHAIN WHOLE\n.*4 captures, numbers 1 to 4, newest/s);
      await rm(path.join(folder, captureIdOf(3)), { recursive: true });
      await mkdir(path.join(folder, 'empty'));
      const hole = await exhibit(['verify', folder, '--chain']);
      expect(hole.code).toBe(1);
      expect(hole.stdout.toString()).toMatch(/^CHAIN BROKEN\n/);
      const name = `capture 3 of chain ${CHAIN_ID} (${captureIdOf(3)}), between ${captureIdOf(2)} and ${captureIdOf(4)}, is not here`;
      expect(hole.stdout.toString()).toContain(name);
      const json = await exhibit(['verify', bundle, '--chain', '--json']);
      expect(json.code).toBe(1);
      expect(JSON.parse(json.stdout.toString())).toMatchObject({ intact: true, chain: { whole: false, captures: 3 } });
      const without = await exhibit(['verify', folder]);
      expect(without).toMatchObject({ code: 1, stderr: expect.stringContaining('holds no capture') });
      const nothing = await exhibit(['verify', path.join(folder, 'empty'), '--chain']);
      expect(nothing).toMatchObject({ code: 1, stderr: expect.stringContaining('holds no capture') });
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
