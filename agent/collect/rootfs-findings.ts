import { setImmediate } from 'node:timers/promises';
import { errnoOf } from '../../evidence/error.ts';
import type { FindingKind, FindingReason } from '../../evidence/file-finding.ts';
import type { Directory, Node } from '../host/directory.ts';
import type { IdMaps } from '../host/id-map.ts';
import type { LowerEntry, LowerLayers, LowerLookup, LowerObject } from '../host/lower.ts';
import type { OverlayMarks } from '../host/overlay.ts';
import { newOutcome, wholeRoom } from '../host/regular-file.ts';
import type { CollectContext, TextObject } from './collector.ts';
import { FindingLog } from './finding-log.ts';
import { logPlace, systemPlace } from './finding-places.ts';
import { judge } from './finding-rules.ts';
import { IN_NO_PLACE, type Judgement, type Moments, type Place, type Subject } from './finding-subject.ts';
import { digestNode } from './rootfs-content.ts';
import { hiddenFiles, hidesBy, openBelow } from './rootfs-hidden.ts';
import type { Originals } from './rootfs-originals.ts';
import { type Entry, reportGap } from './rootfs-store.ts';
import { type Examined, lowerOf, lowerOfObject, subjectOf, subjectOfNode } from './rootfs-subject.ts';

export interface FindingsParts {
  readonly context: Pick<CollectContext, 'fact' | 'gap' | 'note' | 'now' | 'read' | 'signal' | 'target'>;
  /** Undefined when the lower layers could not be opened. */
  readonly layers: LowerLayers | undefined;
  readonly ids: IdMaps | undefined;
  readonly output: TextObject;
  readonly originals: Originals;
}

/** Kinds whose file an analyst compares with the image's, which is kept. */
const COMPARED: ReadonlySet<FindingKind> = new Set([
  'system-file-changed',
  'persistence',
  'same-size-edit',
  'log-silenced',
  'set-id',
]);

/** Files below a directory that was made again which are digested to compare them. */
const REMADE_DIGEST_BYTES = 1024n ** 3n;

/**
 * What the rules have to say about the writable layer while it is walked, and the originals that go with it. Costs nearly
 * nothing for an entry about which there is nothing to be said.
 */
export class RootfsFindings {
  readonly #parts: FindingsParts;
  readonly #moments: Moments;
  readonly #log: FindingLog;
  /** The top-most directory of the branch that anybody may write to, with a slash at its end. */
  #writable: Buffer | undefined;
  #remadeLeft = REMADE_DIGEST_BYTES;
  readonly #room = wholeRoom();

  constructor(parts: FindingsParts) {
    this.#parts = parts;
    this.#log = new FindingLog(parts.output);
    this.#moments = { nowNs: BigInt(parts.context.now()) * MILLISECOND_NS, containerNs: createdNs(parts.context) };
  }

  /** Call for every entry, parents first, while `lookup` is open. A promise only when there is something to write. */
  examine(examined: Examined): Promise<void> | undefined {
    const { entry, change } = examined;
    const place = this.#placeOf(entry);
    if (change === 'unchanged') return undefined;
    const subject = subjectOf(examined, place);
    const found = judge(subject, this.#moments);
    return found.length === 0 ? undefined : this.#write(found, subject, examined);
  }

  /**
   * Call for every entry, whiteouts too, while `lookup` is open: the image's files that it hides. `parent` is the upper
   * directory that `entry` lies in as `name`. Takes no time for an entry that hides nothing.
   */
  hidden(
    entry: Entry,
    marks: OverlayMarks,
    isWhite: boolean,
    lookup: LowerLookup | undefined,
    parent: Directory,
    name: Buffer,
  ): Promise<void> | undefined {
    const by = hidesBy(entry.node, marks, isWhite, lookup);
    const { layers } = this.#parts;
    if (by === undefined || lookup === undefined || layers === undefined) return undefined;
    const open = by === 'directory-replaced' ? () => parent.child(name, entry.node) : () => undefined;
    return this.#hidden(entry.path, by, layers, lookup, open);
  }

  /** Judges what had to wait, writes it, and tells the numbers. */
  async finish(): Promise<void> {
    const { context, layers, originals } = this.#parts;
    await this.#log.finish(layers, context);
    context.fact('originals', { files: originals.files, bytes: originals.bytes });
  }

  #placeOf({ path, node }: Entry): Place {
    const worldWritable = this.#writable !== undefined && startsWith(path, this.#writable);
    if (!worldWritable && node.kind === 'directory' && (node.stat.mode & 0o002n) !== 0n) {
      this.#writable = Buffer.concat([path, SLASH]);
    }
    return worldWritable ? IN_WRITABLE : IN_NO_PLACE;
  }

  async #write(found: readonly Judgement[], subject: Subject, examined: Examined): Promise<void> {
    const { entry, lower, lookup } = examined;
    const keeps = found.some(({ kind }) => COMPARED.has(kind)) && examined.change === 'modified';
    const original = keeps ? await this.#keep(entry.path, lookup?.object, lookup?.data) : undefined;
    const extras = { inode: entry.node.stat.ino, lower: lower && lowerOf(lower), original: original?.path };
    for (const one of found) await this.#log.say(one, subject, extras);
  }

  async #hidden(
    path: Buffer,
    by: FindingReason,
    layers: LowerLayers,
    lookup: LowerLookup,
    open: () => Directory | undefined,
  ): Promise<void> {
    const { context } = this.#parts;
    let upper: Directory | undefined;
    let turnMs = performance.now();
    try {
      upper = open();
      for await (const hidden of hiddenFiles(layers, lookup, path, context.signal)) {
        using remade = upper && openBelow(upper, hidden.path.subarray(path.length + 1));
        if (remade?.kind === 'file') await this.#remade(hidden, remade);
        else await this.#deleted(hidden, by);
        if (performance.now() - turnMs < TURN_MS) continue;
        await setImmediate();
        turnMs = performance.now();
      }
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === undefined) throw error;
      reportGap(context, path, 'which files of the image it hides is not known completely', errno);
    } finally {
      for (const { directory } of lookup.directories) directory.close();
      upper?.close();
    }
  }

  async #deleted({ path, object, data }: LowerEntry, by: FindingReason): Promise<void> {
    const original = await this.#keep(path, object, data);
    const text = path.toString('latin1');
    const place = logPlace(text) ?? systemPlace(text);
    const severity = place === undefined ? 'low' : place.reason === 'log-or-history' ? 'high' : 'medium';
    const subject = subjectOfNode(path, object.node, this.#parts.ids?.inside(object.node.stat), original?.sha256);
    const judgement: Judgement = {
      kind: 'image-file-deleted',
      severity,
      reasons: place === undefined ? [by] : [by, place.reason],
    };
    const lower = lowerOfObject(object, subject, original?.sha256);
    const extras = { inode: object.node.stat.ino, lower, original: original?.path };
    await this.#log.say(judgement, { ...subject, change: 'deleted' }, extras);
  }

  /** A file of the image that was made again below a directory that hides the image's: compared as if it were an edit. */
  async #remade({ path, object, data }: LowerEntry, node: Node): Promise<void> {
    const { ids } = this.#parts;
    const sizes = node.stat.size === object.node.stat.size;
    const sha256 = sizes ? await this.#digest(node) : undefined;
    const below = sizes && data !== undefined ? await this.#digest(data.node) : undefined;
    if (sizes && (sha256 === undefined || sha256 === below)) return;
    const lower = subjectOfNode(path, object.node, ids?.inside(object.node.stat), below);
    const subject: Subject = {
      ...subjectOfNode(path, node, ids?.inside(node.stat), sha256),
      change: 'modified',
      lower: { ...lower, mode: object.node.stat.mode },
    };
    const found = judge(subject, this.#moments).filter(({ kind }) => REMADE_KINDS.has(kind));
    if (found.length === 0) return;
    const original = await this.#keep(path, object, data);
    const extras = {
      inode: node.stat.ino,
      lower: lowerOfObject(object, lower, below ?? original?.sha256),
      original: original?.path,
    };
    for (const one of found) await this.#log.say(one, subject, extras);
  }

  async #digest(node: Node): Promise<string | undefined> {
    if (node.stat.size > this.#remadeLeft) return undefined;
    this.#remadeLeft -= node.stat.size;
    const outcome = newOutcome();
    try {
      return await digestNode(node, this.#room, outcome, this.#parts.context.signal);
    } catch (error) {
      if (errnoOf(error) === undefined) throw error;
      return undefined;
    } finally {
      this.#parts.context.read(outcome.bytes, 1);
    }
  }

  async #keep(
    path: Buffer,
    object: LowerObject | undefined,
    data: LowerObject | undefined,
  ): Promise<{ path: Buffer; sha256: string | undefined } | undefined> {
    if (object?.node.kind !== 'file' || data === undefined) return undefined;
    const member = await this.#parts.originals.keep(path, object, data);
    return member && { path, sha256: member.sha256 };
  }
}

/** How long the image is read before timers and sockets of the agent get their turn, as in host/walk.ts. */
const TURN_MS = 10;
/** What the walk does not say of a file that it finds as `added`. */
const REMADE_KINDS: ReadonlySet<FindingKind> = new Set(['system-file-changed', 'same-size-edit', 'log-silenced']);
const IN_WRITABLE: Place = { worldWritable: true, memory: false };
const MILLISECOND_NS = 1_000_000n;
const SLASH = Buffer.from('/');

function createdNs({ target }: Pick<CollectContext, 'target'>): bigint | undefined {
  const ms = Date.parse(target.createdAt ?? '');
  // The epoch itself is what a runtime says that does not know.
  return Number.isNaN(ms) || ms <= 0 ? undefined : BigInt(ms) * MILLISECOND_NS;
}

function startsWith(path: Buffer, prefix: Buffer): boolean {
  return path.length > prefix.length && prefix.equals(path.subarray(0, prefix.length));
}
