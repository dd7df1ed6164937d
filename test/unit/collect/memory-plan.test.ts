import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  affordable,
  copyOrder,
  flagsFinder,
  type PlanContext,
  planRegion,
} from '../../../agent/collect/memory-plan.ts';
import { parseMaps, parseSmaps, type Vma } from '../../../agent/host/maps.ts';
import { PAGE, type PageRun } from '../../../agent/host/pagemap.ts';

const NOTHING: PlanContext = { flagsOf: () => [], waitingDevices: new Set() };

function vma(line: string): Vma {
  const [first] = parseMaps(`${line}\n`).vmas;
  if (first === undefined) throw new Error(`no mapping: ${line}`);
  return first;
}

const present = (start: bigint, end: bigint, more = 0): PageRun => ({ start, end, state: PAGE.present | more });

describe('what is read of a mapping', () => {
  const heap = vma('10000-20000 rw-p 00000000 00:00 0 [heap]');

  test('present and swapped pages, adjacent runs in one read; holes are not touched', () => {
    const runs = [
      present(0x10000n, 0x12000n),
      { start: 0x12000n, end: 0x13000n, state: PAGE.swapped },
      present(0x15000n, 0x16000n),
    ];
    const plan = planRegion(heap, runs, NOTHING);
    expect(plan.ranges).toEqual([
      { start: 0x10000n, end: 0x13000n },
      { start: 0x15000n, end: 0x16000n },
    ]);
    expect(plan).toMatchObject({ residentBytes: 0x3000, swappedBytes: 0x1000, readBytes: 0x4000, kind: 'heap' });
    expect(plan.decision).toEqual({ kind: 'read', when: 'moment' });
  });

  test("the kernel's page of zeros is counted, not read, where a missing page reads as zeros", () => {
    const runs = [present(0x10000n, 0x18000n, PAGE.zero)];
    expect(planRegion(heap, runs, NOTHING)).toMatchObject({ zeroBytes: 0x8000, readBytes: 0, zeroElsewhere: true });
    const file = vma('10000-20000 r--p 00000000 fe:00 7 /dax/file');
    expect(planRegion(file, runs, NOTHING)).toMatchObject({ zeroBytes: 0x8000, readBytes: 0x8000 });
  });

  test('a page of a private file mapping that is not the file is one the process changed', () => {
    const text = vma('10000-20000 r-xp 00000000 fe:00 7 /usr/bin/shop');
    const runs = [present(0x10000n, 0x14000n, PAGE.file), present(0x14000n, 0x15000n)];
    expect(planRegion(text, runs, NOTHING)).toMatchObject({ modifiedBytes: 0x1000, isPrecious: true });
    expect(planRegion(text, runs.slice(0, 1), NOTHING)).toMatchObject({ modifiedBytes: 0, isPrecious: false });
  });

  test.each(['io', 'pf'])('device memory (%s) is a gap and never read', (flag) => {
    const device = vma('10000-20000 rw-s 00000000 00:06 99 /dev/mem');
    const plan = planRegion(device, [present(0x10000n, 0x20000n)], { ...NOTHING, flagsOf: () => ['rd', 'wr', flag] });
    expect(plan.decision).toMatchObject({ kind: 'skip', isGap: true });
  });

  test('a device that appeared after the survey is a gap; shared memory that did is read', () => {
    const unseen: PlanContext = { ...NOTHING, flagsOf: () => undefined };
    const decide = (name: string) =>
      planRegion(vma(`10000-20000 rw-s 00000000 00:06 99 ${name}`), [present(0x10000n, 0x11000n)], unseen).decision
        .kind;
    expect(['/dev/nvidia0', '/dev/shm/pool', '/dev/zero (deleted)', '/memfd:x (deleted)'].map(decide)).toEqual([
      ...['skip', 'read', 'read', 'read'],
    ]);
  });

  test('DONTDUMP and PROT_NONE do not keep a page out', () => {
    const hidden = vma('10000-20000 ---p 00000000 00:00 0');
    const plan = planRegion(hidden, [present(0x10000n, 0x11000n)], {
      ...NOTHING,
      flagsOf: () => ['mr', 'mw', 'me', 'dd'],
    });
    expect(plan.decision).toEqual({ kind: 'read', when: 'moment' });
  });

  test('what another program serves is read only after the thaw', () => {
    const fuse = vma('10000-20000 r--p 00000000 00:32 7 /data/file');
    const runs = [present(0x10000n, 0x11000n, PAGE.file)];
    expect(planRegion(fuse, runs, { ...NOTHING, waitingDevices: new Set(['00:32']) }).decision).toEqual({
      kind: 'read',
      when: 'later',
    });
    const tracked = planRegion(heap, runs, { ...NOTHING, flagsOf: () => ['rd', 'wr', 'um'] });
    expect(tracked).toMatchObject({ zeroElsewhere: false, decision: { kind: 'read', when: 'later' } });
  });

  test('pages of the kernel that nobody can read are no loss', () => {
    const vvar = vma('7f00-8f00 r--p 00000000 00:00 0 [vvar]');
    expect(planRegion(vvar, [], NOTHING).decision).toMatchObject({ kind: 'skip', isGap: false });
  });
});

describe('flags of the survey', () => {
  const survey = parseSmaps(
    [
      '10000-20000 rw-p 00000000 00:00 0 [heap]',
      'VmFlags: rd wr',
      '30000-40000 r--s 00000000 fe:00 5 /a',
      'VmFlags: rd io',
      '',
    ].join('\n'),
  ).vmas;
  const find = flagsFinder(survey);

  test('are found for a mapping that grew, and not for another file at its address', () => {
    expect(find(vma('10000-28000 rw-p 00000000 00:00 0 [heap]'))).toEqual(['rd', 'wr']);
    expect(find(vma('30000-40000 r--s 00000000 fe:00 5 /a'))).toEqual(['rd', 'io']);
    expect(find(vma('30000-40000 r--s 00000000 fe:00 6 /b'))).toBeUndefined();
    expect(find(vma('50000-60000 rw-p 00000000 00:00 0'))).toBeUndefined();
  });
});

describe('the order of copying', () => {
  test('what exists only in memory first, the smaller process before the larger, pages of files last', () => {
    const plan = (line: string, end: bigint, more = 0) => ({
      name: line.slice(-5),
      plan: planRegion(vma(line), [present(0x10000n, end, more)], NOTHING),
    });
    const large = [
      plan('10000-30000 r-xp 00000000 fe:00 7 /text1', 0x30000n, PAGE.file),
      plan('10000-30000 rw-p 00000000 00:00 0 [heap]', 0x30000n),
    ];
    const small = [
      plan('10000-20000 rw-p 00000000 00:00 0 [stack]', 0x12000n),
      plan('10000-20000 r-xp 00000000 fe:00 7 /text2', 0x12000n, PAGE.file),
    ];
    expect(copyOrder([large, small]).map((region) => region.name)).toEqual(['tack]', 'heap]', 'text2', 'text1']);
  });
});

describe('reading page maps on a kernel without PAGEMAP_SCAN', () => {
  test('small mappings are looked through, empty ones left out, what is beyond the budget named', () => {
    const [small, empty, huge] = [
      vma('10000-20000 rw-p 00000000 00:00 0'),
      vma('100000000-80000000000 ---p 00000000 00:00 0'),
      vma('100000000000-500000000000 rw-p 00000000 00:00 0'),
    ];
    const { asked, tooLarge } = affordable([small, empty, huge], (each) => each === empty, 1n << 37n);
    expect(asked).toEqual([small]);
    expect(tooLarge).toEqual([huge]);
  });

  test('never asks for more than the budget, and loses track of nothing', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 100 }), { maxLength: 20 });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 0, max: 500 }), (pages, budget) => {
        const vmas = pages.map((size, index) => {
          const start = (index + 1) * 0x1000000;
          return vma(`${start.toString(16)}-${(start + size * 4096).toString(16)} rw-p 00000000 00:00 0`);
        });
        const { asked, tooLarge } = affordable(vmas, () => false, BigInt(budget * 4096));
        const bytes = asked.reduce((sum, each) => sum + Number(each.end - each.start), 0);
        expect(bytes).toBeLessThanOrEqual(budget * 4096);
        expect(new Set([...asked, ...tooLarge])).toEqual(new Set(vmas));
      }),
    );
  });
});
