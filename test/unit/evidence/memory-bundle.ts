import { type CoreExtent, coreBytes, layoutCore } from '../../../evidence/elfcore.ts';
import type { CoreProcess } from '../../../evidence/elfnotes.ts';
import type { RegionRecord } from '../../../evidence/elfregion.ts';
import type { SharedObjectRecord } from '../../../evidence/elsewhere.ts';
import type { StoredObject } from '../../../evidence/manifest.ts';
import { type MemoryArchive, openMemoryArchive } from '../../../evidence/memory-archive.ts';
import type { TarHeader } from '../../../evidence/tar.ts';
import { type BundleWriter, createBundleWriter } from '../../../evidence/write.ts';
import { gather, openIn } from './memory-sink.ts';

/** Archives of memory as the agent writes them, from a description of processes. */

export const PAGE = 4096;

export interface TestRegion {
  readonly start: bigint;
  readonly pages: number;
  readonly permissions?: string;
  readonly kind?: RegionRecord['kind'];
  readonly path?: string;
  /** In the core: content from a page of the region on; whole pages. */
  readonly captured?: readonly (readonly [page: number, bytes: Buffer])[];
  /** In `<pid>/precopy.pages`. */
  readonly precopied?: readonly (readonly [page: number, bytes: Buffer])[];
  /** Pages of the region that are in `shared/<number>.pages`, from a page of that on. */
  readonly shared?: readonly { page: number; number: number; from: number; pages: number }[];
  readonly gaps?: readonly { page: number; pages: number; why: string; zerosInCore?: true }[];
  readonly skipped?: string;
}

export interface TestProcess {
  readonly pid: number;
  readonly regions: readonly TestRegion[];
  /** Put into the notes: the first thread's program counter. */
  readonly programCounter?: bigint;
}

export interface TestMember {
  readonly path: string;
  bytes: Buffer;
}

export const hex = (value: bigint): string => `0x${value.toString(16)}`;

/** `text` at `at` in pages of `filler`. */
export function pages(count: number, text: string | Buffer = '', at = 0, filler = 0xfe): Buffer {
  const bytes = Buffer.alloc(count * PAGE, filler);
  bytes.set(typeof text === 'string' ? Buffer.from(text, 'latin1') : text, at);
  return bytes;
}

/** The members of the archive, in the agent's order. `shared` are the contents of `shared/<n>.pages` by number. */
export async function memoryMembers(
  processes: readonly TestProcess[],
  shared: ReadonlyMap<number, Buffer> = new Map(),
  objects: readonly SharedObjectRecord[] = [],
): Promise<TestMember[]> {
  const members: TestMember[] = [];
  for (const process of processes) members.push(...(await processMembers(process)));
  for (const [number, bytes] of shared) members.push({ path: `shared/${number}.pages`, bytes });
  if (shared.size > 0) members.push({ path: 'shared/objects.jsonl', bytes: jsonLines(objects) });
  return members;
}

export function jsonLines(records: readonly unknown[]): Buffer {
  return Buffer.from(records.map((record) => `${JSON.stringify(record)}\n`).join(''));
}

async function processMembers(process: TestProcess): Promise<TestMember[]> {
  const { pid, regions } = process;
  const at = (start: bigint, page: number) => start + BigInt(page * PAGE);
  const content = new Map<bigint, Buffer>();
  const layout = layoutCore({
    machine: 'x86-64',
    pageBytes: PAGE,
    process: coreProcess(process),
    regions: regions.map((region) => {
      const { start, permissions = 'rw-p', kind = 'anonymous', path = '' } = region;
      const extents = (region.captured ?? []).map(([page, bytes]): CoreExtent => {
        content.set(at(start, page), bytes);
        return { start: at(start, page), bytes: bytes.length };
      });
      const missing = [
        ...(region.gaps ?? []).filter(({ zerosInCore }) => zerosInCore === undefined),
        ...(region.precopied ?? []).map(([page, bytes]) => ({ page, pages: bytes.length / PAGE })),
      ];
      const unknown = missing.map((one) => ({ start: at(start, one.page), end: at(start, one.page + one.pages) }));
      return {
        start,
        end: at(start, region.pages),
        readable: permissions.startsWith('r'),
        writable: permissions[1] === 'w',
        executable: permissions[2] === 'x',
        zeroElsewhere: permissions.endsWith('p') && !kind.startsWith('file') && region.skipped === undefined,
        extents,
        unknown: unknown.sort((a, b) => (a.start < b.start ? -1 : 1)),
        ...(path.startsWith('/') ? { file: { path: Buffer.from(path), offset: 0n } } : {}),
      };
    }),
  });
  const core = await gather(coreBytes(layout, (extent) => [content.get(extent.start) ?? Buffer.alloc(0)]));
  const precopy: Buffer[] = [];
  let precopied = 0;
  const elsewhere = regions.flatMap(({ start, shared = [], precopied: copied = [] }) => [
    ...shared.map(({ page, number, from, pages: count }) => ({
      start: at(start, page),
      end: at(start, page + count),
      member: `shared/${number}.pages`,
      offset: from * PAGE,
    })),
    ...copied.map(([page, bytes]) => {
      precopy.push(bytes);
      precopied += bytes.length;
      const offset = precopied - bytes.length;
      return {
        start: at(start, page),
        end: at(start, page) + BigInt(bytes.length),
        member: `${pid}/precopy.pages`,
        offset,
      };
    }),
  ]);
  elsewhere.sort((a, b) => (a.start < b.start ? -1 : 1));
  const lines = elsewhere.map(({ start, end, ...run }) => ({ ...run, start: hex(start), end: hex(end) }));
  return [
    { path: `${pid}/core`, bytes: core },
    ...(lines.length === 0 ? [] : [{ path: `${pid}/elsewhere.jsonl`, bytes: jsonLines(lines) }]),
    ...(precopy.length === 0 ? [] : [{ path: `${pid}/precopy.pages`, bytes: Buffer.concat(precopy) }]),
    { path: `${pid}/regions.jsonl`, bytes: jsonLines(regions.map(regionRecord)) },
  ];
}

function regionRecord(region: TestRegion): RegionRecord {
  const { start, permissions = 'rw-p', kind = 'anonymous', path = '', gaps = [], skipped } = region;
  const bytesOf = (parts: TestRegion['captured']) => (parts ?? []).reduce((sum, [, bytes]) => sum + bytes.length, 0);
  const at = (page: number) => hex(start + BigInt(page * PAGE));
  return {
    capturedBytes: bytesOf(region.captured),
    consistency: 'frozen',
    device: '00:00',
    end: at(region.pages),
    fileOffset: '0x0',
    gaps: gaps.map(({ page, pages: count, why, zerosInCore }) => {
      const range = { start: at(page), end: at(page + count), why };
      return zerosInCore === undefined ? range : { ...range, zerosInCore };
    }),
    inode: '0',
    kind,
    liveBytes: 0,
    modifiedBytes: 0,
    path,
    permissions,
    residentBytes: 0,
    ...(skipped === undefined ? {} : { skipped }),
    start: hex(start),
    swappedBytes: 0,
    zeroBytes: 0,
  };
}

function coreProcess({ pid, programCounter = 0n }: TestProcess): CoreProcess {
  return {
    ...{ pid, ppid: 1, processGroup: pid, session: pid, uid: 0, gid: 0, state: 'S', nice: 0, flags: 0n },
    command: Buffer.from('shop'),
    commandLine: Buffer.from('shop\0'),
    auxv: new Uint8Array(new BigUint64Array([6n, 4096n, 0n, 0n]).buffer),
    threads: [{ tid: pid, registers: { kind: 'partial', programCounter, stackPointer: 0x7ffc1000n } }],
  };
}

/** As the agent does: a date with a fraction, which takes a pax header. */
const MTIME_NS = 1_700_000_000_123_000_000n;

export async function writeMemory(
  writer: BundleWriter,
  members: readonly TestMember[],
  header: (path: string) => Partial<TarHeader> = () => ({ mtimeNs: MTIME_NS }),
): Promise<{ memory: string[] }> {
  await using archive = await writer.openArchive('memory.tar.zst');
  for (const { path, bytes } of members) {
    await archive.add({ path, type: 'file', sizeBytes: bytes.length, mode: 0o400, ...header(path) }, bytes);
  }
  await archive.commit();
  return { memory: ['memory.tar.zst'] };
}

/** The archive opened in memory, without a bundle around it. `list` may change what the manifest says of the members. */
export async function openMembers(
  members: readonly TestMember[],
  options: {
    readonly frameBytes?: number;
    readonly header?: (path: string) => Partial<TarHeader>;
    readonly list?: (object: StoredObject) => StoredObject['members'];
  } = {},
): Promise<MemoryArchive> {
  const objects = new Map<string, Buffer>();
  const stored: StoredObject[] = [];
  const writer = createBundleWriter(openIn(objects), {
    frameBytes: options.frameBytes ?? PAGE,
    onStored: (object) => stored.push(object),
  });
  await writeMemory(writer, members, options.header);
  const bytes = objects.get('memory.tar.zst') ?? Buffer.alloc(0);
  const object = stored[0];
  if (object === undefined) throw new Error('nothing was stored');
  const listed = options.list?.(object) ?? object.members ?? [];
  return await openMemoryArchive(async (start, end) => bytes.subarray(start, end), bytes.length, listed);
}
