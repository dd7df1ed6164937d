/** What a real API server lets the service accounts and people do, by the rights that the manifests give them. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Cluster, kubernetesObstacle, requireKubernetes, startCluster } from '../lab/kubernetes.ts';
import { renderWith } from '../lab/manifests.ts';

let cluster: Cluster;

/** What a user may, of what matters to exhibit: each right of the code, and those next to it. */
const RIGHTS: readonly [user: string, may: boolean, verb: string, resource: string, namespace: string][] = [
  ['exhibit-agent', true, 'get', 'pods', 'prod'],
  ['exhibit-agent', true, 'list', 'pods', 'exhibit'],
  ['exhibit-agent', false, 'list', 'pods', 'prod'],
  ['exhibit-agent', false, 'watch', 'pods', 'prod'],
  ['exhibit-agent', false, 'create', 'pods', 'exhibit'],
  ['exhibit-agent', false, 'create', 'pods/exec', 'exhibit'],
  ['exhibit-agent', false, 'get', 'pods/exec', 'prod'],
  ['exhibit-agent', false, 'get', 'pods/log', 'prod'],
  ['exhibit-agent', false, 'get', 'secrets', 'exhibit'],
  ['exhibit-agent', false, 'get', 'configmaps', 'exhibit'],
  ['exhibit-agent', false, 'get', 'nodes', ''],
  ['exhibit-agent', false, 'get', 'nodes/proxy', ''],
  ['exhibit-agent', false, 'create', 'serviceaccounts/token', 'exhibit'],
  ['exhibit-controller', false, 'get', 'pods', 'exhibit'],
  ['exhibit-controller', false, 'get', 'secrets', 'exhibit'],
  ['responder', true, 'get', 'pods', 'prod'],
  ['responder', true, 'list', 'pods', 'prod'],
  ['responder', true, 'get', 'deployments.apps', 'prod'],
  ['responder', true, 'get', 'jobs.batch', 'prod'],
  ['responder', true, 'list', 'pods', 'exhibit'],
  ['responder', true, 'create', 'pods/exec', 'exhibit'],
  ['responder', true, 'get', 'pods/exec', 'exhibit'],
  ['responder', false, 'create', 'pods/exec', 'prod'],
  ['responder', false, 'create', 'pods', 'exhibit'],
  ['responder', false, 'get', 'pods', 'other'],
  ['responder', false, 'get', 'secrets', 'exhibit'],
];

describe('RBAC', () => {
  beforeAll(async () => {
    if (kubernetesObstacle() !== undefined) return;
    cluster = await startCluster();
    await cluster.apply(
      ...renderWith('base', ['components/responders']).filter(({ kind }) => /Namespace|Role|ServiceAccount/.test(kind)),
    );
    const namespaces = ['prod', 'other'].map((name) => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } }));
    await cluster.apply(
      ...namespaces,
      bound('exhibit', 'Role', 'exhibit-responder'),
      bound('prod', 'ClusterRole', 'exhibit-responder-targets'),
    );
  }, 300_000);
  afterAll(() => cluster?.[Symbol.asyncDispose]());
  beforeEach((context) => requireKubernetes(context));

  /** As docs/kubectl.md tells an operator to. */
  const bound = (namespace: string, kind: string, name: string) => ({
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'RoleBinding',
    metadata: { name: 'responder', namespace },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind, name },
    subjects: [{ kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name: 'responder' }],
  });
  const userOf = (name: string) => (name === 'responder' ? name : `system:serviceaccount:exhibit:${name}`);

  test.for(RIGHTS)('%s: %s for %s %s in %s', async ([user, may, verb, resource, namespace]) => {
    const scope = namespace === '' ? [] : ['--namespace', namespace];
    // Behind a slash kubectl takes the name of one object, not a subresource.
    const [kind = '', sub] = resource.split('/');
    const asked = ['auth', 'can-i', verb, kind, ...(sub === undefined ? [] : ['--subresource', sub])];
    const { stdout } = await cluster.tryKubectl([...asked, '--as', userOf(user), ...scope]);
    expect(stdout.toString().trim()).toBe(may ? 'yes' : 'no');
  });

  test('gives the service accounts nothing beyond that', async () => {
    const rightsOf = async (account: string) => {
      const said = await cluster.kubectl(
        'auth',
        'can-i',
        '--list',
        '--namespace=exhibit',
        '--as',
        userOf(account),
        '--no-headers',
      );
      // What everybody has: questions about oneself, and addresses without resources, whose lines begin with a space.
      return said
        .split('\n')
        .filter((line) => /^\w/.test(line) && !/^self\w+\.auth/.test(line))
        .map((line) => line.replaceAll(/\s+/g, ' ').replace('[get list]', '[list get]'));
    };
    expect(await rightsOf('exhibit-agent')).toEqual(['pods [] [] [list get]']);
    expect(await rightsOf('exhibit-controller')).toEqual([]);
  });
});
