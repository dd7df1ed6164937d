/**
 * The runtime port for what is in no container: a process with everything below it, a cgroup, a systemd unit. Needs no
 * runtime and, for processes of one's own, no root.
 */
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { release } from 'node:os';
import path from 'node:path';
import { ExhibitError } from '../../evidence/error.ts';
import {
  allPids,
  type Cgroup,
  cutAt,
  findCgroup,
  type Hierarchy,
  hierarchies,
  membershipsOf,
  processesIn,
  rankMemberships,
  sharesPids,
} from '../host/cgroup.ts';
import type { Host } from '../host/host.ts';
import { jsonDocument } from './inspect.ts';
import { requireProcess } from './owner.ts';
import { allProcesses, descendantsOf, type ProcessStat, processStat } from './process-tree.ts';
import { asPid, type FreezeSpec, type Pid, type Runtime, type Selector, type Target } from './runtime.ts';
import { selectorText } from './select.ts';

export interface HostRuntimeOptions {
  readonly host: Host;
}

export function openHostRuntime({ host }: HostRuntimeOptions): Runtime {
  return {
    kind: 'host',
    async identify(signal) {
      throwIfCancelled(signal);
      return { name: 'linux', version: release() };
    },
    /** Processes are not containers: there is nothing to list, everything can be named. */
    list: async () => [],
    async resolve(selector, signal) {
      throwIfCancelled(signal);
      switch (selector.kind) {
        case 'pid':
          return processTree(host, selector.pid);
        case 'cgroup':
          return wholeCgroup(host, await requireCgroup(host, selector.path), path.posix.basename(selector.path));
        case 'unit':
          return wholeCgroup(host, await unitCgroup(host, selector.unit), selector.unit);
        default:
          throw noContainers(selector);
      }
    },
    async pids(target, signal) {
      throwIfCancelled(signal);
      return target.record.kind === 'cgroup' ? cgroupPids(host, target) : treePids(host, target);
    },
    rungs: [],
    pauseOf: () => undefined,
    resumeIfPaused: async () => false,
    async [Symbol.asyncDispose]() {},
  };
}

function throwIfCancelled(signal: AbortSignal): void {
  if (signal.aborted)
    throw new ExhibitError('cancelled', 'Looking for the target was cancelled', { cause: signal.reason });
}

function noContainers(selector: Selector): ExhibitError {
  const forms = 'say pid:NUMBER, cgroup:/PATH or unit:NAME.service, or configure a container runtime';
  return new ExhibitError(
    'target-not-found',
    `${selectorText(selector)} names a container, and here are only processes: ${forms}`,
  );
}

/** A process for good: pids are given again, start times are not. */
const processId = ({ pid, startTicks }: ProcessStat): string => `${pid}@${startTicks}`;

async function processTree(host: Host, pid: Pid): Promise<Target> {
  const memberships = await requireProcess(host, pid);
  const root = processStat(host.procRoot, pid);
  if (root === undefined) throw new ExhibitError('target-not-found', `There is no process ${pid} on this node`);
  if (root.isKernelThread)
    throw new ExhibitError(
      'usage',
      `pid:${pid} (${root.comm}) is a thread of the kernel: it has no memory of its own to capture`,
    );
  if ('ZX'.includes(root.state))
    throw new ExhibitError(
      'target-not-running',
      `pid:${pid} (${root.comm}) has ended and waits for its parent: its memory is gone`,
    );
  const tree = descendantsOf([pid], allProcesses(host.procRoot));
  await refuseOwn(host, tree, `pid:${pid}`);
  const [cgroup] = rankMemberships(memberships, await hierarchies(host));
  const { freeze, notes } = await signalSpec(host, tree);
  return {
    ...bare(tree),
    record: {
      ...recordOf(root, tree),
      kind: 'process-tree',
      id: processId(root),
      name: root.comm,
      ...(cgroup === undefined ? {} : { cgroup: cgroup.path }),
    },
    freeze,
    notes,
  };
}

async function wholeCgroup(host: Host, cgroup: Cgroup, name: string): Promise<Target> {
  const members = await membersOf(host, cgroup);
  const [root] = members;
  if (root === undefined) throw new ExhibitError('target-not-running', `No process is in the cgroup ${cgroup.path}`);
  await refuseOwn(host, members, `cgroup:${cgroup.path}`);
  const frozen = await freezerSpec(cgroup);
  const { freeze, notes } = frozen === undefined ? await signalSpec(host, members) : { freeze: frozen, notes: [] };
  return {
    ...bare(members),
    record: { ...recordOf(root, members), kind: 'cgroup', id: cgroup.path, name, cgroup: cgroup.path },
    freeze,
    notes,
  };
}

const recordOf = (root: ProcessStat, all: readonly ProcessStat[]) => ({
  runtime: 'host',
  labels: {},
  initPid: root.pid,
  pids: all.map(({ pid }) => pid),
});

/** What a process outside containers does not have, and who is in the target. */
const bare = (members: readonly ProcessStat[]) => ({
  rootfs: undefined,
  mounts: [],
  logPath: undefined,
  companions: [],
  documents: [
    jsonDocument(
      'processes.json',
      members.map(({ pid, parent, comm, startTicks }) => ({ pid, parent, comm, startTicks })),
    ),
  ],
});

async function requireCgroup(host: Host, cgroupPath: string): Promise<Cgroup> {
  const cgroup = await findCgroup(cgroupPath, await hierarchies(host));
  if (cgroup !== undefined) return cgroup;
  throw new ExhibitError(
    'target-not-found',
    `There is no cgroup ${cgroupPath} on this node: systemd-cgls, or /proc/PID/cgroup, shows their paths`,
  );
}

/** The cgroup that is named after the unit, found by the processes in it. */
async function unitCgroup(host: Host, unit: string): Promise<Cgroup> {
  const mounted = await hierarchies(host);
  const found = new Map<string, Cgroup>();
  for (const pid of await allPids(host)) {
    const cgroup = await unitOf(host, pid, unit, mounted);
    if (cgroup !== undefined) found.set(cgroup.path, cgroup);
  }
  const [first, ...more] = found.values();
  if (first === undefined)
    throw new ExhibitError(
      'target-not-found',
      `No process of this node belongs to a unit ${unit}: systemctl status ${unit} shows whether it runs`,
    );
  if (more.length === 0) return first;
  const texts = [...found.keys()].sort().map((one) => `cgroup:${one}`);
  throw new ExhibitError(
    'target-ambiguous',
    `${unit} runs in ${found.size} places: say which one, ${texts.join(', ')}`,
  );
}

async function unitOf(host: Host, pid: Pid, unit: string, mounted: readonly Hierarchy[]): Promise<Cgroup | undefined> {
  const memberships = await membershipsOf(host, pid).catch(() => []);
  for (const one of rankMemberships(memberships, mounted)) {
    const cgroup = cutAt(one, (segment) => segment === unit);
    if (cgroup !== undefined) return cgroup;
  }
  return undefined;
}

/** Everybody in the cgroup, the oldest process whose parent is outside first. */
async function membersOf(host: Host, cgroup: Cgroup): Promise<ProcessStat[]> {
  const pids = new Set(await processesIn(host, cgroup));
  const stats = [...pids].map((pid) => processStat(host.procRoot, pid)).filter((stat) => stat !== undefined);
  const isTop = ({ parent }: ProcessStat) => (pids.has(asPid(parent)) ? 1 : 0);
  return stats.sort((a, b) => isTop(a) - isTop(b) || a.startTicks - b.startTicks || a.pid - b.pid);
}

/** The agent is asked to stop itself, or a process that it cannot live without. */
async function refuseOwn(host: Host, members: readonly ProcessStat[], text: string): Promise<void> {
  if (!(await sharesPids(host)) || !members.some(({ pid }) => pid === process.pid)) return;
  throw new ExhibitError(
    'usage',
    `${text} holds the agent itself, which cannot stop itself: name something that it is not a part of`,
  );
}

async function freezerSpec({ version, folder, hasFreezer }: Cgroup): Promise<FreezeSpec | undefined> {
  if (!hasFreezer) return undefined;
  const file = path.join(folder, version === 2 ? 'cgroup.freeze' : 'freezer.state');
  const writable = await access(file, constants.W_OK).then(
    () => true,
    () => false,
  );
  return writable ? { kind: version === 2 ? 'cgroup-v2' : 'cgroup-v1', path: folder } : undefined;
}

async function signalSpec(
  host: Host,
  members: readonly ProcessStat[],
): Promise<{ freeze: FreezeSpec | undefined; notes: string[] }> {
  if (!(await sharesPids(host))) {
    const notes = [
      `${host.procRoot} shows another pid namespace than the agent's: its processes cannot be stopped by signals`,
    ];
    return { freeze: undefined, notes };
  }
  const pids = members.map(({ pid }) => pid);
  const startTicks = members.map((one) => one.startTicks);
  const notes = ['stopped by signals: the parents of the processes can see it'];
  return { freeze: { kind: 'signal', pids, startTicks, procRoot: host.procRoot }, notes };
}

async function cgroupPids(host: Host, { record }: Target): Promise<Pid[]> {
  const cgroup = await findCgroup(record.id, await hierarchies(host));
  const members = cgroup === undefined ? [] : await membersOf(host, cgroup);
  return initFirst(
    members.map(({ pid }) => pid),
    record.initPid,
  );
}

/** Descendants of every process the tree had when it was resolved: a child outlives its parent and is still of the tree. */
function treePids(host: Host, { record, freeze }: Target): Pid[] {
  const known =
    freeze?.kind === 'signal' ? freeze : { pids: [record.initPid], startTicks: [Number(record.id.split('@')[1])] };
  const all = allProcesses(host.procRoot);
  const ticks = new Map(all.map(({ pid, startTicks }) => [pid, startTicks]));
  const roots = known.pids.filter((pid, index) => ticks.get(pid) === known.startTicks?.[index]);
  return initFirst(
    descendantsOf(roots, all).map(({ pid }) => pid),
    record.initPid,
  );
}

const initFirst = (pids: readonly number[], init: number): Pid[] =>
  [...pids].sort((a, b) => Number(b === init) - Number(a === init)).map(asPid);
