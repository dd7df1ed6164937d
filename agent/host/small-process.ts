import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import path from 'node:path';
import { ExhibitError } from '../../evidence/error.ts';
import type { HostPath } from '../runtime/runtime.ts';
import { type Host, reach } from './host.ts';

/**
 * Few megabytes for a process that waits: young objects in 1 MiB, no helper threads for V8, one for libuv, one malloc arena.
 * Measured: 34 MiB of anonymous memory for 43. Most of what is left is Node's parser for TypeScript, a WebAssembly program
 * that the compiled code of an earlier one makes unnecessary: 17 MiB, and a start in half the time.
 */
const FRUGAL = {
  flags: ['--max-semi-space-size=1', '--v8-pool-size=0', '--single-threaded-gc'],
  env: { UV_THREADPOOL_SIZE: '1', MALLOC_ARENA_MAX: '1' },
} as const;

export interface SmallProcessOptions {
  /** A folder of root's alone, on a tmpfs: the process leaves its compiled code there for the next. */
  readonly codeCache?: string | undefined;
}

/** Where all of them keep it. */
export const codeCacheOf = (host: Host, stateDir: HostPath): string => path.join(reach(host, stateDir), 'code');

/** A program of ours as a process that outlives the agent. */
export function spawnSmall(program: string, stdio: SpawnOptions['stdio'], { codeCache }: SmallProcessOptions = {}) {
  return withPipes(
    spawn(process.execPath, [...FRUGAL.flags, program], {
      stdio: stdio ?? 'ignore',
      // A session of its own: Ctrl-C in the agent's terminal is not for it.
      detached: true,
      // Nothing of the agent's environment concerns it, and NODE_OPTIONS could change it.
      env: { ...FRUGAL.env, ...(codeCache === undefined ? {} : { NODE_COMPILE_CACHE: codeCache }) },
    }),
  );
}

/**
 * The same child. Where there were no descriptors for it (EMFILE, ENFILE) Node makes no pipes, whatever its types say, and tells of it
 * by an event `error`, which ends a program that nobody listens in. @throws ExhibitError `internal` then
 */
export function withPipes<Child extends ChildProcess>(child: Child): Child {
  if (child.stdio !== undefined) return child;
  child.once('error', () => undefined);
  throw new ExhibitError('internal', 'no descriptors are left to start a process of the agent');
}
