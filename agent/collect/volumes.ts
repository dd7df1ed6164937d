import { ExhibitError, errnoOf } from '../../evidence/error.ts';
import { jsonLine } from '../host/decode.ts';
import { type DeletedOpen, findDeletedOpen } from '../host/deleted-open.ts';
import { holdHeap } from '../host/heap.ts';
import type { IdMaps } from '../host/id-map.ts';
import type { MountCopy } from '../host/mount-copy.ts';
import { reachMounts, spaceOf } from '../host/mount-reach.ts';
import { mountNamespaceOf } from '../host/mount-space.ts';
import type { MountLine } from '../host/mount-table.ts';
import { asPid, type Pid } from '../runtime/runtime.ts';
import type { CollectContext, Collector } from './collector.ts';
import { containerIds } from './rootfs-owner.ts';
import type { Outputs } from './rootfs-store.ts';
import { VolumesBudget } from './volumes-budget.ts';
import { captureVolume, shown, type VolumeOutcome } from './volumes-capture.ts';
import { type FoundMounts, findMounts, inOrder, mayPass, numberVolumes, type Volume } from './volumes-find.ts';
import { type ExamineEntry, VolumeFindings } from './volumes-findings.ts';
import { VOLUMES_POLICY, type VolumesPolicy } from './volumes-policy.ts';
import { volumeRecord } from './volumes-record.ts';
import { captureWaiting } from './volumes-waiting.ts';

const VOLUMES_ARCHIVE = 'volumes.tar.zst';
const VOLUMES_INVENTORY = 'volumes.inventory.jsonl.zst';
const VOLUMES_BODY = 'volumes.body.zst';
const VOLUMES_FINDINGS = 'volumes.findings.jsonl.zst';
const VOLUMES_RECORDS = 'volumes.jsonl.zst';

/** Mounts that are copied and walked; each holds a descriptor until all are done. */
const REACHED_MAX = 1000;

export interface VolumesOptions {
  readonly policy?: Partial<VolumesPolicy>;
  /** Called when an entry has been read and the next has not. */
  readonly onEntry?: () => void;
}

/**
 * What is mounted into the container beside its writable layer: a line for every mount, and of those that the policy says
 * their trees with metadata, and content up to a budget; docs/volumes.md. Each is read through a detached read-only copy
 * of the mount, memory-backed ones first. Throws ExhibitError `capture-failed` when the mount table cannot be read.
 */
export function volumesCollector({ policy, onEntry = () => undefined }: VolumesOptions = {}): Collector {
  const asked = { ...VOLUMES_POLICY, ...policy };
  return { artifact: 'volumes', collect: (context) => collectVolumes(context, asked, onEntry) };
}

async function collectVolumes(context: CollectContext, policy: VolumesPolicy, onEntry: () => void): Promise<void> {
  using _ = holdHeap('tight');
  const listed = await context.runtime.pids(context.target, context.signal);
  const pids = listed.length > 0 ? listed : [asPid(context.target.record.initPid)];
  using mounts = lookOrFail(context, pids, policy);
  using copies = new DisposableStack();
  const reached = await reachAll(context, mounts, copies);
  const volumes = numberVolumes(mounts.mounts, reached);
  const deleted = await deletedOn(context, pids, mounts);

  await using layer = await context.archive(VOLUMES_ARCHIVE, { membersIn: VOLUMES_INVENTORY });
  await using inventory = await context.text(VOLUMES_INVENTORY, 'jsonl');
  await using body = await context.text(VOLUMES_BODY, 'bodyfile');
  await using found = await context.text(VOLUMES_FINDINGS, 'jsonl');
  await using records = await context.text(VOLUMES_RECORDS, 'jsonl');
  const outputs = { layer, inventory, body };
  const findings = new VolumeFindings(context, found);
  const outcomes = await takeAll({ context, policy, onEntry, findings, outputs, volumes, reached });
  await findings.finish();
  for (const volume of volumes) {
    const copy = reached.get(volume.mount);
    const learned = {
      space: copy && spaceOf(copy),
      outcome: outcomes.get(volume),
      deletedOpen: deleted.filter((one) => liesOn(one, volume)),
    };
    await records.line(jsonLine(volumeRecord(volume, learned)));
  }
  reportLeftOut(context, volumes, outcomes);
  for (const object of [layer, inventory, body, found, records]) await object.commit();
  report(context, volumes, outcomes, [...reached.values()]);
}

function lookOrFail(context: CollectContext, pids: readonly Pid[], policy: VolumesPolicy): FoundMounts {
  try {
    return findMounts(context, pids, policy);
  } catch (cause) {
    if (errnoOf(cause) === undefined) throw cause;
    throw new ExhibitError('capture-failed', 'the target’s mounts cannot be read', { cause });
  }
}

type Copies = ReadonlyMap<MountLine, MountCopy>;

/** Copies of all mounts of which something is to be taken; what cannot be reached is a gap. */
async function reachAll(context: CollectContext, found: FoundMounts, keep: DisposableStack): Promise<Copies> {
  const wanted = found.mounts.filter(({ decision }) => decision.taken !== 'listed' && decision.waits === undefined);
  if (wanted.length > REACHED_MAX) {
    const why = `${wanted.length - REACHED_MAX} mounts are listed only: more than ${REACHED_MAX} are not read`;
    context.gap({ what: 'mounts', why });
  }
  const passable = mayPass(found.mounts);
  const copies = new Map<MountLine, MountCopy>();
  for (const space of found.spaces) {
    const here = wanted.slice(0, REACHED_MAX).filter((one) => one.space === space);
    const mounts = here.map(({ mount }) => mount);
    for (const [index, copy] of (await reachMounts(space, mounts, passable)).entries()) {
      const one = here[index];
      if (one === undefined) continue;
      if ('fd' in copy) copies.set(one.mount, keep.use(copy));
      else {
        const why = `mount ${one.mount.id} (${one.classified.class}) was not read: ${copy.why}`;
        context.gap({ what: shown(one), why, ...(copy.errno === undefined ? {} : { errno: copy.errno }) });
      }
    }
  }
  return copies;
}

interface TakeParts {
  readonly context: CollectContext;
  readonly policy: VolumesPolicy;
  readonly onEntry: () => void;
  readonly findings: VolumeFindings;
  readonly outputs: Outputs;
  readonly volumes: readonly Volume[];
  readonly reached: Copies;
}

async function takeAll(parts: TakeParts): Promise<ReadonlyMap<Volume, VolumeOutcome>> {
  const { context, policy, volumes, reached } = parts;
  const budget = new VolumesBudget(policy.contentBytes);
  const ids = containerIds(context);
  const outcomes = new Map<Volume, VolumeOutcome>();
  for (const volume of inOrder(volumes)) {
    const copy = reached.get(volume.mount);
    if (copy === undefined || volume.sameAs !== undefined) continue;
    const space = spaceOf(copy);
    const usedBytes = space && space.totalBytes - space.freeBytes;
    const { outputs, findings, onEntry } = parts;
    const { fileBytes } = policy;
    const judge = findings.of(volume, volumes);
    const examine: ExamineEntry = (entry, stored) => {
      onEntry();
      return judge(entry, stored);
    };
    const order = { context, volume, fd: copy.fd, outputs, budget, fileBytes, usedBytes, examine, ids };
    const taken = await captureVolume(order);
    outcomes.set(volume, taken);
  }
  for (const volume of volumes.filter(({ decision }) => decision.waits)) {
    const taken = await captureWaiting(context, volume, parts.outputs);
    if (taken !== undefined) outcomes.set(volume, taken);
  }
  if (ids !== undefined) reportIds(context, ids, outcomes);
  return outcomes;
}

function reportIds(context: CollectContext, ids: IdMaps, outcomes: ReadonlyMap<Volume, VolumeOutcome>): void {
  context.fact('userNamespace', { uids: ids.uids, gids: ids.gids });
  const unmapped = [...outcomes.values()].reduce((total, { unmappedOwners }) => total + unmappedOwners, 0);
  if (unmapped === 0) return;
  context.note(
    `${unmapped} entries have owners that are nobody in the container, such as files of the node; they keep the node’s numbers`,
  );
}

/** What policy and caution leave out that one might look for: once for each reason, with the first mount of it. */
function reportLeftOut(
  context: CollectContext,
  volumes: readonly Volume[],
  outcomes: ReadonlyMap<Volume, VolumeOutcome>,
): void {
  const kinds = new Map<string, { readonly first: Volume; count: number }>();
  for (const volume of volumes) {
    const { decision, classified, sameAs } = volume;
    if (!decision.gap || sameAs !== undefined) continue;
    const left = outcomes.get(volume)?.counts.notStored;
    // A device that was let in has no content to miss.
    if (left !== undefined && Object.keys(left).length === 0) continue;
    const key = decision.waits ? 'waits' : (decision.notStored ?? classified.class);
    const kind = kinds.get(key);
    if (kind !== undefined) kind.count += 1;
    else kinds.set(key, { first: volume, count: 1 });
  }
  for (const { first, count } of kinds.values()) {
    const others = count === 1 ? '' : ` (and ${count - 1} mounts more, see ${VOLUMES_RECORDS})`;
    context.gap({ what: shown(first), why: `mount ${first.mount.id}${others}: ${first.decision.why}` });
  }
}

async function deletedOn(context: CollectContext, pids: readonly Pid[], { spaces }: FoundMounts): Promise<DeletedOn[]> {
  const namespaces = new Set(spaces.map(({ namespace }) => namespace));
  const { files, notes } = await findDeletedOpen(context.host, pids, context.signal);
  for (const note of notes) context.note(`deleted files on volumes: ${note}`);
  return files.flatMap((file) => {
    const namespace = mountNamespaceOf(context.host, file.pid);
    return namespace !== undefined && namespaces.has(namespace) ? [{ ...file, namespace }] : [];
  });
}

type DeletedOn = DeletedOpen & { readonly namespace: string };

const liesOn = ({ mountId, namespace }: DeletedOn, { mount, space, classified }: Volume): boolean =>
  mount.id === mountId && space.namespace === namespace && classified.class !== 'root';

function report(
  context: CollectContext,
  volumes: readonly Volume[],
  outcomes: ReadonlyMap<Volume, VolumeOutcome>,
  copies: readonly { readonly quiet: boolean }[],
): void {
  const all = [...outcomes.values()];
  const sum = (of: (outcome: VolumeOutcome) => number): number => all.reduce((total, one) => total + of(one), 0);
  const classes: Record<string, number> = {};
  for (const { classified } of volumes) classes[classified.class] = (classes[classified.class] ?? 0) + 1;
  context.fact('mounts', volumes.length);
  context.fact('classes', classes);
  context.fact('volumes', outcomes.size);
  context.fact(
    'entries',
    sum(({ counts }) => counts.entries),
  );
  context.fact(
    'contentFiles',
    sum(({ counts }) => counts.contentFiles),
  );
  context.fact(
    'contentBytes',
    sum(({ counts }) => counts.contentBytes),
  );
  const loud = copies.filter(({ quiet }) => !quiet).length;
  if (loud > 0)
    context.note(`${loud} mounts could not be made read-only for the reading; they were only read all the same`);
  const touched = sum((outcome) => outcome.touched);
  if (touched > 0 && loud > 0) {
    context.note(`O_NOATIME was refused: reading may have updated the access time of ${touched} files and directories`);
  }
  const own = volumes.filter(({ ofContainer }) => !ofContainer);
  if (own.length > 0) {
    context.note(`${own.length} mounts are in mount namespaces that processes of the target made for themselves`);
  }
}
