/**
 * What containerd leaves of a CRI checkpoint that its own death ended, and never looks at again (seen with 2.1.9): an image
 * whose blobs hold the container's memory, and the unpacked dump in its temporary folder. containerd 2.0 leaves the image
 * behind every time.
 */
import { readFileSync } from 'node:fs';
import { lstat, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Host } from '../host/host.ts';
import type { ContainerdClient } from './containerd-client.ts';
import { allProcesses, type ProcessStat } from './process-tree.ts';

/** The label of such images. */
const CHECKPOINT_LABEL = 'containerd.io/checkpoint';
/** Go's os.MkdirTemp: the pattern and decimal digits. */
const FOLDER = /^ctrd-checkpoint\d+$/;
/** Boot time is known to the second, and so is the start of a process; clocks of node and agent are the same one. */
const CLOCK_SLACK_MS = 2_000;
/** USER_HZ, as every Linux has it: proc(5). */
const TICKS_PER_SECOND = 100;

/** Names of what was removed. Images of other containers, and older ones, are somebody else's evidence. */
export async function cleanCriLeftovers(
  client: ContainerdClient,
  host: Host,
  containerId: string,
  sinceMs: number,
): Promise<string[]> {
  const removed: string[] = [];
  for (const { name, createdAtMs } of await client.labelledImages(CHECKPOINT_LABEL, 'true', {})) {
    if (!name.includes(containerId) || createdAtMs < sinceMs - CLOCK_SLACK_MS) continue;
    await client.removeImage(name, {});
    removed.push(`image ${name}`);
  }
  return [...removed, ...(await cleanFolders(host, sinceMs))];
}

/** Only folders that are older than the containerd that runs now: nobody is at work in those. */
async function cleanFolders(host: Host, sinceMs: number): Promise<string[]> {
  const removed: string[] = [];
  for (const daemon of allProcesses(host.procRoot).filter(({ comm }) => comm === 'containerd')) {
    const startedMs = startOf(host, daemon);
    const folder = temporaryFolder(host, daemon.pid);
    const names = await readdir(folder).catch(() => []);
    for (const name of names.filter((one) => FOLDER.test(one))) {
      const file = path.join(folder, name);
      const stat = await lstat(file);
      const ours = stat.isDirectory() && stat.uid === 0 && stat.mtimeMs >= sinceMs - CLOCK_SLACK_MS;
      if (!ours || stat.mtimeMs > startedMs + CLOCK_SLACK_MS) continue;
      await rm(file, { recursive: true, force: true });
      removed.push(`folder ${name} in containerd's temporary folder`);
    }
  }
  return removed;
}

/** Milliseconds since the epoch. */
function startOf({ procRoot }: Host, { startTicks }: ProcessStat): number {
  const boot = Number(/^btime (\d+)$/m.exec(readFileSync(`${procRoot}/stat`, 'latin1'))?.[1] ?? 0);
  return (boot + startTicks / TICKS_PER_SECOND) * 1000;
}

/** As that containerd sees it, through its own root. */
function temporaryFolder({ procRoot }: Host, pid: number): string {
  let environment = '';
  try {
    environment = readFileSync(`${procRoot}/${pid}/environ`, 'latin1');
  } catch {
    // Then it is the default.
  }
  const told = environment
    .split('\0')
    .find((one) => one.startsWith('TMPDIR=/'))
    ?.slice('TMPDIR='.length);
  return path.posix.join(procRoot, String(pid), 'root', told ?? '/tmp');
}
