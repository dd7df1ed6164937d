import { ExhibitError, errnoOf } from '../../evidence/error.ts';
import { type Directory, openIfThere, openNode } from '../host/directory.ts';
import type { IdMaps } from '../host/id-map.ts';
import { SystemError } from '../host/libc.ts';
import { D_TYPE } from '../host/listing.ts';
import { type LowerDirectory, type LowerLayers, type LowerLookup, lowerTree } from '../host/lower.ts';
import {
  followRedirect,
  isWhiteout,
  type LowerName,
  NO_MARKS,
  type OverlayClass,
  type OverlayMarks,
  readMarks,
} from '../host/overlay.ts';
import type { ReadAhead } from '../host/read-ahead.ts';
import { type Found, type Left, walk } from '../host/walk.ts';
import { readXattrs } from '../host/xattr.ts';
import type { CollectContext } from './collector.ts';
import { ADDED, compare } from './rootfs-change.ts';
import { readEntry } from './rootfs-entry.ts';
import type { RootfsFindings } from './rootfs-findings.ts';
import { comparedOf, LowerReader, type LowerSide } from './rootfs-lower.ts';
import { MemberWriter, refused, type Stored } from './rootfs-member.ts';
import { join, memberName, memberPathOf, opaqueMember, whiteoutName } from './rootfs-names.ts';
import { type Entry, list, type Outputs, reportGap, type StoredAs, tarHeader, type Verdict } from './rootfs-store.ts';
import { Tally } from './rootfs-tally.ts';

/** A directory of the upper layer on the way from the root to where the walk is. */
interface Frame {
  readonly path: Buffer;
  readonly memberPath: Buffer;
  /** The lower directories merged here, top-most first; undefined when they could not be read. */
  readonly lowers: readonly LowerDirectory[] | undefined;
  /**
   * Below a renamed directory (`redirect`): the layer cannot point elsewhere, so it holds the lower layers' part as well,
   * and no whiteouts, since nothing shines through.
   */
  readonly renamed: boolean;
  readonly opaque: OverlayMarks['opaque'];
}

export interface CaptureParts {
  readonly context: CollectContext;
  readonly upper: Directory;
  /** Undefined when the lower layers could not be opened. */
  readonly layers: LowerLayers | undefined;
  readonly ofClass: OverlayClass;
  readonly outputs: Outputs;
  readonly findings: RootfsFindings;
  /** Of the container's user namespace; undefined when it has the node's own ids. */
  readonly ids: IdMaps | undefined;
  readonly ahead?: ReadAhead;
}

/** One pass over an upper directory. */
export class RootfsCapture {
  readonly tally = new Tally();
  readonly members: MemberWriter;
  readonly lowerReader: LowerReader;
  readonly #parts: CaptureParts;
  readonly #frames: Frame[] = [];

  constructor(parts: CaptureParts) {
    this.#parts = parts;
    this.members = new MemberWriter(parts.outputs.layer, parts.context);
    this.lowerReader = new LowerReader(parts.context, parts.ofClass, parts.ids);
  }

  async run(): Promise<void> {
    const { context, upper, layers, ahead } = this.#parts;
    await this.#root();
    const lowers = layers?.roots;
    this.#frames.push({ path: EMPTY, memberPath: EMPTY, lowers, renamed: false, opaque: this.#opaqueOf(upper) });
    const first = (_: Buffer, at: Directory) => this.#whiteoutsFirst(at);
    for await (const event of walk(upper, { signal: context.signal, first, ...(ahead && { ahead }) })) {
      if (event.kind === 'found') await this.#found(event);
      else if (event.kind === 'left') await this.#left(event);
      else if (event.kind === 'missed') reportGap(context, event.path, event.why, event.errno);
      else if (!event.keepsAtime) this.tally.directoriesTouched += 1;
      if (this.tally.due()) context.progress(this.members.contentBytes);
    }
    context.progress(this.members.contentBytes);
  }

  /** The root itself has an inventory line and no member: a layer changes what is in the root, not the root. */
  async #root(): Promise<void> {
    const { context, upper, ofClass, outputs, ids } = this.#parts;
    using node = openNode(upper, Buffer.from('.'));
    const place = { path: EMPTY, memberPath: EMPTY, directory: upper, name: EMPTY, node };
    const { entry } = readEntry(context, ofClass, place, ids);
    await list(outputs, entry, { kind: 'none' }, { change: undefined });
  }

  #opaqueOf(directory: Directory): OverlayMarks['opaque'] {
    return readMarks(readXattrs(directory), this.#parts.ofClass).opaque;
  }

  /** OCI image-spec, layer.md: whiteouts should come before what lies beside them. */
  #whiteoutsFirst(directory: Directory): (type: number, name: Buffer) => boolean {
    const { opaque } = this.#top();
    return (type, name) => {
      if (type === D_TYPE.characterDevice) return true;
      const perhaps = type === D_TYPE.unknown || (type === D_TYPE.regular && opaque === 'holds-whiteouts');
      return perhaps && this.#looksWhite(directory, name, opaque);
    };
  }

  #looksWhite(directory: Directory, name: Buffer, parent: OverlayMarks['opaque']): boolean {
    try {
      using node = openNode(directory, name);
      const marks = parent === 'holds-whiteouts' ? readMarks(readXattrs(node), this.#parts.ofClass) : NO_MARKS;
      return isWhiteout({ kind: node.kind, rdev: node.stat.rdev, sizeBytes: node.stat.size, marks, parent });
    } catch (error) {
      if (errnoOf(error) === undefined) throw error;
      return false;
    }
  }

  async #found({ path, name, node, parent }: Found): Promise<void> {
    const { context, ofClass, findings, ids } = this.#parts;
    const frame = this.#top();
    const memberPath = this.#memberPath(frame, path, name);
    const place = { path, memberPath, directory: parent, name, node };
    const { entry, marks } = readEntry(context, ofClass, place, ids);
    const { rdev, size } = node.stat;
    using lookup = this.#lookup(path, frame.lowers, { kind: 'here', name });
    const isWhite = isWhiteout({ kind: node.kind, rdev, sizeBytes: size, marks, parent: frame.opaque });
    // Whiteouts belong to who mounted the overlay.
    if (!isWhite && ids?.has(node.stat) === false) this.tally.unmappedOwners += 1;
    if (isWhite) await this.#whiteout(frame, entry, name, lookup);
    else await this.#present(frame, entry, marks, lookup);
    // Below a renamed directory the image's files are gone from where they were, and are told there.
    if (!frame.renamed) await findings.hidden(entry, marks, isWhite, lookup, parent, name);
  }

  /** Mostly the very path. */
  #memberPath(frame: Frame, path: Buffer, name: Buffer): Buffer {
    const stored = memberName(name);
    if (stored !== name) this.tally.escapedNames += 1;
    else if (frame.memberPath === frame.path) return path;
    return join(frame.memberPath, stored);
  }

  async #whiteout(frame: Frame, entry: Entry, name: Buffer, lookup: LowerLookup | undefined): Promise<void> {
    this.tally.whiteouts += 1;
    const memberPath = join(frame.memberPath, whiteoutName(name));
    const as = frame.renamed ? NO_MEMBER : await this.#mark(entry, memberPath);
    const lower = await this.#lower(entry.path, lookup);
    await this.#list(entry, as, { change: 'deleted', lower: lower?.record });
  }

  async #present(frame: Frame, entry: Entry, marks: OverlayMarks, lookup: LowerLookup | undefined): Promise<void> {
    const redirect = marks.redirect === undefined ? undefined : followRedirect(marks.redirect);
    using elsewhere = redirect && this.#lookup(entry.path, frame.lowers, redirect);
    const beneath = redirect === undefined ? lookup : elsewhere;
    await this.#store(entry, marks, beneath, lookup);
    if (entry.node.kind !== 'directory') return;
    const opaque = marks.opaque === 'opaque';
    if ((opaque || redirect !== undefined) && !frame.renamed) await this.#opaque(entry);
    this.#frames.push({
      path: entry.path,
      memberPath: entry.memberPath,
      lowers: opaque ? [] : beneath?.directories,
      renamed: frame.renamed || redirect !== undefined,
      opaque: marks.opaque,
    });
  }

  async #store(
    entry: Entry,
    marks: OverlayMarks,
    beneath: LowerLookup | undefined,
    lookup: LowerLookup | undefined,
  ): Promise<void> {
    const elsewhere = entry.node.kind === 'file' && marks.metacopy;
    if (!elsewhere) return this.#listStored(entry, await this.members.write(entry, entry.node), lookup, marks);
    const data = beneath?.data;
    if (data === undefined) {
      const stored = refused('only its attributes were copied up, and no lower layer has its data', undefined);
      return this.#listStored(entry, stored, lookup, marks);
    }
    const from = { ...entry, fromLayer: data.layer };
    return this.#listStored(from, await this.members.write(from, data.node), lookup, marks);
  }

  async #listStored(entry: Entry, stored: Stored, lookup: LowerLookup | undefined, marks: OverlayMarks): Promise<void> {
    const { as, content, gap } = stored;
    if (gap !== undefined) reportGap(this.#parts.context, entry.path, gap.why, gap.errno);
    const lower = lookup?.object && (await this.#lower(entry.path, lookup));
    const sizeBytes = content === undefined || content.sparse ? entry.node.stat.size : BigInt(content.sizeBytes);
    // Unknown lower layers are no proof that the container added it.
    const verdict =
      lookup && lower
        ? compare(comparedOf(entry, sizeBytes, stored.sha256), lower.compared, marks.opaque === 'opaque')
        : ADDED;
    const change = lookup && verdict.change;
    const { contentCompared } = verdict;
    await this.#list(entry, as, { change, contentCompared, lower: lower?.record, content, gap });
    await this.#parts.findings.examine({ entry, content, sha256: stored.sha256, change, lower, lookup });
  }

  /** The member that hides the directory below; it follows its directory at once. */
  async #opaque(entry: Entry): Promise<void> {
    this.tally.opaqueDirectories += 1;
    const as = await this.#mark(entry, opaqueMember(entry.memberPath));
    await this.#list(entry, as, { change: 'opaque', mark: true });
  }

  /** An empty file whose name alone matters. */
  async #mark(entry: Entry, memberPath: Buffer): Promise<StoredAs> {
    const { xattrs: _, ...header } = tarHeader(entry, 'file');
    const { member } = await this.#parts.outputs.layer.add({ ...header, path: memberPath, sizeBytes: 0, mode: 0 });
    return { kind: 'member', member };
  }

  /** What only the lower layers have below a renamed directory; the rest of it has been stored. */
  async #left({ directory }: Left): Promise<void> {
    const frame = this.#frames.pop();
    if (frame?.renamed === true && frame.lowers !== undefined && frame.lowers.length > 0) {
      await this.#lowerPart(frame, frame.lowers, directory);
    }
    for (const lower of frame?.lowers ?? []) lower.directory.close();
  }

  async #lowerPart(frame: Frame, lowers: readonly LowerDirectory[], upper: Directory | undefined): Promise<void> {
    const { context, layers, ofClass, ids } = this.#parts;
    if (layers === undefined) return;
    try {
      if (upper === undefined) throw new SystemError('ENOENT', 'open');
      const hides = (name: Buffer): boolean => exists(upper, name);
      for await (const found of lowerTree(layers, lowers, hides, context.signal)) {
        const { node, layer, directory, name } = found.object;
        const path = join(frame.path, found.path);
        const memberPath = join(frame.memberPath, memberPathOf(found.path));
        const place = { path, memberPath, directory, name, node, fromLayer: layer };
        const { entry } = readEntry(context, ofClass, place, ids);
        const stored = await this.members.write(entry, found.data?.node ?? node);
        if (stored.gap !== undefined) reportGap(context, path, stored.gap.why, stored.gap.errno);
        await this.#list(entry, stored.as, { change: 'unchanged', content: stored.content, gap: stored.gap });
      }
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === undefined) throw error;
      reportGap(
        context,
        frame.path,
        'a renamed directory; what the lower layers have of it is not complete here',
        errno,
      );
    }
  }

  #lookup(path: Buffer, lowers: Frame['lowers'], name: LowerName): LowerLookup | undefined {
    const { context, layers } = this.#parts;
    if (layers === undefined || lowers === undefined) return undefined;
    try {
      return layers.lookup(lowers, name);
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === undefined) throw error;
      reportGap(context, path, 'what the lower layers had here cannot be read', errno);
      return undefined;
    }
  }

  async #lower(path: Buffer, lookup: LowerLookup | undefined): Promise<LowerSide | undefined> {
    if (lookup?.object === undefined) return undefined;
    try {
      return await this.lowerReader.describe(path, lookup.object, lookup.data);
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === undefined) throw error;
      reportGap(this.#parts.context, path, 'what the lower layers had here cannot be read', errno);
      return undefined;
    }
  }

  #list(entry: Entry, as: StoredAs, verdict: Verdict): Promise<void> {
    this.tally.count(entry, as, verdict);
    return list(this.#parts.outputs, entry, as, verdict);
  }

  #top(): Frame {
    const frame = this.#frames.at(-1);
    if (frame === undefined) throw new ExhibitError('internal', 'the walk of the writable layer left its own root');
    return frame;
  }
}

const EMPTY = Buffer.alloc(0);
const NO_MEMBER: StoredAs = { kind: 'none' };

function exists(directory: Directory, name: Buffer): boolean {
  using node = openIfThere(directory, name);
  return node !== undefined;
}
