import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { exhibitImage } from '../lab/exhibit-image.ts';
import { OVERLAYS } from '../lab/manifests.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { type LabPki, labPki } from '../lab/pki.ts';
import { grantsOf, mountRightsOf, unusedVolumes, without } from '../lab/pod-grants.ts';
import type { PodInputs } from '../lab/pod-translation.ts';
import { podOf, type RenderedPod, renderedController } from '../lab/rendered-pod.ts';
import { inNetwork, type RunningPod, startPod } from '../lab/running-pod.ts';
import { podObstacle, requirePods } from './daemonset-node.ts';

/**
 * The controller's pod as `kubectl kustomize manifests/overlays/eks-pod-identity` renders it, made by containerd of the image, and then
 * without each of the things that it is granted. All overlays have the same controller, or none.
 */

const OVERLAY = 'overlays/eks-pod-identity';
const SERVICE = 'exhibit-controller.exhibit.svc';
/** SECCOMP_MODE_FILTER, as proc(5) status has it. */
const SECCOMP_FILTER = '2';

let node: LabNode;
let pki: LabPki;

beforeAll(async () => {
  if (podObstacle() !== undefined) return;
  const { tar } = await exhibitImage();
  [node, pki] = await Promise.all([startNode(), labPki({ names: [SERVICE] })]);
  await node.importImage(tar);
}, 600_000);
afterAll(async () => {
  await node?.[Symbol.asyncDispose]();
  await pki?.[Symbol.asyncDispose]();
});
beforeEach(requirePods);

function inputs(pod: RenderedPod = renderedController(OVERLAY)): PodInputs {
  const { certFile, keyFile } = pki.server;
  const grants = [{ role: 'viewer', clusters: ['*'], namespaces: ['*'] }];
  return {
    pod,
    // Here somebody is let in.
    config: { identity: { operators: [{ name: 'Ada', certificate: 'ada', grants }] } },
    secrets: {
      'exhibit-controller-tls': { 'tls.crt': readFileSync(certFile), 'tls.key': readFileSync(keyFile) },
      'exhibit-agents-ca': { 'ca.crt': readFileSync(pki.caFile('agents')) },
      'exhibit-operators-ca': { 'ca.crt': readFileSync(pki.caFile('operators')) },
    },
  };
}

async function startController(): Promise<RunningPod> {
  const controller = await startPod(node, inputs());
  try {
    await controller.started();
  } catch (error) {
    await controller.stop();
    throw error;
  }
  return controller;
}

describe('the pod of the controller', () => {
  let controller: RunningPod;
  let root: string;
  let status: string;
  beforeAll(async () => {
    if (podObstacle() !== undefined) return;
    controller = await startController();
    const pid = await controller.pid();
    [root, status] = [`/proc/${pid}/root`, readFileSync(`/proc/${pid}/status`, 'utf8')];
  });
  afterAll(() => controller?.[Symbol.asyncDispose]());

  test('runs as another user, without a capability or a way to get one, below the profile of the runtime', () => {
    const { runAsUser: user, runAsGroup: group } = podOf(renderedController(OVERLAY).workload).securityContext;
    expect(user).toBe(65532);
    expect(status).toMatch(new RegExp(`^Uid:\t${user}\t${user}\t${user}\t${user}$`, 'm'));
    expect(status).toMatch(new RegExp(`^Gid:\t${group}\t${group}\t${group}\t${group}$`, 'm'));
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
      expect(status).toMatch(new RegExp(`^${set}:\t0{16}$`, 'm'));
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(new RegExp(`^Seccomp:\t${SECCOMP_FILTER}$`, 'm'));
  });

  test('keeps its store in the volume, and can write nowhere else but in /tmp', () => {
    const store = statSync(join(root, 'var/lib/exhibit/controller.db'));
    expect([store.uid, store.mode & 0o777]).toEqual([65532, 0o600]);
    expect(readdirSync(join(root, 'tmp'))).toEqual([]);
    const { workload } = renderedController(OVERLAY);
    const rights = mountRightsOf(workload);
    const places = podOf(workload).containers[0].volumeMounts.map(({ mountPath }) => mountPath);
    for (const at of ['/', '/opt/exhibit', ...places]) {
      const file = join(root, at, 'written');
      const write = () => writeFileSync(file, '');
      if (rights.includes(`write:${at}`)) {
        write();
        rmSync(file);
      } else expect(write, at).toThrow('EROFS');
    }
  });

  test('has no token, and is asked by kubelet whether it is well', async () => {
    expect(() => statSync(join(root, 'var/run/secrets'))).toThrow('ENOENT');
    for (const which of ['startupProbe', 'livenessProbe', 'readinessProbe'] as const)
      expect([which, (await controller.probe(which)).status]).toEqual([which, 200]);
  });

  test('answers an operator over TLS by the name of its Service, and ends well on SIGTERM', async () => {
    const { certFile, keyFile } = await pki.operator('ada');
    const keys = ['--cacert', pki.caFile('controller'), '--cert', certFile, '--key', keyFile];
    const where = ['--resolve', `${SERVICE}:8443:${controller.address}`, `https://${SERVICE}:8443/v1/whoami`];
    const asked = await inNetwork(node, ['curl', '--silent', '--show-error', '--noproxy', '*', ...keys, ...where]);
    expect(asked.stderr).toBe('');
    expect(JSON.parse(asked.stdout.toString())).toMatchObject({ name: expect.stringMatching(/ada/i) });
    expect(await controller.stop()).toBe(0);
  });
});

/** Of a controller that does not start. */
async function lastWords(grant: string): Promise<string> {
  await using controller = await startPod(node, inputs(without(renderedController(OVERLAY), grant)));
  await expect(controller.started()).rejects.toThrow('ended at its start');
  return controller.log();
}

const says = (grant: string, words: RegExp) => async () => expect(await lastWords(grant)).toMatch(words);

/** Sorts more than SQLite keeps in memory, in the volume, as a program in the pod. */
const SORT = `
  const { DatabaseSync } = require('node:sqlite');
  const db = new DatabaseSync('/var/lib/exhibit/sorted.db');
  db.exec('create table t(x text); with n(i) as (select 1 union all select i + 1 from n where i < 60000) insert into t select hex(randomblob(64)) from n');
  console.log(db.prepare('select count(*) as n from (select x from t order by x limit -1 offset 1)').get().n);`;

async function sortedIn(pod: RenderedPod): Promise<{ code: number; stderr: string }> {
  await using controller = await startPod(node, inputs(pod));
  await controller.started();
  return await controller.exec(['/nodejs/bin/node', '-e', SORT]);
}

async function cannotSort(grant: string): Promise<void> {
  const { code, stderr } = await sortedIn(without(renderedController(OVERLAY), grant));
  expect(code).toBe(1);
  expect(stderr).toMatch(/ERR_SQLITE_ERROR/);
}

/** For each grant what is lost without it. */
const LOSSES: Readonly<Record<string, readonly [loss: string, look: () => Promise<void>]>> = {
  fsGroup: ['the volume is not its own', says('fsGroup', /controller\.db/)],
  'mount:/etc/exhibit': ['it does not start', says('mount:/etc/exhibit', /\/etc\/exhibit\/controller\.yaml/)],
  'mount:/etc/exhibit-tls/controller': [
    'it does not start',
    says('mount:/etc/exhibit-tls/controller', /exhibit-tls\/controller\/tls\.(crt|key)/),
  ],
  'mount:/etc/exhibit-tls/agents': [
    'it does not start',
    says('mount:/etc/exhibit-tls/agents', /exhibit-tls\/agents\/ca\.crt/),
  ],
  'mount:/etc/exhibit-tls/operators': [
    'it does not start',
    says('mount:/etc/exhibit-tls/operators', /exhibit-tls\/operators\/ca\.crt/),
  ],
  'mount:/var/lib/exhibit': ['it has no store', says('mount:/var/lib/exhibit', /controller\.db/)],
  'write:/var/lib/exhibit': ['it has no store', says('write:/var/lib/exhibit', /controller\.db/)],
  'mount:/tmp': ['SQLite cannot sort much', () => cannotSort('mount:/tmp')],
  'write:/tmp': ['SQLite cannot sort much', () => cannotSort('write:/tmp')],
};

describe('of what the controller is granted', () => {
  test('everything has its row, in every overlay, and nothing is granted to nobody', () => {
    for (const overlay of OVERLAYS.filter((name) => !/-remove$|\/local$/.test(name))) {
      const { workload } = renderedController(overlay);
      expect([...grantsOf(workload), ...mountRightsOf(workload)].sort()).toEqual(Object.keys(LOSSES).sort());
      expect(unusedVolumes(workload)).toEqual([]);
    }
  });

  test('SQLite sorts much with all of it', async () => {
    const { code, stderr } = await sortedIn(renderedController(OVERLAY));
    expect(code, stderr).toBe(0);
  });

  for (const [grant, [loss, look]] of Object.entries(LOSSES)) test(`without ${grant} ${loss}`, look);
});
