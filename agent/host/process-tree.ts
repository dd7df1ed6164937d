import type { ProcessRecord } from './process.ts';

type Node = Pick<ProcessRecord, 'pid' | 'ppid' | 'depth'>;

/** Sets `depth` by parent; a circle, which only a torn reading can have, counts as a root. */
export function setDepths(processes: readonly Node[]): void {
  const byPid = new Map(processes.map((record) => [record.pid, record]));
  const known = new Map<number, number>();
  for (const record of processes) {
    const path: Node[] = [];
    const walked = new Set<number>();
    let at: Node | undefined = record;
    while (at !== undefined && !known.has(at.pid) && !walked.has(at.pid)) {
      walked.add(at.pid);
      path.push(at);
      at = at.ppid === undefined ? undefined : byPid.get(at.ppid);
    }
    let depth = at === undefined || !known.has(at.pid) ? -1 : (known.get(at.pid) ?? -1);
    for (const ancestor of path.reverse()) {
      depth += 1;
      known.set(ancestor.pid, depth);
      ancestor.depth = depth;
    }
  }
}
