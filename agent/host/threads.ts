/** Which threads there are in what stands still, and whether each can be asked. Synchronous: see the freezer in cgroup.ts. */
import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import path from 'node:path';
import { isErrno } from '../../evidence/error.ts';

/** A container that makes more cgroups below its own than this does not do so to be understood. */
const MAX_CGROUPS = 1_024;

/** Thread ids of a version 2 cgroup and of those below it, the first thread of each process first; 0 for one that has no id here. */
export function threadsIn(folder: string): number[] {
  const leaders: number[] = [];
  const threads: number[] = [];
  const folders = [folder];
  for (let index = 0; index < folders.length && index < MAX_CGROUPS; index += 1) {
    const at = folders[index] ?? '';
    try {
      leaders.push(...idsIn(path.join(at, 'cgroup.procs')));
      threads.push(...idsIn(path.join(at, 'cgroup.threads')));
      for (const entry of readdirSync(at, { withFileTypes: true }))
        if (entry.isDirectory()) folders.push(path.join(at, entry.name));
    } catch (error) {
      if (!isErrno(error, 'ENOENT', 'ENODEV')) throw error;
    }
  }
  const all = new Set(threads);
  return [...new Set([...leaders.filter((tid) => all.has(tid)), ...threads])];
}

function idsIn(file: string): number[] {
  try {
    return readFileSync(file, 'latin1').split('\n').filter(Boolean).map(Number);
  } catch (error) {
    // A threaded cgroup has no processes of its own, an invalid one no threads.
    if (isErrno(error, 'EOPNOTSUPP')) return [];
    throw error;
  }
}

/** The threads of a process, its first one first; empty when it is gone. */
export function threadsOf(procRoot: string, pid: number): number[] {
  try {
    const others = readdirSync(path.join(procRoot, String(pid), 'task')).map(Number);
    return [pid, ...others.filter((tid) => tid !== pid)];
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH')) return [];
    throw error;
  }
}

/** proc(5) stat: number, name in parentheses, state. The name has at most 64 bytes, and may hold anything. */
const head = Buffer.alloc(128);

/** The letter of proc(5) stat; undefined when the thread is gone. */
export function threadState(procRoot: string, tid: number): string | undefined {
  try {
    // Below task/: the file above it adds up the times of all threads of the process, for each of them.
    const fd = openSync(`${procRoot}/${tid}/task/${tid}/stat`, 'r');
    try {
      const stat = head.toString('latin1', 0, readSync(fd, head));
      return stat.charAt(stat.lastIndexOf(')') + 2);
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined;
  }
}

/** True when a /proc numbers this process as kill(2) and ptrace(2) do: proc(5) NSpid has one number in one's own namespace. */
export function isOwnProc(procRoot: string): boolean {
  try {
    const status = readFileSync(path.join(procRoot, 'self', 'status'), 'latin1');
    return /^NSpid:\t(\d+)$/m.exec(status)?.[1] === String(process.pid);
  } catch {
    return false;
  }
}
