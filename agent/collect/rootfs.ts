import { ExhibitError, errnoOf, explain } from '../../evidence/error.ts';
import { ROOTFS_LAYER } from '../../evidence/layout.ts';
import { effectiveCapabilities } from '../host/capabilities.ts';
import { type Directory, DirectoryPool } from '../host/directory.ts';
import { holdHeap } from '../host/heap.ts';
import { reach } from '../host/host.ts';
import type { IdMaps } from '../host/id-map.ts';
import { tryLibc } from '../host/libc.ts';
import { LowerLayers } from '../host/lower.ts';
import { type OverlayClass, overlayClass } from '../host/overlay.ts';
import { ReadAhead } from '../host/read-ahead.ts';
import type { OverlayRootfs } from '../runtime/runtime.ts';
import type { CollectContext, Collector } from './collector.ts';
import { RootfsCapture } from './rootfs-capture.ts';
import { RootfsFindings } from './rootfs-findings.ts';
import { Originals } from './rootfs-originals.ts';
import { containerIds } from './rootfs-owner.ts';

const ROOTFS_INVENTORY = 'rootfs.inventory.jsonl.zst';
const ROOTFS_BODY = 'rootfs.body.zst';
const ROOTFS_FINDINGS = 'rootfs.findings.jsonl.zst';

/**
 * The container's writable layer, taken from overlayfs' upper directory itself: an OCI layer, an inventory with a line for
 * every entry (also for what a layer cannot hold), and a body file for timelines; docs/rootfs.md. The container may run
 * on meanwhile. Throws ExhibitError `capture-failed` when there is no overlay or its upper directory cannot be opened.
 */
export const rootfsCollector: Collector = { artifact: 'rootfs', collect: collectRootfs };

async function collectRootfs(context: CollectContext): Promise<void> {
  using _ = holdHeap('tight');
  const { rootfs } = context.target;
  if (rootfs === undefined) {
    throw new ExhibitError(
      'capture-failed',
      `${context.target.record.name} has no overlay file system of its own, so there is no writable layer to take; leave the artifact rootfs out`,
    );
  }
  using pool = new DirectoryPool();
  const upper = openUpper(context, pool, rootfs);
  const ofClass = overlayClass(rootfs.userXattr);
  await reportBlindness(context, ofClass);
  await using layer = await context.archive(ROOTFS_LAYER, { mediaType: 'ociLayer', membersIn: ROOTFS_INVENTORY });
  await using inventory = await context.text(ROOTFS_INVENTORY, 'jsonl');
  await using body = await context.text(ROOTFS_BODY, 'bodyfile');
  const layers = openLowers(context, pool, rootfs, ofClass);
  const ids = containerIds(context);
  await using output = await context.text(ROOTFS_FINDINGS, 'jsonl');
  await using originals = new Originals(context, ofClass, ids);
  const findings = new RootfsFindings({ context, layers, ids, output, originals });
  const outputs = { layer, inventory, body };
  await using ahead = new ReadAhead();
  const capture = new RootfsCapture({ context, upper, layers, ofClass, outputs, findings, ids, ahead });
  await capture.run();
  await reportRemoval(context);
  await layer.commit();
  await inventory.commit();
  await body.commit();
  await findings.finish();
  await output.commit();
  await originals.commit();
  report(context, capture);
  if (ids !== undefined) reportIds(context, ids, capture.tally.unmappedOwners);
}

/**
 * The layer of a container that has ended goes with it, name by name, and what went before its folder was read leaves no
 * trace there.
 */
async function reportRemoval({ target, runtime, signal, gap, note }: CollectContext): Promise<void> {
  if (target.record.ended === undefined || runtime.isRemoved === undefined) return;
  try {
    if (!(await runtime.isRemoved(target, signal))) return;
  } catch (error) {
    signal.throwIfAborted();
    note(`whether the container was removed while its layer was read is not known: ${explain(error)}`);
    return;
  }
  gap({
    what: 'files that the runtime removed meanwhile',
    why: 'the container was removed while its layer was read: what is not here may have been there',
  });
}

function openUpper(context: CollectContext, pool: DirectoryPool, { upper }: OverlayRootfs): Directory {
  try {
    return pool.root(reach(context.host, upper));
  } catch (cause) {
    throw new ExhibitError('capture-failed', `the writable layer ${upper} cannot be opened`, { cause });
  }
}

function openLowers(
  context: CollectContext,
  pool: DirectoryPool,
  { lowers }: OverlayRootfs,
  ofClass: OverlayClass,
): LowerLayers | undefined {
  try {
    const paths = lowers.map((lower) => reach(context.host, lower));
    return new LowerLayers(pool, paths, ofClass);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    context.gap({
      what: 'lower layers',
      why: `they cannot be opened, so what the container changed is not told from what it added: ${explain(error)}`,
      errno,
    });
    return undefined;
  }
}

function reportIds(context: CollectContext, ids: IdMaps, unmapped: number): void {
  context.fact('userNamespace', { uids: ids.uids, gids: ids.gids });
  context.note(
    'the container has a user namespace: owners and ACLs are its own numbers, `hostUid` and `hostGid` in the inventory are the node’s; security.capability is as it is stored, with the node’s root id',
  );
  if (unmapped > 0) {
    context.note(`${unmapped} entries have owners that are nobody in the container; they keep the node’s numbers`);
  }
}

/** capabilities(7): CAP_SYS_ADMIN. xattr(7): without it the kernel does not even list `trusted.*`. */
const SYS_ADMIN = 1n << 21n;

/** Says once what will be missing everywhere. */
async function reportBlindness(context: CollectContext, ofClass: OverlayClass): Promise<void> {
  if (tryLibc() === undefined) {
    context.gap({
      what: 'extended attributes and opaque directories',
      why: 'no C library could be called, so no extended attribute was read and no hole in a file was found',
    });
  } else if (ofClass === 'trusted' && ((await effectiveCapabilities()) & SYS_ADMIN) === 0n) {
    context.gap({
      what: 'attributes trusted.* and opaque directories',
      why: 'the agent lacks CAP_SYS_ADMIN, so overlayfs’ own attributes are hidden from it: deleted and recreated directories may show what was below',
      errno: 'EPERM',
    });
  }
}

function report(context: CollectContext, { tally, members, lowerReader }: RootfsCapture): void {
  const { entries, whiteouts, opaqueDirectories, hardlinks, sockets, sparseFiles, escapedNames, changedWhileRead } =
    tally;
  context.fact('entries', entries);
  context.fact('members', tally.members);
  context.fact('contentBytes', members.contentBytes);
  context.fact('changes', { ...tally.changes });
  context.fact('special', { whiteouts, opaqueDirectories, hardlinks, sockets, sparseFiles, escapedNames });
  context.fact('changedWhileRead', changedWhileRead);
  const touched = members.touched + tally.directoriesTouched;
  if (touched > 0)
    context.note(`O_NOATIME was refused: reading may have updated the access time of ${touched} files and directories`);
  if (sockets > 0) context.note(`${sockets} sockets are in the inventory only: a tar archive cannot hold them`);
  if (sparseFiles > 0) {
    context.note(
      `${sparseFiles} files with large holes are stored as their data alone; \`sparse\` in the inventory says where each part belongs`,
    );
  }
  if (escapedNames > 0) {
    context.note(
      `${escapedNames} names beginning with .wh. were made by the container; they are stored with .exhibit-escaped before them`,
    );
  }
  if (members.links.forgotten > 0) {
    context.note(
      `${members.links.forgotten} inodes with several names were not remembered: their other names are stored as files of their own`,
    );
  }
  if (lowerReader.undigested > 0) {
    context.note(`${lowerReader.undigested} files of lower layers were too large to digest`);
  }
}
