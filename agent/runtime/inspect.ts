/**
 * Everything containerd itself knows about one container, for cri.ts and containerd.ts alike. What cannot be learned becomes
 * a note; only a silent runtime, or a container without a process, is an error.
 */
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { arch } from 'node:process';
import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import type { Container__Output } from '../../proto/gen/containerd/services/containers/v1/Container.ts';
import type { Timestamp__Output } from '../../proto/gen/google/protobuf/Timestamp.ts';
import {
  type Cgroup,
  cutAt,
  findCgroup,
  hierarchies,
  membershipsOf,
  processesIn,
  rankMemberships,
  sharesPids,
} from '../host/cgroup.ts';
import { freezerFileOf } from '../host/freezer-watch.ts';
import type { Host } from '../host/host.ts';
import type { ContainerdClient } from './containerd-client.ts';
import type { ContainerdSpec, RuntimeSpec } from './pause/resume.ts';
import {
  asPid,
  type FreezeSpec,
  type OverlayRootfs,
  type Pid,
  type SpecDocument,
  type Target,
  type TargetMount,
} from './runtime.ts';
import { jsonOf, nextImageStep, rootfsOf, specMounts } from './snapshot.ts';

/** Index, manifest, config: an image is never deeper. */
const IMAGE_STEPS = 4;

export interface Inspection {
  readonly initPid: Pid;
  readonly container: Container__Output | undefined;
  readonly cgroup: Cgroup | undefined;
  readonly rootfs: OverlayRootfs | undefined;
  readonly mounts: readonly TargetMount[];
  readonly documents: readonly SpecDocument[];
  readonly notes: readonly string[];
}

export interface Inspector {
  readonly client: ContainerdClient;
  readonly host: Host;
  readonly signal: AbortSignal;
}

/** For the target; nothing where containerd does not say. */
export function ociRuntimeOf({ container }: Inspection): Pick<Target, 'ociRuntime'> {
  const name = container?.runtime?.name;
  return name === undefined || name === '' ? {} : { ociRuntime: name };
}

/** A value as a document for people and programs. */
export const jsonDocument = (name: string, value: unknown): SpecDocument => ({
  name,
  bytes: Buffer.from(`${JSON.stringify(value, null, 2)}\n`),
});

/** `value`, or a note when it could not be had; a silent runtime and a cancelled call pass through. */
export async function orNote<Value>(notes: string[], what: string, asked: Promise<Value>): Promise<Value | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (isExhibitError(error, 'cancelled') || isExhibitError(error, 'runtime-unreachable')) throw error;
    notes.push(`${what} is not known: ${explain(error)}`);
    return undefined;
  }
}

export async function inspectContainer(inspector: Inspector, id: string): Promise<Inspection> {
  const { client, signal } = inspector;
  const task = await client.tasks.get(id, { signal });
  if (task === undefined || task.pid === 0 || task.status === 'STOPPED') {
    throw new ExhibitError(
      'target-not-running',
      `container ${id.slice(0, 12)} has no running process: it has just ended`,
    );
  }
  const found = await inspectKept(inspector, id);
  const cgroup = await ownCgroup(inspector.host, task.pid, id);
  const notes = [...found.notes];
  if (cgroup === undefined)
    notes.push(`no cgroup is named after the container: only containerd's list says which processes it has`);
  return { ...found, initPid: asPid(task.pid), cgroup, notes };
}

/** What containerd keeps of a container whether it runs or not: no process, no cgroup. */
export async function inspectKept(inspector: Inspector, id: string): Promise<Inspection> {
  const { client, signal } = inspector;
  const notes: string[] = [];
  const documents: SpecDocument[] = [];
  const container = await orNote(notes, "containerd's record of the container", client.container(id, { signal }));
  const layers = container === undefined ? undefined : await readSnapshot(inspector, container, notes);
  const spec = container?.spec?.value;
  if (container !== undefined) documents.push(jsonDocument('containerd-container.json', readableContainer(container)));
  if (spec !== undefined) documents.push({ name: 'oci-spec.json', bytes: spec });
  if (layers !== undefined) documents.push(layers.document);
  const mounts = spec === undefined ? undefined : specMounts(jsonOf(spec));
  if (mounts === undefined) notes.push('the mounts are not known: containerd keeps no OCI spec for the container');
  return {
    initPid: asPid(0),
    container,
    cgroup: undefined,
    rootfs: layers?.rootfs,
    mounts: mounts ?? [],
    documents,
    notes,
  };
}

/**
 * The cgroup that is the container's own, the one named by its id, wherever below it the first process sits. A cgroup that
 * is not named so may be shared, and is never taken for the container's.
 */
export async function ownCgroup(host: Host, initPid: number, id: string): Promise<Cgroup | undefined> {
  const memberships = await membershipsOf(host, initPid).catch(() => []);
  for (const cgroup of rankMemberships(memberships, await hierarchies(host))) {
    const own = cutAt(cgroup, (segment) => segment.includes(id));
    if (own !== undefined) return own;
  }
  return undefined;
}

async function readSnapshot({ client, signal }: Inspector, container: Container__Output, notes: string[]) {
  const { snapshotter, snapshotKey } = container;
  if (snapshotKey === '') {
    notes.push('the container has no snapshot: its files were put there by other means');
    return undefined;
  }
  const mounts = await orNote(notes, 'the writable layer', client.mounts(snapshotter, snapshotKey, { signal }));
  const info = await orNote(notes, "the snapshot's history", client.snapshot(snapshotter, snapshotKey, { signal }));
  const finding = mounts === undefined ? undefined : rootfsOf(mounts);
  if (finding !== undefined && 'note' in finding) notes.push(finding.note);
  const times = { createdAt: timeOf(info?.createdAt), updatedAt: timeOf(info?.updatedAt) };
  const document = jsonDocument('snapshot.json', {
    snapshotter,
    key: snapshotKey,
    mounts,
    info: info && { ...info, ...times },
  });
  return { document, rootfs: finding !== undefined && 'rootfs' in finding ? finding.rootfs : undefined };
}

/** RFC 3339, or undefined for no time. */
export function timeOf(time: Timestamp__Output | null | undefined): string | undefined {
  if (!time) return undefined;
  const ms = Number(time.seconds) * 1000 + Math.floor(time.nanos / 1e6);
  return Number.isFinite(ms) && ms > 0 && ms < 8.64e15 ? new Date(ms).toISOString() : undefined;
}

/** Any values hold JSON from CRI and other types' bytes from elsewhere. The spec has a document of its own. */
function readableContainer({ spec: _, ...container }: Container__Output): unknown {
  const readable = (any: { type_url: string; value: Uint8Array } | null | undefined) =>
    any && { typeUrl: any.type_url, json: jsonOf(any.value), base64: Buffer.from(any.value).toString('base64') };
  const extensions = Object.entries(container.extensions).map(([key, any]) => [key, readable(any)]);
  return {
    ...container,
    runtime: container.runtime && { name: container.runtime.name, options: readable(container.runtime.options) },
    createdAt: timeOf(container.createdAt),
    updatedAt: timeOf(container.updatedAt),
    extensions: Object.fromEntries(extensions),
  };
}

/** The image's config, verbatim, starting from its config's digest, or its name. Undefined when the node does not keep it. */
export async function imageConfig(
  { client, signal }: Inspector,
  from: { digest: string } | { name: string },
): Promise<Uint8Array | undefined> {
  let digest = 'digest' in from ? from.digest : await client.imageTarget(from.name, { signal });
  for (let step = 0; step < IMAGE_STEPS && digest !== undefined; step += 1) {
    const blob = await client.blob(digest, { signal });
    if (blob === undefined) return undefined;
    const next = nextImageStep(blob, arch === 'x64' ? 'amd64' : arch);
    if (next === undefined) return blob;
    digest = next.digest;
  }
  return undefined;
}

/**
 * The container's processes now, the first process first: everybody in the subtree of its own cgroup. containerd is asked
 * only where there is none to be read: its answer comes from the same cgroup, through a run of runc that takes 12 to 60 ms,
 * and this is asked while the container stands still.
 */
export const containerPids = ({ client, host, signal }: Inspector, target: Target): Promise<Pid[]> =>
  pidsOf(host, target, () => listedPids(client, target.record.id, signal));

/** The same for any runtime: `listed` is what it answers where the cgroup cannot be read. */
export async function pidsOf(host: Host, target: Target, listed: () => Promise<Pid[]>): Promise<Pid[]> {
  const { initPid, cgroup } = target.record;
  const found = cgroup === undefined ? undefined : await findCgroup(cgroup, await hierarchies(host));
  const inside = found === undefined ? [] : await processesIn(host, found);
  const all = new Set(inside.length > 0 ? inside : await listed());
  const init = asPid(initPid);
  return [...(all.delete(init) ? [init] : []), ...[...all].sort((a, b) => a - b)];
}

async function listedPids(client: ContainerdClient, id: string, signal: AbortSignal): Promise<Pid[]> {
  const listed = await client.tasks.pids(id, { signal }).catch((error: unknown) => {
    // A task that ends while it is asked is gone, however containerd words it.
    if (isExhibitError(error, 'runtime-failed')) return [];
    throw error;
  });
  return listed.map(asPid);
}

/**
 * Who stops a container. `cgroup`: the kernel's freezer, in a millisecond or two. `runtime`: the runtime's own pause, containerd's or Docker's, in some
 * thirty, during which its view is true. `auto`: the version 2 freezer where the container has a cgroup of its own, else the
 * runtime. The version 1 freezer is never chosen by itself: its tasks cannot be killed, and their registers not be read.
 */
export type FreezeMethod = 'auto' | 'runtime' | 'cgroup';

export interface Pausing {
  readonly socket: string;
  readonly namespace: string;
  /** `auto` unless told. */
  readonly method?: FreezeMethod | undefined;
}

/** The runtime's own pause of a container, whoever stops it for a capture: what a runtime paused is resumed by it. */
export function runtimePause({ socket, namespace }: Pausing, { record, freeze }: Target): ContainerdSpec {
  if (freeze?.kind === 'containerd') return freeze;
  return withFreezer({ kind: 'containerd', socket, namespace, containerId: record.id }, freeze);
}

/** With the freezer that `freeze` knows of, as the last resort. */
export function withFreezer<Spec extends RuntimeSpec>(spec: Spec, freeze: FreezeSpec | undefined): Spec {
  const file = freeze === undefined ? undefined : freezerFileOf(freeze);
  return file === undefined ? spec : { ...spec, cgroup: { version: file.version, path: file.folder } };
}

/** What the choice needs to know of a container. */
export interface Stoppable {
  readonly id: string;
  readonly pids: readonly Pid[];
  readonly cgroup: Cgroup | undefined;
}

export interface FreezeChoice {
  readonly freeze: FreezeSpec | undefined;
  readonly notes: string[];
}

/** How to stop a container of containerd's. */
export const freezeSpec = (host: Host, pausing: Pausing, container: Stoppable): Promise<FreezeChoice> => {
  const { socket, namespace, method } = pausing;
  return chooseFreeze(host, method, container, { kind: 'containerd', socket, namespace, containerId: container.id });
};

/** How to stop the container; a note instead where nothing may, or the agent would stop itself. */
export async function chooseFreeze(
  host: Host,
  method: FreezeMethod = 'auto',
  { pids, cgroup }: Stoppable,
  pause: RuntimeSpec,
): Promise<FreezeChoice> {
  if (pids.some((pid) => pid === process.pid) && (await sharesPids(host))) {
    return {
      freeze: undefined,
      notes: ["this is the agent's own container, which it cannot stop: it is captured live"],
    };
  }
  const freezer = cgroup?.hasFreezer === true ? { version: cgroup.version, path: cgroup.folder } : undefined;
  const byRuntime: FreezeSpec = freezer === undefined ? pause : { ...pause, cgroup: freezer };
  if (method === 'runtime') return { freeze: byRuntime, notes: [] };
  if (freezer === undefined || !(await mayFreeze(freezer))) {
    if (method === 'auto') return { freeze: byRuntime, notes: [] };
    const notes = [
      'freeze.method is cgroup, and the container has no freezer that can be written: it is captured live',
    ];
    return { freeze: undefined, notes };
  }
  if (freezer.version === 2) return { freeze: { kind: 'cgroup-v2', path: freezer.path }, notes: [] };
  return { freeze: method === 'auto' ? byRuntime : { kind: 'cgroup-v1', path: freezer.path }, notes: [] };
}

/** Mounts of cgroups are often read-only. */
async function mayFreeze({ version, path }: { version: 1 | 2; path: string }): Promise<boolean> {
  const file = `${path}/${version === 2 ? 'cgroup.freeze' : 'freezer.state'}`;
  return access(file, constants.W_OK).then(
    () => true,
    () => false,
  );
}
