/**
 * Names that say who owns them, and the removal of what their owner left behind. The kernel takes back processes, mounts
 * and networks of a lab machine when its starter dies; folders in /tmp and cgroups stay, so the next start sweeps them.
 */
import { readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const NAME = /^exhibit-lab-(\d+)-(\d+)-\d+$/;

let count = 0;

/** Field 22 of /proc/PID/stat, in clock ticks since boot; undefined when there is no such process. */
function startTicks(pid: number | 'self'): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

/** A name for a folder or cgroup that belongs to this process: `exhibit-lab-PID-STARTTICKS-COUNT`. */
export function ownedName(): string {
  count += 1;
  return `exhibit-lab-${process.pid}-${startTicks('self')}-${count}`;
}

/** Mount points of every cgroup hierarchy of this machine (v2 and each v1 controller), from proc(5) mountinfo. */
export function cgroupMounts(): string[] {
  const points: string[] = [];
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    if (/^cgroup2? /.test(after)) points.push(before.split(' ')[4] ?? '');
  }
  return points;
}

/** All cgroups at and below `path`, parents first. */
function cgroupTree(path: string): string[] {
  const found = [path];
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) found.push(...cgroupTree(join(path, entry.name)));
  }
  return found;
}

function writeIfThere(path: string, text: string): void {
  try {
    writeFileSync(path, text, { flag: 'r+' });
  } catch {
    // The file belongs to the other cgroup version, or the cgroup has gone.
  }
}

function killMembers(cgroup: string): void {
  let pids: string[] = [];
  try {
    pids = readFileSync(join(cgroup, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean);
  } catch {
    return;
  }
  for (const pid of pids) {
    try {
      if (pid !== '0') process.kill(Number(pid), 'SIGKILL');
    } catch {
      // Gone between listing and killing.
    }
  }
}

/** Thaws, so that what is to die can die. */
export function thawCgroups(name: string): void {
  for (const mount of cgroupMounts()) {
    const top = join(mount, name);
    try {
      for (const path of cgroupTree(top)) {
        writeIfThere(join(path, 'cgroup.freeze'), '0');
        writeIfThere(join(path, 'freezer.state'), 'THAWED');
      }
    } catch {
      // Not in this hierarchy.
    }
  }
}

/** Kills everything in the cgroup `name` of every hierarchy and removes it; gives up after `timeoutMs`. */
export async function removeCgroups(name: string, timeoutMs = 5000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  thawCgroups(name);
  for (const mount of cgroupMounts()) {
    const top = join(mount, name);
    for (;;) {
      let tree: string[];
      try {
        tree = cgroupTree(top);
      } catch {
        break;
      }
      for (const path of tree.reverse()) {
        killMembers(path);
        try {
          rmdirSync(path);
        } catch {
          // EBUSY until the last process has been reaped.
        }
      }
      if (Date.now() > deadline) break;
      await sleep(10);
    }
  }
}

function ownerIsGone(name: string): boolean {
  const [, pid, ticks] = NAME.exec(name) ?? [];
  return pid !== undefined && startTicks(Number(pid)) !== ticks;
}

/** Names below `folder` whose owner is no longer alive. */
function stale(folder: string): string[] {
  try {
    return readdirSync(folder).filter(ownerIsGone);
  } catch {
    return [];
  }
}

/** Removes what dead owners left in the temporary folder and in the cgroup hierarchies. */
export async function sweep(): Promise<void> {
  const names = new Set(cgroupMounts().flatMap(stale));
  for (const name of names) await removeCgroups(name);
  for (const name of stale(tmpdir())) await rm(join(tmpdir(), name), { recursive: true, force: true });
}
