import type { AddressRange } from '../../evidence/elfcore.ts';
import { MEMORY_MEMBERS, type SharedObjectRecord } from '../../evidence/elsewhere.ts';
import type { Host } from '../host/host.ts';
import { dataRanges, openMappedFile } from '../host/mapped-file.ts';
import { nameBytes, type Vma } from '../host/maps.ts';
import type { Pid } from '../runtime/runtime.ts';
import type { Copier } from './memory-copy.ts';
import type { Captured, Extent, Origin, ProcessPicture, RangeGap, Region } from './memory-picture.ts';
import type { Surveys } from './memory-processes.ts';
import { hex, overlap } from './memory-words.ts';

/**
 * Memory that several mappings show: shmem, memfd, System V segments, files mapped shared. It is copied and stored once, by
 * offset in the object, and each process' record says where its pages are.
 */
export interface SharedObject extends Captured {
  readonly number: number;
  readonly vma: Vma;
  readonly mappings: { readonly pid: Pid; readonly region: Region }[];
  extents: Extent[];
  readonly gaps: RangeGap[];
}

/** Objects that more than one mapping of the survey shows. Shared memory that came later is stored with each process. */
export function sharedKeys(surveys: Surveys): ReadonlySet<string> {
  const counts = new Map<string, number>();
  for (const survey of surveys.values()) {
    for (const vma of survey?.vmas ?? []) {
      const key = keyOf(vma);
      if (key !== undefined) counts.set(key, (counts.get(key) ?? 0) + 1);
    }
  }
  return new Set([...counts].filter(([, count]) => count > 1).map(([key]) => key));
}

/** Undefined for what is not shared. System V segments and memfds have an inode of their own as well. */
export function keyOf(vma: Vma): string | undefined {
  if (!vma.permissions.endsWith('s') || vma.inode === 0n) return undefined;
  return `${vma.device} ${vma.inode}`;
}

/** The objects of these pictures, in the order in which they were met. */
export function sharedObjects(pictures: readonly ProcessPicture[], keys: ReadonlySet<string>): SharedObject[] {
  const objects = new Map<string, SharedObject>();
  for (const { survey, regions } of pictures) {
    for (const region of regions) {
      const key = keyOf(region.vma);
      if (key === undefined || !keys.has(key) || !region.isReadIn('moment')) continue;
      const known = objects.get(key);
      const mapping = { pid: survey.pid, region };
      if (known !== undefined) known.mappings.push(mapping);
      else objects.set(key, { number: objects.size, vma: region.vma, mappings: [mapping], extents: [], gaps: [] });
    }
  }
  return [...objects.values()];
}

/** A part of an object, by offset in it, and where it can be read. */
interface Piece extends AddressRange {
  readonly origin: Origin;
}

/** What is needed to read an object itself. */
export interface ObjectAccess {
  readonly host: Host;
  /** Takes over what was opened. */
  readonly opened: DisposableStack;
}

/**
 * Copies what any of its mappings has in its page tables; and of shmem also what none has: pages that were swapped out, or
 * that were written and unmapped. The latter are read from the object itself.
 */
export function copyObject(object: SharedObject, copier: Copier, access: ObjectAccess): void {
  const pieces = union(object.mappings.flatMap(({ region }) => piecesOf(region)));
  for (const { start, end, origin } of pieces) copier.add(object, { start, end }, origin);
  for (const { start, end, origin } of hiddenPieces(object.mappings, pieces, access)) {
    copier.add(object, { start, end }, origin);
  }
}

/** What is hidden of shared memory that one mapping shows, which stays in its process' core. Its own pages are copied already. */
export function copyHidden(pid: Pid, region: Region, copier: Copier, access: ObjectAccess): void {
  if (!canHide(region)) return;
  const delta = region.vma.start - region.vma.fileOffset;
  for (const { start, end, origin } of hiddenPieces([{ pid, region }], union(piecesOf(region)), access)) {
    copier.add(region, { start: start + delta, end: end + delta }, { ...origin, delta: -delta });
  }
}

function piecesOf(region: Region): Piece[] {
  const { vma, plan, origin } = region;
  const delta = vma.start - vma.fileOffset;
  return plan.ranges.map(({ start, end }) => {
    return { start: start - delta, end: end - delta, origin: { ...origin, delta } };
  });
}

/** Without overlap, in order; what two have is taken from the first. */
export function union<T extends AddressRange>(pieces: readonly T[]): T[] {
  const merged: T[] = [];
  let at = -1n;
  for (const piece of pieces.toSorted((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0))) {
    const rest = overlap(piece, { start: at, end: piece.end });
    if (rest === undefined) continue;
    merged.push({ ...piece, ...rest });
    at = piece.end;
  }
  return merged;
}

function canHide(region: Region): boolean {
  return region.disposition.kind === 'shared-memory' && keyOf(region.vma) !== undefined;
}

/** Data of shmem within what is mapped that is in no page table we saw. */
function hiddenPieces(
  mappings: SharedObject['mappings'],
  there: readonly AddressRange[],
  { host, opened }: ObjectAccess,
): Piece[] {
  const [first] = mappings;
  if (first === undefined || !canHide(first.region)) return [];
  const memory = openMappedFile(host, first.pid, first.region.vma);
  if (memory === undefined) return [];
  opened.use(memory);
  const mapped = union(mappings.map(({ region }) => offsetsOf(region.vma)));
  const origin = { memory, delta: 0n, pid: 0, mayWait: false };
  return without(
    mapped.flatMap((range) => dataRanges(memory, range)),
    there,
  ).map((range) => ({ ...range, origin }));
}

function offsetsOf(vma: Vma): AddressRange {
  return { start: vma.fileOffset, end: vma.fileOffset + (vma.end - vma.start) };
}

/** `ranges` less `taken`; both in order and without overlap. */
export function without(ranges: readonly AddressRange[], taken: readonly AddressRange[]): AddressRange[] {
  const rest: AddressRange[] = [];
  let next = 0;
  for (const range of ranges) {
    let at = range.start;
    while (next > 0 && (taken[next - 1]?.end ?? 0n) > at) next -= 1;
    for (; next < taken.length; next += 1) {
      const one = taken[next];
      if (one === undefined || one.start >= range.end) break;
      if (one.end <= at) continue;
      if (one.start > at) rest.push({ start: at, end: one.start });
      at = one.end;
    }
    if (at < range.end) rest.push({ start: at, end: range.end });
  }
  return rest;
}

/** Tells every mapping of a copied object where its pages are stored. Sorts the extents: that is the member's layout. */
export function refer(object: SharedObject): void {
  object.extents.sort((a, b) => (a.start < b.start ? -1 : 1));
  const member = MEMORY_MEMBERS.shared(object.number);
  for (const { region } of object.mappings) {
    const { vma } = region;
    const delta = vma.start - vma.fileOffset;
    let offset = 0;
    for (const extent of object.extents) {
      const from = extent.start + delta;
      const shown = overlap({ start: from, end: from + BigInt(extent.bytes) }, vma);
      if (shown !== undefined) {
        region.elsewhere.push({ ...shown, member, offset: offset + Number(shown.start - from) });
      }
      offset += extent.bytes;
    }
  }
}

export function objectRecord(object: SharedObject): SharedObjectRecord {
  const name = nameBytes(object.vma, 'printed');
  const path = name.toString('utf8');
  const isText = Buffer.from(path, 'utf8').equals(name);
  return {
    capturedBytes: object.extents.reduce((sum, extent) => sum + extent.bytes, 0),
    consistency: object.extents.some((extent) => extent.isLive) ? 'live' : 'frozen',
    device: object.vma.device,
    gaps: object.gaps.map(({ start, end, errno, why }) => {
      return { end: hex(end), ...(errno === undefined ? {} : { errno }), start: hex(start), why };
    }),
    inode: String(object.vma.inode),
    mappings: object.mappings.map(({ pid, region }) => {
      return { fileOffset: hex(region.vma.fileOffset), pid, start: hex(region.vma.start) };
    }),
    member: MEMORY_MEMBERS.shared(object.number),
    path,
    ...(isText ? {} : { pathBase64: name.toString('base64') }),
  };
}
