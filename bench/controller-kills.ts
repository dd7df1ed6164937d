/** The controller is killed again and again while captures are created; at the end every request and every capture is accounted for. */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ServiceError } from '@grpc/grpc-js';
import { pino } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { openStore } from '../controller/store/open.ts';
import { type CaptureRow, END_STATES, OPEN_STATES, type Store } from '../controller/store/store.ts';
import { type AuditRow, verifyAudit } from '../evidence/audit-log.ts';
import type { ApiClient } from '../test/lab/controller-client.ts';
import { type DispatchParts, requestFor } from './controller-dispatch.ts';
import type { Begun } from './controller-fleet.ts';

export interface KillsFigure {
  readonly kills: number;
  readonly requests: number;
  /** Attempts beyond the first, each with the id of the first. */
  readonly retries: number;
  readonly captures: number;
  readonly auditEntries: number;
  readonly states: Readonly<Record<string, number>>;
  /** Until all agents were back, after each kill. */
  readonly backMs: readonly number[];
  /** Sentences; none: nothing was lost or doubled. */
  readonly problems: readonly string[];
}

/** Callers that wait for their answer and ask again until they have one. */
const CALLERS = 8;
const CALL_TIMEOUT_MS = 5_000;
const RETRY_MS = 250;
const PAUSE_MS = 50;
/** The controller is up for so long before the next kill, drawn evenly: some come while agents are still coming back. */
const ALIVE_MS = { least: 500, most: 6_000 };
const SETTLE_MS = 180_000;
const PAGE = 1_000;

interface Asked {
  readonly requestId: string;
  readonly node: string;
  readonly captureIds: readonly string[];
}

export async function killTest(
  parts: DispatchParts,
  { kills, captureMs, log }: { kills: number; captureMs: number; log: (line: string) => void },
): Promise<KillsFigure> {
  const { controller, fleet, client } = parts;
  const asked: Asked[] = [];
  const backMs: number[] = [];
  let retries = 0;
  let isOver = false;
  let next = 0;
  const caller = async () => {
    while (!isOver) {
      const node = parts.nodes[(next * 11) % parts.nodes.length]?.node ?? '';
      const way = next % 10 === 0 ? 'name' : 'node';
      next += 1;
      const requestId = uuidv7();
      const request = { ...requestFor(node, way), requestId };
      const answer = await untilAnswered(client, request, () => (retries += 1));
      asked.push({ requestId, node, captureIds: answer });
      await sleep(PAUSE_MS);
    }
  };
  const callers = Array.from({ length: CALLERS }, caller);
  const killOften = async () => {
    for (let kill = 1; kill <= kills; kill += 1) {
      await sleep(ALIVE_MS.least + Math.random() * (ALIVE_MS.most - ALIVE_MS.least));
      await controller.killAndStart();
      const began = performance.now();
      if (kill % 2 === 0 || kill === kills) {
        await fleet.allUp(SETTLE_MS);
        backMs.push(performance.now() - began);
      }
      log(
        `kill ${kill}/${kills}: ${asked.length} requests answered, ${retries} retries, ${fleet.up()} agents connected`,
      );
    }
    await sleep(ALIVE_MS.most);
  };
  try {
    await killOften();
  } finally {
    isOver = true;
    await Promise.all(callers);
  }
  await fleet.allUp(SETTLE_MS);
  await settled(client, captureMs);
  const journal = await fleet.journal();
  const url = `sqlite:${path.join(controller.lab.folder, 'controller.db')}`;
  await controller.lab.stop();
  await using store = await openStore({ url }, { log: pino({ level: 'silent' }), now: Date.now });
  const rows = await allCaptures(store);
  const verdict = verifyAudit(await allAudit(store));
  const problems = [...verdict.problems, ...account({ asked, rows, journal })];
  const states = Object.fromEntries(
    Map.groupBy(rows, ({ state }) => state)
      .entries()
      .map(([state, of]) => [state, of.length]),
  );
  return {
    ...{ kills, requests: asked.length, retries, captures: rows.length, states },
    ...{ auditEntries: verdict.entries, backMs, problems },
  };
}

async function untilAnswered(
  client: ApiClient,
  request: Parameters<typeof client.call<'CreateCapture'>>[1],
  onRetry: () => void,
): Promise<string[]> {
  for (;;) {
    try {
      const { captures } = await client.call('CreateCapture', request, { deadline: Date.now() + CALL_TIMEOUT_MS });
      return captures.map(({ captureId }) => captureId);
    } catch (error) {
      const { details } = error as ServiceError;
      if (details === undefined) throw error;
      onRetry();
      await sleep(RETRY_MS);
    }
  }
}

async function settled(client: ApiClient, captureMs: number): Promise<void> {
  const until = Date.now() + captureMs + SETTLE_MS;
  for (;;) {
    const open = await client.call('ListCaptures', { states: [...OPEN_STATES], pageSize: 1 });
    if (open.captures.length === 0) return;
    if (Date.now() > until) return;
    await sleep(RETRY_MS);
  }
}

/** Pure. Every capture that anybody knows of, held against what the others know. */
export function account({
  asked,
  rows,
  journal,
}: {
  asked: readonly Asked[];
  rows: readonly CaptureRow[];
  journal: readonly Begun[];
}): string[] {
  const problems: string[] = [];
  const byRequest = Map.groupBy(rows, ({ requestId }) => requestId);
  const begun = new Map(journal.map((one) => [one.captureId, one]));
  const ids = new Set(rows.map(({ captureId }) => captureId));
  for (const { requestId, node, captureIds } of asked) {
    const stored = byRequest.get(requestId) ?? [];
    const same = stored.length === 1 && captureIds.length === 1 && stored[0]?.captureId === captureIds[0];
    if (!same) problems.push(`request ${requestId} was answered ${captureIds}, stored are ${stored.length}`);
    if (stored.some((row) => row.node !== node)) problems.push(`request ${requestId} went to another node`);
  }
  for (const { captureId, node, state } of rows) {
    const told = begun.get(captureId);
    if (!END_STATES.some((end) => end === state)) problems.push(`capture ${captureId} is still ${state}`);
    if (told === undefined) problems.push(`capture ${captureId} is ${state} and was never begun`);
    else if (told.times !== 1) problems.push(`capture ${captureId} was begun ${told.times} times`);
    else if (told.state !== state || told.node !== node)
      problems.push(`capture ${captureId} is ${state} on ${node}, and ${told.state} on ${told.node} for its agent`);
  }
  for (const captureId of begun.keys())
    if (!ids.has(captureId)) problems.push(`capture ${captureId} was begun and is not stored`);
  return problems;
}

async function allCaptures(store: Store): Promise<CaptureRow[]> {
  const rows: CaptureRow[] = [];
  let token: string | undefined;
  do {
    const page = await store.captures({}, { limit: PAGE, ...(token === undefined ? {} : { token }) });
    rows.push(...page.rows);
    token = page.next;
  } while (token !== undefined);
  return rows;
}

async function allAudit(store: Store): Promise<AuditRow[]> {
  const rows: AuditRow[] = [];
  for (;;) {
    const some = await store.audit({}, { afterSeq: rows.at(-1)?.seq ?? 0, limit: PAGE });
    if (some.length === 0) return rows;
    rows.push(...some);
  }
}
