/**
 * How soon the first evidence of a capture is safe: from the trigger until the objects of processes and network are in the bucket, seen by
 * asking radosgw for them. The real agent, a container of the lab's containerd, everything that a capture takes unless told.
 * `cold`: the first capture of an agent that has just started; `rehearsed`: the first one of an agent that has been up for a
 * moment (agent/capture/rehearsal.ts); `warm`: a later one. `call`: the trigger is the request to the agent's API;
 * `command`: the start of `exhibit capture`, which is a process of its own.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { HeadObjectCommand, type S3Client } from '@aws-sdk/client-s3';
import { v7 as uuidv7 } from 'uuid';
import { connectAgent } from '../cli/client.ts';
import { type LabAgent, startAgent } from '../test/lab/agent.ts';
import { startNode } from '../test/lab/node.ts';
import { type LabS3, startS3 } from '../test/lab/s3.ts';
import { cpuMsOf } from './sink-cpu.ts';

const BOUND_MS = 1000;
const OBJECTS = ['processes.tar.zst', 'network.tar.zst'] as const;
const PREFIX = 'cases';
/** Between two questions for an object; what is told is so much too late at most. */
const LOOK_MS = 10;
const CAPTURE_TIMEOUT_MS = 120_000;

interface First {
  readonly way: 'cold, call' | 'rehearsed, call' | 'rehearsed, command' | 'warm, call' | 'warm, command';
  readonly round: number;
  /** From the trigger, in the order of OBJECTS. */
  readonly objectMs: readonly number[];
  /** CPU of the agent and of those of its children that have ended, from the trigger until both are there. */
  readonly agentCpuMs: number;
  /** From the trigger until the capture was sealed. */
  readonly sealedMs: number;
}

type Trigger = (agent: LabAgent, captureId: string, container: string) => Promise<void>;

/** Resolves when the capture has ended. */
const call: Trigger = async ({ socket }, captureId, container) => {
  const signal = AbortSignal.timeout(CAPTURE_TIMEOUT_MS);
  using client = await connectAgent(socket, signal);
  for await (const event of client.capture({ captureId, selector: { containerId: container } }, signal)) {
    if (event.event === 'ended' && event.ended?.state === 'failed') throw new Error(event.ended.error);
  }
};

const command: Trigger = async (agent, captureId, container) => {
  const { code, stderr } = await agent.exhibit('capture', container, '--id', captureId);
  if (code !== 0) throw new Error(`exhibit capture: ${stderr}`);
};

async function untilThere(client: S3Client, bucket: string, key: string, since: number): Promise<number> {
  for (;;) {
    const there = await client.send(new HeadObjectCommand({ Bucket: bucket, Key: key })).then(
      () => true,
      () => false,
    );
    const tookMs = performance.now() - since;
    if (there) return tookMs;
    if (tookMs > CAPTURE_TIMEOUT_MS) throw new Error(`${key} never came`);
    await sleep(LOOK_MS);
  }
}

async function once(
  s3: LabS3,
  agent: LabAgent,
  container: string,
  trigger: Trigger,
): Promise<Omit<First, 'way' | 'round'>> {
  const captureId = uuidv7();
  const client = s3.client();
  const keys = OBJECTS.map((name) => `${PREFIX}/lab/lab-node/${captureId}/${name}`);
  // So that its first connection is not in the figure.
  await client.send(new HeadObjectCommand({ Bucket: s3.bucket, Key: 'nothing' })).catch(() => undefined);
  const begin = performance.now();
  const cpuBefore = cpuMsOf(agent.pid);
  const ended = trigger(agent, captureId, container).then(() => performance.now() - begin);
  const seen = Promise.all(keys.map((key) => untilThere(client, s3.bucket, key, begin))).then((objectMs) => ({
    objectMs,
    agentCpuMs: cpuMsOf(agent.pid) - cpuBefore,
  }));
  const [sealedMs, first] = await Promise.all([ended, seen]);
  client.destroy();
  return { ...first, sealedMs };
}

/** Each with an agent of its own. */
const TURNS = [
  {
    rehearsed: false,
    ways: [
      ['cold, call', call],
      ['warm, call', call],
      ['warm, command', command],
    ],
  },
  { rehearsed: true, ways: [['rehearsed, call', call]] },
  { rehearsed: true, ways: [['rehearsed, command', command]] },
] as const;

async function untilRehearsed(agent: LabAgent): Promise<void> {
  const deadline = performance.now() + CAPTURE_TIMEOUT_MS;
  while (!agent.log().includes('"rehearsed"')) {
    if (performance.now() > deadline) throw new Error(`the agent never rehearsed: ${agent.log()}`);
    await sleep(LOOK_MS);
  }
}

export async function firstObject(rounds: number): Promise<{ text: string; rows: readonly First[] }> {
  await using node = await startNode();
  await using s3 = await startS3();
  const pod = await node.runPod({ namespace: 'prod', name: 'web-0', containers: [{ name: 'web' }] });
  const container = pod.containerId('web');
  const { endpoint, region, accessKeyId, secretAccessKey, bucket } = s3;
  const env = { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_REGION: region };
  const sink = { url: `s3://${bucket}/${PREFIX}`, endpoint, region, forcePathStyle: true, ifNoneMatch: false };
  const rows: First[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    for (const turn of TURNS) {
      // In memory, as a node's /run is: there the command's compiled code is kept beside it.
      const folder = mkdtempSync('/dev/shm/exhibit-bench-first-');
      try {
        const config = { socket: path.join(folder, 'exhibit.sock'), sink: { ...sink, maxPartsInFlight: 1 } };
        await using agent = await startAgent(node, { config, env });
        if (turn.rehearsed) await untilRehearsed(agent);
        for (const [way, trigger] of turn.ways) {
          const row = { way, round, ...(await once(s3, agent, container, trigger)) };
          const said = `${row.objectMs.map((ms) => ms.toFixed(0)).join(', ')}; sealed after ${row.sealedMs.toFixed(0)} ms`;
          process.stderr.write(`round ${round}/${rounds}: ${way}: ${said}\n`);
          rows.push(row);
        }
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    }
  }
  return { text: table(rows), rows };
}

function table(rows: readonly First[]): string {
  const heads = ['ms, median (least to most)', ...OBJECTS, 'CPU of the agent', 'sealed', 'both, bound 1000'];
  const lines = [...Map.groupBy(rows, ({ way }) => way)].map(([way, own]) => {
    const both = own.map(({ objectMs }) => Math.max(...objectMs)).toSorted((a, b) => a - b);
    const most = both.at(-1) ?? Number.NaN;
    const missed = both.filter((ms) => ms >= BOUND_MS).length;
    return [
      way,
      ...OBJECTS.map((_, at) => spread(own.map(({ objectMs }) => objectMs[at] ?? Number.NaN))),
      spread(own.map(({ agentCpuMs }) => agentCpuMs)),
      spread(own.map(({ sealedMs }) => sealedMs)),
      most < BOUND_MS ? 'reached' : `MISSED in ${missed} of ${both.length}`,
    ];
  });
  return [heads, ...lines]
    .map((cells) => cells.map((cell, at) => (at === 0 ? cell.padEnd(30) : cell.padStart(24))).join(''))
    .join('\n');
}

function spread(values: readonly number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  const [least, middle, most] = [sorted[0], sorted[Math.floor(sorted.length / 2)], sorted.at(-1)];
  return `${middle?.toFixed(0)} (${least?.toFixed(0)} to ${most?.toFixed(0)})`;
}
