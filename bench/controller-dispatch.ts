/** How long it takes from a call of CreateCapture until the agent has the command, while many captures run. */
import { setTimeout as sleep } from 'node:timers/promises';
import grpc, { type ServiceError } from '@grpc/grpc-js';
import type { ApiClient } from '../test/lab/controller-client.ts';
import type { Fleet, SimulatedNode } from './controller-fleet.ts';
import { CLUSTER, podOf } from './controller-names.ts';
import { type BenchController, cpuOver } from './controller-process.ts';
import { type Spread, spreadOf } from './controller-spread.ts';

export interface DispatchFigure {
  readonly way: string;
  readonly captures: number;
  readonly perSecond: number;
  readonly inFlight: number;
  /** Until CreateCapture answers, and until the agent has the command. */
  readonly answered: Spread;
  readonly received: Spread;
  readonly controllerCpuMs: number;
  readonly fleetCpuMs: number;
  readonly wallMs: number;
  readonly loopP99Ms: number;
  readonly loopMaxMs: number;
}

/** `node`: the caller says on which node the pod is; `name`: by its name in the cluster. */
export type Way = 'node' | 'name';

export interface DispatchParts {
  readonly controller: BenchController;
  readonly client: ApiClient;
  readonly fleet: Fleet;
  readonly nodes: readonly SimulatedNode[];
}

/** Of CLOCK_MONOTONIC, which the processes share. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;
/** What was not there by then is lost. */
const LOST_MS = 30_000;
const AGAIN_MS = 250;

export const requestFor = (node: string, way: Way) => ({
  selector: { pod: { namespace: 'shop', pod: podOf(node), container: '' }, by: 'pod' as const },
  clusters: [CLUSTER],
  artifacts: ['processes'],
  reason: 'bench',
  ...(way === 'node' ? { node } : {}),
});

interface Sent {
  readonly captureId: string;
  readonly calledAtMs: number;
  readonly answeredMs: number;
}

/** One after the other at a steady rate, each on another node; `skip`: those that only bring the captures in flight up. */
export async function dispatchSteadily(
  parts: DispatchParts,
  {
    way,
    perSecond,
    count,
    skip,
    captureMs,
  }: { way: Way; perSecond: number; count: number; skip: number; captureMs: number },
): Promise<DispatchFigure> {
  const { controller, client, fleet, nodes } = parts;
  const sent: Promise<Sent>[] = [];
  const stride = 7;
  const begin = performance.now();
  let cpu = cpuOver(controller, fleet);
  for (let at = 0; at < skip + count; at += 1) {
    const dueMs = begin + (at * 1_000) / perSecond;
    if (dueMs > performance.now()) await sleep(dueMs - performance.now());
    if (at === skip) {
      await controller.read();
      cpu = cpuOver(controller, fleet);
    }
    const node = nodes[(at * stride) % nodes.length]?.node ?? '';
    const one = call(client, node, at < skip ? 'node' : way);
    if (at >= skip) sent.push(one);
    else one.catch(() => undefined);
  }
  const all = await Promise.all(sent);
  const received = await Promise.all(all.map((one) => receiptOf(fleet, one)));
  const { controllerCpuMs, fleetCpuMs, wallMs } = await cpu();
  const { loopP99Ms, loopMaxMs } = await controller.read();
  return {
    ...{ way, captures: count, perSecond, inFlight: Math.round((perSecond * captureMs) / 1_000) },
    ...{ answered: spreadOf(all.map(({ answeredMs }) => answeredMs)), received: spreadOf(received) },
    ...{ controllerCpuMs, fleetCpuMs, wallMs, loopP99Ms, loopMaxMs },
  };
}

/** One request by a label, for a tenth of the fleet. */
export async function dispatchAtOnce(parts: DispatchParts, batch: number, captureMs: number): Promise<DispatchFigure> {
  const { controller, client, fleet } = parts;
  await controller.read();
  const cpu = cpuOver(controller, fleet);
  const calledAtMs = monotonicMs();
  const { captures } = await client.call(
    'CreateCapture',
    {
      selector: { labels: { labels: { batch: String(batch) }, container: '' }, by: 'labels' },
      ...{ clusters: [CLUSTER], artifacts: ['processes'], reason: 'bench', maxTargets: 1_000 },
    },
    { deadline: Date.now() + LOST_MS },
  );
  const answeredMs = monotonicMs() - calledAtMs;
  const received = await Promise.all(
    captures.map(({ captureId }) => receiptOf(fleet, { captureId, calledAtMs, answeredMs })),
  );
  const { controllerCpuMs, fleetCpuMs, wallMs } = await cpu();
  const { loopP99Ms, loopMaxMs } = await controller.read();
  await sleep(captureMs);
  return {
    ...{ way: 'labels, one request', captures: captures.length, perSecond: 0, inFlight: captures.length },
    ...{ answered: spreadOf([answeredMs]), received: spreadOf(received) },
    ...{ controllerCpuMs, fleetCpuMs, wallMs, loopP99Ms, loopMaxMs },
  };
}

async function call(client: ApiClient, node: string, way: Way): Promise<Sent> {
  const calledAtMs = monotonicMs();
  const { captures } = await untilTaken(client, requestFor(node, way));
  const [capture] = captures;
  if (capture === undefined || capture.node !== node) throw new Error(`the capture of ${node} is on ${capture?.node}`);
  return { captureId: capture.captureId, calledAtMs, answeredMs: monotonicMs() - calledAtMs };
}

/** Who is told to come again does; it counts into the time. */
async function untilTaken(client: ApiClient, request: ReturnType<typeof requestFor>) {
  for (const until = performance.now() + LOST_MS; ; await sleep(AGAIN_MS)) {
    try {
      return await client.call('CreateCapture', request, { deadline: Date.now() + LOST_MS });
    } catch (error) {
      const { code } = error as ServiceError;
      if (code !== grpc.status.RESOURCE_EXHAUSTED || performance.now() > until) throw error;
    }
  }
}

async function receiptOf(fleet: Fleet, { captureId, calledAtMs }: Sent): Promise<number> {
  for (const until = performance.now() + LOST_MS; performance.now() < until; await sleep(20)) {
    const atMs = fleet.receivedAtMs(captureId);
    if (atMs !== undefined) return atMs - calledAtMs;
  }
  throw new Error(`capture ${captureId} never reached its agent`);
}
