/** The agent's end of a guard process: starting it, telling it, hearing it. The guard's own end is guard.ts. */
import type { ChildProcess } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { Readable, type Writable } from 'node:stream';
import { z } from 'zod';
import { ExhibitError, explain } from '../../evidence/error.ts';
import { openReserve, type Reserve } from '../host/reserve.ts';
import { type SmallProcessOptions, spawnSmall } from '../host/small-process.ts';
import type { Answer, Order } from './guard.ts';
import { wireThread } from './register-wire.ts';

/** How long disposal waits for the guard to end: it may have to thaw, or to correct the runtime's view for minutes. */
const FAREWELL_MS = 3_000;

/** The end of a guard's complaints that is worth quoting. */
const STDERR_BYTES = 2_000;

const answerSchema: z.ZodType<Answer> = z.discriminatedUnion('type', [
  z.object({ type: z.literal('ready') }),
  z.object({ type: z.literal('refused'), reason: z.string() }),
  z.object({
    type: z.literal('frozen'),
    by: z.enum(['held', 'found']),
    frozenAtMs: z.number(),
    notes: z.array(z.string()),
  }),
  z.object({
    type: z.literal('registers'),
    threads: z.array(wireThread),
    last: z.boolean(),
    note: z.string().exactOptional(),
  }),
  z.object({ type: z.literal('failed'), reason: z.string() }),
  z.object({
    type: z.literal('thawed'),
    by: z.enum(['agent', 'guard']),
    outcome: z.enum(['thawed', 'gone', 'was-thawed', 'left']),
    frozenAtMs: z.number(),
    thawedAtMs: z.number(),
    pauseMs: z.number(),
    notes: z.array(z.string()),
  }),
  z.object({ type: z.literal('stuck'), reason: z.string() }),
]);

/** What the agent hears: an answer, or that the guard is no more. */
export type Heard = Answer | { type: 'ended'; reason: string };

/** The agent's end of a guard. */
export interface Guard {
  readonly pid: number | undefined;
  /** Resolves when the process has ended, however. */
  readonly ended: Promise<void>;
  send(order: Order): void;
  /** The next thing heard; things are heard once, in order, and `ended` for ever. */
  hear(): Promise<Heard>;
  /** For a guard that hangs. The kernel detaches what it traces. */
  kill(): void;
  /** Ends the lease. Resolves when the guard has ended, or after a moment. */
  dismiss(): Promise<void>;
}

export type GuardOptions = SmallProcessOptions;

/** A guard that is up before it is needed: the process takes a third of a second to start. It waits for its first order. */
export const openGuardReserve = (options: GuardOptions): Reserve<Guard> =>
  openReserve({
    count: 1,
    start: () => spawnGuard(options),
    onEnd: (guard, ended) => void guard.ended.then(ended),
    end: (guard) => guard.dismiss(),
  });

export function spawnGuard(options: GuardOptions = {}): Guard {
  const program = path.join(import.meta.dirname, 'guard.ts');
  const child = spawnSmall(program, ['pipe', 'ignore', 'pipe', 'pipe'], options);
  const { stdin, stderr, answers } = pipesOf(child);
  let complaints = '';
  stderr.on('data', (chunk: Buffer) => {
    complaints = (complaints + chunk.toString('utf8')).slice(-STDERR_BYTES);
  });
  // The guard has gone: its end says more.
  stdin.on('error', () => undefined);
  const inbox = createInbox<Heard>();
  createInterface({ input: answers }).on('line', (line) => inbox.put(parseAnswer(line)));
  const ended = endOf(child).then((how) => {
    inbox.close({ type: 'ended', reason: [`the guard ${how}`, complaints.trim()].filter(Boolean).join(': ') });
  });
  return {
    pid: child.pid,
    ended,
    send: (order) => void stdin.write(`${JSON.stringify(order)}\n`),
    hear: inbox.take,
    kill: () => void child.kill('SIGKILL'),
    async dismiss() {
      stdin.end();
      const timer = new AbortController();
      await Promise.race([ended, delay(FAREWELL_MS, timer.signal)]);
      timer.abort();
      // A guard that still has work goes on without us.
      child.unref();
      for (const stream of [stdin, stderr, answers]) stream.destroy();
    },
  };
}

function pipesOf(child: ChildProcess): { stdin: Writable; stderr: Readable; answers: Readable } {
  const { stdin, stderr, stdio } = child;
  const answers = stdio[3];
  if (stdin === null || stderr === null || !(answers instanceof Readable)) {
    throw new ExhibitError('internal', 'A guard was started without its pipes');
  }
  return { stdin, stderr, answers };
}

function delay(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  signal.addEventListener('abort', () => {
    clearTimeout(timer);
    resolve();
  });
  return promise;
}

function endOf(child: ChildProcess): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  child.once('error', (error) => resolve(`could not be started: ${error.message}`));
  // `close`, not `exit`: what it said last has been read by then.
  child.once('close', (code, signal) =>
    resolve(signal === null ? `ended with status ${code}` : `was ended by ${signal}`),
  );
  return promise;
}

function parseAnswer(line: string): Heard {
  try {
    return answerSchema.parse(JSON.parse(line));
  } catch (error) {
    return { type: 'ended', reason: `the guard answered with nonsense: ${explain(error)}` };
  }
}

/** A queue with one reader. */
function createInbox<Item>() {
  const items: Item[] = [];
  let last: Item | undefined;
  let waiting: ((item: Item) => void) | undefined;
  const put = (item: Item) => {
    const deliver = waiting;
    waiting = undefined;
    if (deliver === undefined) items.push(item);
    else deliver(item);
  };
  return {
    put,
    close(item: Item) {
      last = item;
      if (waiting !== undefined) put(item);
    },
    take(): Promise<Item> {
      const item = items.shift() ?? last;
      if (item !== undefined) return Promise.resolve(item);
      return new Promise((resolve) => {
        waiting = resolve;
      });
    },
  };
}
