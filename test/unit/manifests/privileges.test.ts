import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { type KubernetesObject, nameOf, OVERLAYS, render } from '../../lab/manifests.ts';
import { eachRenders } from './each-renders.ts';

/**
 * What everything but the agent's own container may do: the Pod Security Standard `restricted`, written out, which the namespace cannot
 * enforce because the agent is in it. The agent itself is held to its grants in daemonset.test.ts.
 */

eachRenders();

/** Loose, because what is judged here is what `restricted` names; keys that nobody knows are found by render.test.ts. */
const restrictedContainer = z.looseObject({
  securityContext: z.looseObject({
    allowPrivilegeEscalation: z.literal(false),
    readOnlyRootFilesystem: z.literal(true),
    privileged: z.literal(false).optional(),
    capabilities: z.strictObject({ drop: z.tuple([z.literal('ALL')]) }),
    runAsUser: z.number().min(1).optional(),
    runAsNonRoot: z.literal(true).optional(),
    seccompProfile: z.undefined().optional(),
    procMount: z.undefined().optional(),
    seLinuxOptions: z.undefined().optional(),
  }),
  ports: z.array(z.looseObject({ hostPort: z.undefined().optional() })).optional(),
  resources: z.looseObject({
    requests: z.looseObject({ cpu: z.string(), memory: z.string() }),
    limits: z.looseObject({ memory: z.string() }),
  }),
});

const HARMLESS_VOLUMES = ['configMap', 'emptyDir', 'persistentVolumeClaim', 'projected', 'secret'] as const;

const restrictedPod = z.looseObject({
  hostPID: z.literal(false).optional(),
  hostIPC: z.literal(false).optional(),
  hostNetwork: z.literal(false).optional(),
  automountServiceAccountToken: z.literal(false),
  enableServiceLinks: z.literal(false),
  securityContext: z.looseObject({
    runAsNonRoot: z.literal(true),
    runAsUser: z.number().min(1),
    runAsGroup: z.number().min(1),
    seccompProfile: z.strictObject({ type: z.literal('RuntimeDefault') }),
  }),
  volumes: z
    .array(z.looseObject({ name: z.string() }))
    .transform((volumes) => volumes.flatMap((one) => Object.keys(one).filter((key) => key !== 'name')))
    .pipe(z.array(z.enum(HARMLESS_VOLUMES))),
  containers: z.array(restrictedContainer).min(1),
  initContainers: z.array(restrictedContainer).optional(),
});

const workload = z.looseObject({
  spec: z.looseObject({
    template: z.looseObject({
      spec: z.looseObject({
        containers: z.array(z.looseObject({ name: z.string() })),
        initContainers: z.array(z.looseObject({ name: z.string() })).default([]),
        volumes: z.array(z.looseObject({ name: z.string(), hostPath: z.looseObject({ path: z.string() }).optional() })),
      }),
    }),
  }),
});

const podOf = (one: KubernetesObject) => workload.parse(one).spec.template.spec;

const hostPathsOf = (one: KubernetesObject): string[] =>
  podOf(one).volumes.flatMap(({ hostPath }) => (hostPath === undefined ? [] : [hostPath.path]));

/** Objects that make pods. */
const WORKLOADS = ['DaemonSet', 'Deployment', 'StatefulSet', 'Job', 'CronJob', 'Pod'];

const faultsOf = (pod: unknown): string[] =>
  (restrictedPod.safeParse(pod).error?.issues ?? []).map(({ path, message }) => `${path.join('.')}: ${message}`);

describe('the judge of restricted pods', () => {
  const controller = () => {
    const found = render('base').find((one) => nameOf(one) === 'Deployment exhibit-controller');
    if (found === undefined) throw new Error('no controller');
    return structuredClone(podOf(found));
  };

  test('finds each right that is given to a pod of the controller', () => {
    expect(faultsOf(controller())).toEqual([]);
    expect(faultsOf({ ...controller(), hostPID: true })).toMatchObject([/^hostPID/]);
    expect(faultsOf({ ...controller(), automountServiceAccountToken: true })).toMatchObject([/^automount/]);
    const [container] = controller().containers;
    const withContext = (more: object) => ({
      ...controller(),
      containers: [{ ...container, securityContext: { ...(container?.securityContext as object), ...more } }],
    });
    expect(faultsOf(withContext({ privileged: true }))).toMatchObject([/privileged/]);
    expect(faultsOf(withContext({ runAsUser: 0 }))).toMatchObject([/runAsUser/]);
    expect(faultsOf(withContext({ capabilities: { drop: ['ALL'], add: ['NET_ADMIN'] } }))).toMatchObject([
      /capabilities/,
    ]);
    const volumes = [...controller().volumes, { name: 'x', hostPath: { path: '/' } }];
    expect(faultsOf({ ...controller(), volumes })).toMatchObject([/^volumes/]);
  });
});

describe.each([...OVERLAYS, 'examples/site'])('%s', (overlay) => {
  const workloads = () => render(overlay).filter(({ kind }) => WORKLOADS.includes(kind));

  test('has no pods that are not restricted, save the agents and those that put criu on a node or take it away', () => {
    const others = workloads().filter((one) => !['exhibit-agent', 'exhibit-criu-remove'].includes(one.metadata.name));
    expect(others.flatMap((one) => faultsOf(podOf(one)).map((fault) => `${nameOf(one)}: ${fault}`))).toEqual([]);
  });

  test('gives no container beside the agent a capability or a service account token of its own', () => {
    for (const one of workloads()) {
      const pod = podOf(one);
      const beside = [...pod.containers, ...pod.initContainers].filter(({ name }) => name !== 'agent');
      for (const container of beside) {
        const {
          runAsUser: _,
          runAsGroup: __,
          seccompProfile,
          ...rest
        } = z.looseObject({}).parse(container.securityContext);
        expect(restrictedContainer.safeParse({ ...container, securityContext: rest }).error?.issues ?? []).toEqual([]);
        expect([undefined, { type: 'RuntimeDefault' }]).toContainEqual(seccompProfile);
      }
    }
  });
});

describe('the node', () => {
  const pathsOf = (overlay: string): string[] =>
    render(overlay)
      .filter(({ kind }) => WORKLOADS.includes(kind))
      .flatMap(hostPathsOf);

  test('is reached by an overlay where the base reaches it, and by what the overlay is for', () => {
    const base = pathsOf('base');
    const more = Object.fromEntries(
      [...OVERLAYS, 'examples/site'].map((overlay) => [
        overlay,
        pathsOf(overlay)
          .filter((one) => !base.includes(one))
          .sort(),
      ]),
    );
    expect(more).toEqual({
      base: [],
      'examples/site': [],
      'overlays/bottlerocket': [],
      'overlays/criu-host': ['/opt/exhibit-criu', '/usr', '/usr/local/sbin'],
      'overlays/criu-host-remove': ['/opt/exhibit-criu', '/usr/local/sbin'],
      'overlays/docker': [],
      'overlays/eks-irsa': [],
      'overlays/eks-pod-identity': [],
      'overlays/local': ['/var/lib/exhibit-evidence'],
    });
    expect(pathsOf('overlays/docker')).not.toContain('/run/containerd');
  });
});

const rules = z.array(
  z.strictObject({ apiGroups: z.array(z.string()), resources: z.array(z.string()), verbs: z.array(z.string()) }),
);

describe('rights in the Kubernetes API', () => {
  const rightsOf = (objects: readonly KubernetesObject[]) =>
    Object.fromEntries(
      objects
        .filter(({ kind }) => ['Role', 'ClusterRole'].includes(kind))
        .map((one) => [
          nameOf(one),
          rules
            .parse(one.rules)
            .flatMap(({ apiGroups, resources, verbs }) =>
              resources.flatMap((resource) => verbs.map((verb) => `${verb} ${apiGroups.join()}/${resource}`)),
            ),
        ]),
    );

  test('are those that cli/kubernetes asks for, and the controller has none', () => {
    expect(rightsOf(render('base'))).toEqual({
      'ClusterRole exhibit-agent': ['get /pods'],
      'Role exhibit-agent': ['list /pods'],
    });
    const bindings = render('base').filter(({ kind }) => kind.endsWith('RoleBinding'));
    expect(bindings.map(({ subjects }) => subjects)).toEqual([
      [{ kind: 'ServiceAccount', name: 'exhibit-agent', namespace: 'exhibit' }],
      [{ kind: 'ServiceAccount', name: 'exhibit-agent', namespace: 'exhibit' }],
    ]);
  });

  test('of people are the table of docs/kubectl.md, with nobody bound to them', () => {
    const objects = render('examples/site');
    expect(rightsOf(objects)).toMatchObject({
      'Role exhibit-responder': ['get /pods', 'list /pods', 'create /pods/exec', 'get /pods/exec'],
      'ClusterRole exhibit-responder-targets': [
        'get /pods',
        'list /pods',
        'get apps/daemonsets',
        'get apps/deployments',
        'get apps/replicasets',
        'get apps/statefulsets',
        'get batch/jobs',
        'get /replicationcontrollers',
      ],
    });
    const bound = objects.filter(({ kind }) => kind.endsWith('RoleBinding')).map(({ metadata }) => metadata.name);
    expect(bound).toEqual(['exhibit-agent', 'exhibit-agent']);
  });
});
