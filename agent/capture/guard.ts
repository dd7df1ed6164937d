/**
 * The guard: a process of its own that holds a freeze, so that no death of the agent leaves a target frozen. The agent
 * starts it before the freeze, hands it the spec, and keeps the other end of its stdin: that pipe is the lease.
 *
 * It thaws when it is told, when the lease ends (the agent has died, however), when the deadline passes (the agent may be
 * stopped, or hang), on SIGTERM, SIGINT and SIGHUP, and when the runtime goes down under the pause. It has a session of its
 * own, leaves the agent's cgroup where it may, and does nothing that could wait for the agent: answers are written after the
 * thaw and dropped when nobody reads. It ends when the lease has ended and nothing is left to do, at the latest
 * THAW_BOUND_MS after the thaw was due.
 *
 * Both ways one JSON object a line: Order on stdin, Answer on descriptor 3.
 */
import { writeFile } from 'node:fs/promises';
import { Socket } from 'node:net';
import { constants, setPriority } from 'node:os';
import { explain } from '../../evidence/error.ts';
import { leaveCgroups } from '../host/cgroup.ts';
import { openTracer } from '../host/registers.ts';
import { byHand, type Pause, type Paused, preparePause, STUCK_MS, type Thawed } from '../runtime/pause/pause.ts';
import type { FreezeSpec } from '../runtime/runtime.ts';
import { type Reading, type RegistersAnswer, startReading } from './guard-registers.ts';

export type Order =
  /** The first, once. `procRoot`: the /proc whose thread ids the agent uses. */
  { type: 'hold'; spec: FreezeSpec; procRoot: string } | { type: 'freeze'; deadlineMs: number } | { type: 'thaw' };

/** Times are milliseconds since the epoch. */
export type Answer =
  | { type: 'ready' }
  /** The target cannot be frozen by this guard, which ends. */
  | { type: 'refused'; reason: string }
  | { type: 'frozen'; by: 'held' | 'found'; frozenAtMs: number; notes: readonly string[] }
  /** Between `frozen` and `thawed`: what the threads were doing. Sent as it is read. */
  | RegistersAnswer
  /** The target is not frozen. */
  | { type: 'failed'; reason: string }
  | {
      type: 'thawed';
      by: 'agent' | 'guard';
      outcome: Thawed['outcome'];
      frozenAtMs: number;
      thawedAtMs: number;
      /** From just before the target was told to stop until it was known to run. */
      pauseMs: number;
      notes: readonly string[];
    }
  /** Every way to thaw has failed for STUCK_MS: somebody should know. The guard tries on until THAW_BOUND_MS. */
  | { type: 'stuck'; reason: string };

/** An order is a few hundred bytes; a spec with all pids of a large tree some tens of thousand. */
const LINE_BYTES = 1024 * 1024;

/** Why a freeze ends. */
type Release = { by: 'agent' | 'guard'; why: string };

const DEADLINE = 'the deadline passed';

export interface Holding {
  /** Ends the freeze that is running, if one is. */
  release(release: Release): void;
  /** Freezes, holds until released, thaws. Never rejects; answers tell. */
  hold(deadlineMs: number): Promise<void>;
  /** Work left over by thaws. */
  settled(): Promise<void>;
}

export interface Held {
  readonly pause: Pause;
  /** What a person can do when no thaw works. */
  readonly stuckHint: string;
  readonly stuckMs?: number;
  /** Reads what it can of the standing target, until it is stopped. */
  readonly read?: (paused: Paused) => Reading;
}

/** One freeze after the other on one target. The timer starts before anything is sent. */
export function holder(
  { pause, stuckHint, stuckMs = STUCK_MS, read }: Held,
  answer: (answer: Answer) => void,
): Holding {
  let release: ((release: Release) => void) | undefined;
  const leftovers: Promise<void>[] = [];

  async function thaw(): Promise<Thawed | undefined> {
    const stuck = (why: string) => answer({ type: 'stuck', reason: `${why}. By hand: ${stuckHint}` });
    const timer = setTimeout(() => stuck(`no way to thaw has worked for ${stuckMs} ms; the guard tries on`), stuckMs);
    try {
      const thawed = await pause.thaw();
      if (thawed.settled !== undefined) leftovers.push(thawed.settled);
      return thawed;
    } catch (error) {
      stuck(explain(error));
      return undefined;
    } finally {
      clearTimeout(timer);
    }
  }

  async function freezeAndHold(released: Promise<Release>, abort: AbortController): Promise<void> {
    let paused: Paused;
    try {
      paused = await pause.freeze(abort.signal);
    } catch (error) {
      const because = abort.signal.aborted ? [`the freeze was given up because ${String(abort.signal.reason)}`] : [];
      if ((await thaw()) !== undefined) answer({ type: 'failed', reason: [...because, explain(error)].join(': ') });
      return;
    }
    const frozenAtMs = Math.round(Date.now() - (performance.now() - paused.toldAt));
    answer({ type: 'frozen', by: paused.by, frozenAtMs, notes: paused.notes });
    const reading = read?.(paused);
    const broken = () => release?.({ by: 'guard', why: String(paused.broken?.reason?.message) });
    paused.broken?.addEventListener('abort', broken, { once: true });
    if (paused.broken?.aborted) broken();
    const { by, why } = await released;
    reading?.stop();
    const thawed = await thaw();
    const pauseMs = paused.by === 'held' ? performance.now() - paused.toldAt : 0;
    const thawedAtMs = Date.now();
    if (reading !== undefined) leftovers.push(reading.settle());
    await reading?.told;
    if (thawed === undefined) return;
    const reasons = by === 'guard' ? [`thawed by the guard: ${why}`] : [];
    const notes = [...paused.notes, ...reasons, ...thawed.notes];
    answer({ type: 'thawed', by, outcome: thawed.outcome, frozenAtMs, thawedAtMs, pauseMs, notes });
  }

  return {
    release: (cause) => release?.(cause),
    async hold(deadlineMs) {
      const released = Promise.withResolvers<Release>();
      const abort = new AbortController();
      release = (cause) => {
        released.resolve(cause);
        abort.abort(cause.why);
      };
      const timer = setTimeout(() => release?.({ by: 'guard', why: DEADLINE }), deadlineMs);
      try {
        await freezeAndHold(released.promise, abort);
      } finally {
        clearTimeout(timer);
        release = undefined;
      }
    },
    async settled() {
      await Promise.all(leftovers);
    },
  };
}

/** The lines of a stream; ends quietly when the stream breaks. A line without end counts as a broken stream. */
async function* linesOf(stream: AsyncIterable<Buffer>): AsyncGenerator<string, void, undefined> {
  let pending = Buffer.alloc(0);
  try {
    for await (const chunk of stream) {
      pending = Buffer.concat([pending, chunk]);
      for (let end = pending.indexOf(0x0a); end >= 0; end = pending.indexOf(0x0a)) {
        yield pending.subarray(0, end).toString('utf8');
        pending = pending.subarray(end + 1);
      }
      if (pending.byteLength > LINE_BYTES) return;
    }
  } catch {
    // A lease that breaks has ended.
  }
}

/** Orders come from our own agent; what is none ends the lease. */
function parseOrder(line: string): Order | undefined {
  try {
    return JSON.parse(line) as Order;
  } catch {
    return undefined;
  }
}

interface Answers {
  send(answer: Answer): void;
  /** Waits a moment for the last answer to be taken. */
  flush(): Promise<void>;
}

/** Nobody who is alive needs longer to take a line from a pipe. */
const FLUSH_MS = 500;

function openAnswers(): Answers {
  // A stream of its own, asynchronous: a full pipe to a stopped agent never makes the guard wait.
  const stream = new Socket({ fd: 3, readable: false, writable: true });
  stream.on('error', () => undefined);
  return {
    send: (answer) => void stream.write(`${JSON.stringify(answer)}\n`),
    async flush() {
      const { promise, resolve } = Promise.withResolvers<void>();
      stream.once('close', resolve);
      stream.end();
      setTimeout(resolve, FLUSH_MS);
      await promise;
    },
  };
}

/** Of all processes the guard is the last that should be killed for memory; -1000 would take it from the kernel altogether. */
const OOM_SCORE = '-999';

/** Connecting to a runtime that answers takes milliseconds. */
const PREPARE_MS = 5_000;

/** On a node at its limit the thaw must not queue behind the workload. */
function goFirst(): void {
  try {
    setPriority(constants.priority.PRIORITY_HIGHEST);
  } catch {
    // Not root: as good as anybody.
  }
}

async function main({ send }: Answers): Promise<void> {
  goFirst();
  const orders = linesOf(process.stdin);
  const first = parseOrder((await orders.next()).value ?? '');
  if (first?.type !== 'hold') return;
  const [pause] = await Promise.all([
    preparePause(first.spec, AbortSignal.timeout(PREPARE_MS)).catch((error: unknown) => {
      send({ type: 'refused', reason: explain(error) });
    }),
    leaveCgroups(),
    writeFile('/proc/self/oom_score_adj', OOM_SCORE).catch(() => undefined),
  ]);
  if (pause === undefined) return;
  const source = { spec: first.spec, procRoot: first.procRoot, tracer: tracerOrWhy() };
  const read = ({ pids }: Paused) => startReading(source, pids, send);
  await serve(orders, holder({ pause, stuckHint: byHand(first.spec), read }, send), send);
}

/** Loaded before the freeze. Registers are worth having, and a freeze without them is worth more than none. */
function tracerOrWhy() {
  try {
    return openTracer();
  } catch (error) {
    return `registers cannot be read: ${explain(error)}`;
  }
}

/** Until the lease or the process is ended, and nothing is left to do. */
async function serve(orders: AsyncIterable<string>, holding: Holding, send: Answers['send']): Promise<void> {
  const ended = Promise.withResolvers<string>();
  for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.on(name, () => ended.resolve(`the guard got ${name}`));
  }
  process.on('uncaughtException', (error) => ended.resolve(explain(error)));
  let current: Promise<void> | undefined;
  const obey = (order: Order | undefined): boolean => {
    switch (order?.type) {
      case 'freeze':
        if (current !== undefined) return false;
        current = holding.hold(order.deadlineMs).finally(() => {
          current = undefined;
        });
        return true;
      case 'thaw':
        holding.release({ by: 'agent', why: 'the agent asked for it' });
        return true;
      default:
        return false;
    }
  };
  const leased = async () => {
    for await (const line of orders) if (!obey(parseOrder(line))) return 'the agent sent an order that makes no sense';
    return 'the agent has ended';
  };
  send({ type: 'ready' });
  const why = await Promise.race([leased(), ended.promise]);
  holding.release({ by: 'guard', why });
  await current;
  await holding.settled();
}

if (import.meta.main) {
  const answers = openAnswers();
  await main(answers);
  await answers.flush();
  process.exit();
}
