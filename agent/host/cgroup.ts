/**
 * Control groups of the node, versions 1, 2 and both at once: where a process is, who else is there, and the freezer.
 * Sources: cgroups(7), Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/freezer-subsystem.rst, proc(5).
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { readdir, readFile, readlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isErrno } from '../../evidence/error.ts';
import { asHostPath, asPid, type Pid } from '../runtime/runtime.ts';
import { type Host, procPath, reach } from './host.ts';

/** One line of /proc/PID/cgroup. */
export interface Membership {
  /** `''` for version 2; else the controllers, or `name=systemd`. */
  readonly controllers: readonly string[];
  readonly version: 1 | 2;
  /** Below the hierarchy's root as the reader's cgroup namespace has it. */
  readonly path: string;
}

/** One mounted hierarchy. */
export interface Hierarchy {
  readonly version: 1 | 2;
  /** Of version 1. */
  readonly controllers: readonly string[];
  /** Which part of the hierarchy is mounted; `/` for all of it. */
  readonly root: string;
  /** Where the agent reaches the mount point. */
  readonly folder: string;
}

/** A cgroup that can be reached: the path that names it, and its folder as the agent sees it. */
export interface Cgroup {
  readonly version: 1 | 2;
  readonly path: string;
  readonly folder: string;
  readonly hasFreezer: boolean;
}

/** Hierarchies nest as deep as their users like; nobody means more than this. */
const DEPTH = 64;

/** Parses /proc/PID/cgroup; lines that are none are skipped. */
export function parseMemberships(text: string): Membership[] {
  const memberships: Membership[] = [];
  for (const line of text.split('\n')) {
    // The path may hold colons itself.
    const match = /^(\d+):([^:]*):(\/.*)$/.exec(line);
    if (match === null) continue;
    const [, id, controllers = '', where = ''] = match;
    // A cgroup whose folder was removed while processes were still in it.
    const trimmed = where.replace(/ \(deleted\)$/, '');
    const version = id === '0' && controllers === '' ? 2 : 1;
    memberships.push({ version, controllers: controllers === '' ? [] : controllers.split(','), path: trimmed });
  }
  return memberships;
}

/** proc(5): space, tab, newline and backslash are written as `\ooo`. */
const unescapeOctal = (text: string): string =>
  text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));

/** The cgroup mounts of a /proc/PID/mountinfo; `folder` is the mount point as that process sees it. */
export function parseHierarchies(mountinfo: string): Hierarchy[] {
  const hierarchies: Hierarchy[] = [];
  for (const line of mountinfo.split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    const [type, , superOptions = ''] = after.split(' ');
    if (type !== 'cgroup' && type !== 'cgroup2') continue;
    const [, , , root = '/', folder = ''] = before.split(' ');
    const options = superOptions.split(',').filter((option) => option !== 'rw' && option !== 'ro');
    hierarchies.push({
      version: type === 'cgroup2' ? 2 : 1,
      controllers: type === 'cgroup2' ? [] : options,
      root: unescapeOctal(root),
      folder: unescapeOctal(folder),
    });
  }
  return hierarchies;
}

/**
 * The node's mounted hierarchies as the agent reaches them: through the mounts of the node's first process, or, where
 * those cannot be read, the agent's own.
 */
export async function hierarchies(host: Host): Promise<Hierarchy[]> {
  const ofInit = await readFile(procPath(host, 1, 'mountinfo'), 'utf8').catch(() => '');
  const reached = parseHierarchies(ofInit).map((one) => ({ ...one, folder: reach(host, asHostPath(one.folder)) }));
  const usable: Hierarchy[] = [];
  for (const one of reached) if (await isFolder(one.folder)) usable.push(one);
  if (usable.length > 0) return usable;
  return parseHierarchies(await readFile('/proc/self/mountinfo', 'utf8').catch(() => ''));
}

async function isFolder(folder: string): Promise<boolean> {
  return readdir(folder).then(
    () => true,
    () => false,
  );
}

/** The folder of `cgroupPath` in a hierarchy; undefined when the mount does not show that part. */
export function folderOf(hierarchy: Hierarchy, cgroupPath: string): string | undefined {
  // `/../x` is how proc(5) shows a cgroup outside the reader's cgroup namespace.
  if (!cgroupPath.startsWith('/') || cgroupPath.split('/').includes('..')) return undefined;
  const relative = path.posix.relative(hierarchy.root, cgroupPath);
  if (relative.startsWith('..')) return undefined;
  return path.posix.join(hierarchy.folder, relative);
}

/** Where a process is, in every hierarchy. Fails with the errno of proc(5) when the process is gone. */
export async function membershipsOf(host: Host, pid: Pid | number): Promise<Membership[]> {
  return parseMemberships(await readFile(procPath(host, pid, 'cgroup'), 'utf8'));
}

function hierarchyFor(membership: Membership, mounted: readonly Hierarchy[]): Hierarchy | undefined {
  return mounted.find(
    (one) =>
      one.version === membership.version &&
      (membership.version === 2 || membership.controllers.some((controller) => one.controllers.includes(controller))),
  );
}

/**
 * The best hierarchy to name a cgroup by, best first: version 1's freezer where it is mounted (on hybrid nodes the
 * version 2 tree often ends at the runtime's own service, and freezing that would stop its other containers), version 2,
 * then any other. Roots are left out: they hold the whole node.
 */
export function rankMemberships(memberships: readonly Membership[], mounted: readonly Hierarchy[]): Cgroup[] {
  const rank = (one: Membership) => (one.controllers.includes('freezer') ? 0 : one.version === 2 ? 1 : 2);
  const ranked: Cgroup[] = [];
  for (const membership of [...memberships].sort((a, b) => rank(a) - rank(b))) {
    const hierarchy = hierarchyFor(membership, mounted);
    const folder = hierarchy === undefined ? undefined : folderOf(hierarchy, membership.path);
    if (folder === undefined || membership.path === '/') continue;
    const hasFreezer = membership.version === 2 || membership.controllers.includes('freezer');
    ranked.push({ version: membership.version, path: membership.path, folder, hasFreezer });
  }
  return ranked;
}

/**
 * `cgroup`, cut behind the first segment that `names` it: a container's processes may sit in cgroups they made below
 * (`/kubepods/.../<id>/init.scope`). Undefined when no segment does.
 */
export function cutAt(cgroup: Cgroup, names: (segment: string) => boolean): Cgroup | undefined {
  const segments = cgroup.path.split('/');
  const index = segments.findIndex((segment) => segment !== '' && names(segment));
  if (index < 0) return undefined;
  const above = segments.length - 1 - index;
  const up = Array.from({ length: above }, () => '..');
  return { ...cgroup, path: segments.slice(0, index + 1).join('/'), folder: path.posix.join(cgroup.folder, ...up) };
}

/** The cgroup at a path that a person named, in the hierarchies that have it; the one with a freezer first. */
export async function findCgroup(cgroupPath: string, mounted: readonly Hierarchy[]): Promise<Cgroup | undefined> {
  const asMemberships = mounted.map(({ version, controllers }) => ({ version, controllers, path: cgroupPath }));
  const there: Cgroup[] = [];
  for (const one of rankMemberships(asMemberships, mounted)) if (await isFolder(one.folder)) there.push(one);
  return there.find((one) => one.hasFreezer) ?? there[0];
}

/** True when /proc at `procRoot` numbers processes as kill(2) and cgroup.procs do for this process. */
export async function sharesPids(host: Host): Promise<boolean> {
  const self = await readlink(path.posix.join(host.procRoot, 'self')).catch(() => '');
  return self === String(process.pid);
}

/** Every process of the cgroup and of those below it. Empty when it is gone. */
export async function processesIn(host: Host, cgroup: Cgroup): Promise<Pid[]> {
  return (await sharesPids(host)) ? procsBelow(cgroup.folder, 0) : scanProcesses(host, cgroup);
}

async function procsBelow(folder: string, depth: number): Promise<Pid[]> {
  if (depth > DEPTH) return [];
  try {
    const text = await readFile(path.join(folder, 'cgroup.procs'), 'utf8').catch((error: unknown) => {
      // The processes of a threaded cgroup are listed by the domain above it.
      if (isErrno(error, 'EOPNOTSUPP')) return '';
      throw error;
    });
    const pids = text.split('\n').filter((line) => line !== '' && line !== '0');
    const found = pids.map((line) => asPid(Number(line)));
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      if (entry.isDirectory()) found.push(...(await procsBelow(path.join(folder, entry.name), depth + 1)));
    }
    return found;
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return [];
    throw error;
  }
}

/** The same from the other side, where cgroup.procs would speak of another pid namespace than `procRoot`. */
async function scanProcesses(host: Host, cgroup: Cgroup): Promise<Pid[]> {
  const found: Pid[] = [];
  for (const pid of await allPids(host)) {
    const memberships = await membershipsOf(host, pid).catch(() => []);
    if (memberships.some((one) => one.version === cgroup.version && isWithin(one.path, cgroup.path))) found.push(pid);
  }
  return found;
}

export function isWithin(cgroupPath: string, ancestor: string): boolean {
  return cgroupPath === ancestor || cgroupPath.startsWith(ancestor.endsWith('/') ? ancestor : `${ancestor}/`);
}

/** Every process that /proc shows, in no order. */
export async function allPids(host: Host): Promise<Pid[]> {
  const names = await readdir(host.procRoot);
  return names.filter((name) => /^\d+$/.test(name)).map((name) => asPid(Number(name)));
}

/** `frozen`: every process stands still. `freezing`: told to, not all do yet. `held`: frozen by a cgroup above. */
export type FreezerState = 'thawed' | 'freezing' | 'frozen' | 'held';

/** The freezer of a cgroup. `folder` is the cgroup's as the agent reaches it. Fails with ENOENT when the cgroup is gone. */
export interface FreezerFile {
  readonly version: 1 | 2;
  readonly folder: string;
}

/*
 * Synchronous: these files are the kernel's memory and answer in microseconds, and every turn through the thread pool would
 * lengthen the freeze.
 */
export function readFreezer({ version, folder }: FreezerFile): FreezerState {
  if (version === 1) {
    const state = readFileSync(path.join(folder, 'freezer.state'), 'utf8').trim();
    if (state === 'THAWED') return 'thawed';
    const own = readFileSync(path.join(folder, 'freezer.self_freezing'), 'utf8').trim() === '1';
    if (!own) return 'held';
    return state === 'FROZEN' ? 'frozen' : 'freezing';
  }
  const told = readFileSync(path.join(folder, 'cgroup.freeze'), 'utf8').trim() === '1';
  const frozen = /^frozen 1$/m.test(readFileSync(path.join(folder, 'cgroup.events'), 'utf8'));
  if (told) return frozen ? 'frozen' : 'freezing';
  return frozen ? 'held' : 'thawed';
}

/** True when no process is left in a version 2 cgroup or below; frozen tasks of version 1 do not end. */
export function isEmpty({ version, folder }: FreezerFile): boolean {
  return version === 2 && /^populated 0$/m.test(readFileSync(path.join(folder, 'cgroup.events'), 'utf8'));
}

/** Tells the freezer; returns before every process obeys. */
export function writeFreezer({ version, folder }: FreezerFile, state: 'frozen' | 'thawed'): void {
  const [name, text] =
    version === 2 ? ['cgroup.freeze', state === 'frozen' ? '1' : '0'] : ['freezer.state', state.toUpperCase()];
  // r+: where a mount is missing, no plain file is made in its place.
  writeFileSync(path.join(folder, name), text, { flag: 'r+' });
}

/** How often the freezer is asked: a freeze takes well under a millisecond once every task reaches a safe point. */
const POLL_MS = 1;
/** First it is asked without a pause, because a timer's shortest is longer than most freezes. */
const SPIN_MS = 0.5;

/** Waits until the freezer says so. Version 1 is told again each time: new children can keep it in FREEZING. */
export async function awaitFreezer(file: FreezerFile, state: 'frozen' | 'thawed', signal: AbortSignal): Promise<void> {
  // Others that are to be told at the same moment are told first.
  await Promise.resolve();
  const spinUntil = performance.now() + SPIN_MS;
  for (;;) {
    const now = readFreezer(file);
    if (now === state || (now === 'held' && state === 'frozen')) return;
    signal.throwIfAborted();
    if (performance.now() < spinUntil) continue;
    await sleep(POLL_MS, undefined, { signal });
    if (file.version === 1) writeFreezer(file, state);
  }
}

/**
 * Moves the calling process to the root of every hierarchy that it sees and may write. Whoever kills the cgroup it was in
 * (a runtime that ends a container whose first process died, the OOM killer with memory.oom.group) then spares it.
 */
export async function leaveCgroups(): Promise<void> {
  const mounted = parseHierarchies(await readFile('/proc/self/mountinfo', 'utf8').catch(() => ''));
  for (const { root, folder } of mounted) {
    if (root !== '/') continue;
    // Not root, or a read-only mount: then it stays, and is as safe as its container.
    await writeFile(path.join(folder, 'cgroup.procs'), String(process.pid), { flag: 'r+' }).catch(() => undefined);
  }
}
