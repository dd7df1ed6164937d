import type { Obstacle } from '../../evidence/dump.ts';
import type { ProcessLook } from './preflight-look.ts';

/** Which processes CRIU takes, and what stops it in a process as a whole. */

export interface Tree {
  /** The first process of the container; undefined when there is none. */
  readonly root: ProcessLook | undefined;
  /** The root and its descendants. */
  readonly dumped: readonly ProcessLook[];
  /** Processes that somebody put in beside the root, as `kubectl exec` does: CRIU leaves them out (4.2, tried). */
  readonly beside: readonly ProcessLook[];
}

/** `startOf`: when a process began, in any unit; asked where several have their parent outside and none is process 1. */
export function treeOf(looks: readonly ProcessLook[], startOf: (pid: number) => number): Tree {
  const byPid = new Map(looks.map((look) => [look.pid, look]));
  const tops = looks.filter(({ status }) => !byPid.has(status.ppid));
  const root = tops.find(({ status }) => status.innerPid === 1) ?? earliest(tops, startOf);
  const inTree = new Map<number, boolean>();
  /** Parents form no circle, but readings of different moments might. */
  const isInTree = (look: ProcessLook, depth: number): boolean => {
    const known = inTree.get(look.pid);
    if (known !== undefined) return known;
    const parent = byPid.get(look.status.ppid);
    const is = look === root || (parent !== undefined && depth < looks.length && isInTree(parent, depth + 1));
    inTree.set(look.pid, is);
    return is;
  };
  const dumped = looks.filter((look) => isInTree(look, 0));
  return { root, dumped, beside: looks.filter((look) => !isInTree(look, 0)) };
}

function earliest(looks: readonly ProcessLook[], startOf: (pid: number) => number): ProcessLook | undefined {
  if (looks.length < 2) return looks[0];
  return looks.map((look) => ({ look, start: startOf(look.pid) })).sort((a, b) => a.start - b.start)[0]?.look;
}

/** How the kernel's name of a namespace is called in namespaces(7). */
const NAMESPACE_WORDS: Readonly<Record<string, string>> = {
  net: 'network',
  user: 'user',
  uts: 'uts',
  ipc: 'ipc',
  cgroup: 'cgroup',
  time_for_children: 'time',
};

export function processObstacles({ root, dumped }: Tree): Obstacle[] {
  const obstacles: Obstacle[] = [];
  for (const { pid, status, namespaces } of dumped) {
    if (status.tracerPid !== 0) {
      const what = `process ${pid} is traced by process ${status.tracerPid}`;
      obstacles.push({ kind: 'traced', pid, what, certainty: 'certain' });
    }
    const nested = (words: string): void => {
      const what = `process ${pid} has another ${words} namespace than the container's first process`;
      obstacles.push({ kind: 'nested-namespace', pid, what, certainty: 'certain' });
    };
    if (status.pidLevels !== root?.status.pidLevels) nested('pid');
    for (const [name, words] of Object.entries(NAMESPACE_WORDS)) {
      const [own, first] = [namespaces[name], root?.namespaces[name]];
      if (own !== undefined && first !== undefined && own !== first) nested(words);
    }
  }
  return obstacles;
}
