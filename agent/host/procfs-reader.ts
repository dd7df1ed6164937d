import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { Host } from './host.ts';
import { parseStat } from './process-stat.ts';
import { LIMIT_BYTES, readBounded } from './procfs.ts';
import { createFrameCutter, encodeFrame } from './procfs-frame.ts';
import type { ReaderCounts, Reply, Request } from './procfs-request.ts';
import { createServer } from './procfs-serve.ts';
import { withPipes } from './small-process.ts';

/**
 * Reads /proc on behalf of the agent. Requests are answered one at a time, replies in the order that procfs-request.ts
 * gives; the `end` is not among them.
 */
export interface ProcfsReader extends AsyncDisposable {
  /**
   * Throws `StalledError` when nothing came and the reader process did nothing for the reader's patience: what was being
   * read blocks, and the reader process has been killed. The next request gets a new one. A reader that is only slow,
   * because the node is busy or the agent's CPU is limited, is waited for. Leaving the loop early ends the process as well.
   */
  ask(request: Request, signal: AbortSignal): AsyncGenerator<Reply>;
  /** Of all reader processes of this reader, as of the last answered request. */
  readonly counts: ReaderCounts;
}

export class StalledError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'StalledError';
  }
}

export type OpenReader = (host: Host) => ProcfsReader;

/** How long the reader process may stand still. A disk that needs longer for one MiB is taken for one that hangs. */
export const PATIENCE_MS = 5000;

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

interface Running {
  readonly child: Child;
  readonly next: () => Promise<Reply>;
  counts: ReaderCounts;
}

const NOTHING: ReaderCounts = { bytes: 0, opens: 0, cpuMs: 0 };

export interface ReaderOptions {
  readonly patienceMs?: number;
  /** A folder of root's alone, on a tmpfs, for compiled code: with it a reader process starts in a third of the time. */
  readonly codeCache?: string;
}

/** Starts reader processes as they are needed. */
export function openReader(host: Host, { patienceMs = PATIENCE_MS, codeCache }: ReaderOptions = {}): ProcfsReader {
  let running: Running | undefined;
  let earlier = NOTHING;
  const stop = (): void => {
    if (running === undefined) return;
    earlier = plus(earlier, running.counts);
    running.child.kill('SIGKILL');
    running = undefined;
  };
  return {
    get counts() {
      return plus(earlier, running?.counts ?? NOTHING);
    },
    async *ask(request, signal) {
      signal.throwIfAborted();
      running ??= start(host, codeCache);
      const mine = running;
      let ended = false;
      try {
        mine.child.stdin.write(encodeFrame(request));
        for (;;) {
          const reply = await within(mine.next(), () => activityOf(mine.child), patienceMs, signal);
          if (reply.kind === 'end') {
            mine.counts = reply.counts;
            ended = true;
            return;
          }
          yield reply;
        }
      } finally {
        if (!ended) stop();
      }
    },
    async [Symbol.asyncDispose]() {
      stop();
    },
  };
}

function plus(a: ReaderCounts, b: ReaderCounts): ReaderCounts {
  return { bytes: a.bytes + b.bytes, opens: a.opens + b.opens, cpuMs: a.cpuMs + b.cpuMs };
}

const PROGRAM = fileURLToPath(new URL('./procfs-child.ts', import.meta.url));
/**
 * Readings are made and forgotten at once: with 32 MiB of room for young ones they are never moved to the old space. A reader lives for a second
 * or two, which is too short for V8's last compiler and for compiling beside the work: without both it takes a tenth less.
 */
const FLAGS = ['--max-semi-space-size=32', '--no-turbofan', '--no-concurrent-recompilation'];
/** What a dying child may say that is kept for the error. */
const LAST_WORDS_MAX = 2000;

function start(host: Host, codeCache: string | undefined): Running {
  const child: Child = withPipes(
    spawn(process.execPath, [...FLAGS, PROGRAM, host.procRoot, host.hostRoot], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: codeCache === undefined ? {} : { NODE_COMPILE_CACHE: codeCache },
    }),
  );
  let lastWords = '';
  child.stderr.setEncoding('utf8');
  child.stderr.on('data', (text: string) => {
    lastWords = (lastWords + text).slice(-LAST_WORDS_MAX);
  });
  // A write to a killed child fails; the reading side says what happened.
  child.stdin.on('error', () => {});
  child.on('error', (error) => child.stdout.destroy(error));
  const cut = createFrameCutter<Reply>();
  const chunks = child.stdout.iterator({ destroyOnReturn: false });
  const ready: Reply[] = [];
  return {
    child,
    counts: NOTHING,
    async next() {
      for (;;) {
        const reply = ready.shift();
        if (reply !== undefined) return reply;
        const { value, done } = await chunks.next();
        if (done)
          throw new Error(`the reader process ended (${child.exitCode ?? child.signalCode}) ${lastWords}`.trim());
        ready.push(...cut(value));
      }
    },
  };
}

/**
 * What tells a process that works from one that stands still: CPU time used so far, or undefined while it is running or wants
 * to (state R of proc_pid_stat(5)).
 */
export function activityOf(child: { readonly pid?: number | undefined }): number | undefined {
  const reading = readBounded(`/proc/${child.pid}/stat`, LIMIT_BYTES.small);
  const stat = reading.kind === 'read' ? parseStat(reading.bytes) : undefined;
  if (stat === undefined) return 0;
  return stat.state === 'R' ? undefined : stat.userTicks + stat.systemTicks;
}

/** The promise; or `StalledError` when `activity` stood still for `ms`; or the signal's reason. What comes later is dropped. */
export async function within<Value>(
  promise: Promise<Value>,
  activity: () => number | undefined,
  ms: number,
  signal: AbortSignal,
): Promise<Value> {
  const { promise: ended, reject } = Promise.withResolvers<never>();
  const abort = (): void => reject(signal.reason);
  let before: number | undefined;
  const timer = setInterval(() => {
    const now = activity();
    if (now !== undefined && now === before) reject(new StalledError(`no answer within ${ms} ms`));
    before = now;
  }, ms / 2);
  signal.addEventListener('abort', abort, { once: true });
  promise.catch(() => {});
  try {
    return await Promise.race([promise, ended]);
  } finally {
    clearInterval(timer);
    signal.removeEventListener('abort', abort);
  }
}

/** The same in this very process, for tests on recorded trees: nothing there blocks. */
export function openInlineReader(host: Host): ProcfsReader {
  const server = createServer(host);
  let counts = NOTHING;
  return {
    get counts() {
      return counts;
    },
    async *ask(request, signal) {
      for (const reply of server.serve(request)) {
        signal.throwIfAborted();
        if (reply.kind === 'end') counts = reply.counts;
        else yield reply;
      }
    },
    async [Symbol.asyncDispose]() {
      server[Symbol.dispose]();
    },
  };
}
