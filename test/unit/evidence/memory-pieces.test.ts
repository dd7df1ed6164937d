import { describe, expect, it } from 'vitest';
import type { ProgramHeader } from '../../../evidence/elfheader.ts';
import { layPieces, type Piece, type StoredRun } from '../../../evidence/memory-pieces.ts';
import { openSharedMemory } from '../../../evidence/shared-memory.ts';
import { jsonLines, openMembers, PAGE, pages } from './memory-bundle.ts';
import { fc } from './properties.ts';

const SPACE = 24;
/** What a page of a small address space is: stored in the core, zeros, stored elsewhere, or nothing. */
const space = fc.array(fc.constantFrom('core', 'zeros', 'elsewhere', 'nothing', 'elsewhere over zeros'), {
  maxLength: SPACE,
});

const address = (page: number) => BigInt((page + 16) * PAGE);

/** Neighbours of one kind as ranges of pages. */
function ranges(kinds: readonly string[], wanted: readonly string[]): [from: number, to: number][] {
  const found: [number, number][] = [];
  kinds.forEach((kind, page) => {
    if (!wanted.includes(kind)) return;
    const last = found.at(-1);
    if (last?.[1] === page) last[1] = page + 1;
    else found.push([page, page + 1]);
  });
  return found;
}

function coreOf(kinds: readonly string[]) {
  let fileOffset = PAGE;
  const load = (from: number, to: number, stored: number): ProgramHeader => {
    const header = { kind: 'load', flags: 6, fileOffset, fileBytes: stored * PAGE, address: address(from) } as const;
    fileOffset += header.fileBytes;
    return { ...header, memoryBytes: BigInt((to - from) * PAGE), alignBytes: PAGE };
  };
  const zeros = ['zeros', 'elsewhere over zeros'];
  const loads = kinds.flatMap((kind, page) => {
    if (kind === 'core') return [load(page, page + 1, 1)];
    return zeros.includes(kind) ? [load(page, page + 1, 0)] : [];
  });
  return { member: '1/core', sizeBytes: fileOffset, header: { machine: 'x86-64' as const, programHeaders: loads } };
}

const runsOf = (kinds: readonly string[]): StoredRun[] =>
  ranges(kinds, ['elsewhere', 'elsewhere over zeros']).map(([from, to]) => {
    return { start: address(from), end: address(to), member: 'shared/1.pages', offset: from * PAGE };
  });

function pageKinds(pieces: readonly Piece[]): string[] {
  return Array.from({ length: SPACE }, (_, page) => {
    const on = pieces.filter(({ start, end }) => start <= address(page) && address(page) < end);
    expect(on.length).toBeLessThanOrEqual(1);
    if (on[0] === undefined) return 'nothing';
    return on[0].member === undefined ? 'zeros' : on[0].member === '1/core' ? 'core' : 'elsewhere';
  });
}

describe('the pieces of a memory', () => {
  it('are what is stored in the core, what is stored elsewhere, and zeros where neither is', () => {
    fc.assert(
      fc.property(space, (kinds) => {
        const expected = Array.from({ length: SPACE }, (_, page) =>
          (kinds[page] ?? 'nothing').replace(' over zeros', ''),
        );
        const pieces = layPieces(coreOf(kinds), runsOf(kinds));
        expect(pageKinds(pieces)).toEqual(expected);
        expect(pieces.toSorted((a, b) => (a.start < b.start ? -1 : 1))).toEqual(pieces);
        for (const { member, offset, start } of pieces) {
          if (member === 'shared/1.pages') expect(address(offset / PAGE)).toBe(start);
        }
      }),
    );
  });

  it('are refused when a page is stored twice, wherever', () => {
    fc.assert(
      fc.property(space, fc.nat(SPACE - 1), fc.integer({ min: 1, max: 4 }), (kinds, from, count) => {
        const run = { start: address(from), end: address(from + count), member: 'shared/1.pages', offset: 0 };
        const isStored = kinds.slice(from, from + count).includes('core');
        const lay = () => layPieces(coreOf(kinds), [run]);
        if (isStored) expect(lay).toThrow(/cannot be relied on/);
        else expect(lay()).toContainEqual({ ...run, flags: undefined });
      }),
    );
  });
});

describe('memory that processes share', () => {
  const views = fc.array(fc.tuple(fc.nat(15), fc.integer({ min: 1, max: 5 })), { maxLength: 6 });

  it('is each byte once, with the first that maps it, and others are found by any address', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(views, { minLength: 1, maxLength: 4 }), async (processes) => {
        const runs = processes.map((list, pid) =>
          list.map(([from, count], index): StoredRun => {
            const start = BigInt(0x100000 * (pid + 1) + index * 16 * PAGE);
            return { start, end: start + BigInt(count * PAGE), member: 'shared/1.pages', offset: from * PAGE };
          }),
        );
        const lines = (list: StoredRun[]) =>
          jsonLines(
            list.map((run) => ({ ...run, start: `0x${run.start.toString(16)}`, end: `0x${run.end.toString(16)}` })),
          );
        const archive = await openMembers([
          ...runs.map((list, pid) => ({ path: `${pid + 1}/elsewhere.jsonl`, bytes: lines(list) })),
          { path: 'shared/1.pages', bytes: pages(20) },
        ]);
        const shared = await openSharedMemory(
          archive,
          runs.map((_, pid) => pid + 1),
        );
        const claims = runs.flatMap((list, pid) => {
          const pieces = shared.claim(
            pid + 1,
            list.map((run) => ({ ...run, flags: undefined })),
          );
          return pieces.map((piece) => ({ pid: pid + 1, piece }));
        });
        for (let page = 0; page < 20; page += 1) {
          const at = page * PAGE;
          const holds = (run: { offset: number; start: bigint; end: bigint }) =>
            run.offset <= at && at < run.offset + Number(run.end - run.start);
          const mapping = runs.flatMap((list, pid) => (list.some(holds) ? [pid + 1] : []));
          const claimed = claims.filter(({ piece }) => holds(piece));
          expect(claimed.map(({ pid }) => pid)).toEqual(mapping.slice(0, 1));
          const [first] = claimed;
          if (first === undefined) continue;
          const others = shared.others(first.pid, first.piece, first.piece.start + BigInt(at - first.piece.offset));
          expect(others.map(({ pid }) => pid)).toEqual(mapping.slice(1));
          for (const { pid, address: other } of others) {
            const run = runs[pid - 1]?.find(({ start, end }) => start <= other && other < end);
            expect((run?.offset ?? -1) + Number(other - (run?.start ?? 0n))).toBe(at);
          }
        }
      }),
      { numRuns: 40 },
    );
  });
});
