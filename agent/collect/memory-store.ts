import { type CoreLayout, type CoreRegion, coreBytes, layoutCore } from '../../evidence/elfcore.ts';
import type { ElfMachine } from '../../evidence/elfheader.ts';
import type { CoreProcess, CoreRegisters } from '../../evidence/elfnotes.ts';
import type { RegionRecord } from '../../evidence/elfregion.ts';
import { type ElsewhereRecord, MEMORY_MEMBERS } from '../../evidence/elsewhere.ts';
import type { Registers } from '../capture/freeze.ts';
import type { CopyRoom } from '../host/copy-room.ts';
import { nameBytes } from '../host/maps.ts';
import type { Archive } from './collector.ts';
import type { LiveReader } from './memory-live.ts';
import {
  type Captured,
  type ElsewhereRun,
  type Extent,
  isNamedFile,
  type ProcessPicture,
  type Region,
  type ThreadPicture,
} from './memory-picture.ts';
import { objectRecord, type SharedObject } from './memory-shared.ts';
import { hex } from './memory-words.ts';

/**
 * Writes one process into the archive: `<pid>/core`, then `<pid>/regions.jsonl`, which knows what the core lacks, and
 * `<pid>/elsewhere.jsonl` where some of it is stored in another member.
 */

export interface StoreOptions {
  readonly machine: ElfMachine;
  readonly pageBytes: number;
  readonly registers: Registers;
  readonly room: CopyRoom;
  readonly live: LiveReader;
  readonly mtimeNs: bigint;
  readonly progress: (bytes: number) => void;
  /** While the target still stands: told before an extent is read that is not in the room; it may put it there. */
  readonly beforeRead?: ((extent: Extent) => Promise<void>) | undefined;
  /** Told after a piece of such an extent was read. */
  readonly afterRead?: ((extent: Extent) => void) | undefined;
}

export async function storeProcess(archive: Archive, picture: ProcessPicture, options: StoreOptions): Promise<void> {
  const pid = picture.survey.pid;
  const { mtimeNs } = options;
  const layout = layoutPicture(picture, options);
  await archive.add(
    { path: MEMORY_MEMBERS.core(pid), type: 'file', sizeBytes: layout.totalBytes, mode: 0o400, mtimeNs },
    coreBytes(layout, (extent) => extentBytes(extent.into, extent.extent, options)),
  );
  await addLines(archive, MEMORY_MEMBERS.regions(pid), mtimeNs, () => picture.regions.map(regionRecord));
  if (picture.regions.every((region) => region.elsewhere.length === 0)) return;
  await addLines(archive, MEMORY_MEMBERS.elsewhere(pid), mtimeNs, () =>
    picture.regions.flatMap((region) => region.elsewhere.map(elsewhereRecord)),
  );
}

/** Writes `shared/<n>.pages` of every object, and what they are. */
export async function storeShared(
  archive: Archive,
  objects: readonly SharedObject[],
  options: StoreOptions,
): Promise<void> {
  const { mtimeNs } = options;
  for (const object of objects) {
    const sizeBytes = object.extents.reduce((sum, extent) => sum + extent.bytes, 0);
    const path = MEMORY_MEMBERS.shared(object.number);
    await archive.add({ path, type: 'file', sizeBytes, mode: 0o400, mtimeNs }, objectBytes(object, options));
  }
  if (objects.length > 0)
    await addLines(archive, MEMORY_MEMBERS.sharedObjects, mtimeNs, () => objects.map(objectRecord));
}

async function* objectBytes(object: SharedObject, options: StoreOptions): AsyncGenerator<Uint8Array, void, undefined> {
  for (const extent of object.extents) yield* extentBytes(object, extent, options);
}

/** Two passes over the records instead of one list: 100,000 mappings have 40 MB of lines. */
async function addLines(
  archive: Archive,
  path: string,
  mtimeNs: bigint,
  records: () => Iterable<unknown>,
): Promise<void> {
  function* lines(): Generator<Uint8Array, void, undefined> {
    for (const record of records()) yield Buffer.from(`${JSON.stringify(record)}\n`);
  }
  let sizeBytes = 0;
  for (const line of lines()) sizeBytes += line.byteLength;
  await archive.add({ path, type: 'file', sizeBytes, mode: 0o400, mtimeNs }, lines());
}

/** An extent as the layout keeps it; a read looks at the extent itself, which the room may have taken in meanwhile. */
interface StoredExtent {
  readonly start: bigint;
  readonly bytes: number;
  readonly into: Captured;
  readonly extent: Extent;
}

function layoutPicture(picture: ProcessPicture, options: StoreOptions): CoreLayout<StoredExtent> {
  return layoutCore({
    machine: options.machine,
    pageBytes: options.pageBytes,
    process: coreProcess(picture, options.registers),
    regions: picture.regions.filter(belongsInCore).map(coreRegion),
  });
}

/** The kernel's pages that nobody can read would only be holes. */
function belongsInCore({ plan }: Region): boolean {
  return plan.kind !== 'kernel' || plan.decision.kind === 'read';
}

function coreRegion(region: Region): CoreRegion<StoredExtent> {
  const { vma, zeroElsewhere, decision } = region.plan;
  const file = { path: nameBytes(vma, 'unescaped'), offset: vma.fileOffset };
  region.extents.sort((a, b) => (a.start < b.start ? -1 : 1));
  const missing = [...region.gaps, ...region.elsewhere].sort((a, b) => (a.start < b.start ? -1 : 1));
  return {
    start: vma.start,
    end: vma.end,
    readable: vma.permissions.startsWith('r'),
    writable: vma.permissions.includes('w'),
    executable: vma.permissions.includes('x'),
    zeroElsewhere: zeroElsewhere && decision.kind !== 'skip',
    extents: region.extents.map((extent) => ({ start: extent.start, bytes: extent.bytes, into: region, extent })),
    unknown: missing,
    ...(isNamedFile(vma) ? { file } : {}),
  };
}

function coreProcess({ survey, stat, threads }: ProcessPicture, registers: Registers): CoreProcess {
  return {
    ...{ pid: survey.pid, ppid: stat.ppid, processGroup: stat.processGroup, session: stat.session },
    ...{ uid: survey.owner.uid, gid: survey.owner.gid, state: stat.state, nice: stat.nice, flags: BigInt(stat.flags) },
    ...{ command: stat.comm, commandLine: survey.commandLine, auxv: survey.auxv },
    threads: threads.map((thread) => ({ tid: thread.tid, registers: registersOf(thread, registers) })),
  };
}

function registersOf({ tid, position }: ThreadPicture, registers: Registers): CoreRegisters {
  const full = registers.threads.get(tid);
  if (full !== undefined) return { ...full, kind: 'full' };
  if (position === undefined || position.kind === 'running') return { kind: 'unknown' };
  return { ...position, kind: 'partial' };
}

async function* extentBytes(
  into: Captured,
  extent: Extent,
  options: StoreOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (extent.at === undefined) await options.beforeRead?.(extent);
  if (extent.at === undefined) {
    for await (const chunk of options.live.read(into, extent)) {
      options.afterRead?.(extent);
      yield chunk;
      options.progress(chunk.byteLength);
    }
    return;
  }
  for (const chunk of options.room.take(extent.at, extent.bytes)) {
    yield chunk;
    options.progress(chunk.byteLength);
  }
}

function elsewhereRecord({ start, end, member, offset }: ElsewhereRun): ElsewhereRecord {
  return { end: hex(end), member, offset, start: hex(start) };
}

/** The record of one mapping; keys in sorted order, as all JSON of the evidence. */
export function regionRecord(region: Region): RegionRecord {
  const { vma, ...plan } = region.plan;
  const name = nameBytes(vma, 'printed');
  const path = name.toString('utf8');
  const isText = Buffer.from(path, 'utf8').equals(name);
  const { capturedBytes, liveBytes } = capturedOf(region);
  const elsewhereBytes = region.elsewhere.reduce((sum, { start, end }) => sum + Number(end - start), 0);
  return {
    capturedBytes,
    consistency: region.extents.some((extent) => extent.isLive) ? 'live' : 'frozen',
    device: vma.device,
    ...(elsewhereBytes === 0 ? {} : { elsewhereBytes }),
    end: hex(vma.end),
    fileOffset: hex(vma.fileOffset),
    ...(plan.flags === undefined ? {} : { flags: [...plan.flags] }),
    gaps: sortedGaps(region).map(({ start, end, errno, why, zerosInCore }) => {
      const what = { end: hex(end), ...(errno === undefined ? {} : { errno }), start: hex(start), why };
      return zerosInCore === undefined ? what : { ...what, zerosInCore };
    }),
    inode: String(vma.inode),
    kind: plan.kind,
    liveBytes,
    modifiedBytes: plan.modifiedBytes,
    path,
    ...(isText ? {} : { pathBase64: name.toString('base64') }),
    permissions: vma.permissions,
    residentBytes: plan.residentBytes,
    ...(plan.decision.kind === 'skip' ? { skipped: plan.decision.why } : {}),
    start: hex(vma.start),
    swappedBytes: plan.swappedBytes,
    zeroBytes: plan.zeroBytes,
  };
}

/** Bytes of the region that really came from the process: where a live read failed, the core holds zeros. */
export function capturedOf(region: Captured): { capturedBytes: number; liveBytes: number } {
  let capturedBytes = 0;
  let liveBytes = 0;
  for (const extent of region.extents) {
    capturedBytes += extent.bytes;
    if (extent.isLive) liveBytes += extent.bytes;
  }
  for (const gap of region.gaps) {
    if (gap.zerosInCore === undefined) continue;
    capturedBytes -= Number(gap.end - gap.start);
    liveBytes -= Number(gap.end - gap.start);
  }
  return { capturedBytes, liveBytes };
}

/** In address order. */
export function sortedGaps(region: Captured): Captured['gaps'] {
  return region.gaps.toSorted((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
}
