import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { allPages, ROOT } from './pages.ts';

const pages = await allPages();
const byName = new Map(pages.map((page) => [page.name, page]));

/** Why a link leads nowhere, or nothing. */
function fault(from: string, target: string): string | undefined {
  const [file = '', anchor] = target.split('#');
  const name = file === '' ? from : path.normalize(path.join(path.dirname(from), file));
  if (name.startsWith('..')) return 'leads out of the repository';
  if (!existsSync(path.join(ROOT, name))) return 'is not there';
  if (anchor === undefined) return undefined;
  const page = byName.get(name);
  if (page === undefined) return 'has an anchor, and is no page';
  return page.anchors.has(anchor) ? undefined : `has no heading #${anchor}`;
}

describe('every page', () => {
  test('is found', () => {
    expect(pages.length).toBeGreaterThan(60);
    expect(pages.flatMap(({ links }) => links).length).toBeGreaterThan(300);
  });

  test('has links that lead somewhere, to the heading', () => {
    const faults = pages.flatMap(({ name, links }) =>
      links
        .filter(({ target }) => !/^[a-z]+:/.test(target))
        .flatMap(({ at, target }) => {
          const why = fault(name, target);
          return why === undefined ? [] : [`${at}: ${target} ${why}`];
        }),
    );
    expect(faults).toEqual([]);
  });

  test('names files of this repository that are there', () => {
    const PLACEHOLDER = /\/[A-Z]+[/.]/;
    const PATH = /^(?:agent|cli|controller|evidence|proto|manifests|test|bench|demo|docs)\/[\w./-]+$/;
    // Decisions are of their time.
    const named = pages
      .filter(({ name }) => !name.startsWith('docs/decisions/'))
      .flatMap(({ spans }) => spans.filter(({ text }) => PATH.test(text)));
    expect(named.length).toBeGreaterThan(100);
    // In blocks, as the tree that one copies or applies.
    const applied = pages.flatMap(({ blocks }) =>
      blocks.flatMap(({ at, text }) =>
        [...text.matchAll(/(?<![\w./-])(?:\.\.\/)?(manifests\/[\w/-]+(?:\.\w+)?)/g)].map(([, found = '']) => ({
          at,
          text: found,
        })),
      ),
    );
    expect(applied.length).toBeGreaterThan(5);
    const missing = [...named, ...applied].filter(({ text }) => !PLACEHOLDER.test(text) && !isThere(text));
    expect(missing.map(({ at, text }) => `${at}: ${text}`)).toEqual([]);
  });

  test('of docs/ is in the index', () => {
    const index = byName.get('docs/README.md');
    const linked = new Set(
      index?.links.map(({ target }) => path.normalize(path.join('docs', target.split('#')[0] ?? ''))),
    );
    const own = pages.map(({ name }) => name).filter((name) => /^docs\/[^/]+\.md$/.test(name));
    expect(own.filter((name) => name !== 'docs/README.md' && !linked.has(name))).toEqual([]);
  });
});

/** A file, a folder, or a test by its name without an ending (`hostile/alerts`). */
function isThere(name: string): boolean {
  const whole = path.join(ROOT, name);
  return [whole, `${whole}.test.ts`].some((one) => existsSync(one));
}
