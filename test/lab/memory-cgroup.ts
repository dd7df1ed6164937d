/** A memory limit for programs that a test starts, as the kubelet gives one to the agent's container. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cgroupMounts, ownedName, removeCgroups } from './leftovers.ts';

export interface MemoryCgroup extends AsyncDisposable {
  /** Everything that is started while `work` runs belongs to the cgroup, and the starter leaves it afterwards. */
  within<T>(work: () => Promise<T>): Promise<T>;
  /** How many processes the kernel has killed in it for want of memory. */
  kills(): number;
}

interface Files {
  /** Mount point of the hierarchy with the memory controller. */
  readonly mount: string;
  readonly limit: string;
  readonly events: string;
  /** The line of /proc/PID/cgroup that names this hierarchy. */
  readonly own: RegExp;
}

const V1 = {
  limit: 'memory.limit_in_bytes',
  events: 'memory.oom_control',
  own: /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$/m,
};
const V2 = { limit: 'memory.max', events: 'memory.events', own: /^0::(.*)$/m };

function findController(): Files | undefined {
  for (const mount of cgroupMounts()) {
    if (existsSync(join(mount, 'memory.limit_in_bytes'))) return { mount, ...V1 };
    const delegated = join(mount, 'cgroup.subtree_control');
    if (existsSync(delegated) && readFileSync(delegated, 'utf8').split(/\s/).includes('memory'))
      return { mount, ...V2 };
  }
  return undefined;
}

/** Undefined where this machine has no memory controller that can be used. */
export function memoryCgroup(limitBytes: number): MemoryCgroup | undefined {
  const files = findController();
  if (files === undefined) return undefined;
  const name = ownedName();
  const folder = join(files.mount, name);
  const enter = (path: string) => writeFileSync(join(files.mount, path, 'cgroup.procs'), String(process.pid));
  try {
    mkdirSync(folder);
    writeFileSync(join(folder, files.limit), String(limitBytes));
  } catch {
    // Read-only, or a cgroup that may not have limits of its own: what was made goes with the owner's name.
    return undefined;
  }
  return {
    async within(work) {
      const before = files.own.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1] ?? '/';
      enter(name);
      try {
        return await work();
      } finally {
        enter(before);
      }
    },
    kills: () => Number(/^oom_kill (\d+)$/m.exec(readFileSync(join(folder, files.events), 'utf8'))?.[1] ?? 0),
    [Symbol.asyncDispose]: () => removeCgroups(name),
  };
}
