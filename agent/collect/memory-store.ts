import { type CoreLayout, type CoreRegion, coreBytes, layoutCore } from '../../evidence/elfcore.ts';
import type { ElfMachine } from '../../evidence/elfheader.ts';
import type { CoreProcess, CoreThread } from '../../evidence/elfnotes.ts';
import type { RegionRecord } from '../../evidence/elfregion.ts';
import { nameBytes } from '../host/maps.ts';
import type { ThreadState } from '../host/memory.ts';
import type { Archive } from './collector.ts';
import type { CopyBuffer } from './memory-buffer.ts';
import type { LiveReader } from './memory-live.ts';
import { type Extent, isNamedFile, type ProcessPicture, type RegionCapture } from './memory-picture.ts';

/** Writes one process into the archive: `<pid>/core`, then `<pid>/regions.jsonl`, which knows what the core lacks. */

export interface StoreOptions {
  readonly machine: ElfMachine;
  readonly pageBytes: number;
  readonly buffer: CopyBuffer;
  readonly live: LiveReader;
  readonly mtimeNs: bigint;
  readonly progress: (bytes: number) => void;
}

export async function storeProcess(archive: Archive, picture: ProcessPicture, options: StoreOptions): Promise<void> {
  const pid = picture.survey.pid;
  const { mtimeNs } = options;
  const layout = layoutPicture(picture, options);
  await archive.add(
    { path: `${pid}/core`, type: 'file', sizeBytes: layout.totalBytes, mode: 0o400, mtimeNs },
    coreBytes(layout, (extent) => extentBytes(extent, options)),
  );
  // Two passes instead of one list: 100,000 mappings have 40 MB of lines.
  let sizeBytes = 0;
  for (const region of picture.regions) sizeBytes += Buffer.byteLength(regionLine(region));
  await archive.add(
    { path: `${pid}/regions.jsonl`, type: 'file', sizeBytes, mode: 0o400, mtimeNs },
    regionLines(picture.regions),
  );
}

/** An extent that knows its region, so that a live read can file its gaps. */
type StoredExtent = Extent & { readonly region: RegionCapture };

function layoutPicture(picture: ProcessPicture, options: StoreOptions): CoreLayout<StoredExtent> {
  return layoutCore({
    machine: options.machine,
    pageBytes: options.pageBytes,
    process: coreProcess(picture),
    regions: picture.regions.filter(belongsInCore).map(coreRegion),
  });
}

/** The kernel's pages that nobody can read would only be holes. */
function belongsInCore({ plan }: RegionCapture): boolean {
  return plan.kind !== 'kernel' || plan.decision.kind === 'read';
}

function coreRegion(region: RegionCapture): CoreRegion<StoredExtent> {
  const { vma, zeroElsewhere, decision } = region.plan;
  const file = { path: nameBytes(vma, 'unescaped'), offset: vma.fileOffset };
  return {
    start: vma.start,
    end: vma.end,
    readable: vma.permissions.startsWith('r'),
    writable: vma.permissions.includes('w'),
    executable: vma.permissions.includes('x'),
    zeroElsewhere: zeroElsewhere && decision.kind !== 'skip',
    extents: region.extents.map((extent) => ({ ...extent, region })),
    unknown: sortedGaps(region),
    ...(isNamedFile(vma) ? { file } : {}),
  };
}

function coreProcess({ survey, stat, threads }: ProcessPicture): CoreProcess {
  return {
    ...{ pid: survey.pid, ppid: stat.ppid, processGroup: stat.processGroup, session: stat.session },
    ...{ uid: survey.owner.uid, gid: survey.owner.gid, state: stat.state, nice: stat.nice, flags: BigInt(stat.flags) },
    ...{ command: stat.comm, commandLine: survey.commandLine, auxv: survey.auxv },
    threads: threads.map(coreThread),
  };
}

function coreThread({ tid, position }: ThreadState): CoreThread {
  if (position === undefined || position.kind === 'running') return { tid, registers: { kind: 'unknown' } };
  return { tid, registers: { ...position, kind: 'partial' } };
}

async function* extentBytes(extent: StoredExtent, options: StoreOptions): AsyncGenerator<Uint8Array, void, undefined> {
  const source =
    extent.at === undefined ? options.live.read(extent.region, extent) : options.buffer.take(extent.at, extent.bytes);
  for await (const chunk of source) {
    yield chunk;
    options.progress(chunk.byteLength);
  }
}

function* regionLines(regions: readonly RegionCapture[]): Generator<Uint8Array, void, undefined> {
  for (const region of regions) yield Buffer.from(regionLine(region));
}

function regionLine(region: RegionCapture): string {
  return `${JSON.stringify(regionRecord(region))}\n`;
}

/** The record of one mapping; keys in sorted order, as all JSON of the evidence. */
export function regionRecord(region: RegionCapture): RegionRecord {
  const { vma, ...plan } = region.plan;
  const name = nameBytes(vma, 'printed');
  const path = name.toString('utf8');
  const isText = Buffer.from(path, 'utf8').equals(name);
  const { capturedBytes, liveBytes } = capturedOf(region);
  return {
    capturedBytes,
    consistency: region.extents.some((extent) => extent.isLive) ? 'live' : 'frozen',
    device: vma.device,
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
export function capturedOf(region: RegionCapture): { capturedBytes: number; liveBytes: number } {
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
export function sortedGaps(region: RegionCapture): RegionCapture['gaps'] {
  return region.gaps.toSorted((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
}

export function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}
