import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { ROOT, readPage } from './pages.ts';

/** Whoever checks a bundle offline, perhaps for the other side, must find every word of `verify` explained. */

const PAGES = ['docs/trust.md', 'docs/custody.md', 'docs/encryption.md'];

test('every finding of verify is explained in a page for auditors', () => {
  const source = readFileSync(path.join(ROOT, 'evidence/findings.ts'), 'utf8');
  const union = /type FindingCode =(.*?);/s.exec(source)?.[1] ?? '';
  const codes = [...union.matchAll(/'([a-z-]+)'/g)].map(([, code = '']) => code);
  expect(codes.length).toBeGreaterThan(50);
  const explained = new Set(PAGES.flatMap((name) => readPage(name).spans.map(({ text }) => text)));
  expect(codes.filter((code) => !explained.has(code))).toEqual([]);
});
