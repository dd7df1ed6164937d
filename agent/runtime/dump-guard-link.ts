/** The agent's end of a dump guard. The guard's own end is dump-guard.ts. */
import { once } from 'node:events';
import path from 'node:path';
import { type SmallProcessOptions, spawnSmall } from '../host/small-process.ts';
import { DUMPED, type DumpParts, OVER } from './dump-guard.ts';

/** A guard is ready in a third of a second; a dump does not wait for one longer than this. */
const READY_MS = 5_000;

/** Disposal says that all is over, and the guard ends. */
export interface DumpGuard extends AsyncDisposable {
  /** False where none could be started: the next agent then ends what this one leaves. */
  readonly started: boolean;
  /** The container runs: should somebody pause it from now on, it is theirs. */
  readonly dumped: () => void;
}

/** Resolves when the guard watches. Never rejects: a dump without a guard is worth more than none. */
export async function startDumpGuard(parts: DumpParts, options: SmallProcessOptions = {}): Promise<DumpGuard> {
  let child: ReturnType<typeof spawnSmall>;
  try {
    child = spawnSmall(path.join(import.meta.dirname, 'dump-guard.ts'), ['pipe', 'pipe', 'ignore'], options);
  } catch {
    return { started: false, dumped: () => undefined, [Symbol.asyncDispose]: async () => undefined };
  }
  const { stdin, stdout } = child;
  const ended = new Promise<void>((resolve) => {
    child.once('error', () => resolve());
    child.once('exit', () => resolve());
  });
  stdin?.on('error', () => undefined);
  stdin?.write(`${JSON.stringify(parts)}\n`);
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), READY_MS);
  const started =
    stdout !== null &&
    (await Promise.race([
      once(stdout, 'data', { signal: late.signal }).then(
        () => true,
        () => false,
      ),
      ended.then(() => false),
    ]));
  clearTimeout(timer);
  stdout?.destroy();
  return {
    started,
    dumped: () => void stdin?.write(`${DUMPED}\n`),
    async [Symbol.asyncDispose]() {
      stdin?.end(`${OVER}\n`);
      await ended;
    },
  };
}
