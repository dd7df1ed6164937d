import { describe, expect, it } from 'vitest';
import { scanProcess } from '../../../evidence/memory-scan.ts';
import { walkMemory } from '../../../evidence/memory-walk.ts';
import { memoryWindows } from '../../../evidence/memory-windows.ts';
import { compileRules } from '../../../evidence/yara.ts';
import { hex, memoryMembers, openMembers, PAGE, pages, type TestProcess, type TestRegion } from './memory-bundle.ts';

const START = 0x1000_0000n;

async function scan(rules: string, region: Partial<TestRegion>, windowPages = 4, overlapBytes = 64): Promise<string[]> {
  using engine = await compileRules([{ name: 'rules.yar', text: rules }], 100);
  const process: TestProcess = { pid: 1, regions: [{ start: START, pages: 1000, ...region }] };
  const archive = await openMembers(await memoryMembers([process]));
  const found: string[] = [];
  for await (const walked of walkMemory(archive, [1])) {
    for await (const match of scanProcess(engine, walked, { windowBytes: windowPages * PAGE, overlapBytes })) {
      found.push(...match.strings.map(({ id, address }) => `${match.rule} ${id} ${hex(address - START)}`));
      if (match.strings.length === 0) found.push(`${match.rule} ${hex(match.window.start - START)}`);
    }
  }
  return found;
}

const NEEDLE = 'rule needle : test { strings: $a = "a needle in memory" $w = "a needle" wide condition: any of them }';

describe('YARA over memory', () => {
  it('finds what lies in a window, on its edges and across them, each once', async () => {
    const memory = pages(20);
    const places = [0, 4 * PAGE - 18, 8 * PAGE - 80, 8 * PAGE - 7, 12 * PAGE, 20 * PAGE - 18];
    for (const at of places) memory.write('a needle in memory', at);
    expect(await scan(NEEDLE, { captured: [[0, memory]] })).toEqual(places.map((at) => `needle $a ${hex(BigInt(at))}`));
  });

  it('finds at every position around a cut', async () => {
    for (let at = 4 * PAGE - 18; at <= 4 * PAGE; at += 3) {
      const memory = pages(6, 'a needle in memory', at);
      expect(await scan(NEEDLE, { captured: [[0, memory]] })).toEqual([`needle $a ${hex(BigInt(at))}`]);
    }
  });

  it('finds across pages that are stored in different members', async () => {
    const memory = pages(3, 'a needle in memory', 2 * PAGE - 9);
    const captured = [[0, memory.subarray(0, 2 * PAGE)]] as const;
    const precopied = [[2, memory.subarray(2 * PAGE)]] as const;
    expect(await scan(NEEDLE, { captured, precopied })).toEqual([`needle $a ${hex(BigInt(2 * PAGE - 9))}`]);
  });

  it('does not find what only seems to be one piece when the hole in it is left out', async () => {
    const memory = pages(1, 'a needle ', PAGE - 9);
    const rest = pages(1, 'in memory');
    const captured = [[0, memory] as const, [2, rest] as const];
    expect(await scan(NEEDLE, { captured, gaps: [{ page: 1, pages: 1, why: 'unreadable' }] })).toEqual([]);
  });

  it('knows zeros for what they are, as far as they are filled in', async () => {
    const rule = `rule apart { strings: $a = { 41 42 [4096] 43 44 } condition: $a }`;
    const captured = [[0, pages(1, 'AB', PAGE - 2)] as const, [2, pages(1, 'CD')] as const];
    expect(await scan(rule, { captured })).toEqual([`apart $a ${hex(BigInt(PAGE - 2))}`]);
    const far = [[0, pages(1, 'AB', PAGE - 2)] as const, [100, pages(1, 'CD')] as const];
    const sizes: number[] = [];
    const archive = await openMembers(
      await memoryMembers([{ pid: 1, regions: [{ start: START, pages: 101, captured: far }] }]),
    );
    for await (const walked of walkMemory(archive, [1])) {
      const options = { windowBytes: 64 * PAGE, overlapBytes: 64 };
      for await (const { bytes } of memoryWindows(walked.parts(), options)) sizes.push(bytes.length);
    }
    expect(sizes).toEqual([PAGE, PAGE]);
  });

  it('tells a rule without strings for each window that it holds in', async () => {
    const rule = 'rule elf { condition: uint32(0) == 0x464c457f }';
    const captured = [[0, pages(1, '\x7fELF')] as const, [2, pages(1, '\x7fELF')] as const, [4, pages(1)] as const];
    const gaps = [1, 3].map((page) => ({ page, pages: 1, why: 'unreadable' }));
    expect(await scan(rule, { captured, gaps })).toEqual(['elf 0x0', 'elf 0x2000']);
  });

  it('says where a rule is wrong', async () => {
    const rules = 'rule fine { condition: true }\nrule broken {\n  condition: $nothing\n}';
    await expect(compileRules([{ name: 'my.yar', text: rules }], 1)).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringMatching(/^my\.yar does not compile:\nerror.*unknown pattern `\$nothing`\n.*line:3:14/),
    });
  });
});
