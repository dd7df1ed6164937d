import { setImmediate } from 'node:timers/promises';
import type { BaseImage } from '../../evidence/base-image.ts';
import { ExhibitError, errnoOf } from '../../evidence/error.ts';
import { IMAGE_BASE } from '../../evidence/layout.ts';
import { DirectoryPool } from '../host/directory.ts';
import { holdHeap } from '../host/heap.ts';
import { reach } from '../host/host.ts';
import type { IdMaps } from '../host/id-map.ts';
import { type LowerEntry, LowerLayers, lowerTree } from '../host/lower.ts';
import { type OverlayClass, overlayClass } from '../host/overlay.ts';
import type { OverlayRootfs } from '../runtime/runtime.ts';
import type { CollectContext } from './collector.ts';
import { readEntry } from './rootfs-entry.ts';
import { MemberWriter } from './rootfs-member.ts';
import { memberPathOf } from './rootfs-names.ts';
import { containerIds } from './rootfs-owner.ts';
import { reportGap } from './rootfs-store.ts';

/** How long entries are taken before timers and sockets of the agent get their turn. */
const TURN_MS = 10;

/**
 * The lower directories as the container saw them, in one OCI layer: whiteouts applied, each inode once, attributes as they
 * are. What cannot be read is a gap, and the rest follows. Throws ExhibitError `capture-failed` when they cannot be opened.
 */
export async function storeMerged(
  context: CollectContext,
  rootfs: OverlayRootfs,
  image: BaseImage | undefined,
): Promise<void> {
  using _ = holdHeap('tight');
  using pool = new DirectoryPool();
  const ofClass = overlayClass(rootfs.userXattr);
  const layers = openLowers(context, pool, rootfs, ofClass);
  const ids = containerIds(context);
  const estimatedBytes = estimateOf(image);
  await using archive = await context.archive(IMAGE_BASE, { mediaType: 'ociLayer', estimatedBytes });
  const members = new MemberWriter(archive, context);
  const missed = (path: Buffer, error: unknown): void => {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    reportGap(context, path, 'what the lower layers have here is not complete', errno);
  };
  const tally = { entries: 0, sockets: 0 };
  let turnMs = performance.now();
  for await (const found of lowerTree(layers, layers.roots, () => false, context.signal, undefined, missed)) {
    await store({ context, members, ofClass, ids }, found);
    tally.entries += 1;
    if (found.object.node.kind === 'socket') tally.sockets += 1;
    if (performance.now() - turnMs <= TURN_MS) continue;
    context.progress(members.contentBytes, estimatedBytes);
    await setImmediate();
    turnMs = performance.now();
  }
  await archive.commit();
  context.progress(members.contentBytes, estimatedBytes);
  report(context, members, tally);
}

interface Merging {
  readonly context: CollectContext;
  readonly members: MemberWriter;
  readonly ofClass: OverlayClass;
  /** As in the writable layer, whose owners are the container's own numbers. */
  readonly ids: IdMaps | undefined;
}

async function store({ context, members, ofClass, ids }: Merging, { path, object, data }: LowerEntry): Promise<void> {
  const { node, layer, directory, name } = object;
  const place = { path, memberPath: memberPathOf(path), directory, name, node, fromLayer: layer };
  const { entry } = readEntry(context, ofClass, place, ids);
  const { gap, content } = await members.write(entry, data?.node ?? node);
  if (gap !== undefined) reportGap(context, path, gap.why, gap.errno);
  if (content?.sparse !== undefined) reportGap(context, path, DATA_ONLY, undefined);
}

const DATA_ONLY = 'a file of mostly holes: its data alone is stored, one run after the other, without what lay between';

/** What the layers take on the node's disk, together; 0 when that is not known. */
function estimateOf(image: BaseImage | undefined): number {
  const sizes = (image?.lowers ?? []).map(({ sizeBytes }) => sizeBytes ?? Number.NaN);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  return Number.isSafeInteger(total) ? total : 0;
}

function openLowers(
  context: CollectContext,
  pool: DirectoryPool,
  { lowers }: OverlayRootfs,
  ofClass: OverlayClass,
): LowerLayers {
  try {
    const paths = lowers.map((lower) => reach(context.host, lower));
    return new LowerLayers(pool, paths, ofClass);
  } catch (cause) {
    if (errnoOf(cause) === undefined) throw cause;
    throw new ExhibitError('capture-failed', 'the lower directories cannot be opened', { cause });
  }
}

function report(
  context: CollectContext,
  { contentBytes, touched, links }: MemberWriter,
  { entries, sockets }: { readonly entries: number; readonly sockets: number },
): void {
  context.fact('entries', entries);
  context.fact('contentBytes', contentBytes);
  if (sockets > 0) context.note(`${sockets} sockets were left out: a tar archive cannot hold them`);
  if (touched > 0) context.note(`O_NOATIME was refused: reading may have updated the access time of ${touched} files`);
  if (links.forgotten > 0)
    context.note(`${links.forgotten} inodes with several names were not remembered: the others are files of their own`);
}
