import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pino from 'pino';
import { describe, expect, test, vi } from 'vitest';
import { openStore } from '../../controller/store/open.ts';
import { type CaptureRow, END_STATES } from '../../controller/store/store.ts';
import { type AuditRow, verifyAudit } from '../../evidence/audit-log.ts';
import { openBundle } from '../../evidence/bundle.ts';
import type { Manifest, RequestRecord } from '../../evidence/manifest.ts';
import { verifyBundle } from '../../evidence/verify.ts';
import { type AgentPart, type CutsLab, startCutsLab } from '../lab/cuts-lab.ts';
import { networkFaults, processFaults, runLane } from '../lab/faults.ts';
import { cgroupMounts } from '../lab/leftovers.ts';
import { netsObstacle } from '../lab/nets.ts';
import { postgresObstacle } from '../lab/postgres.ts';
import { labObstacle } from '../lab/requires.ts';
import { between, pick, type Random, seeded } from '../lab/seeded.ts';
import { json } from './readers.ts';

/**
 * Captures are asked for without pause while networks are cut, everything is killed once or more, and all of it comes back. Clients
 * ask again with the same request id until they are answered. In the end each command is accounted for.
 */

const SEED = Number(process.env.EXHIBIT_TEST_SEED ?? 20261128);

/** Requests that wait for their answer; more come only when one of them has it. */
const MAX_WAITING = 12;
/** One attempt; a connection into a blackhole is given up by then. */
const ATTEMPT_MS = 6_000;
const RETRY_MS = 1_000;
/** Once everything is healed, streams that hang are noticed within two heartbeats of 15 s. */
const SETTLE_MS = 90_000;

interface Asked {
  readonly requestId: string;
  readonly selector: { readonly pod: { readonly namespace: string; readonly pod: string } };
  readonly artifacts: readonly string[];
  readonly clusters: readonly string[];
  attempts: number;
  captureIds: string[];
}

const ENDS: readonly string[] = END_STATES;

/** Asks until there is an answer, at another replica each time. */
async function askFor(lab: CutsLab, asked: Asked): Promise<void> {
  for (;;) {
    // The agents dial the first one.
    const at = lab.replicas[(lab.replicas.length - 1 + asked.attempts) % lab.replicas.length];
    if (at === undefined) throw new Error('there is no controller');
    asked.attempts += 1;
    using client = await lab.operator.client(at.process);
    const { requestId, selector, artifacts, clusters } = asked;
    const request = { requestId, selector, artifacts: [...artifacts], clusters: [...clusters] };
    const options = { deadline: Date.now() + ATTEMPT_MS };
    const answer = await client.call('CreateCapture', request, options).catch(() => undefined);
    if (answer !== undefined) {
      asked.captureIds = answer.captures.map(({ captureId }) => captureId);
      return;
    }
    await sleep(RETRY_MS);
  }
}

/** Captures of a pod of either node, most of them short, until told to stop; every request is answered then. */
async function keepAsking(lab: CutsLab, random: Random, until: AbortSignal): Promise<Asked[]> {
  const all: Asked[] = [];
  const waiting = new Set<Promise<void>>();
  while (!until.aborted) {
    const pod = `${pick(random, lab.agents).name}-${random() < 0.5 ? 0 : 1}`;
    const artifacts = random() < 0.4 ? ['processes', 'memory'] : ['processes', 'spec'];
    const asked: Asked = {
      requestId: randomUUID(),
      selector: { pod: { namespace: 'prod', pod } },
      ...{ artifacts, clusters: ['lab'], attempts: 0, captureIds: [] },
    };
    all.push(asked);
    const work = askFor(lab, asked).finally(() => waiting.delete(work));
    waiting.add(work);
    await sleep(between(random, 500, 2_000));
    if (waiting.size === MAX_WAITING) await Promise.race(waiting);
  }
  await Promise.all(waiting);
  return all;
}

const bundleOf = (agent: AgentPart, captureId: string): string =>
  path.join(agent.process.evidence, 'lab', agent.name, captureId);

const lines = (text: string, captureId: string, words: string): number =>
  text.split('\n').filter((line) => line.includes(captureId) && line.includes(words)).length;

/** `frozen` of cgroup.events and freezer.state, of every cgroup of the node's pods. */
function frozenCgroups(agent: AgentPart): string[] {
  const found: string[] = [];
  for (const mount of cgroupMounts()) {
    const top = path.join(mount, agent.node.cgroupParent);
    if (!existsSync(top)) continue;
    for (const name of readdirSync(top, { recursive: true, encoding: 'utf8' })) {
      if (!/(cgroup\.events|freezer\.state)$/.test(name)) continue;
      if (/frozen 1|FROZEN|FREEZING/.test(readFileSync(path.join(top, name), 'latin1'))) found.push(name);
    }
  }
  return found;
}

/** The state of each capture, as the agent has it. */
async function journalOf(agent: AgentPart): Promise<Map<string, string>> {
  const { stdout, stderr, code } = await agent.process.exhibit('captures', '--json', '--limit', '1000');
  expect(code, stderr).toBe(0);
  const { captures } = JSON.parse(stdout) as { captures: { captureId: string; state: string }[] };
  return new Map(captures.map(({ captureId, state }) => [captureId, state]));
}

/** Why a capture is not complete: a busy machine makes it so, and that is no fault of the network's. */
function gapsOf(bundle: string): string {
  const { artifacts } = json<Manifest>(bundle, 'manifest.json');
  return artifacts
    .flatMap(({ name, status, gaps }) => [`${name} ${status}`, ...gaps.slice(0, 2).map((gap) => JSON.stringify(gap))])
    .join('; ');
}

interface Books {
  readonly rows: readonly CaptureRow[];
  readonly audit: readonly AuditRow[];
}

/** All that the store has, read past the controllers. */
async function booksOf(lab: CutsLab): Promise<Books> {
  await using store = await openStore({ url: lab.storeUrl }, { log: pino({ level: 'silent' }), now: Date.now });
  const { rows, next } = await store.captures({}, { limit: 1000 });
  expect(next).toBeUndefined();
  const audit: AuditRow[] = [];
  for (;;) {
    const more = await store.audit({}, { afterSeq: audit.at(-1)?.seq ?? 0, limit: 1000 });
    if (more.length === 0) return { rows, audit };
    audit.push(...more);
  }
}

/** What is wrong with one capture, in sentences. */
async function faultsOf(
  row: CaptureRow,
  { audit }: Books,
  { agent, journal }: { agent: AgentPart; journal: ReadonlyMap<string, string> },
  say: (words: string) => void,
): Promise<string[]> {
  const faults: string[] = [];
  const { captureId, state } = row;
  const fault = (words: string) => faults.push(`${captureId} ${state} at ${agent.name}: ${words}`);
  const entries = audit.filter((entry) => entry.captureId === captureId).map(({ action }) => action);
  for (const action of ['capture.created', 'capture.ended'])
    if (entries.filter((one) => one === action).length !== 1) fault(`audit has ${entries.join(', ')}`);
  if (entries.filter((one) => one === 'capture.accepted').length > 1) fault('was accepted twice');

  const sealed =
    lines(agent.log(), captureId, '"capture sealed"') + lines(agent.log(), captureId, 'sealed as truncated');
  if (sealed > 1) fault(`was captured ${sealed} times`);
  const told = journal.get(captureId);
  if (told !== state) fault(`the agent's journal says ${told}`);

  const killed = agent.kills.some((atMs) => atMs >= row.createdAtMs && atMs <= row.endedAtMs);
  const whole = state === 'complete' || state === 'partial';
  if (!whole && !killed) fault(`ended so, and nobody killed its agent: ${row.error}`);
  if (!whole && state !== 'truncated' && state !== 'interrupted') fault(`is no end of such a capture: ${row.error}`);
  const bundle = bundleOf(agent, captureId);
  const sealedBundle = existsSync(path.join(bundle, 'manifest.json'));
  if (sealedBundle !== (whole || state === 'truncated')) fault(`its bundle is ${sealedBundle ? '' : 'not '}sealed`);
  if (!sealedBundle) return faults;
  await using reader = await openBundle(bundle);
  const report = await verifyBundle(reader);
  if (!report.intact) fault(`verify says ${JSON.stringify(report.findings)}`);
  if (state === 'partial') say(`${captureId} is partial: ${gapsOf(bundle)}`);
  const { requester } = json<RequestRecord>(bundle, 'request.json');
  if (!requester.identity.startsWith('ada through controller')) fault(`was asked for by ${requester.identity}`);
  return faults;
}

function table(asked: readonly Asked[], rows: readonly CaptureRow[]): string {
  const count = new Map<string, number>();
  const kind = (row: CaptureRow) => (row.artifacts.includes('memory') ? 'with memory' : 'short');
  for (const row of rows) {
    const key = `${row.node.padEnd(8)} ${kind(row).padEnd(12)} ${row.state}`;
    count.set(key, (count.get(key) ?? 0) + 1);
  }
  const attempts = asked.reduce((sum, one) => sum + one.attempts, 0);
  const title = `${asked.length} requests, asked ${attempts} times; ${rows.length} captures`;
  const counted = [...count].sort().map(([key, number]) => `  ${key.padEnd(34)} ${number}`);
  return [title, ...counted].join('\n');
}

const VARIANTS = [
  { kind: 'sqlite' as const, what: 'one controller with SQLite', obstacle: labObstacle() ?? netsObstacle() },
  {
    ...{ kind: 'postgres' as const, what: 'two replicas with PostgreSQL' },
    obstacle: labObstacle() ?? netsObstacle() ?? postgresObstacle(),
  },
];

describe.each(VARIANTS)('cuts and kills of $what', ({ kind, obstacle }) => {
  test('leave every command accounted for', { timeout: 420_000 }, async (context) => {
    if (obstacle !== undefined) context.skip(obstacle);
    const told: string[] = [`seed ${SEED}; EXHIBIT_TEST_SEED=N tries another`];
    const say = (words: string) => told.push(words);
    try {
      const random = seeded(SEED);
      await using lab = await startCutsLab(kind);
      const faults = [networkFaults(lab, random), processFaults(lab, random)];
      const stop = new AbortController();
      const asking = keepAsking(lab, seeded(SEED + 1), stop.signal);
      const beginMs = Date.now();
      const timed = (words: string) => say(`${((Date.now() - beginMs) / 1000).toFixed(1).padStart(6)} s  ${words}`);
      await Promise.all(faults.map((lane, index) => runLane(lane, seeded(SEED + 2 + index), timed)));
      stop.abort();
      const asked = await asking;
      timed('everything is healed and every client has its answer');
      await settled(lab);
      timed('every capture has ended');

      for (const one of asked) {
        const before = one.captureIds;
        await askFor(lab, one);
        expect(one.captureIds).toEqual(before);
        expect(before).toHaveLength(1);
      }
      const problems = await account(lab, asked, say);
      expect(problems).toEqual([]);
    } finally {
      process.stdout.write(`${told.join('\n')}\n`);
    }
  });
});

/** Every capture that the controller knows is at its end, and no agent owes anything. */
async function settled(lab: CutsLab): Promise<void> {
  const look = async () => {
    const [first] = lab.replicas;
    if (first === undefined) throw new Error('there is no controller');
    using client = await lab.operator.client(first.process);
    const { nodes } = await client.call('ListNodes', { connectedOnly: true });
    expect(nodes).toHaveLength(lab.agents.length);
    const { captures } = await client.call('ListCaptures', { pageSize: 1000 });
    expect(captures.filter(({ state }) => !ENDS.includes(state)).map(({ state }) => state)).toEqual([]);
  };
  await vi.waitFor(look, { timeout: SETTLE_MS, interval: 500 });
}

async function account(lab: CutsLab, asked: readonly Asked[], say: (words: string) => void): Promise<string[]> {
  // SQLite's file is one controller's alone.
  for (const one of lab.replicas) expect(await one.process.stop(), one.log()).toBe(0);
  const books = await booksOf(lab);
  say(table(asked, books.rows));
  const journals = new Map<string, { agent: AgentPart; journal: ReadonlyMap<string, string> }>();
  for (const agent of lab.agents) journals.set(agent.name, { agent, journal: await journalOf(agent) });
  const problems: string[] = [...verifyAudit(books.audit).problems];
  const ids = asked.flatMap(({ captureIds }) => captureIds).sort();
  expect(books.rows.map(({ captureId }) => captureId).sort()).toEqual(ids);
  for (const row of books.rows) {
    const place = journals.get(row.node);
    if (place === undefined) problems.push(`${row.captureId} is of ${row.node}, which is nobody`);
    else problems.push(...(await faultsOf(row, books, place, say)));
  }
  for (const { agent, journal } of journals.values()) {
    for (const id of journal.keys()) if (!ids.includes(id)) problems.push(`${agent.name} captured ${id} for nobody`);
    const bundles = readdirSync(path.dirname(bundleOf(agent, 'any')));
    for (const id of bundles) if (!ids.includes(id)) problems.push(`${agent.name} has ${id}, which nobody asked for`);
    problems.push(...frozenCgroups(agent).map((name) => `${agent.name} left ${name} frozen`));
  }
  return problems;
}
