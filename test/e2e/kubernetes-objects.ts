/** What a cluster of the tests has before the manifests come: nodes that are nothing but objects, and kinds that they use. */
import type { Cluster } from '../lab/kubernetes.ts';

/** What nodes of a cluster may be. */
export const NODES = [
  node('plain', {}),
  node('tainted', { taints: [{ key: 'gpu', effect: 'NoSchedule' }] }),
  node('evicting', { taints: [{ key: 'out', effect: 'NoExecute' }] }),
  node('cordoned', { unschedulable: true }),
  node('fargate', { labels: { 'eks.amazonaws.com/compute-type': 'fargate' } }),
  node('windows', { labels: { 'kubernetes.io/os': 'windows' } }),
];
/** Those that the DaemonSet is for. */
export const WITH_AGENT = ['plain', 'tainted', 'evicting', 'cordoned'];

function node(name: string, more: { labels?: Record<string, string>; taints?: object[]; unschedulable?: boolean }) {
  const { labels, ...spec } = more;
  const metadata = { name, labels: { 'kubernetes.io/os': 'linux', 'kubernetes.io/hostname': name, ...labels } };
  return { apiVersion: 'v1', kind: 'Node', metadata, spec };
}

/** What its kubelet would tell: that it is there, and what it has to give. */
export async function wake(cluster: Cluster, name: string): Promise<void> {
  const capacity = { cpu: '4', memory: '16Gi', pods: '110' };
  const conditions = [{ type: 'Ready', status: 'True', reason: 'Test', lastHeartbeatTime: new Date().toISOString() }];
  const patch = JSON.stringify({ status: { capacity, allocatable: capacity, conditions } });
  await cluster.kubectl('patch', 'node', name, '--subresource=status', '--type=merge', '--patch', patch);
}

const text = { type: 'string' };
const texts = { type: 'array', items: text };
const textMap = { type: 'object', additionalProperties: text };
const record = (properties: object, ...required: string[]) => ({ type: 'object', properties, required });
const list = (items: object) => ({ type: 'array', items });

/**
 * Of the Prometheus Operator, as far as the manifests use it: schemas of this test, not the operator's own (those judge the rendered
 * objects in test/unit/manifests). They let the objects be stored, and refuse fields that are not named here.
 */
export const KINDS = [
  kind('PodMonitor', 'podmonitors', {
    selector: record({ matchLabels: textMap }),
    podMetricsEndpoints: list(
      record({
        port: text,
        path: text,
        interval: text,
        relabelings: list(record({ sourceLabels: texts, targetLabel: text })),
      }),
    ),
  }),
  kind('PrometheusRule', 'prometheusrules', {
    groups: list(
      record({
        name: text,
        rules: list(
          record({ alert: text, expr: text, for: text, labels: textMap, annotations: textMap }, 'alert', 'expr'),
        ),
      }),
    ),
  }),
];

function kind(name: string, plural: string, spec: object) {
  const group = 'monitoring.coreos.com';
  const schema = { openAPIV3Schema: record({ spec: record(spec) }, 'spec') };
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${group}` },
    spec: {
      group,
      scope: 'Namespaced',
      names: { kind: name, plural, singular: name.toLowerCase() },
      versions: [{ name: 'v1', served: true, storage: true, schema }],
    },
  };
}
