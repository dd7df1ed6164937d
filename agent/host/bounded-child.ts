import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { activityOf, StalledError, within } from './procfs-reader.ts';
import { withPipes } from './small-process.ts';

export interface ChildLimits {
  /** How long it may stand still, without a line and without using CPU time. */
  readonly patienceMs: number;
  /** How long it may take in all: a server may answer just often enough. */
  readonly totalMs: number;
  readonly signal: AbortSignal;
}

/**
 * Runs a program of ours and gives its lines. One that stands still or takes too long is killed, which is a `StalledError`; an
 * exit other than 0 is an Error. Leaving the loop early kills it as well. A process that the kernel will not let die is
 * left behind and not waited for.
 */
export async function* childLines(
  program: URL,
  argv: readonly string[],
  { patienceMs, totalMs, signal }: ChildLimits,
): AsyncGenerator<string> {
  const child: ChildProcessByStdio<null, Readable, null> = withPipes(
    spawn(process.execPath, [fileURLToPath(program), ...argv], { stdio: ['ignore', 'pipe', 'ignore'], env: {} }),
  );
  const ended = Promise.withResolvers<number | null>();
  child.once('exit', (code) => ended.resolve(code));
  child.once('error', ended.reject);
  ended.promise.catch(() => {});
  const until = performance.now() + totalMs;
  const lines = createInterface({ input: child.stdout, crlfDelay: Number.POSITIVE_INFINITY })[Symbol.asyncIterator]();
  try {
    for (;;) {
      if (performance.now() > until) throw new StalledError(`it was not done within ${totalMs} ms`);
      const { value, done } = await within(lines.next(), () => activityOf(child), patienceMs, signal);
      if (done === true) break;
      yield value;
    }
    const code = await within(ended.promise, () => activityOf(child), patienceMs, signal);
    if (code !== 0) throw new Error(`the process ended with ${code}`);
  } finally {
    child.kill('SIGKILL');
    child.stdout.destroy();
    child.unref();
  }
}
