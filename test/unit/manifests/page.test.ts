import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { COMPONENTS, MANIFESTS, OVERLAYS } from '../../lab/manifests.ts';
import { POLICIES } from './policies.ts';
import { SECRETS } from './secrets.ts';

/** docs/manifests.md against the folder. */

const page = readFileSync(path.resolve(MANIFESTS, '../docs/manifests.md'), 'utf8');

/** Names in the first column of its tables. */
const rows = new Set(
  [...page.matchAll(/^\| ([^|]+) \|/gm)].flatMap(([, first = '']) =>
    [...first.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name),
  ),
);

describe('docs/manifests.md', () => {
  test.each([...OVERLAYS, ...COMPONENTS, ...POLICIES])('has a row of %s', (name) => {
    expect(rows).toContain(name.replace(/^(overlays|components)\//, ''));
  });

  test.each(SECRETS)('has a row of the Secret %s, which the manifests name', (name) => {
    expect(rows).toContain(name);
  });
});
