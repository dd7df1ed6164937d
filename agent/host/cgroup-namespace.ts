import { closeSync, openSync, readlinkSync } from 'node:fs';
import { readlink } from 'node:fs/promises';
import { type Host, procPath } from './host.ts';
import { threadLibrary } from './thread-library.ts';

/** sched.h */
const CLONE_NEWCGROUP = 0x2000000;

/** Process 1 as the agent's pid namespace has it: the node's, with hostPID. */
const NODE = '/proc/1/ns/cgroup';

/**
 * Starts this very program again in the cgroup namespace of process 1, where it is in another one; otherwise returns at once.
 * A runtime gives a container a cgroup namespace of its own (cgroup_namespaces(7)): from there proc(5) shows every cgroup of other
 * pods as `/../../x`, so that no freezer is found by it and evidence has paths that mean nothing elsewhere; and the kernel lets
 * nobody move a process across its border (cgroup2's `nsdelegate`, which systemd sets), so that a guard would be killed together
 * with the agent's container.
 *
 * setns(2) is of one thread, and all of them read; execve(2) keeps the pid and leaves the thread that calls it alone.
 * Where the right is missing the agent runs where it is, and the doctor says so (`cgroup-namespace`).
 */
export function enterNodeCgroups(): void {
  try {
    if (readlinkSync('/proc/self/ns/cgroup') === readlinkSync(NODE)) return;
    enter();
    // Never twice: a kernel that says yes and does nothing would have this program start for ever.
    if (readlinkSync('/proc/thread-self/ns/cgroup') !== readlinkSync(NODE)) return;
  } catch {
    return;
  }
  // Node calls execve experimental. Nobody is left to warn.
  process.removeAllListeners('warning');
  process.execve?.(process.execPath, [process.execPath, ...process.execArgv, ...process.argv.slice(1)], process.env);
}

function enter(): void {
  const fd = openSync(NODE, 'r');
  try {
    threadLibrary().library.func('int setns(int fd, int type)')(fd, CLONE_NEWCGROUP);
  } finally {
    closeSync(fd);
  }
}

/** cgroup_namespaces(7): identities of this process' and of the node's process 1; undefined: there is none, or it cannot be read. */
export interface CgroupNamespaces {
  readonly own: string | undefined;
  readonly node: string | undefined;
}

export async function cgroupNamespaces(host: Host): Promise<CgroupNamespaces> {
  const identity = (file: string) => readlink(file).catch(() => undefined);
  const [own, node] = await Promise.all([
    identity('/proc/self/ns/cgroup'),
    identity(procPath(host, 1, 'ns', 'cgroup')),
  ]);
  return { own, node };
}
