/**
 * The dump guard: a process of its own that ends what an agent began, should the agent die while a runtime makes a checkpoint.
 * It reads the FIFO dry, so that the runtime does not wait for a reader that is gone; lets the container go, should the dump
 * have left it paused; and gives the memory of CRIU's files back. The pipe on its stdin is the lease: when it ends without
 * the word that all is over, the agent has died.
 */
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { leaveCgroups } from '../host/cgroup.ts';
import { drainFifo } from '../host/fifo.ts';
import type { Host } from '../host/host.ts';
import { removeTmpfs } from '../host/tmpfs.ts';
import { AFTER_DUMP_MS, thawAfterDump } from './pause/dump.ts';
import { criuRuns } from './process-tree.ts';
import type { HostPath, SingleFreezeSpec } from './runtime.ts';

/** What there is of one dump. */
export interface DumpParts {
  readonly host: Host;
  readonly pause?: SingleFreezeSpec | undefined;
  readonly fifo?: HostPath;
  readonly tmpfs?: readonly HostPath[];
}

/** Lines on stdin: the parts as JSON; then that the container is known to run; then that all is over. */
export const DUMPED = 'dumped';
export const OVER = 'over';
/** Said on stdout, once. */
export const READY = 'ready';

/**
 * How long the guard waits for a runtime that has not opened the FIFO yet: between the dump and the archive it packs what may
 * be gigabytes. A runtime that has opened it is waited for without end.
 */
const WRITER_WAIT_MS = 120_000;
/** And for a CRIU that still writes into the tmpfs. */
const CRIU_WAIT_MS = 120_000;
const POLL_MS = 200;

/** Carries out what the dead agent would have done. What fails is left to the next agent, whose journal knows of it. */
export async function endDump({ host, pause, fifo, tmpfs = [] }: DumpParts): Promise<void> {
  await Promise.allSettled([
    pause === undefined ? undefined : thawAfterDump(pause, host.procRoot, AFTER_DUMP_MS),
    fifo === undefined ? undefined : drainFifo(host, fifo, WRITER_WAIT_MS),
    giveBack(host, tmpfs),
  ]);
}

async function giveBack(host: Host, tmpfs: readonly HostPath[]): Promise<void> {
  if (tmpfs.length === 0) return;
  const bound = performance.now() + CRIU_WAIT_MS;
  while (criuRuns(host.procRoot) && performance.now() < bound) await sleep(POLL_MS);
  for (const one of tmpfs) await removeTmpfs(host, one);
}

async function main(): Promise<void> {
  for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(name, () => undefined);
  // The reader of stdout is the agent; that it is gone is the very case this is for.
  process.stdout.on('error', () => undefined);
  await leaveCgroups();
  process.stdout.write(`${READY}\n`);
  let parts: DumpParts | undefined;
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === OVER) return;
    parts = line === DUMPED && parts !== undefined ? { ...parts, pause: undefined } : (JSON.parse(line) as DumpParts);
  }
  if (parts !== undefined) await endDump(parts);
}

if (import.meta.main) {
  await main();
  process.exit();
}
