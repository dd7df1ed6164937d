import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import type { Host } from './host.ts';
import { activityOf, StalledError, within } from './procfs-reader.ts';
import { withPipes } from './small-process.ts';

/** The agent's end of preflight-child.cjs. */

const refusalSchema = z.object({ errno: z.string() });
/** Why an item has no answer. `stalled`: looking at it did not end, and the process that looked was killed. */
export type Refusal = z.infer<typeof refusalSchema> | { readonly errno: 'stalled' };

export const mapsSchema = z.object({ lines: z.array(z.string()), omitted: z.number(), truncated: z.boolean() });
/** What stat(2) says; `bytes` are allocated ones. */
export const fileSchema = z.object({
  isRegular: z.boolean(),
  device: z.string(),
  inode: z.string(),
  links: z.number(),
  bytes: z.number(),
});
export const protocolSchema = z.object({ protocol: z.string() });
export const dumpSchema = z.object({ dump: z.base64(), truncated: z.boolean() });

/** One answer an item, in this order. */
export type Question =
  /** Lines of /proc/PID/maps that may matter; Latin-1. */
  | { readonly ask: 'maps'; readonly items: readonly { readonly pid: number }[] }
  /** What stat(2) says of files below /proc/PID, for example `fd/7`. */
  | { readonly ask: 'files'; readonly items: readonly { readonly pid: number; readonly name: string }[] }
  /** The protocols of sockets, as the kernel names them. */
  | { readonly ask: 'protocols'; readonly items: readonly { readonly pid: number; readonly name: string }[] }
  /** A netlink dump in the network namespace of each pid. `message` is base64. */
  | {
      readonly ask: 'netlink';
      readonly items: readonly { readonly pid: number }[];
      readonly protocol: number;
      readonly message: string;
    };

export interface Asker extends AsyncDisposable {
  /** Questions are answered in the order in which they were asked. Throws the signal's reason, or what ended the process. */
  ask<Answer>(question: Question, schema: z.ZodType<Answer>): Promise<(Answer | Refusal)[]>;
}

/** How long the process may stand still at one item. What it reads comes from memory, in far less than a millisecond. */
const PATIENCE_MS = 1000;
/** Processes killed in one preflight; what is left then is not looked at. */
const STALLS_MAX = 3;
const PROGRAM = fileURLToPath(new URL('./preflight-child.cjs', import.meta.url));

type Child = ChildProcessByStdio<Writable, Readable, null>;

interface Running {
  readonly child: Child;
  /** Lines that came and were not taken yet. */
  readonly lines: string[];
  /** Why there will be no more lines. */
  ended: Error | undefined;
  /** Called when lines come, or no more will. */
  heard: () => void;
}

/** Starts the process at once. */
export function openAsker(host: Host, signal: AbortSignal, patienceMs = PATIENCE_MS): Asker {
  let running: Running | undefined = start(host);
  let stalls = 0;
  let before: Promise<unknown> = Promise.resolve();
  const stop = (): void => {
    running?.child.kill('SIGKILL');
    running = undefined;
  };

  /** Answers to the items, as many as came before the process stood still. */
  const some = async <Answer>(question: Question, schema: z.ZodType<Answer>): Promise<(Answer | Refusal)[]> => {
    running ??= start(host);
    const { child, lines } = running;
    const either = z.union([schema, refusalSchema]);
    // Answers come in pieces until the process has stood still once; then one by one, to know what makes it.
    const careful = stalls > 0;
    child.stdin.write(`${JSON.stringify({ ...question, careful })}\n`);
    let stalled = false;
    try {
      // What was answered counts as activity too.
      const activity = (): number | undefined => {
        const cpu = activityOf(child);
        return cpu === undefined ? undefined : cpu + lines.length;
      };
      await within(untilLines(running, question.items.length), activity, patienceMs, signal);
    } catch (error) {
      stop();
      if (!(error instanceof StalledError)) throw error;
      stalls += 1;
      stalled = careful;
    }
    const answers = lines
      .splice(0, question.items.length)
      .map((line): Answer | Refusal => either.parse(JSON.parse(line)));
    return stalled ? [...answers, { errno: 'stalled' }] : answers;
  };

  const all = async <Answer>(question: Question, schema: z.ZodType<Answer>): Promise<(Answer | Refusal)[]> => {
    const answers: (Answer | Refusal)[] = [];
    while (answers.length < question.items.length) {
      if (stalls >= STALLS_MAX) answers.push({ errno: 'stalled' });
      else
        answers.push(...(await some({ ...question, items: question.items.slice(answers.length) } as Question, schema)));
    }
    return answers;
  };

  return {
    ask(question, schema) {
      const answers = before.then(() => all(question, schema));
      before = answers.catch(() => {});
      return answers;
    },
    async [Symbol.asyncDispose]() {
      stop();
    },
  };
}

function untilLines(running: Running, count: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  running.heard = () => {
    if (running.lines.length >= count) resolve();
    else if (running.ended !== undefined) reject(running.ended);
  };
  running.heard();
  return promise;
}

function start(host: Host): Running {
  const child = withPipes(
    spawn(process.execPath, [PROGRAM, host.procRoot], { stdio: ['pipe', 'pipe', 'ignore'], env: {} }),
  );
  const running: Running = { child, lines: [], ended: undefined, heard: () => {} };
  let rest = '';
  child.stdout.setEncoding('latin1');
  child.stdout.on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    running.lines.push(...lines);
    running.heard();
  });
  const end = (why: unknown): void => {
    running.ended = new Error(`the process that looks for obstacles ended (${String(why)})`);
    running.heard();
  };
  // A write to a killed child fails; the reading side says what happened.
  child.stdin.on('error', () => {});
  child.on('error', end);
  child.on('close', (code, signal) => end(code ?? signal));
  child.unref();
  return running;
}
