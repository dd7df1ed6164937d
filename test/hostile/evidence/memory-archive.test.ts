import { describe, expect, it } from 'vitest';
import { openProcess, readElsewhere, readMemory } from '../../../evidence/core-reader.ts';
import { ELF_HEADER_BYTES, PROGRAM_HEADER_BYTES } from '../../../evidence/elfheader.ts';
import { mergeCore } from '../../../evidence/elfmerge.ts';
import { elsewhereSchema } from '../../../evidence/elsewhere.ts';
import { isExhibitError } from '../../../evidence/error.ts';
import { type MemoryArchive, readRecords } from '../../../evidence/memory-archive.ts';
import { lookAround, readExplained } from '../../../evidence/memory-holes.ts';
import { walkMemory } from '../../../evidence/memory-walk.ts';
import { readMappings } from '../../../evidence/region-map.ts';
import {
  jsonLines,
  memoryMembers,
  openMembers,
  PAGE,
  pages,
  type TestMember,
  type TestProcess,
} from '../../unit/evidence/memory-bundle.ts';
import { fc } from '../../unit/evidence/properties.ts';

const HEAP = 0x5000_0000n;
const victim: TestProcess = {
  pid: 7,
  regions: [
    {
      start: HEAP,
      pages: 8,
      captured: [
        [0, pages(2, 'own')],
        [4, pages(1, 'more')],
      ],
    },
    {
      start: 0x7000_0000n,
      pages: 4,
      permissions: 'rw-s',
      kind: 'shared-memory',
      shared: [{ page: 0, number: 1, from: 0, pages: 2 }],
    },
  ],
};

type Change = (members: TestMember[]) => void;

async function changed(change: Change): Promise<MemoryArchive> {
  const members = await memoryMembers([victim], new Map([[1, pages(2, 'shared')]]));
  change(members);
  return await openMembers(members);
}

function replace(path: string, bytes: Buffer): Change {
  return (members) => {
    const member = members.find((one) => one.path === path);
    if (member !== undefined) member.bytes = bytes;
  };
}

/** Everything that the commands do with a process. */
async function useAll(archive: MemoryArchive): Promise<void> {
  const process = await openProcess(archive, 7);
  for await (const part of readMemory(archive, process.pieces, 0n, 1n << 64n)) void part;
  const { inside } = await lookAround(archive, 7, { start: 0n, end: 1n << 64n });
  for await (const part of readExplained(archive, process, { start: 0n, end: 1n << 64n }, inside)) void part;
  for await (const chunk of mergeCore(archive, process, await readMappings(archive, 7)).bytes()) void chunk;
  for await (const walked of walkMemory(archive, [7])) {
    for await (const part of walked.parts()) void walked.where(part.start);
  }
}

const run = (start: bigint, count: number, offset = 0, member = 'shared/1.pages') => ({
  start: `0x${start.toString(16)}`,
  end: `0x${(start + BigInt(count * PAGE)).toString(16)}`,
  member,
  offset,
});
const elsewhere = (...runs: unknown[]) => replace('7/elsewhere.jsonl', jsonLines(runs));
const SHM = 0x7000_0000n;

describe('a list of memory that is stored elsewhere', () => {
  it.each<[string, Change]>([
    ['points beyond its member', elsewhere(run(SHM, 3))],
    ['points beyond its member by offset', elsewhere(run(SHM, 1, 2 * PAGE - 1))],
    ['has an offset that no number holds', elsewhere(run(SHM, 1, Number.MAX_SAFE_INTEGER))],
    ['has a negative offset', elsewhere(run(SHM, 1, -1))],
    ['names a member that is not there', elsewhere(run(SHM, 1, 0, 'shared/9.pages'))],
    ['climbs out of the archive', elsewhere(run(SHM, 1, 0, '../../etc/shadow'))],
    ['overlaps itself', elsewhere(run(SHM, 2), run(SHM + 4096n, 1))],
    ['is out of order', elsewhere(run(SHM + 4096n, 1), run(SHM, 1))],
    ['is empty', elsewhere({ ...run(SHM, 1), end: '0x70000000' })],
    ['runs backwards', elsewhere({ ...run(SHM, 1), end: '0x1000' })],
    ['is larger than an address space', elsewhere({ ...run(SHM, 1), end: `0x${'f'.repeat(40)}` })],
    ['covers what the core has', elsewhere(run(HEAP + 4096n, 2))],
    ['covers what the core has, from before it', elsewhere(run(HEAP - 4096n, 2))],
    ['covers what the core has, from zeros on', elsewhere(run(HEAP + 3n * 4096n, 2))],
    ['lies where no mapping is', elsewhere(run(0x6000_0000n, 1))],
    ['has another shape', elsewhere({ start: 1, end: 2 })],
    ['has a field too many', elsewhere({ ...run(SHM, 1), more: true })],
    ['is no JSON', replace('7/elsewhere.jsonl', Buffer.from('{"start":\n'))],
    ['is cut in the middle of a line', replace('7/elsewhere.jsonl', jsonLines([run(SHM, 1)]).subarray(0, 30))],
  ])('that %s is refused', async (_, change) => {
    await expect(changed(change).then(useAll)).rejects.toMatchObject({ code: 'bundle-corrupt' });
  });

  it('may cover zeros of the core, which is laid out without it', async () => {
    const archive = await changed(elsewhere(run(HEAP + 5n * 4096n, 1), run(HEAP + 7n * 4096n, 1), run(SHM, 1)));
    const { pieces } = await openProcess(archive, 7);
    expect(
      pieces.map(({ start, end, member }) => [Number(start - HEAP) / PAGE, Number(end - start) / PAGE, member?.[0]]),
    ).toEqual([
      [0, 2, '7'],
      [2, 2, undefined],
      [4, 1, '7'],
      [5, 1, 's'],
      [6, 1, undefined],
      [7, 1, 's'],
      [0x20000, 1, 's'],
    ]);
    await useAll(archive);
  });

  it('cannot make a core that is many times the archive', async () => {
    const many = Array.from({ length: 5000 }, (_, index) => run(SHM + BigInt(index * 2 * PAGE), 2));
    const regions = victim.regions.map((region) => (region.start === SHM ? { ...region, pages: 10_000 } : region));
    const members = await memoryMembers([{ ...victim, regions }], new Map([[1, pages(2)]]));
    elsewhere(...many)(members);
    const archive = await openMembers(members);
    const process = await openProcess(archive, 7);
    const mappings = await readMappings(archive, 7);
    expect(() => mergeCore(archive, process, mappings)).toThrow(/would get 40960000 bytes from an archive of/);
  });

  it('is not read when it is longer than any that exhibit writes', async () => {
    const archive = await changed(() => undefined);
    const endless: MemoryArchive = { ...archive, sizeOf: async () => 10_000_000 * 80 };
    await expect(readElsewhere(endless, 7).next()).rejects.toMatchObject({
      code: 'bundle-corrupt',
      message: '7/elsewhere.jsonl has 800000000 bytes, and at most 268435456 are read of it.',
    });
    const lines = await changed(
      elsewhere(...Array.from({ length: 20 }, (_, index) => run(SHM + BigInt(index * PAGE), 1))),
    );
    const read = async () => {
      const records = readRecords(lines, '7/elsewhere.jsonl', elsewhereSchema, { bytes: 1 << 20, lines: 10 });
      for await (const record of records) void record;
    };
    await expect(read()).rejects.toMatchObject({
      code: 'bundle-corrupt',
      message: expect.stringContaining('more than the 10 lines'),
    });
  });
});

describe('a core', () => {
  const withCore = (edit: (core: DataView) => void): Change => {
    return (members) => {
      const core = members.find(({ path }) => path === '7/core');
      if (core !== undefined) edit(new DataView(core.bytes.buffer, core.bytes.byteOffset, core.bytes.length));
    };
  };
  /** Of program header `index`; 0 is the notes. */
  const at = (index: number, field: number) => ELF_HEADER_BYTES + index * PROGRAM_HEADER_BYTES + field;
  const [OFFSET, ADDRESS, FILE_BYTES, MEMORY_BYTES] = [8, 16, 32, 40];

  it.each<[string, Change]>([
    ['is empty', replace('7/core', Buffer.alloc(0))],
    ['is something else', replace('7/core', Buffer.from('not a core at all'.repeat(100)))],
    ['has more headers than bytes', withCore((core) => core.setUint16(56, 0xfffe, true))],
    ['hides its headers', withCore((core) => core.setUint16(56, 0xffff, true))],
    [
      'promises four billion headers',
      withCore((core) => {
        core.setUint16(56, 0xffff, true);
        core.setBigUint64(40, BigInt(core.byteLength - 64), true);
        core.setUint32(core.byteLength - 20, 0xffffffff, true);
      }),
    ],
    [
      'has its headers at the end of the world',
      withCore((core) => {
        core.setUint16(56, 0xffff, true);
        core.setBigUint64(40, (1n << 52n) - 1n, true);
      }),
    ],
    ['has a segment out of the file', withCore((core) => core.setBigUint64(at(1, OFFSET), 1n << 40n, true))],
    [
      'has a segment of a negative offset',
      withCore((core) => core.setBigUint64(at(1, OFFSET), (1n << 64n) - 1n, true)),
    ],
    ['has a segment larger than its memory', withCore((core) => core.setBigUint64(at(1, MEMORY_BYTES), 1n, true))],
    [
      'has a segment over the end of the address space',
      withCore((core) => core.setBigUint64(at(1, MEMORY_BYTES), (1n << 64n) - 1n, true)),
    ],
    ['has segments that overlap', withCore((core) => core.setBigUint64(at(2, ADDRESS), HEAP + 4096n, true))],
    ['has segments out of order', withCore((core) => core.setBigUint64(at(2, ADDRESS), 0x1000n, true))],
    [
      'has two segments of the same bytes',
      withCore((core) => core.setBigUint64(at(2, OFFSET), core.getBigUint64(at(1, OFFSET), true), true)),
    ],
    ['has notes out of the file', withCore((core) => core.setBigUint64(at(0, OFFSET), 1n << 40n, true))],
    ['has more notes than bytes', withCore((core) => core.setBigUint64(at(0, FILE_BYTES), 1n << 40n, true))],
  ])('that %s is refused', async (_, change) => {
    await expect(changed(change).then(useAll)).rejects.toMatchObject({ code: 'bundle-corrupt' });
  });

  it('that somebody changed anywhere in its headers is read or refused, never anything else', async () => {
    const headers = ELF_HEADER_BYTES + 3 * PROGRAM_HEADER_BYTES;
    const edits = fc.array(fc.tuple(fc.nat(headers - 1), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff)), {
      minLength: 1,
      maxLength: 6,
    });
    await fc.assert(
      fc.asyncProperty(edits, async (bytes) => {
        const change = withCore((core) => {
          for (const [offset, value] of bytes) core.setUint8(offset, value);
        });
        // Up to 2^64 bytes of zeros are a piece and no bytes.
        await changed(change)
          .then(useAll)
          .catch((error: unknown) => {
            if (!isExhibitError(error, 'bundle-corrupt')) throw error;
          });
      }),
      { numRuns: 60 },
    );
  });
});

describe('mappings', () => {
  const regions = (edit: (regions: Record<string, unknown>[]) => void): Change => {
    return (members) => {
      const member = members.find(({ path }) => path === '7/regions.jsonl');
      const records =
        member?.bytes
          .toString()
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line)) ?? [];
      edit(records);
      if (member !== undefined) member.bytes = jsonLines(records);
    };
  };

  it.each<[string, Change]>([
    ['overlap', regions(([, second]) => Object.assign(second ?? {}, { start: '0x50001000' }))],
    ['are out of order', regions((all) => void all.reverse())],
    ['end before they start', regions(([first]) => Object.assign(first ?? {}, { end: '0x1' }))],
    ['have another shape', regions(([first]) => Object.assign(first ?? {}, { kind: 'evil' }))],
    [
      'are not there',
      (members) =>
        void members.splice(
          members.findIndex(({ path }) => path === '7/regions.jsonl'),
          1,
        ),
    ],
  ])('that %s are refused', async (_, change) => {
    await expect(changed(change).then(useAll)).rejects.toMatchObject({ code: 'bundle-corrupt' });
  });
});

describe('an archive', () => {
  const members = () => memoryMembers([victim], new Map([[1, pages(2, 'shared')]]));

  it('that is listed with a core twice is not guessed at', async () => {
    const twice = await members();
    const archive = await openMembers([...twice, ...twice.filter(({ path }) => path === '7/core')]);
    await expect(useAll(archive)).rejects.toMatchObject({
      code: 'bundle-corrupt',
      message: expect.stringContaining('7/core'),
    });
  });

  it.each([0, -1, 1, 512, 2 ** 40, Number.MAX_SAFE_INTEGER])(
    'whose list is wrong by %d bytes is not misread',
    async (more) => {
      const archive = openMembers(await members(), {
        list: ({ members: listed = [] }) =>
          listed.map((one) => ({ ...one, sizeBytes: Math.max(0, one.sizeBytes + (one.path === '7/core' ? more : 0)) })),
      });
      if (more === 0) await useAll(await archive);
      else await expect(archive.then(useAll)).rejects.toMatchObject({ code: 'bundle-corrupt' });
    },
  );

  it('whose list has other names than its headers is not misread', async () => {
    const archive = openMembers(await members(), {
      list: ({ members: listed = [] }) =>
        listed.map((one) => (one.path === '7/core' ? { ...one, path: '8/core' } : one)),
    });
    await expect(archive.then((opened) => openProcess(opened, 8))).rejects.toMatchObject({ code: 'bundle-corrupt' });
  });

  it('of pids that are no pids has no processes', async () => {
    const names = ['0/core', '-1/core', '07/core', '1e3/core', '99999999999/core', '../7/core', '7/core/x', 'core'];
    const archive = await openMembers(names.map((path) => ({ path, bytes: Buffer.alloc(1) })));
    expect(archive.pids).toEqual([]);
  });
});
