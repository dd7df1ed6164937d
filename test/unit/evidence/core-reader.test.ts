import { describe, expect, it } from 'vitest';
import { openProcess, readMemory } from '../../../evidence/core-reader.ts';
import type { MemoryArchive } from '../../../evidence/memory-archive.ts';
import { type ExplainedPart, lookAround, readExplained } from '../../../evidence/memory-holes.ts';
import { walkMemory } from '../../../evidence/memory-walk.ts';
import { hex, memoryMembers, openMembers, PAGE, pages, type TestProcess } from './memory-bundle.ts';

const HEAP = 0x5000_0000n;
const LIBC = 0x7f00_0000_0000n;
const SHM = 0x7f10_0000_0000n;
const page = (start: bigint, index: number) => start + BigInt(index * PAGE);

const shop: TestProcess = {
  pid: 4711,
  regions: [
    {
      start: HEAP,
      pages: 10,
      kind: 'heap',
      path: '[heap]',
      captured: [
        [0, pages(2, 'needle', PAGE - 3)],
        [5, pages(1, 'late')],
      ],
      precopied: [[2, pages(1, 'early')]],
      gaps: [
        { page: 7, pages: 1, why: 'the page could not be read' },
        { page: 5, pages: 1, why: 'failed after the layout', zerosInCore: true },
      ],
    },
    {
      start: LIBC,
      pages: 3,
      permissions: 'r-xp',
      kind: 'file-private',
      path: '/lib/libc.so',
      captured: [[1, pages(1, 'code')]],
    },
    {
      start: SHM,
      pages: 4,
      permissions: 'rw-s',
      kind: 'shared-memory',
      path: '/dev/shm/x (deleted)',
      shared: [
        { page: 0, number: 1, from: 0, pages: 2 },
        { page: 3, number: 1, from: 2, pages: 1 },
      ],
    },
    { start: 0x7fff_0000_0000n, pages: 1, permissions: '---p' },
  ],
};
const other: TestProcess = {
  pid: 4712,
  regions: [
    {
      start: 0x1000_0000n,
      pages: 3,
      permissions: 'r--s',
      kind: 'shared-memory',
      shared: [{ page: 0, number: 1, from: 0, pages: 3 }],
    },
  ],
};
const SHARED = Buffer.concat([pages(1, 'one'), pages(1, 'two'), pages(1, 'three')]);

async function archive(): Promise<MemoryArchive> {
  const object = {
    ...{ member: 'shared/1.pages', device: '00:01', inode: '7', path: '/dev/shm/x (deleted)', capturedBytes: 3 * PAGE },
    consistency: 'live' as const,
    mappings: [
      { pid: 4711, start: hex(SHM), fileOffset: '0x1000' },
      { pid: 4712, start: '0x10000000', fileOffset: '0x1000' },
    ],
    gaps: [{ start: '0x2000', end: '0x3000', why: 'gone while it was read' }],
  };
  return await openMembers(await memoryMembers([shop, other], new Map([[1, SHARED]]), [object]));
}

async function explained(from: MemoryArchive, pid: number, start: bigint, end: bigint): Promise<ExplainedPart[]> {
  const process = await openProcess(from, pid);
  const { inside } = await lookAround(from, pid, { start, end });
  const parts: ExplainedPart[] = [];
  for await (const part of readExplained(from, process, { start, end }, inside)) parts.push(part);
  return parts;
}

const brief = (parts: readonly ExplainedPart[]) =>
  parts.map((part) => {
    if (part.kind === 'bytes')
      return `${hex(part.start)} ${Buffer.from(part.bytes).toString('latin1').replaceAll('\xfe', '')}`;
    return `${hex(part.start)} ${part.kind === 'hole' ? part.why : 'zeros'}`;
  });

describe('the memory of one process', () => {
  it('is read by address, over the borders of what is stored where', async () => {
    const from = await archive();
    const parts = brief(await explained(from, 4711, page(HEAP, 0), page(HEAP, 5)));
    expect(parts).toEqual(['0x50000000 needle', '0x50002000 early', '0x50003000 zeros']);
    expect(brief(await explained(from, 4711, page(HEAP, 0) + 4093n, page(HEAP, 0) + 4099n))).toEqual([
      '0x50000ffd needle',
    ]);
  });

  it('has a reason for every byte that is missing', async () => {
    const from = await archive();
    expect(brief(await explained(from, 4711, page(HEAP, 5), page(HEAP, 12)))).toEqual([
      '0x50005000 failed after the layout',
      '0x50006000 zeros',
      '0x50007000 the page could not be read',
      '0x50008000 zeros',
      '0x5000a000 no mapping of the process',
    ]);
    expect(brief(await explained(from, 4711, LIBC, page(LIBC, 3)))).toEqual([
      '0x7f0000000000 was not in memory: it is in the file /lib/libc.so',
      '0x7f0000001000 code',
      '0x7f0000002000 was not in memory: it is in the file /lib/libc.so',
    ]);
    expect(brief(await explained(from, 4711, 0x7fff_0000_0000n, 0x7fff_0000_0001n))).toEqual([
      '0x7fff00000000 reserved, nobody could touch it',
    ]);
  });

  it('has shared memory where it maps it, and the gaps of the shared object', async () => {
    expect(brief(await explained(await archive(), 4711, SHM, page(SHM, 4)))).toEqual([
      '0x7f1000000000 one',
      // The object's second page, two pages into the file, is the mapping's second.
      '0x7f1000001000 gone while it was read',
      '0x7f1000002000 shared memory that this process had not touched',
      '0x7f1000003000 three',
    ]);
  });

  it('is read from the frames that hold it', async () => {
    const big: TestProcess = { pid: 1, regions: [{ start: HEAP, pages: 2000, captured: [[0, pages(2000)]] }] };
    const from = await openMembers(await memoryMembers([big, other], new Map([[1, SHARED]])));
    const process = await openProcess(from, 4712);
    for await (const part of readMemory(from, process.pieces, 0x1000_0000n, 0x1000_0001n)) {
      expect(part.kind === 'bytes' && Buffer.from(part.bytes).toString()).toBe('o');
    }
    expect(from.content.frames).toBeGreaterThan(2000);
    expect(from.content.cost.framesRead).toBeLessThan(20);
  });

  it('of an unknown pid is not there, and the known ones are named', async () => {
    await expect(openProcess(await archive(), 4713)).rejects.toMatchObject({
      code: 'bundle-not-found',
      message: 'The bundle has no memory of a process 4713: choose from 4711, 4712.',
    });
  });

  it('is found with its neighbours when an address is in no mapping', async () => {
    const around = await lookAround(await archive(), 4711, { start: 0x6000_0000n, end: 0x6000_0001n });
    expect([around.inside.length, around.before?.start, around.after?.start]).toEqual([0, hex(HEAP), hex(LIBC)]);
  });
});

describe('the memory of all processes', () => {
  const walked = async (pids: readonly number[]) => {
    const seen: string[] = [];
    for await (const process of walkMemory(await archive(), pids)) {
      for await (const part of process.parts()) {
        if (part.kind !== 'bytes') continue;
        const { mapping, others } = process.where(part.start);
        const text = Buffer.from(part.bytes).toString('latin1').replaceAll('\xfe', '');
        const also = others.map(({ pid, address }) => `${pid}@${hex(address)}`);
        seen.push([process.pid, hex(part.start), mapping?.name, text, ...also].join(' '));
      }
    }
    return seen;
  };

  it('has what they share once, with everybody who maps it', async () => {
    expect(await walked([4711, 4712])).toEqual([
      '4711 0x50000000 [heap] needle',
      '4711 0x50002000 [heap] early',
      '4711 0x50005000 [heap] late',
      '4711 0x7f0000001000 /lib/libc.so code',
      '4711 0x7f1000000000 /dev/shm/x (deleted) onetwo 4712@0x10000000',
      '4711 0x7f1000003000 /dev/shm/x (deleted) three 4712@0x10002000',
    ]);
    expect(await walked([4712, 4711])).toHaveLength(5);
    expect((await walked([4712, 4711]))[0]).toBe('4712 0x10000000 shared-memory onetwothree 4711@0x7f1000000000');
  });

  it('has all of it again for whoever is asked for alone', async () => {
    expect(await walked([4712])).toEqual(['4712 0x10000000 shared-memory onetwothree']);
  });
});
