import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { readPage } from '../docs/pages.ts';
import { allMetrics } from './registries.ts';

const ROOT = path.resolve(import.meta.dirname, '../../..');
const DOC = readFileSync(path.join(ROOT, 'docs/metrics.md'), 'utf8');

/** The rows of the table below a heading, without their meaning. */
function rowsBelow(heading: string): string[] {
  const [, section = ''] = DOC.split(`\n## ${heading}\n`);
  const table = section.split('\n## ')[0] ?? '';
  return [...table.matchAll(/^\| `(\w+)` \| (\w+) \| ([^|]*) \| ([^|]+) \|$/gm)].map(
    ([, name, type, labels = '', meaning = '']) => {
      expect(meaning.length).toBeGreaterThan(10);
      return `${name} ${type} ${labels === 'none' ? '' : labels.replaceAll('`', '')}`;
    },
  );
}

const rowOf = ({ name, type, labels }: { name: string; type: string; labels: readonly string[] }) =>
  `${name} ${type} ${labels.join(', ')}`;

describe('docs/metrics.md', () => {
  test('has every metric of both programs with its type and labels, and no other', async () => {
    const { agent, controller } = await allMetrics();
    const names = new Set(agent.map(({ name }) => name));
    const common = controller.filter(({ name }) => names.has(name));
    const isCommon = ({ name }: { name: string }) => common.some((one) => one.name === name);
    expect(common.length).toBeGreaterThan(15);
    expect(rowsBelow("The agent's").sort()).toEqual(
      agent
        .filter((one) => !isCommon(one))
        .map(rowOf)
        .sort(),
    );
    expect(rowsBelow("The controller's").sort()).toEqual(
      controller
        .filter((one) => !isCommon(one))
        .map(rowOf)
        .sort(),
    );
    expect(rowsBelow('Of both').sort()).toEqual(common.map(rowOf).sort());
  });

  test('has what to do for every alert, where the alert says that it is', () => {
    const { groups } = parse(readFileSync(path.join(ROOT, 'manifests/monitoring/alerts.yaml'), 'utf8')) as {
      groups: { rules: { alert: string; annotations: { runbook: string } }[] }[];
    };
    const rules = groups.flatMap(({ rules }) => rules);
    const sections = [...DOC.matchAll(/^### (\w+)\n\*\*.+\*\* .+/gm)].map(([, name]) => name);
    expect(sections).toEqual(rules.map(({ alert }) => alert));
    expect(rules.map(({ annotations }) => annotations.runbook)).toEqual(
      rules.map(({ alert }) => `docs/metrics.md#${alert.toLowerCase()}`),
    );
    // As GitHub makes them of headings.
    const missing = rules.filter(({ annotations }) => {
      const [page = '', anchor = ''] = annotations.runbook.split('#');
      return !readPage(page).anchors.has(anchor);
    });
    expect(missing).toEqual([]);
  });
});
