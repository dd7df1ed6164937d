import path from 'node:path';
import type { HostPath, Pid } from '../runtime/runtime.ts';

/**
 * Where the node is, seen from the agent's own mount and pid namespaces.
 *
 * - `procRoot`: a /proc of the pid namespace whose pids the runtime reports: `/proc` with hostPID, or another mount of it.
 * - `hostRoot`: the node's root directory without a slash at its end: `''` when the agent runs right on the node,
 *   `/proc/1/root` or `/host` inside the DaemonSet's container.
 */
export interface Host {
  readonly procRoot: string;
  readonly hostRoot: string;
}

/** Where the agent finds a path of the node. */
export function reach(host: Host, hostPath: HostPath): string {
  return path.posix.join(host.hostRoot === '' ? '/' : host.hostRoot, hostPath);
}

/** A file below a process' folder in /proc. */
export function procPath(host: Host, pid: Pid | number, ...segments: string[]): string {
  return [host.procRoot, String(pid), ...segments].join('/');
}
