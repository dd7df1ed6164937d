export interface Node {
  readonly pid: number;
  readonly ppid: number | undefined;
  readonly tracerPid: number | undefined;
}

/** Where a process stands among those of the capture. */
export interface Place {
  /** 0 for a process whose parent is not in the capture. */
  readonly depth: number;
  readonly children: readonly number[];
  /** Processes that this one traces, ptrace(2). */
  readonly tracees: readonly number[];
}

/** By pid. A circle, which only a torn reading can have, begins at a root. */
export function placesOf(processes: readonly Node[]): (pid: number) => Place {
  const byPid = new Map(processes.map((node) => [node.pid, node]));
  const depths = depthsOf(processes, byPid);
  const children = pidsBy(processes, ({ ppid }) => ppid);
  const tracees = pidsBy(processes, ({ tracerPid }) => tracerPid);
  return (pid) => ({ depth: depths.get(pid) ?? 0, children: children.get(pid) ?? [], tracees: tracees.get(pid) ?? [] });
}

function pidsBy(processes: readonly Node[], keyOf: (node: Node) => number | undefined): Map<number, number[]> {
  const lists = new Map<number, number[]>();
  for (const node of processes) {
    const key = keyOf(node);
    if (key === undefined) continue;
    const list = lists.get(key);
    if (list === undefined) lists.set(key, [node.pid]);
    else list.push(node.pid);
  }
  return lists;
}

function depthsOf(processes: readonly Node[], byPid: ReadonlyMap<number, Node>): Map<number, number> {
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
    let depth = at === undefined ? -1 : (known.get(at.pid) ?? -1);
    for (const ancestor of path.reverse()) {
      depth += 1;
      known.set(ancestor.pid, depth);
    }
  }
  return known;
}
