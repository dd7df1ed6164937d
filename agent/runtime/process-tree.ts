/** Who is whose child, from /proc/PID/stat alone: cheap enough to ask of every process of a node, and again. */
import { readdirSync, readFileSync } from 'node:fs';

export interface ProcessStat {
  readonly pid: number;
  readonly parent: number;
  /** proc(5): R S D Z T t X I. */
  readonly state: string;
  /** Clock ticks since boot; with the pid it names a process for good. */
  readonly startTicks: number;
  readonly isKernelThread: boolean;
  readonly comm: string;
}

/** PF_KTHREAD of the kernel's sched.h. */
const KERNEL_THREAD = 0x0020_0000;

/** A line of /proc/PID/stat; undefined when it is none. The command may hold spaces and brackets itself. */
export function parseStat(line: string): ProcessStat | undefined {
  const open = line.indexOf('(');
  const close = line.lastIndexOf(')');
  if (open < 0 || close < open) return undefined;
  const pid = Number(line.slice(0, open));
  const fields = line.slice(close + 2).split(' ');
  const [state = '', parent = '', , , , , flags = ''] = fields;
  const startTicks = Number(fields[19]);
  if (!Number.isInteger(pid) || !Number.isInteger(startTicks)) return undefined;
  const isKernelThread = (Number(flags) & KERNEL_THREAD) !== 0;
  return { pid, parent: Number(parent), state, startTicks, isKernelThread, comm: line.slice(open + 1, close) };
}

/** Undefined when there is no such process. Synchronous, because it is asked while a target is being stopped. */
export function processStat(procRoot: string, pid: number): ProcessStat | undefined {
  try {
    return parseStat(readFileSync(`${procRoot}/${pid}/stat`, 'latin1'));
  } catch {
    return undefined;
  }
}

/** Every process of the node; those that end meanwhile are left out. */
export function allProcesses(procRoot: string): ProcessStat[] {
  const names = readdirSync(procRoot).filter((name) => /^\d+$/.test(name));
  return names.map((name) => processStat(procRoot, Number(name))).filter((stat) => stat !== undefined);
}

/** Whether a CRIU is at work on the node, for whomever. */
export const criuRuns = (procRoot: string): boolean => allProcesses(procRoot).some(({ comm }) => comm === 'criu');

/** The processes of `roots` that exist and everything below them, parents before children. */
export function descendantsOf(roots: readonly number[], all: readonly ProcessStat[]): ProcessStat[] {
  const children = new Map<number, ProcessStat[]>();
  for (const stat of all) children.set(stat.parent, [...(children.get(stat.parent) ?? []), stat]);
  const wanted = new Set(roots);
  const found = new Map<number, ProcessStat>();
  const queue = all.filter(({ pid }) => wanted.has(pid));
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    if (found.has(next.pid)) continue;
    found.set(next.pid, next);
    queue.push(...(children.get(next.pid) ?? []));
  }
  return [...found.values()];
}
