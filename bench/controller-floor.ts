/** The same fleet on a bare grpc-js server (controller-echo.ts): what mutual TLS, HTTP/2 and the disk cost before the controller does a thing. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { v7 as uuidv7 } from 'uuid';
import { CONTROLLER_ENVIRONMENT } from '../controller/environment.ts';
import type { LabPki } from '../test/lab/pki.ts';
import type { EchoOrder, EchoReport } from './controller-echo.ts';
import { type SimulatedNode, startFleet } from './controller-fleet.ts';
import { podOf } from './controller-names.ts';
import { memoryMibOf } from './controller-process.ts';
import { type Spread, spreadOf } from './controller-spread.ts';
import { cpuMsOf } from './sink-cpu.ts';

export interface FloorFigure {
  readonly emptyMib: number;
  readonly idleMib: number;
  readonly connectCpuMs: number;
  readonly idleCpuMs: number;
  readonly idleMs: number;
  /** From before the row is inserted until the agent has the message. */
  readonly received: Spread;
}

const PROGRAM = path.join(import.meta.dirname, 'controller-echo.ts');
const IDLE_MS = 20_000;
const PATIENCE_MS = 300_000;
const LOST_MS = 10_000;

export async function floorOf(
  pki: LabPki,
  nodes: readonly SimulatedNode[],
  { perSecond, count, captureMs }: { perSecond: number; count: number; captureMs: number },
): Promise<FloorFigure> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'exhibit-bench-floor-'));
  const server = fork(PROGRAM, [], {
    env: { ...process.env, ...CONTROLLER_ENVIRONMENT },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const order = (one: EchoOrder) => void server.send(one);
  const pid = server.pid ?? 0;
  try {
    const { certFile, keyFile } = pki.server;
    const listening = Promise.withResolvers<number>();
    const begunAt = new Map<string, number>();
    server.on('message', (report: EchoReport) => {
      if (report.kind === 'port') listening.resolve(report.port);
      else begunAt.set(report.captureId, report.atMs);
    });
    order({
      kind: 'listen',
      files: { certFile, keyFile, caFile: pki.caFile('agents'), database: path.join(folder, 'floor.db') },
    });
    const address = `127.0.0.1:${await listening.promise}`;
    const emptyMib = memoryMibOf(pid).resident;
    const before = cpuMsOf(pid);
    await using fleet = startFleet({ address, caFile: pki.caFile('controller'), nodes, captureMs });
    await fleet.allUp(PATIENCE_MS);
    const connectCpuMs = cpuMsOf(pid) - before;
    await sleep(IDLE_MS);
    const idleCpuMs = cpuMsOf(pid) - before - connectCpuMs;
    const idleMib = memoryMibOf(pid).resident;
    const ids: string[] = [];
    for (let at = 0; at < count; at += 1) {
      const node = nodes[(at * 7) % nodes.length]?.node ?? '';
      const captureId = uuidv7();
      ids.push(captureId);
      const selector = { pod: { namespace: 'shop', pod: podOf(node), container: '' } };
      const request = { captureId, selector, artifacts: ['processes'], reason: 'bench' };
      order({
        kind: 'dispatch',
        node,
        captureId,
        command: { request, requester: { trigger: 'api', identity: 'ada' } },
      });
      await sleep(1_000 / perSecond);
    }
    for (const until = performance.now() + LOST_MS; performance.now() < until; await sleep(100))
      if (ids.every((id) => fleet.receivedAtMs(id) !== undefined)) break;
    const took = ids.map((id) => (fleet.receivedAtMs(id) ?? Number.NaN) - (begunAt.get(id) ?? Number.NaN));
    return { emptyMib, idleMib, connectCpuMs, idleCpuMs, idleMs: IDLE_MS, received: spreadOf(took) };
  } finally {
    const gone = once(server, 'exit');
    server.kill('SIGKILL');
    await gone;
    rmSync(folder, { recursive: true, force: true });
  }
}
