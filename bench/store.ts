/**
 * `node bench/store.ts [--rows N] [--folder DIR]`: what the controller's store takes, on SQLite and on a real PostgreSQL whose
 * files lie in DIR (on a disk, with fsync). Each call is made one at a time, and with 300 in flight.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { openStore } from '../controller/store/open.ts';
import type { Store } from '../controller/store/store.ts';
import { aCapture, aNode, anEntry, aRequest } from '../test/contract/store-rows.ts';
import { startPostgres } from '../test/lab/postgres.ts';

/** As many captures as the issue has in flight. */
const IN_FLIGHT = 300;
const NODES = 3_000;

type Call = (at: number) => Promise<unknown>;

/** Calls that change something, in the order that a capture lives. */
function writes(store: Store, ids: string[]): Record<string, Call> {
  const sent = { captureId: '', state: 'running', stages: [] } as never;
  return {
    'addCaptures + audit': async (at) => {
      const capture = aCapture({ node: `n${at % NODES}` });
      ids[at] = capture.captureId;
      await store.addCaptures(aRequest([capture]), [anEntry({ captureId: capture.captureId })]);
    },
    'changeCapture + audit': (at) =>
      store.changeCapture(
        ids[at] ?? '',
        ['queued'],
        { state: 'sent', sentAtMs: at },
        anEntry({ captureId: ids[at] ?? '' }),
      ),
    changeCapture: (at) => store.changeCapture(ids[at] ?? '', ['sent'], { state: 'running', told: sent }),
    putNode: (at) => store.putNode(aNode({ node: `n${at % NODES}`, sessionId: `s${at}` })),
  };
}

function reads(store: Store): Record<string, Call> {
  return {
    openCaptures: (at) => store.openCaptures({ cluster: 'prod-eu', node: `n${at % NODES}` }),
    'captures, 50 visible of a namespace': () =>
      store.captures({ visible: [{ clusters: ['*'], namespaces: ['shop', 'web-*'] }] }, { limit: 50 }),
    'captures, 50 of a requester without any': () => store.captures({ requestedBy: 'nobody' }, { limit: 50 }),
    expiredCaptures: () => store.expiredCaptures(1, 50),
  };
}

async function measure(name: string, call: Call, count: number, inFlight: number): Promise<void> {
  const took: number[] = [];
  let next = 0;
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const cpu = process.cpuUsage();
  const begin = performance.now();
  async function caller(): Promise<void> {
    for (let at = next++; at < count; at = next++) {
      const start = performance.now();
      await call(at);
      took.push(performance.now() - start);
    }
  }
  await Promise.all(Array.from({ length: inFlight }, caller));
  const wallMs = performance.now() - begin;
  const { user, system } = process.cpuUsage(cpu);
  delay.disable();
  took.sort((a, b) => a - b);
  const at = (share: number) => (took[Math.floor(share * (took.length - 1))] ?? 0).toFixed(2).padStart(8);
  const rate = String(Math.round((count * 1_000) / wallMs)).padStart(7);
  const cpuUs = String(Math.round((user + system) / count)).padStart(6);
  process.stdout.write(
    `${name.padEnd(40)} ${String(inFlight).padStart(4)} ${rate}/s  p50 ${at(0.5)}  p99 ${at(0.99)} ms  cpu ${cpuUs} us  loop ${(delay.max / 1e6).toFixed(0).padStart(4)} ms\n`,
  );
}

async function fill(store: Store, rows: number): Promise<void> {
  for (let done = 0; done < rows; done += 500) {
    const some = Array.from({ length: 500 }, (_, at) =>
      aCapture({
        node: `n${(done + at) % NODES}`,
        namespace: `ns${at % 40}`,
        state: 'complete',
        createdAtMs: done + at,
      }),
    );
    await store.addCaptures(aRequest(some), []);
  }
}

async function bench(title: string, url: string, rows: number): Promise<void> {
  await using store = await openStore({ url }, { log: pino({ level: 'silent' }), now: Date.now });
  await fill(store, rows);
  process.stdout.write(`\n${title}, ${rows} captures there\n`);
  for (const [inFlight, count] of [
    [1, 300],
    [IN_FLIGHT, 3_000],
  ] as const) {
    const ids: string[] = [];
    for (const [name, call] of Object.entries(writes(store, ids))) await measure(name, call, count, inFlight);
  }
  for (const [name, call] of Object.entries(reads(store))) await measure(name, call, 300, 1);
  const touched = Array.from({ length: NODES }, (_, at) => ({
    cluster: 'prod-eu',
    node: `n${at}`,
    sessionId: `s${at}`,
    lastSeenMs: 1,
    running: 0,
    waiting: 0,
  }));
  await measure(`touchNodes of ${NODES}`, () => store.touchNodes(touched), 10, 1);
  await measure('publish, 20 bytes', (at) => store.bus.publish('commands', `prod-eu/n${at}`), 3_000, IN_FLIGHT);
}

const { values } = parseArgs({
  options: { rows: { type: 'string', default: '100000' }, folder: { type: 'string', default: os.tmpdir() } },
});
const folder = await mkdtemp(path.join(values.folder, 'exhibit-bench-store-'));
try {
  await bench('SQLite', `sqlite:${path.join(folder, 'controller.db')}`, Number(values.rows));
  await using server = await startPostgres({ folder });
  await bench('PostgreSQL', await server.newDatabase(), Number(values.rows));
} finally {
  await rm(folder, { recursive: true });
}
