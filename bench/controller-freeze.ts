/**
 * From the command at the controller to the freeze: a container of the lab's containerd, the real agent, the real controller. The freeze
 * and the agent's steps before it are told by the capture's custody log, the others by the controller's own times.
 */
import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startAgent } from '../test/lab/agent.ts';
import { startController } from '../test/lab/controller.ts';
import { startNode } from '../test/lab/node.ts';
import { type Spread, spreadOf } from './controller-spread.ts';

export interface FreezeFigure {
  readonly rounds: number;
  /** From the call of CreateCapture, in ms. */
  readonly answered: Spread;
  readonly sent: Spread;
  /** The request stands in the custody log; the controller heard that it was accepted; the artifact was begun. */
  readonly requested: Spread;
  readonly accepted: Spread;
  readonly begun: Spread;
  /** The guard was told to freeze, and the target stood. */
  readonly freezing: Spread;
  readonly frozen: Spread;
}

const ROUNDS = 20;
/** Memory alone: its freeze is the first thing that a capture of all does too, beside what is read live. */
const ARTIFACTS = ['memory'];
const END_MS = 60_000;
const SETTLE_MS = 500;

export async function triggerToFreeze(): Promise<FreezeFigure> {
  await using controller = await startController();
  await using node = await startNode();
  const section = await controller.agentSection('lab', node.hostname);
  await using agent = await startAgent(node, { config: { cluster: 'lab', controller: section } });
  await node.runPod({ namespace: 'prod', name: 'web-0', labels: { app: 'web' }, containers: [{ name: 'app' }] });
  using client = await controller.client('ada');
  const connected = async () => (await client.call('ListNodes', { connectedOnly: true })).nodes.length > 0;
  while (!(await connected())) await sleep(50);
  // Its rehearsal is over (docs/bench.md), and it has told its pods.
  await sleep(5_000);
  const times: Record<Exclude<keyof FreezeFigure, 'rounds'>, number[]> = {
    ...{ answered: [], sent: [], requested: [], accepted: [], begun: [], freezing: [], frozen: [] },
  };
  for (let round = 0; round <= ROUNDS; round += 1) {
    const calledAtMs = Date.now();
    const begin = performance.now();
    const { captures } = await client.call('CreateCapture', {
      selector: { pod: { namespace: 'prod', pod: 'web-0', container: '' }, by: 'pod' },
      artifacts: ARTIFACTS,
      reason: 'bench',
    });
    const answeredMs = performance.now() - begin;
    const captureId = captures[0]?.captureId ?? '';
    const ended = await ofEnd(client, captureId);
    const folder = path.join(agent.evidence, 'lab', node.hostname, captureId);
    const frozenAtMs = frozenAt(path.join(folder, 'manifest.json'));
    const at = custodyTimes(path.join(folder, 'custody.jsonl'));
    rmSync(folder, { recursive: true, force: true });
    await sleep(SETTLE_MS);
    // The first one of an agent pays for what later ones have.
    if (round === 0) continue;
    times.answered.push(answeredMs);
    times.sent.push(Number(ended.sentAtMs) - calledAtMs);
    times.accepted.push(Number(ended.acceptedAtMs) - calledAtMs);
    times.requested.push(at('requested') - calledAtMs);
    times.begun.push(at('artifact-started') - calledAtMs);
    times.freezing.push(at('frozen') - calledAtMs);
    times.frozen.push(frozenAtMs - calledAtMs);
  }
  const spreads = Object.fromEntries(Object.entries(times).map(([name, values]) => [name, spreadOf(values)]));
  return { rounds: ROUNDS, ...(spreads as Record<keyof typeof times, Spread>) };
}

type Client = Awaited<ReturnType<Awaited<ReturnType<typeof startController>>['client']>>;

async function ofEnd(client: Client, captureId: string) {
  for (const until = Date.now() + END_MS; Date.now() < until; await sleep(50)) {
    const capture = await client.call('GetCapture', { captureId });
    if (capture.state === 'complete') return capture;
    if (Number(capture.endedAtMs) > 0) throw new Error(`the capture is ${capture.state}: ${capture.error}`);
  }
  throw new Error(`capture ${captureId} does not end`);
}

/** When the first event of a kind was, by the capture's custody log. */
function custodyTimes(file: string): (event: string) => number {
  const lines = readFileSync(file, 'utf8').split('\n').filter(Boolean);
  const events = lines.map((line) => JSON.parse(line) as { event: string; at: string });
  return (event) => Date.parse(events.find((one) => one.event === event)?.at ?? '');
}

function frozenAt(manifest: string): number {
  const text = readFileSync(manifest, 'utf8');
  const [, at] = /"frozenAt": ?"([^"]+)"/.exec(text) ?? [];
  if (at === undefined) throw new Error(`${manifest} says nothing of a freeze`);
  return Date.parse(at);
}
