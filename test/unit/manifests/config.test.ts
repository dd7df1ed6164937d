import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { parseConfig as parseAgent } from '../../../agent/config.ts';
import { parseConfig as parseController } from '../../../controller/config.ts';
import { CONTROLLER_ENVIRONMENT } from '../../../controller/environment.ts';
import { type KubernetesObject, nameOf, OVERLAYS, render, renderWith } from '../../lab/manifests.ts';
import { eachRenders } from './each-renders.ts';

/** The configurations in the ConfigMaps, with the environment of the pods that read them, before the programs' own parsers. */

eachRenders();

const environment = z.array(
  z.looseObject({ name: z.string(), value: z.string().optional(), valueFrom: z.looseObject({}).optional() }),
);
const mount = z.looseObject({ name: z.string(), mountPath: z.string() });
const pods = z.looseObject({
  spec: z.looseObject({
    template: z.looseObject({
      spec: z.looseObject({
        containers: z.array(
          z.looseObject({ name: z.string(), env: environment.default([]), volumeMounts: z.array(mount) }),
        ),
        volumes: z.array(
          z.looseObject({ name: z.string(), configMap: z.looseObject({ name: z.string() }).optional() }),
        ),
      }),
    }),
  }),
});
const configMap = z.looseObject({ data: z.record(z.string(), z.string()) });

function partsOf(objects: readonly KubernetesObject[], workload: string) {
  const found = objects.find((one) => nameOf(one) === workload);
  if (found === undefined) return undefined;
  const pod = pods.parse(found).spec.template.spec;
  const container = pod.containers.find(
    ({ name }) => workload === `DaemonSet exhibit-${name}` || workload === `Deployment exhibit-${name}`,
  );
  const mapName = pod.volumes.find(({ name }) => name === 'config')?.configMap?.name;
  const map = objects.find((one) => nameOf(one) === `ConfigMap ${mapName}`);
  if (container === undefined || map === undefined) throw new Error(`${workload} has no container or no ConfigMap`);
  /** What the kubelet fills in is a name of some kind. */
  const env = Object.fromEntries(container.env.map(({ name, value }) => [name, value ?? 'ns/node-1']));
  return { container, env, files: configMap.parse(map).data };
}

type Parser<T> = (text: string, file: string, env: NodeJS.ProcessEnv) => T;

const METRICS = /^metrics:\n {2}listen: 0\.0\.0\.0:9464\n/m;

function configOf<T>(objects: readonly KubernetesObject[], workload: string, parser: Parser<T>): T | undefined {
  const parts = partsOf(objects, workload);
  if (parts === undefined) return undefined;
  const [[file = '', text = '']] = Object.entries(parts.files) as [[string, string]];
  expect(text).toMatch(METRICS);
  return parser(text, file, parts.env);
}
const agentOf = (objects: readonly KubernetesObject[]) => configOf(objects, 'DaemonSet exhibit-agent', parseAgent);
const controllerOf = (objects: readonly KubernetesObject[]) =>
  configOf(objects, 'Deployment exhibit-controller', parseController);

const INSTALLATIONS = [...OVERLAYS, 'examples/site'].filter((name) => !name.endsWith('-remove'));

describe.each(INSTALLATIONS)('%s', (overlay) => {
  test('has a configuration of the agent that the agent takes', () => {
    expect(agentOf(render(overlay))).toMatchObject({ runtime: { hostRoot: '/host' } });
  });

  test('has a configuration of the controller that the controller takes, or no controller', () => {
    const controller = controllerOf(render(overlay));
    if (overlay === 'overlays/local') expect(controller).toBeUndefined();
    else expect(controller).toMatchObject({ agents: { listen: '0.0.0.0:7443' } });
  });

  test('has files of the configuration below places that are mounted', () => {
    for (const workload of ['DaemonSet exhibit-agent', 'Deployment exhibit-controller']) {
      const parts = partsOf(render(overlay), workload);
      if (parts === undefined) continue;
      const mounts = parts.container.volumeMounts.map(({ mountPath }) => mountPath);
      const named = [
        ...Object.values(parts.files)
          .join('\n')
          .matchAll(/(?:File: |sqlite:|file:\/\/)(\/\S+)/g),
      ].map(([, at = '']) => at);
      const fromEnvironment = Object.entries(parts.env).flatMap(([name, value]) =>
        name.endsWith('_FILE') ? [value] : [],
      );
      // PostgreSQL's URL wins over the file's.
      const used =
        parts.env.EXHIBIT_STORE_URL === undefined ? named : named.filter((one) => !one.startsWith('/var/lib/exhibit/'));
      const loose = [...used, ...fromEnvironment].filter(
        (at) => !mounts.some((one) => at === one || at.startsWith(`${one}/`)),
      );
      expect(loose).toEqual([]);
    }
  });
});

describe('an installation that nobody configured', () => {
  test.each(['base', 'overlays/eks-pod-identity', 'overlays/eks-irsa', 'overlays/bottlerocket'])(
    '%s sends evidence to a bucket that cannot be, and lets nobody in',
    (overlay) => {
      expect(agentOf(render(overlay))?.sinks).toMatchObject([
        { sink: { url: expect.stringMatching(/^s3:\/\/amzn-s3-demo-/) } },
      ]);
      expect(controllerOf(render(overlay))?.identity.operators).toEqual([]);
    },
  );
});

describe('the agents', () => {
  test('refuse captures in the namespace of exhibit itself, where keys are', () => {
    for (const overlay of INSTALLATIONS) expect(agentOf(render(overlay))?.policy.namespaces?.deny).toEqual(['exhibit']);
  });

  test('have memory for buffer and spool within the limit of their pod', () => {
    const limit = 2 * 2 ** 30;
    for (const overlay of INSTALLATIONS) {
      const config = agentOf(render(overlay));
      const own = 300 * 2 ** 20;
      expect((config?.memory.bufferBytes ?? limit) + (config?.spool.bytes ?? limit) + own).toBeLessThanOrEqual(limit);
    }
  });

  test('dial the controller with the certificate of their node, with either component', () => {
    for (const component of ['components/controller-link', 'components/spiffe']) {
      expect(agentOf(renderWith('base', [component]))?.controller).toMatchObject({
        address: 'exhibit-controller.exhibit.svc:7443',
        certFile: '/etc/exhibit-tls/node.pem',
        keyFile: '/etc/exhibit-tls/node.key',
        caFile: '/etc/exhibit-tls/ca.pem',
      });
    }
    expect(agentOf(render('base'))?.controller).toBeUndefined();
  });

  test("ask Docker where the overlay says so, by a socket below the node's root", () => {
    expect(agentOf(render('overlays/docker'))?.runtime).toMatchObject({
      kind: 'docker',
      socket: '/host/run/docker.sock',
    });
  });
});

describe('the controller', () => {
  test('has the environment that keeps it small', () => {
    expect(partsOf(render('base'), 'Deployment exhibit-controller')?.env).toMatchObject(CONTROLLER_ENVIRONMENT);
  });

  test('shares PostgreSQL over TLS that is verified, in place of a file', () => {
    expect(controllerOf(renderWith('base', ['components/postgres']))?.store).toMatchObject({
      url: expect.stringMatching(/^postgres:\/\/.*sslmode=verify-full/),
      passwordFile: '/etc/exhibit-postgres/password',
    });
  });
});
