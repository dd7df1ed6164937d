import { readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { COMPONENTS, MANIFESTS, OVERLAYS, render, renderObstacle, renderWith } from '../../lab/manifests.ts';
import { POLICIES } from './policies.ts';

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
});

describe('secrets', () => {
  beforeEach((context) => {
    const reason = renderObstacle();
    if (reason !== undefined) context.skip(reason);
  });

  test('are none of the manifests, which name those that the page has', () => {
    const objects = [...OVERLAYS.flatMap(render), ...COMPONENTS.flatMap((one) => renderWith('base', [one]))];
    expect(objects.filter(({ kind }) => kind === 'Secret')).toEqual([]);
    const pods = objects.filter(({ kind }) => ['DaemonSet', 'Deployment'].includes(kind));
    const named = [...JSON.stringify(pods).matchAll(/"secretName":"([^"]+)"/g)].map(([, name = '']) => name);
    expect([...new Set(named)].sort()).toEqual([
      'exhibit-agent-tls',
      'exhibit-agents-ca',
      'exhibit-controller-tls',
      'exhibit-operators-ca',
      'exhibit-postgres',
    ]);
    expect(named.filter((name) => !rows.has(name))).toEqual([]);
  });
});
