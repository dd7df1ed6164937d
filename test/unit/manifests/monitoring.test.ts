import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { expressionsOf, groupedBy, metricsIn } from '../../lab/promql.ts';
import { findPromtool, promtool, promtoolObstacle } from '../../lab/promtool.ts';
import { allMetrics } from '../metrics/registries.ts';

const FOLDER = path.resolve(import.meta.dirname, '../../../manifests/monitoring');
const ALERTS = path.join(FOLDER, 'alerts.yaml');
const dashboard = JSON.parse(readFileSync(path.join(FOLDER, 'dashboard.json'), 'utf8'));
const rules = (
  parse(readFileSync(ALERTS, 'utf8')) as { groups: { rules: { alert: string; expr: string }[] }[] }
).groups.flatMap((group) => group.rules);

/** Of the scrape: Prometheus' own and those that the PodMonitor sets. */
const SCRAPE_LABELS = ['job', 'instance', 'node', 'component', 'le'];
/** Of others, which alerts may use. */
const FOREIGN = ['up', 'kube_daemonset_status_desired_number_scheduled', 'kube_daemonset_status_number_ready'];

/** Labels by the names of samples. */
async function samples(): Promise<ReadonlyMap<string, readonly string[]>> {
  const { agent, controller } = await allMetrics();
  return new Map(
    [...agent, ...controller].flatMap(({ name, type, labels }) =>
      (type === 'histogram' ? ['_bucket', '_count', '_sum'] : ['']).map((end) => [`${name}${end}`, labels] as const),
    ),
  );
}

/** What of an expression is of no metric that there is. */
function strangers(expression: string, known: ReadonlyMap<string, readonly string[]>): string[] {
  const used = metricsIn(expression);
  const own = used.filter(({ metric }) => !FOREIGN.includes(metric));
  const labels = own.flatMap(({ metric }) => known.get(metric) ?? []);
  return [
    ...own.filter(({ metric }) => !known.has(metric)).map(({ metric }) => metric),
    ...own.flatMap(({ metric, labels: asked }) =>
      asked.filter((one) => !SCRAPE_LABELS.includes(one) && !known.get(metric)?.includes(one)),
    ),
    ...groupedBy(expression).filter((one) => !SCRAPE_LABELS.includes(one) && !labels.includes(one)),
    ...(used.length === 0 ? ['nothing'] : []),
  ];
}

describe('the reader of expressions', () => {
  test('finds metrics and labels, and no functions or words', () => {
    const text =
      'sum by (node, le) (rate(a_total{x=~"b|c_d", y!="e"}[5m])) / on (node) (f > 0.5) or topk(5, g:h) unless 1e3';
    expect(metricsIn(text)).toEqual([
      { metric: 'a_total', labels: ['x', 'y'] },
      { metric: 'f', labels: [] },
      { metric: 'g:h', labels: [] },
    ]);
    expect(groupedBy(text)).toEqual(['node', 'le']);
  });
});

describe('the alerts', () => {
  test('use metrics and labels that there are', async () => {
    const known = await samples();
    expect(rules.length).toBeGreaterThan(15);
    expect(rules.map(({ alert, expr }) => [alert, ...strangers(expr, known)])).toEqual(
      rules.map(({ alert }) => [alert]),
    );
  });

  const program = findPromtool();
  test.skipIf(program === undefined)(
    `are rules to promtool${program === undefined ? `: ${promtoolObstacle}` : ''}`,
    () => {
      const { code, words } = promtool(program ?? '', ['check', 'rules', ALERTS]);
      expect([code, words]).toEqual([0, expect.stringContaining(`${rules.length} rules found`)]);
    },
  );

  test.skipIf(program === undefined)('fire when they should and not before, to promtool', () => {
    const file = path.join(import.meta.dirname, 'alerts.rules-test.yaml');
    const tested = (parse(readFileSync(file, 'utf8')) as { tests: { alert_rule_test: Fired[] }[] }).tests.flatMap(
      (one) => one.alert_rule_test,
    );
    const fired = tested.filter(({ exp_alerts }) => exp_alerts.length > 0).map(({ alertname }) => alertname);
    expect(new Set(fired)).toEqual(new Set(rules.map(({ alert }) => alert)));
    expect(promtool(program ?? '', ['test', 'rules', file])).toMatchObject({ code: 0 });
  });
});

interface Fired {
  readonly alertname: string;
  readonly exp_alerts: readonly unknown[];
}

describe('the dashboard', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-dashboard-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const expressions = expressionsOf(dashboard);

  test('uses metrics and labels that there are', async () => {
    const known = await samples();
    expect(expressions.length).toBeGreaterThan(40);
    const strange = expressions.map((one) => [one, ...strangers(one, known)]).filter((found) => found.length > 1);
    expect(strange).toEqual([]);
  });

  test('shows every metric of ours, or an alert does', async () => {
    const { agent, controller } = await allMetrics();
    const used = new Set(
      [...expressions, ...rules.map(({ expr }) => expr)].flatMap(metricsIn).map(({ metric }) => metric),
    );
    const unseen = [...agent, ...controller]
      .filter(({ name }) => name.startsWith('exhibit_'))
      .filter(({ name, type }) => !used.has(type === 'histogram' ? `${name}_bucket` : name));
    // How long the stream has been up is for people who ask for it.
    expect(unseen.map(({ name }) => name)).toEqual(['exhibit_controller_stream_seconds']);
  });

  const program = findPromtool();
  test.skipIf(program === undefined)('has expressions that are PromQL to promtool', () => {
    const file = path.join(folder, 'rules.yaml');
    const recorded = expressions.map((expr, at) => ({ record: `panel:${at}`, expr }));
    writeFileSync(file, stringify({ groups: [{ name: 'dashboard', rules: recorded }] }));
    const { code, words } = promtool(program ?? '', ['check', 'rules', file]);
    expect([code, words]).toEqual([0, expect.stringContaining(`${expressions.length} rules found`)]);
  });

  test('has no two panels of one id, or in one place', () => {
    const { panels } = dashboard as { panels: { id: number; gridPos: { x: number; y: number } }[] };
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    expect(new Set(panels.map(({ gridPos }) => `${gridPos.x},${gridPos.y}`)).size).toBe(panels.length);
  });
});
