import { errnoOf } from '../../evidence/error.ts';
import { procPath } from '../host/host.ts';
import { type MountSpace, mountNamespaceOf, openMountSpace } from '../host/mount-space.ts';
import { isWithin, type MountLine, readMountTable, sourceOf } from '../host/mount-table.ts';
import { asPid, type Pid, type TargetMount } from '../runtime/runtime.ts';
import type { CollectContext } from './collector.ts';
import { type Classified, classify } from './volumes-class.ts';
import { type Decision, decide, rank, type VolumesPolicy } from './volumes-policy.ts';

/** One mount of the target, judged by the tables. */
export interface Judged {
  readonly space: MountSpace;
  readonly ofContainer: boolean;
  readonly mount: MountLine;
  readonly classified: Classified;
  readonly decision: Decision;
}

export interface Volume extends Judged {
  /** From 1 on, in the order of the tables. */
  readonly number: number;
  /** The volume that has the same files. */
  readonly sameAs: number | undefined;
}

export interface FoundMounts extends Disposable {
  readonly mounts: readonly Judged[];
  /** The first process' own, then those of others. */
  readonly spaces: readonly MountSpace[];
}

/** Mount namespaces that are looked into; a process may make any number of them. */
const SPACES_MAX = 16;
/** Mounts in all. fs.mount-max is 100,000; a container has some thirty. */
const MOUNTS_MAX = 10_000;

/**
 * Every mount in the mount namespaces of the target's processes, the first process' first. Throws a system error where not
 * even that can be read.
 */
export function findMounts(context: CollectContext, pids: readonly Pid[], policy: VolumesPolicy): FoundMounts {
  using held = new DisposableStack();
  const spaces = openSpaces(context, pids, (space) => held.use(space));
  const node = readMountTable(procPath(context.host, 1));
  if ('errno' in node) {
    const why = 'it cannot be read, so mounts of the node are told from the runtime’s list alone';
    context.gap({ what: 'the node’s mount table', why, errno: node.errno });
  }
  const nodeTable = 'errno' in node ? [] : node.table;
  const own = spaces[0]?.namespace;
  const root = spaces[0]?.table.findLast(({ mountPoint }) => mountPoint === '/');
  // Processes of the node, with mounts of their own or without: most of what they see is the node's.
  const isProcesses = context.target.record.kind !== 'container';
  const ofOwn = new Map<string, Classified>();
  const judged: Judged[] = [];
  for (const space of spaces) {
    const inContainer = space.namespace === own;
    const around = {
      root,
      nodeTable,
      runtime: runtimeMounts(inContainer ? context.target.mounts : []),
      podUid: context.target.record.pod?.uid,
    };
    if (space.truncated) context.gap({ what: `the mount table of pid ${space.pid}`, why: 'it is longer than is read' });
    for (const mount of space.table) {
      // What a namespace was made with is the container's; only there does the runtime's list say anything.
      const place = `${mount.device} ${mount.root} ${mount.mountPoint}`;
      const classified = (inContainer ? undefined : ofOwn.get(place)) ?? classify(mount, around);
      if (inContainer) ofOwn.set(place, classified);
      const shared = isProcesses && classified.hostPath === mount.mountPoint;
      const cameAlong = !isProcesses && classified.runtime === undefined;
      judged.push({
        space,
        ofContainer: inContainer,
        mount,
        classified,
        decision: decide(classified, { fileSystem: mount.type, shared, cameAlong }, policy),
      });
    }
  }
  if (judged.length > MOUNTS_MAX) {
    const why = `${judged.length - MOUNTS_MAX} mounts are not listed: there are more than ${MOUNTS_MAX}`;
    context.gap({ what: 'mounts', why });
  }
  const owned = held.move();
  return { mounts: judged.slice(0, MOUNTS_MAX), spaces, [Symbol.dispose]: () => owned.dispose() };
}

function openSpaces(
  context: CollectContext,
  pids: readonly Pid[],
  keep: (space: MountSpace) => MountSpace,
): MountSpace[] {
  const first = pids[0] ?? asPid(context.target.record.initPid);
  const spaces = [keep(openMountSpace(context.host, first))];
  const seen = new Set([spaces[0]?.namespace, mountNamespaceOf(context.host, 1)]);
  let beyond = 0;
  for (const pid of pids.slice(1)) {
    const namespace = mountNamespaceOf(context.host, pid);
    if (namespace === undefined || seen.has(namespace)) continue;
    seen.add(namespace);
    if (spaces.length === SPACES_MAX) beyond += 1;
    else {
      try {
        spaces.push(keep(openMountSpace(context.host, pid)));
      } catch (error) {
        const errno = errnoOf(error);
        if (errno === undefined) throw error;
        context.gap({ what: `the mounts of pid ${pid}`, why: 'its mount namespace cannot be looked into', pid, errno });
      }
    }
  }
  if (beyond > 0) {
    context.gap({ what: 'mount namespaces', why: `${beyond} more than the ${SPACES_MAX} that are looked into` });
  }
  return spaces;
}

/** The last of a place is what shows. */
function runtimeMounts(mounts: readonly TargetMount[]): ReadonlyMap<string, TargetMount> {
  return new Map(
    mounts.map((one) => [
      Buffer.from(one.containerPath)
        .toString('latin1')
        .replace(/(?<=.)\/$/, ''),
      one,
    ]),
  );
}

/**
 * Pure: numbers them, and says which have the files of another that was reached. Of the same files one mount is taken, and of
 * nested ones that which shows the most, where as much is taken of it.
 */
export function numberVolumes(judged: readonly Judged[], reached: Pick<ReadonlySet<MountLine>, 'has'>): Volume[] {
  const numbered = judged.map((one, index) => ({ judged: one, number: index + 1 }));
  const taken = numbered.filter((one) => reached.has(one.judged.mount));
  return numbered.map((one) => ({
    ...one.judged,
    number: one.number,
    sameAs: reached.has(one.judged.mount) ? holderOf(one, taken)?.number : undefined,
  }));
}

interface Numbered {
  readonly judged: Judged;
  readonly number: number;
}

function holderOf(one: Numbered, all: readonly Numbered[]): Numbered | undefined {
  let best: Numbered | undefined;
  for (const other of all) {
    if (other !== one && holds(other, one) && (best === undefined || holds(other, best))) best = other;
  }
  return best;
}

/** Copies of mounts show what lies beneath mounts inside, so the wider one has all of the narrower one's files. */
function holds(wide: Numbered, narrow: Numbered): boolean {
  const [{ mount, decision }, other] = [wide.judged, narrow.judged];
  if (mount.device !== other.mount.device) return false;
  if (decision.taken !== other.decision.taken || decision.notStored !== other.decision.notStored) return false;
  const [root, below] = [sourceOf(mount).root, sourceOf(other.mount).root];
  return root === below ? isPreferred(wide, narrow) : isWithin(below, root);
}

/** Of mounts that show the same: where the runtime put it, not where it is seen once more through a mount of the node. */
function isPreferred(one: Numbered, other: Numbered): boolean {
  const [a, b] = [one.judged, other.judged];
  const told = Number(b.classified.runtime !== undefined) - Number(a.classified.runtime !== undefined);
  const apart = told || a.mount.mountPoint.length - b.mount.mountPoint.length || one.number - other.number;
  return apart < 0;
}

/** In the order in which the budget is spent. */
export function inOrder(volumes: readonly Volume[]): Volume[] {
  return volumes.toSorted((a, b) => rank(a.classified) - rank(b.classified) || a.number - b.number);
}

/** Mounts that a path may lead through: the container's root, and what answers by itself. */
export function mayPass(mounts: readonly Judged[]): (mount: MountLine) => boolean {
  const known = new Map(mounts.map(({ mount, classified }) => [mount, classified]));
  return (mount) => {
    const { class: of, answers = false } = known.get(mount) ?? {};
    if (of === 'root') return mount.type === 'overlay' || answers;
    if (of === 'kernel') return mount.type === 'proc' || mount.type === 'sysfs';
    return answers && of !== 'made-inside';
  };
}
