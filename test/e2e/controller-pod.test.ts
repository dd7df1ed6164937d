import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, copyFile, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { labRoot } from '../lab/cache.mjs';
import { nameOf, render, renderObstacle } from '../lab/manifests.ts';
import { type LabPki, labPki } from '../lab/pki.ts';
import { labObstacle } from '../lab/requires.ts';

/**
 * The controller as the pod of manifests/base runs it: its user, its arguments, environment and mounts, without a capability, on a root
 * that is read-only. Left out are kubelet, the image and seccomp.
 */

const REPOSITORY = path.resolve(import.meta.dirname, '../..');
const POD = path.join(REPOSITORY, 'test/lab/restricted-pod.sh');
const START_TIMEOUT_MS = 60_000;

const deploymentSchema = z.looseObject({
  spec: z.looseObject({
    template: z.looseObject({
      spec: z.looseObject({
        securityContext: z.looseObject({ runAsUser: z.number(), fsGroup: z.number() }),
        containers: z.tuple([
          z.looseObject({
            args: z.array(z.string()),
            env: z.array(z.looseObject({ name: z.string(), value: z.string().default('pod-1') })),
            volumeMounts: z.array(z.looseObject({ mountPath: z.string(), readOnly: z.boolean().default(false) })),
          }),
        ]),
      }),
    }),
  }),
});

const skipped = renderObstacle() ?? labObstacle();
beforeEach((context) => {
  if (skipped !== undefined) context.skip(skipped);
});

let folder: string;
let pki: LabPki;
let controller: ChildProcess;
let log = '';
beforeAll(async () => {
  if (skipped !== undefined) return;
  folder = await mkdtemp(path.join(tmpdir(), 'exhibit-pod-'));
  pki = await labPki({ names: ['127.0.0.1'] });
  controller = await startPod();
}, START_TIMEOUT_MS);
afterAll(async () => {
  controller?.kill('SIGKILL');
  await pki?.[Symbol.asyncDispose]();
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

function deployment() {
  const found = render('base').find((one) => nameOf(one) === 'Deployment exhibit-controller');
  return deploymentSchema.parse(found).spec.template.spec;
}

/** The volumes of the pod, with owners and modes as kubelet gives them. */
async function fillVolumes(): Promise<string> {
  const volumes = path.join(folder, 'volumes');
  const { securityContext, containers } = deployment();
  for (const { mountPath } of containers[0].volumeMounts) {
    await mkdir(path.join(volumes, mountPath), { recursive: true });
    await chown(path.join(volumes, mountPath), 0, securityContext.fsGroup);
    await chmod(path.join(volumes, mountPath), 0o2775);
  }
  const secrets = [
    [pki.server.certFile, 'controller/tls.crt'],
    [pki.server.keyFile, 'controller/tls.key'],
    [pki.caFile('agents'), 'agents/ca.crt'],
    [pki.caFile('operators'), 'operators/ca.crt'],
  ] as const;
  for (const [from, to] of secrets) {
    const at = path.join(volumes, 'etc/exhibit-tls', to);
    await copyFile(from, at);
    await chown(at, 0, securityContext.fsGroup);
    await chmod(at, 0o440);
  }
  const config = parse(await readFile(path.join(REPOSITORY, 'manifests/base/controller/config.yaml'), 'utf8'));
  // The port for machines has tests of its own; here somebody is let in.
  delete config.metrics;
  config.identity.operators = [
    { name: 'Ada', certificate: 'ada', grants: [{ role: 'viewer', clusters: ['*'], namespaces: ['*'] }] },
  ];
  await writeFile(path.join(volumes, 'etc/exhibit/controller.yaml'), stringify(config));
  return volumes;
}

async function startPod(): Promise<ChildProcess> {
  const volumes = await fillVolumes();
  const { securityContext, containers } = deployment();
  const [{ args, env, volumeMounts }] = containers;
  const scratch = path.join(folder, 'scratch');
  await mkdir(scratch);
  const mounts = volumeMounts.map(({ mountPath, readOnly }) => `${mountPath}:${readOnly ? 'ro' : 'rw'}`);
  const node = path.dirname(process.execPath);
  const pod = ['sh', POD, scratch, labRoot(), REPOSITORY, node, volumes, String(securityContext.runAsUser), ...mounts];
  const child = spawn('unshare', ['--mount', '--net', '--propagation', 'private', ...pod, '--', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...Object.fromEntries(env.map(({ name, value }) => [name, value])),
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    },
  });
  const ended = once(child, 'exit').then(() => {
    throw new Error(`the controller ended:\n${log}`);
  });
  const listens = new Promise<void>((resolve) => {
    const take = (chunk: Buffer) => {
      log += chunk;
      if (log.includes('controller ready')) resolve();
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
  });
  ended.catch(() => undefined);
  await Promise.race([listens, ended]);
  return child;
}

test('runs as another user, without a capability or a way to get one', async () => {
  const status = await readFile(`/proc/${controller.pid}/status`, 'utf8');
  expect(status).toMatch(/^Uid:\t65532\t65532\t65532\t65532$/m);
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
    expect(status).toMatch(new RegExp(`^${set}:\t0{16}$`, 'm'));
  expect(status).toMatch(/^NoNewPrivs:\t1$/m);
});

test('keeps its store in the volume, and can write nowhere else', async () => {
  const root = `/proc/${controller.pid}/root`;
  const store = await stat(path.join(root, 'var/lib/exhibit/controller.db'));
  expect([store.uid, store.mode & 0o777]).toEqual([65532, 0o600]);
  for (const at of ['', 'etc/exhibit', 'etc/exhibit-tls/agents', 'opt/exhibit'])
    await expect(writeFile(path.join(root, at, 'written'), '')).rejects.toMatchObject({ code: 'EROFS' });
  expect(await readdir(path.join(root, 'tmp'))).toEqual([]);
});

test('answers an operator over TLS, and ends well on SIGTERM', async () => {
  const { certFile, keyFile } = await pki.operator('ada');
  const asked = [
    '--silent',
    '--show-error',
    '--cacert',
    pki.caFile('controller'),
    '--cert',
    certFile,
    '--key',
    keyFile,
  ];
  const curl = [`--net=/proc/${controller.pid}/ns/net`, 'curl', ...asked, 'https://127.0.0.1:8443/v1/whoami'];
  expect(JSON.parse(execFileSync('nsenter', curl, { encoding: 'utf8' }))).toMatchObject({
    name: expect.stringMatching(/ada/i),
  });
  controller.kill('SIGTERM');
  expect(await once(controller, 'exit')).toEqual([0, null]);
});
