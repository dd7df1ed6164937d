import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CreateAliasCommand, CreateKeyCommand, GetPublicKeyCommand, KMSClient } from '@aws-sdk/client-kms';
import { GetObjectCommand, HeadObjectCommand, S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Manifest } from '../../evidence/manifest.ts';
import { runCli, startAgent } from '../lab/agent.ts';
import { irsa, podIdentity, wayTo } from '../lab/aws-identity.ts';
import { renderedAgent } from '../lab/rendered-pod.ts';
import { requireS3 } from '../lab/requires.ts';
import { startMoto, startS3 } from '../lab/s3.ts';
import { type DaemonNode, gapsOf, podObstacle, requirePods, startDaemonNode, TARGET } from './daemonset-node.ts';
import { freezeBig, LONG_FREEZE, niceOf, startBig } from './frozen-agent.ts';

/**
 * The image, run as `kubectl kustomize` renders the overlays of EKS and with no right more, beside the containerd that it looks at.
 * The object store of the first is a real one, that of the second knows roles, keys and locks: so nothing of its configuration differs.
 */

let lab: DaemonNode;

beforeAll(async () => {
  if (podObstacle() === undefined) lab = await startDaemonNode();
}, 600_000);
afterAll(() => lab?.[Symbol.asyncDispose]());
beforeEach(requirePods);

test('eks-pod-identity: a capture by exec goes into S3 whole, and lacks nothing that an agent right on the node has', async (context) => {
  requireS3(context);
  await using s3 = await startS3();
  await using way = await wayTo(lab.node, s3.endpoint);
  await using identity = await podIdentity(lab.node, s3.region, s3);
  const { endpoint } = way;
  const sink = {
    url: `s3://${s3.bucket}/cases`,
    region: s3.region,
    forcePathStyle: true,
    ifNoneMatch: false,
    endpoint,
  };
  await using agent = await lab.start({
    pod: renderedAgent('overlays/eks-pod-identity'),
    ...identity,
    config: { sink, signing: undefined },
  });

  const captured = await agent.exec(['exhibit', 'capture', TARGET, '--json', '--case', 'POD-1']);
  expect(captured.code, captured.stderr).toBe(0);
  const bundle = bundleIn(captured.stdout);
  const { accessKeyId, secretAccessKey } = s3;
  await expectIntact(bundle, { ...s3, accessKeyId, secretAccessKey });
  const client = s3.client();
  const inPod = await manifestIn(client, bundle);
  client.destroy();
  const onNode = await captureOnNode();
  expect(summary(inPod)).toEqual(summary(onNode));
  expect(inPod.artifacts).toHaveLength(9);
});

test('eks-irsa: the rendered configuration as it is, by a role for a token, into a locked bucket and sealed by a key of KMS', async (context) => {
  requireS3(context);
  const pod = renderedAgent('overlays/eks-irsa');
  const region = 'eu-central-1';
  await using moto = await startMoto({ bucket: 'amzn-s3-demo-change-me', objectLock: true });
  const added = irsa(pod, region, 'a-token-of-the-cluster');
  const role = await assumeRole(moto.endpoint, added.env.AWS_ROLE_ARN ?? '');
  const publicKey = await makeSealKey(moto.endpoint, region, role);
  await using way = await wayTo(lab.node, moto.endpoint);
  await using agent = await lab.start({ pod, ...added, env: { ...added.env, AWS_ENDPOINT_URL: way.endpoint } });

  const captured = await agent.exec(['exhibit', 'capture', TARGET, '--json', '--case', 'IR-1', '--artifacts', 'spec']);
  expect(captured.code, captured.stderr).toBe(0);
  const bundle = bundleIn(captured.stdout);
  expect(bundle).toMatch(/^s3:\/\/amzn-s3-demo-change-me\/exhibit\/change-me\/lab-node\//);
  await expectIntact(bundle, { ...moto, region });
  // A key is named by the SHA-256 of its SPKI.
  const keyId = createHash('sha256').update(publicKey).digest('hex');
  const client = new S3Client({ endpoint: moto.endpoint, region, credentials: role, forcePathStyle: true });
  const head = await client.send(new HeadObjectCommand(placeOf(bundle, 'manifest.json')));
  expect(head).toMatchObject({
    ServerSideEncryption: 'aws:kms',
    SSEKMSKeyId: 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab',
    BucketKeyEnabled: true,
    ObjectLockMode: 'COMPLIANCE',
  });
  const manifest = await manifestIn(client, bundle);
  const seal = await textIn(client, bundle, 'manifest.dsse.json');
  client.destroy();
  expect(JSON.parse(seal).signatures).toEqual([{ keyid: keyId, sig: expect.any(String) }]);
  expect(manifest.outcome).toBe('complete');
});

const bundleIn = (stdout: Buffer): string =>
  (JSON.parse(stdout.toString().split('\n')[0] ?? '') as { sinkUrl: string }).sinkUrl;

async function expectIntact(
  bundle: string,
  {
    endpoint,
    region,
    accessKeyId,
    secretAccessKey,
  }: Record<'endpoint' | 'region' | 'accessKeyId' | 'secretAccessKey', string>,
): Promise<void> {
  const env = { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_REGION: region };
  const verified = await runCli(['verify', bundle, '--endpoint', endpoint, '--region', region, '--path-style'], env);
  expect(verified.code, verified.stdout + verified.stderr).toBe(0);
  expect(verified.stdout).toContain('INTACT');
}

type Role = Exclude<NonNullable<S3ClientConfig['credentials']>, (...args: never) => unknown>;

/** As the SDK does it in the pod; here to make what the role's account has before. */
async function assumeRole(endpoint: string, role: string): Promise<Role> {
  const asked = { Action: 'AssumeRoleWithWebIdentity', Version: '2011-06-15', RoleSessionName: 'test' };
  const body = new URLSearchParams({ ...asked, RoleArn: role, WebIdentityToken: 'a-token-of-the-cluster' });
  const text = await (await fetch(endpoint, { method: 'POST', body })).text();
  const field = (name: string) => new RegExp(`<${name}>([^<]+)<`).exec(text)?.[1] ?? '';
  return {
    accessKeyId: field('AccessKeyId'),
    secretAccessKey: field('SecretAccessKey'),
    sessionToken: field('SessionToken'),
  };
}

/** `alias/exhibit-seal`, by which the rendered configuration names it. */
async function makeSealKey(endpoint: string, region: string, credentials: Role): Promise<Uint8Array> {
  const client = new KMSClient({ endpoint, region, credentials });
  try {
    const made = await client.send(new CreateKeyCommand({ KeySpec: 'ECC_NIST_P256', KeyUsage: 'SIGN_VERIFY' }));
    const keyId = made.KeyMetadata?.KeyId ?? '';
    await client.send(new CreateAliasCommand({ AliasName: 'alias/exhibit-seal', TargetKeyId: keyId }));
    const { PublicKey = new Uint8Array() } = await client.send(new GetPublicKeyCommand({ KeyId: keyId }));
    return PublicKey;
  } finally {
    client.destroy();
  }
}

/** The same target by an agent that runs as root on the node itself. */
async function captureOnNode(): Promise<Manifest> {
  await using agent = await startAgent(lab.node, { config: { memory: { bufferBytes: '64MiB' } } });
  const { code, stdout, stderr } = await agent.exhibit('capture', TARGET, '--json');
  expect(code, stderr).toBe(0);
  return JSON.parse(readFileSync(join(new URL(bundleIn(Buffer.from(stdout))).pathname, 'manifest.json'), 'utf8'));
}

function placeOf(bundle: string, name: string) {
  const { host, pathname } = new URL(bundle);
  return { Bucket: host, Key: `${pathname.slice(1)}/${name}` };
}

async function textIn(client: S3Client, bundle: string, name: string): Promise<string> {
  const { Body } = await client.send(new GetObjectCommand(placeOf(bundle, name)));
  return (await Body?.transformToString()) ?? '';
}

const manifestIn = async (client: S3Client, bundle: string): Promise<Manifest> =>
  JSON.parse(await textIn(client, bundle, 'manifest.json'));

/** What was taken and how, without sizes, times and pids. */
const summary = (manifest: Manifest) => ({
  method: manifest.freeze.method,
  consistency: manifest.freeze.consistency,
  gaps: gapsOf(manifest),
  artifacts: manifest.artifacts.map(({ name, status, notes }) => ({
    name,
    status,
    notes: notes?.map((note) => note.replaceAll(/\d+/g, 'N')),
  })),
  outcome: manifest.outcome,
});

/** The guard hears of the agent's death at once; a machine with other work needs longer to say so. */
const THAW_MS = 10_000;

test('in a freeze the guard comes before the workload, and a SIGKILL of the whole container leaves the target running', async () => {
  const big = await startBig(lab.node);
  await using agent = await lab.start({ config: LONG_FREEZE });
  const pid = await agent.pid();
  const { ended } = await freezeBig(agent, big);
  const nice = niceOf(pid);
  process.kill(pid, 'SIGKILL');
  expect(nice).toEqual({ agent: 0, guards: [-20] });
  // containerd kills what is left in the container's cgroup: the guard is not there any more.
  const thawed = Date.now() + THAW_MS;
  while (big.isFrozen() && Date.now() < thawed) await sleep(10);
  expect(big.isFrozen()).toBe(false);
  await ended;
  while ((await agent.isRunning()) && Date.now() < thawed) await sleep(50);
  expect(await agent.isRunning()).toBe(false);
  expect((await big.pod.exec('big', ['true'])).code).toBe(0);
  await big.pod.stop();
});
