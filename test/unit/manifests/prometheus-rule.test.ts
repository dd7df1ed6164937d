import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { MANIFESTS } from '../../lab/manifests.ts';

const ALERTS = path.join(MANIFESTS, 'monitoring/alerts.yaml');

/** kustomize cannot put a file into an object: `npx vitest run -u` on this file writes the object anew. */
test('the PrometheusRule has the alerts of manifests/monitoring/alerts.yaml', async () => {
  const { groups } = parse(readFileSync(ALERTS, 'utf8'));
  const rule = {
    apiVersion: 'monitoring.coreos.com/v1',
    kind: 'PrometheusRule',
    metadata: { name: 'exhibit', namespace: 'exhibit', labels: { 'app.kubernetes.io/name': 'exhibit' } },
    spec: { groups },
  };
  const text = `# Written by its test from ../../monitoring/alerts.yaml, where the reasons are: change that.\n${stringify(rule, { lineWidth: 0 })}`;
  await expect(text).toMatchFileSnapshot(path.join(MANIFESTS, 'components/prometheus-operator/prometheusrule.yaml'));
});
