/**
 * What the fault table is tried on: a node with a container whose content is known, a real S3 server behind a network with
 * faults, and agents that take evidence from the one into the other.
 */
import { createHash } from 'node:crypto';
import { globSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Account, accountFor, type Planted, readBundle } from './account.ts';
import { type AgentOptions, type LabAgent, startAgent } from './agent.ts';
import { type LabNode, startNode } from './node.ts';
import type { LabPod } from './pod.ts';
import { type LabS3, startMoto, startS3 } from './s3.ts';
import { type S3Proxy, startS3Proxy } from './s3-proxy.ts';
import { openS3Store, type S3Store } from './s3-store.ts';

/** S3's smallest part. */
export const PART_BYTES = 5 * 2 ** 20;
/** Longest that evidence waits for an S3 that is there again: the pauses between two attempts double up to 60 s. */
const SETTLE_TIMEOUT_MS = 90_000;

const PREFIX = 'cases';

export interface CustodyLabOptions {
  readonly server?: 'radosgw' | 'moto';
  readonly objectLock?: boolean;
  /** Incompressible files of 1 MiB in the container's writable layer. */
  readonly files?: number;
}

export type CustodyAgent = LabAgent & { readonly folder: string };

export interface CustodyLab extends AsyncDisposable {
  readonly node: LabNode;
  readonly s3: LabS3;
  readonly proxy: S3Proxy;
  readonly store: S3Store;
  readonly pod: LabPod;
  readonly planted: Planted;
  /** What `exhibit capture` calls the target. */
  readonly selector: string;
  /** Its configuration is merged over the lab's, and `sink` over the lab's sink. */
  agent(options?: CustodyAgentOptions): Promise<CustodyAgent>;
  /** Where the agent keeps what waits, unless its configuration says where. */
  spoolOf(agent: CustodyAgent): string;
  /** The first bytes of a planted file, as they are in the container. */
  plantedBytes(): Promise<Buffer>;
  /** The key of a bundle. */
  bundleKey(captureId: string): string;
  /** What is in the server of a capture, and whether it adds up. Unfinished uploads that `knows` has told of in its log are known. */
  account(captureId: string, knows?: CustodyAgent): Promise<Account>;
  /** The target's cgroups stand still, or its program does not answer. */
  frozen(): Promise<string | undefined>;
  /** The proxy is without faults, listens, and the server runs. */
  calm(): Promise<void>;
}

export interface CustodyAgentOptions extends AgentOptions {
  readonly sink?: Record<string, unknown>;
}

export async function startCustodyLab(options: CustodyLabOptions = {}): Promise<CustodyLab> {
  await using stack = new AsyncDisposableStack();
  const [node, s3] = await Promise.all([
    startNode(),
    options.server === 'moto' ? startMoto({ objectLock: options.objectLock ?? false }) : startS3(),
  ]);
  stack.use(node);
  stack.use(s3);
  const proxy = stack.use(await startS3Proxy(s3.endpoint));
  const store = stack.use(openS3Store(s3));
  const pod = await node.runPod({ namespace: 'prod', name: 'target-0', containers: [{ name: 'target' }] });
  const planted = await plant(node, pod, options.files ?? 0);
  const running = stack.move();
  return {
    ...{ node, s3, proxy, store, pod, planted },
    selector: 'prod/target-0',
    agent: ({ sink, env, config, ...rest } = {}) =>
      startAgent(node, {
        ...rest,
        config: { sink: { ...sinkOf(s3, proxy), ...sink }, ...config },
        env: { AWS_ACCESS_KEY_ID: s3.accessKeyId, AWS_SECRET_ACCESS_KEY: s3.secretAccessKey, ...env },
      }),
    spoolOf: (agent) => join(node.hostRoot, 'run/exhibit', basename(agent.folder), 'spool'),
    plantedBytes: async () => readFileSync(await plantedFile(node, pod, 1)).subarray(0, 64),
    bundleKey: (captureId) => `${PREFIX}/lab/${node.hostname}/${captureId}`,
    async account(captureId, knows) {
      const key = `${PREFIX}/lab/${node.hostname}/${captureId}`;
      const unfinished = (await store.unfinishedUploads()).filter((one) => one.key.startsWith(`${key}/`));
      const told = toldUploads(knows?.log() ?? '');
      return accountFor(
        await readBundle(store, key),
        planted,
        unfinished.map((one) => ({ key: one.key, known: told.includes(one.uploadId) || told.includes(one.key) })),
      );
    },
    async frozen() {
      const files = globSync(join(node.hostRoot, 'sys/fs/cgroup', node.cgroupParent, '**/cgroup.events'));
      const still = files.filter((file) => /^frozen 1$/m.test(readFileSync(file, 'utf8')));
      if (still.length > 0) return `frozen: ${still.join(' ')}`;
      return (await pod.exec('target', ['true'])).code === 0 ? undefined : 'the target does not answer';
    },
    async calm() {
      proxy.fault = () => undefined;
      await proxy.back();
      await s3.restart();
    },
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

/** The lines in which an agent says that an upload is open, or may be. */
function toldUploads(log: string): string {
  const told = /upload may be open whose id is not known|upload could not be aborted|upload is still not aborted/;
  return log
    .split('\n')
    .filter((line) => told.test(line))
    .join('\n');
}

function sinkOf(s3: LabS3, proxy: S3Proxy): Record<string, unknown> {
  const radosgw = s3.kind === 'radosgw';
  return {
    url: `s3://${s3.bucket}/${PREFIX}`,
    endpoint: proxy.endpoint,
    region: s3.region,
    forcePathStyle: true,
    ifNoneMatch: !radosgw,
    partBytes: PART_BYTES,
    // radosgw's SQLite store loses a part now and then when several come at once (docs/sinks.md).
    maxPartsInFlight: radosgw ? 1 : 4,
  };
}

/** Files that nothing can compress, in folders of their own. */
async function plant(node: LabNode, pod: LabPod, count: number): Promise<Planted> {
  const script = `mkdir -p /planted && for i in $(seq ${count}); do head -c 1048576 /dev/urandom > /planted/$i; done`;
  const { code, stderr } = await pod.exec('target', ['sh', '-c', script]);
  if (code !== 0) throw new Error(`cannot plant files: ${stderr}`);
  const files = new Map<string, string>();
  for (let index = 1; index <= count; index += 1) {
    const bytes = readFileSync(await plantedFile(node, pod, index));
    files.set(`planted/${index}`, createHash('sha256').update(bytes).digest('hex'));
  }
  return { files };
}

const plantedFile = async (node: LabNode, pod: LabPod, index: number): Promise<string> =>
  join(node.procRoot, String(await pod.pid('target')), `root/planted/${index}`);

/** Waits until a bundle has its seal in the server; nothing of the product is asked. */
export async function untilSealed(lab: CustodyLab, captureId: string, agent?: CustodyAgent): Promise<void> {
  const key = `${lab.bundleKey(captureId)}/manifest.dsse.json`;
  const deadline = Date.now() + SETTLE_TIMEOUT_MS;
  while ((await lab.store.versions(key)).length === 0) {
    if (Date.now() > deadline) throw new Error(`${captureId} was never sealed:\n${agent?.log().slice(-6000) ?? ''}`);
    await sleep(100);
  }
}

/** Whether `exhibit show --json` says that a capture is at its end, with nothing that waits for a sink. */
export function isDone(shown: string): boolean {
  const { state, waitingSinks }: { state: string; waitingSinks: string[] } = JSON.parse(shown);
  return state !== 'running' && waitingSinks.length === 0;
}

/** A capture id that a test can choose: the number in the last group. */
export const captureIdOf = (number: number): string =>
  `01a20000-0000-7000-8000-${number.toString(16).padStart(12, '0')}`;
