import { MEMORY_MEMBERS } from '../../evidence/elsewhere.ts';
import { explain } from '../../evidence/error.ts';
import { tagOf } from '../host/copy-thread.ts';
import { clearSoftDirty } from '../host/memory.ts';
import { PAGE } from '../host/pagemap.ts';
import type { Pid } from '../runtime/runtime.ts';
import type { Archive, CollectContext } from './collector.ts';
import type { Copier } from './memory-copy.ts';
import type { LiveReader } from './memory-live.ts';
import { type Captured, type PictureOptions, type ProcessPicture, type Region, takePicture } from './memory-picture.ts';
import type { Surveys } from './memory-processes.ts';
import type { Strategy } from './memory-strategy.ts';
import type { ProcessSurvey } from './memory-survey.ts';
import { overlap } from './memory-words.ts';

/**
 * Pre-copy, for targets that are larger than the buffer: nearly all memory is read and stored while the target runs; then it
 * stands still only for finding out what has changed, and for copying that. What has not changed is referred to.
 *
 * How a change is seen: by the kernel's soft-dirty bits where it keeps them, which costs nothing but the page map. Else all
 * of it is read again in the freeze and its fingerprint compared (`tagOf`): that takes about as long as copying it, but no room.
 */

/** Compared in pieces of this size: the fingerprint of less costs more to begin than to make. */
const BLOCK_BYTES = 256 * 1024;

/** Pages of one process that are stored already. */
export interface PreCopied {
  readonly survey: ProcessSurvey;
  readonly member: string;
  /** In address order. */
  readonly blocks: readonly Block[];
}

interface Block {
  readonly start: bigint;
  readonly bytes: number;
  /** In the member. */
  readonly offset: number;
  /** Undefined: some of it could not be read, so it is read again. Empty: soft-dirty bits tell. */
  tag: Uint8Array | undefined;
}

export interface PreCopyParts {
  readonly archive: Archive;
  readonly live: LiveReader;
  readonly key: Uint8Array;
  readonly changes: NonNullable<Strategy['changes']>;
  readonly picture: PictureOptions;
  /** Shared objects are not read ahead: they are copied once, in the freeze. */
  readonly isShared: (region: Region) => boolean;
  readonly mtimeNs: bigint;
  readonly progress: (bytes: number) => void;
}

/** Stores `<pid>/precopy.pages` of every process that answers; the others are copied in the freeze. */
export async function preCopyAll(
  context: CollectContext,
  surveys: Surveys,
  parts: PreCopyParts,
): Promise<Map<Pid, PreCopied>> {
  const done = new Map<Pid, PreCopied>();
  for (const [pid, survey] of surveys) {
    context.signal.throwIfAborted();
    if (survey === undefined) continue;
    const stored = await preCopy(context, survey, parts);
    if (stored !== undefined) done.set(pid, stored);
  }
  return done;
}

async function preCopy(
  context: CollectContext,
  survey: ProcessSurvey,
  parts: PreCopyParts,
): Promise<PreCopied | undefined> {
  const { pid } = survey;
  if (parts.changes === 'soft-dirty' && !isCleared(context, pid)) return undefined;
  const result = await takePicture(context.host, survey, parts.picture);
  if (result.kind !== 'picture') return undefined;
  using memory = result.picture.memory;
  const regions = result.picture.regions.filter((region) => region.isReadIn('moment') && !parts.isShared(region));
  const { blocks, sizeBytes } = blocksOf(regions);
  const member = MEMORY_MEMBERS.precopy(pid);
  const header = { path: member, type: 'file', sizeBytes, mode: 0o400, mtimeNs: parts.mtimeNs } as const;
  if (sizeBytes > 0) await parts.archive.add(header, readBlocks(blocks, { ...parts, memory }));
  return { survey, member, blocks };
}

function isCleared(context: CollectContext, pid: Pid): boolean {
  try {
    clearSoftDirty(context.host, pid);
    return true;
  } catch (error) {
    context.note(
      `pid ${pid}: its soft-dirty bits could not be cleared (${explain(error)}): all of it is copied in the freeze`,
    );
    return false;
  }
}

function blocksOf(regions: readonly Region[]): { blocks: Block[]; sizeBytes: number } {
  const blocks: Block[] = [];
  let offset = 0;
  for (const { plan } of regions) {
    for (const range of plan.ranges) {
      for (let start = range.start; start < range.end; ) {
        // On boundaries of their size, so that growth at one end does not shift them.
        const next = (start / BigInt(BLOCK_BYTES) + 1n) * BigInt(BLOCK_BYTES);
        const end = next < range.end ? next : range.end;
        const bytes = Number(end - start);
        blocks.push({ start, bytes, offset, tag: undefined });
        offset += bytes;
        start = end;
      }
    }
  }
  return { blocks, sizeBytes: offset };
}

async function* readBlocks(
  blocks: readonly Block[],
  parts: PreCopyParts & { readonly memory: ProcessPicture['memory'] },
): AsyncGenerator<Uint8Array, void, undefined> {
  const origin = { memory: parts.memory, delta: 0n, pid: 0, mayWait: false };
  for (const block of blocks) {
    const failed: Captured = { extents: [], gaps: [] };
    const chunks: Uint8Array[] = [];
    for await (const chunk of parts.live.read(failed, { start: block.start, bytes: block.bytes, origin })) {
      chunks.push(chunk);
    }
    const [only] = chunks;
    const bytes = chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks);
    if (failed.gaps.length === 0) {
      block.tag = parts.changes === 'soft-dirty' ? new Uint8Array() : tagOf(parts.key, bytes);
    }
    yield bytes;
    parts.progress(bytes.byteLength);
  }
}

/** In the freeze: refers to what is as it was, and hands the rest to the copier. */
export function copyChanges(
  picture: ProcessPicture,
  regions: readonly Region[],
  stored: PreCopied | undefined,
  copier: Copier,
): void {
  // Another program since then: nothing of it is what was read.
  const blocks = stored?.survey === picture.survey ? stored.blocks : [];
  let next = 0;
  for (const region of regions) {
    for (const range of region.plan.ranges) {
      let at = range.start;
      while (next < blocks.length && (blocks[next]?.start ?? 0n) < range.start) next += 1;
      for (; next < blocks.length; next += 1) {
        const block = blocks[next];
        if (block === undefined || block.start + BigInt(block.bytes) > range.end) break;
        if (block.tag === undefined) continue;
        if (block.start > at) copier.add(region, { start: at, end: block.start }, region.origin);
        if (stored !== undefined) take(region, { ...block, tag: block.tag }, stored.member, copier);
        at = block.start + BigInt(block.bytes);
      }
      if (at < range.end) copier.add(region, { start: at, end: range.end }, region.origin);
    }
  }
}

function take(region: Region, block: Block & { tag: Uint8Array }, member: string, copier: Copier): void {
  const { start, bytes, offset, tag } = block;
  const end = start + BigInt(bytes);
  const refer = (from: bigint, to: bigint): void => {
    const place = offset + Number(from - start);
    region.elsewhere.push({ start: from, end: to, member, offset: place });
  };
  if (tag.byteLength > 0) {
    copier.compare({ into: region, origin: region.origin, start, bytes, tag, onSame: () => refer(start, end) });
    return;
  }
  for (const run of region.runs) {
    const part = overlap(run, { start, end });
    if (part === undefined) continue;
    if ((run.state & PAGE.dirty) === 0) refer(part.start, part.end);
    else copier.add(region, part, region.origin);
  }
}

/** In address order, with neighbours in one. */
export function tidy(region: Region): void {
  const runs = region.elsewhere.toSorted((a, b) => (a.start < b.start ? -1 : 1));
  region.elsewhere = [];
  for (const run of runs) {
    const last = region.elsewhere.at(-1);
    const joins = last?.end === run.start && last.member === run.member;
    if (last !== undefined && joins && last.offset + Number(last.end - last.start) === run.offset) {
      region.elsewhere[region.elsewhere.length - 1] = { ...last, end: run.end };
    } else region.elsewhere.push(run);
  }
}
