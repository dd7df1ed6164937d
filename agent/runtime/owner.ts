/** Which container a process or a cgroup belongs to. */
import { ExhibitError, isErrno } from '../../evidence/error.ts';
import { isWithin, type Membership, membershipsOf } from '../host/cgroup.ts';
import type { Host } from '../host/host.ts';
import { ownCgroup } from './inspect.ts';
import type { Pid } from './runtime.ts';

/** A container and its first process, 0 when it has none. */
interface Owner {
  readonly id: string;
  readonly pid: number;
}

const notHere = (message: string): ExhibitError => new ExhibitError('target-not-found', message);

/** Fails with `target-not-found` when there is no such process. */
export async function requireProcess(host: Host, pid: Pid): Promise<Membership[]> {
  try {
    return await membershipsOf(host, pid);
  } catch (cause) {
    if (!isErrno(cause, 'ENOENT', 'ESRCH', 'EACCES')) throw cause;
    throw new ExhibitError('target-not-found', `There is no process ${pid} on this node, or it may not be looked at`, {
      cause,
    });
  }
}

/** The id of the container in whose cgroup the process is, or whose first process it is. */
export async function ownerOfPid(host: Host, pid: Pid, tasks: readonly Owner[]): Promise<string> {
  const memberships = await requireProcess(host, pid);
  for (const task of tasks) {
    if (task.pid === 0) continue;
    if (task.pid === pid) return task.id;
    const cgroup = await ownCgroup(host, task.pid, task.id);
    const inside = memberships.some((one) => one.version === cgroup?.version && isWithin(one.path, cgroup.path));
    if (cgroup !== undefined && inside) return task.id;
  }
  throw notHere(`The process ${pid} belongs to no container of this node`);
}

/** The id of the container whose own cgroup this is, or has it inside. */
export async function ownerOfCgroup(host: Host, path: string, tasks: readonly Owner[]): Promise<string> {
  for (const task of tasks) {
    const cgroup = task.pid === 0 ? undefined : await ownCgroup(host, task.pid, task.id);
    if (cgroup?.path === path) return task.id;
  }
  throw notHere(`The cgroup ${path} is not that of one container`);
}
