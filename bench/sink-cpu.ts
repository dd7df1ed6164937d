import { readFileSync } from 'node:fs';

/** utime, stime, cutime and cstime of proc(5): of a process and of its children that were waited for, in ticks of 10 ms. */
export function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
  return fields.slice(11, 15).reduce((total, ticks) => total + Number(ticks) * 10, 0);
}
