import { describe, expect, test } from 'vitest';
import { COMPONENTS, type KubernetesObject, nameOf, renderWith } from '../../lab/manifests.ts';
import { eachRenders } from './each-renders.ts';
import { schemaFaults, typeFaults } from './schemas.ts';
import { SECRETS } from './secrets.ts';

/** Each component over the base alone, and those together that say different things of one object. */

eachRenders();

/** SPIRE's controller manager: no package has its definitions. */
const UNKNOWN_KINDS = ['ClusterSPIFFEID'];

const judged = (objects: readonly KubernetesObject[]) => objects.filter(({ kind }) => !UNKNOWN_KINDS.includes(kind));

const known = new Map<string, readonly KubernetesObject[]>();

/** Over the base, once. */
function rendered(components: readonly string[]): readonly KubernetesObject[] {
  const name = components.join();
  const objects = known.get(name) ?? renderWith('base', components);
  known.set(name, objects);
  return objects;
}

const COMBINATIONS: readonly (readonly string[])[] = [
  ...COMPONENTS.map((one) => [one]),
  ['components/eks', 'components/bottlerocket', 'components/spiffe', 'components/without-controller'],
  ['components/postgres', 'components/cert-manager', 'components/without-agent', 'components/prometheus-operator'],
  ['components/eks', 'components/criu-host', 'components/controller-link', 'components/postgres'],
];

describe('components', () => {
  test.each(COMBINATIONS.map((one) => ({ components: one, name: one.join(' + ') })))(
    '$name is of values that the API takes',
    async ({ components }) => {
      const objects = judged(rendered(components));
      expect((await Promise.all(objects.map(schemaFaults))).flat()).toEqual([]);
    },
  );

  test('have no key that the API does not know', async () => {
    expect(await typeFaults(COMBINATIONS.flatMap((one) => judged(rendered(one))))).toEqual([]);
  });
});

const kindsOf = (...components: string[]) => rendered(components).map(nameOf);

test('agents alone leave nothing of the controller, and a controller alone nothing of the agents', () => {
  expect(kindsOf('components/without-controller').filter((name) => /exhibit-controller/.test(name))).toEqual([]);
  expect(kindsOf('components/without-agent').filter((name) => /exhibit-agent/.test(name))).toEqual([]);
  expect(kindsOf('components/without-agent')).toContain('Deployment exhibit-controller');
});

test('controllers on PostgreSQL have no volume, roll without a gap and one is left when a node is drained', () => {
  const objects = rendered(['components/postgres']);
  expect(objects.map(nameOf)).not.toContain('PersistentVolumeClaim exhibit-controller');
  const find = (name: string) => objects.find((one) => nameOf(one) === name);
  expect(find('Deployment exhibit-controller')).toMatchObject({
    spec: { replicas: 3, strategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0 } } },
  });
  expect(JSON.stringify(find('Deployment exhibit-controller'))).not.toMatch(/persistentVolumeClaim|"store"/);
  expect(find('PodDisruptionBudget exhibit-controller')).toMatchObject({ spec: { maxUnavailable: 1 } });
  expect(find('NetworkPolicy exhibit-controller-postgres')).toMatchObject({
    spec: { policyTypes: ['Egress'], egress: [{ ports: [{ port: 5432, protocol: 'TCP' }] }] },
  });
});

test('a change of a configuration gives its ConfigMap another name, and the pods with it', () => {
  const mapOf = (...components: string[]) => {
    const objects = rendered(components);
    const name = objects.find(
      ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name.startsWith('exhibit-agent-'),
    );
    const agents = objects.find((one) => nameOf(one) === 'DaemonSet exhibit-agent');
    expect(JSON.stringify(agents)).toContain(`"configMap":{"name":"${name?.metadata.name}"}`);
    return name?.metadata.name;
  };
  expect(mapOf()).toMatch(/^exhibit-agent-[a-z0-9]{10}$/);
  expect(mapOf('components/eks')).not.toBe(mapOf());
});

test('no Secret is made, and those that are named are the ones that an operator is told of', () => {
  const objects = COMBINATIONS.flatMap((one) => rendered(one));
  expect(objects.filter(({ kind }) => kind === 'Secret')).toEqual([]);
  const pods = objects.filter(({ kind }) => ['DaemonSet', 'Deployment'].includes(kind));
  const named = [...JSON.stringify(pods).matchAll(/"secretName":"([^"]+)"/g)].map(([, name = '']) => name);
  expect([...new Set(named)].sort()).toEqual(SECRETS);
});
