/**
 * From the command at the controller to the freeze: a container of the lab's containerd, the real agent, the real controller. The freeze
 * is told by the agent's own record of it (`frozenAt` of the manifest); the steps before it by both sides' own times.
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
  readonly accepted: Spread;
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
  const times = { answered: [] as number[], sent: [] as number[], accepted: [] as number[], frozen: [] as number[] };
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
    rmSync(folder, { recursive: true, force: true });
    await sleep(SETTLE_MS);
    // The first one of an agent pays for what later ones have.
    if (round === 0) continue;
    times.answered.push(answeredMs);
    times.sent.push(Number(ended.sentAtMs) - calledAtMs);
    times.accepted.push(Number(ended.acceptedAtMs) - calledAtMs);
    times.frozen.push(frozenAtMs - calledAtMs);
  }
  const { answered, sent, accepted, frozen } = times;
  const spreads = { answered: spreadOf(answered), sent: spreadOf(sent), accepted: spreadOf(accepted) };
  return { rounds: ROUNDS, ...spreads, frozen: spreadOf(frozen) };
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

function frozenAt(manifest: string): number {
  const text = readFileSync(manifest, 'utf8');
  const [, at] = /"frozenAt": ?"([^"]+)"/.exec(text) ?? [];
  if (at === undefined) throw new Error(`${manifest} says nothing of a freeze`);
  return Date.parse(at);
}
