import { describe, expect, test } from 'vitest';
import { type KubernetesObject, nameOf, OVERLAYS, render } from '../../lab/manifests.ts';
import { eachRenders } from './each-renders.ts';
import { schemaFaults, typeFaults } from './schemas.ts';

/** Every overlay as kubectl renders it, before judges of the Kubernetes API. */

eachRenders();

const withSpec = (spec: object): KubernetesObject => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'x' },
  spec: {
    selector: { matchLabels: { a: 'b' } },
    template: { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image: 'i', ...spec }] } },
  },
});

describe('the judges', () => {
  test('find a value of the wrong type, and a required key that is missing', async () => {
    expect(await schemaFaults(withSpec({}))).toEqual([]);
    expect(await schemaFaults(withSpec({ ports: [{ containerPort: '7443' }] }))).toMatchObject([/containerPort/]);
    expect(await schemaFaults(withSpec({ ports: [{ name: 'x' }] }))).toMatchObject([/containerPort/]);
  });

  test('find a key that the API does not know', async () => {
    expect(await typeFaults([withSpec({ readOnly: true }), withSpec({})])).toMatchObject([/^Deployment x: .*readOnly/]);
  });
});

test('no overlay has a key that the Kubernetes API does not know', async () => {
  expect(await typeFaults([...OVERLAYS, 'examples/site'].flatMap(render))).toEqual([]);
});

describe.each([...OVERLAYS, 'examples/site'])('%s', (overlay) => {
  test('is of values that the Kubernetes API takes', async () => {
    const objects = render(overlay);
    expect(objects.length).toBeGreaterThan(0);
    const faults = await Promise.all(objects.map(schemaFaults));
    expect(faults.flat()).toEqual([]);
  });

  test('has each object once, and in exhibit what has a namespace', () => {
    const objects = render(overlay);
    const names = objects.map(nameOf);
    expect(new Set(names).size).toBe(names.length);
    const clusterWide = /^(Namespace|ClusterRole|ClusterRoleBinding) /;
    const elsewhere = objects.filter((one) => !clusterWide.test(nameOf(one)) && one.metadata.namespace !== 'exhibit');
    expect(elsewhere.map(nameOf)).toEqual([]);
  });
});
