/**
 * What containerd leaves of a CRI checkpoint that its own death ended, and never looks at again (seen with 2.1.9): an image
 * whose blobs hold the container's memory, and the unpacked dump in its temporary folder. containerd 2.0 leaves the image
 * behind every time.
 */
import { readFileSync } from 'node:fs';
import { lstat, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { resolveBelow } from '../host/below.ts';
import { findDaemons } from '../host/daemon.ts';
import type { Host } from '../host/host.ts';
import type { ContainerdClient } from './containerd-client.ts';
import { type ProcessStat, processStat } from './process-tree.ts';

/** The label of such images. */
const CHECKPOINT_LABEL = 'containerd.io/checkpoint';
/** Go's os.MkdirTemp: the pattern and decimal digits. */
const FOLDER = /^ctrd-checkpoint\d+$/;
/** Boot time is known to the second, and so is the start of a process; clocks of node and agent are the same one. */
const CLOCK_SLACK_MS = 2_000;
/** USER_HZ, as every Linux has it: proc(5). */
const TICKS_PER_SECOND = 100;

/** Where containerd is: its socket as the agent reaches it. */
export interface Place {
  readonly host: Host;
  readonly socket: string;
}

/** Names of what was removed. Images of other containers, and older ones, are somebody else's evidence. */
export async function cleanCriLeftovers(
  client: ContainerdClient,
  { host, socket }: Place,
  containerId: string,
  sinceMs: number,
): Promise<string[]> {
  const removed: string[] = [];
  for (const { name, createdAtMs } of await client.labelledImages(CHECKPOINT_LABEL, 'true', {})) {
    if (!name.includes(containerId) || createdAtMs < sinceMs - CLOCK_SLACK_MS) continue;
    await client.removeImage(name, {});
    removed.push(`image ${name}`);
  }
  return [...removed, ...(await cleanDumpFolders({ host, socket }, sinceMs))];
}

/**
 * Only folders that are older than the containerd that runs now: nobody is at work in those. And only of the containerd that
 * serves the socket: a process in a container may have its name, and a TMPDIR that leads anywhere.
 */
export async function cleanDumpFolders({ host, socket }: Place, sinceMs: number): Promise<string[]> {
  const removed: string[] = [];
  for (const { pid, root, temporary } of await findDaemons(host, 'containerd', socket)) {
    const stat = processStat(host.procRoot, pid);
    const folder = await resolveBelow(root, temporary).catch(() => undefined);
    if (stat === undefined || folder === undefined) continue;
    const startedMs = startOf(host, stat);
    const names = await readdir(folder).catch(() => []);
    for (const name of names.filter((one) => FOLDER.test(one))) {
      if (!(await isLeft(path.join(folder, name), sinceMs, startedMs))) continue;
      await rm(path.join(folder, name), { recursive: true, force: true });
      removed.push(`folder ${name} in containerd's temporary folder`);
    }
  }
  return removed;
}

async function isLeft(folder: string, sinceMs: number, startedMs: number): Promise<boolean> {
  const stat = await lstat(folder).catch(() => undefined);
  if (stat === undefined || !stat.isDirectory() || stat.uid !== 0) return false;
  return stat.mtimeMs >= sinceMs - CLOCK_SLACK_MS && stat.mtimeMs <= startedMs + CLOCK_SLACK_MS;
}

/** Milliseconds since the epoch. */
function startOf({ procRoot }: Host, { startTicks }: ProcessStat): number {
  const boot = Number(/^btime (\d+)$/m.exec(readFileSync(`${procRoot}/stat`, 'latin1'))?.[1] ?? 0);
  return (boot + startTicks / TICKS_PER_SECOND) * 1000;
}
