import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type CoreExtent, type CoreInput, type CoreRegion, coreBytes, layoutCore } from '../../../evidence/elfcore.ts';
import { headersBytes, headersBytesOf, PN_XNUM, readHeaders } from '../../../evidence/elfheader.ts';
import type { CoreProcess } from '../../../evidence/elfnotes.ts';

const PAGE = 4096;

const PROCESS: CoreProcess = {
  ...{ pid: 4711, ppid: 1, processGroup: 4711, session: 4711, uid: 0, gid: 0, state: 'S', nice: 0, flags: 0x400000n },
  command: Buffer.from('shop'),
  commandLine: Buffer.from('shop\0--port\x0080\0'),
  auxv: new Uint8Array(new BigUint64Array([6n, 4096n, 0n, 0n]).buffer),
  threads: [
    { tid: 4711, registers: { kind: 'partial', programCounter: 0x401000n, stackPointer: 0x7ffc1000n } },
    { tid: 4712, registers: { kind: 'unknown' } },
    { tid: 4713, registers: { kind: 'full', general: new Uint8Array(216).fill(7) } },
  ],
};

function input(regions: readonly CoreRegion[], machine: 'x86-64' | 'arm64' = 'x86-64'): CoreInput {
  return { machine, pageBytes: PAGE, process: PROCESS, regions };
}

function region(start: bigint, pages: number, over: Partial<CoreRegion> = {}): CoreRegion {
  const flags = { readable: true, writable: true, executable: false, zeroElsewhere: true };
  return { start, end: start + BigInt(pages * PAGE), ...flags, extents: [], unknown: [], ...over };
}

/** Every page of the content is filled with its own page number. */
function fill(extent: CoreExtent): Uint8Array[] {
  const bytes = Buffer.alloc(extent.bytes);
  for (let at = 0; at < extent.bytes; at += 8) {
    bytes.writeBigUInt64LE((extent.start + BigInt(at)) & ~0xfffn, at);
  }
  return [bytes];
}

async function wholeCore(core: CoreInput): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of coreBytes(layoutCore(core), fill)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** What a reader of the file finds at an address: a page's bytes, zeros, or no segment. */
function pageAt(core: Buffer, address: bigint): 'content' | 'zeros' | 'absent' | 'wrong' {
  const segment = readHeaders(core)?.programHeaders.find((header) => {
    return header.kind === 'load' && header.address <= address && address < header.address + header.memoryBytes;
  });
  if (segment === undefined) return 'absent';
  const at = Number(address - segment.address);
  if (at >= segment.fileBytes) return 'zeros';
  return core.readBigUInt64LE(segment.fileOffset + at) === address ? 'content' : 'wrong';
}

describe('the layout of a core', () => {
  type Page = 'captured' | 'untouched' | 'lost';
  const pages = fc.array(fc.constantFrom<Page>('captured', 'untouched', 'lost'), { minLength: 1, maxLength: 24 });
  const shape = fc.record({ pages, zeroElsewhere: fc.boolean(), cut: fc.boolean() });

  test('every page of every region is where a reader looks for it', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(shape, { maxLength: 5 }), async (shapes) => {
        let start = 0x10000n;
        const regions = shapes.map((each) => {
          const at = start;
          start += BigInt((each.pages.length + 1) * PAGE);
          const address = (index: number): bigint => at + BigInt(index * PAGE);
          const extents: CoreExtent[] = [];
          each.pages.forEach((page, index) => {
            const last = extents.at(-1);
            if (page !== 'captured') return;
            const joins = last !== undefined && last.start + BigInt(last.bytes) === address(index) && !each.cut;
            if (joins) extents[extents.length - 1] = { ...last, bytes: last.bytes + PAGE };
            else extents.push({ start: address(index), bytes: PAGE });
          });
          const unknown = each.pages.flatMap((page, index) => {
            return page === 'lost' ? [{ start: address(index), end: address(index + 1) }] : [];
          });
          return region(at, each.pages.length, { extents, unknown, zeroElsewhere: each.zeroElsewhere });
        });
        const core = await wholeCore(input(regions));
        expect(core.byteLength).toBe(layoutCore(input(regions)).totalBytes);
        regions.forEach((each, which) => {
          shapes[which]?.pages.forEach((page, index) => {
            const untouched = each.zeroElsewhere ? 'zeros' : 'absent';
            const expected = { captured: 'content', untouched, lost: 'absent' }[page];
            expect(pageAt(core, each.start + BigInt(index * PAGE))).toBe(expected);
          });
        });
      }),
    );
  });

  test('content lies on page boundaries in the file', async () => {
    const layout = layoutCore(input([region(0x10000n, 3, { extents: [{ start: 0x11000n, bytes: PAGE }] })]));
    for (const { header } of layout.segments) expect(header.fileOffset % PAGE).toBe(0);
    expect(layout.header.byteLength % PAGE).toBe(0);
  });

  test('a reservation of 128 TiB that nobody may touch is in no segment', () => {
    const reserved = region(0x10000n, 0, { end: 1n << 47n, readable: false, writable: false });
    expect(layoutCore(input([reserved])).segments).toEqual([]);
  });

  test('data behind PROT_NONE is in the core with no permission', () => {
    const extents = [{ start: 0x10000n, bytes: PAGE }];
    const hidden = region(0x10000n, 2, { readable: false, writable: false, extents });
    expect(layoutCore(input([hidden])).segments.map(({ header }) => [header.flags, header.fileBytes])).toEqual([
      [0, PAGE],
    ]);
  });

  test.each([PN_XNUM - 2, PN_XNUM - 1, PN_XNUM, PN_XNUM + 1, 100_000])('%i program headers come back', (count) => {
    const regions = manyRegions(count - 1);
    const { header } = layoutCore(input(regions));
    const back = readHeaders(header);
    expect(back?.programHeaders).toHaveLength(count);
    expect(headersBytesOf(header.subarray(0, 64))).toBe(headersBytes(count));
    expect(back?.programHeaders.at(-1)?.address).toBe(regions.at(-1)?.start);
  });

  test('bytes that are no core are undefined, never an error', () => {
    const { header } = layoutCore(input([region(0x10000n, 1)]));
    fc.assert(
      fc.property(fc.nat(header.byteLength - 1), fc.nat(255), fc.nat(header.byteLength), (at, value, length) => {
        const changed = Uint8Array.from(header);
        changed[at] = value;
        readHeaders(changed.subarray(0, length));
      }),
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void readHeaders(bytes)));
  });
});

/** One page each with a hole between; the last and every hundredth have content, the others are zeros. */
function manyRegions(count: number): CoreRegion[] {
  return Array.from({ length: count }, (_, index) => {
    const start = 0x10000000n + BigInt(index * 2 * PAGE);
    return region(start, 1, index % 100 === 0 || index === count - 1 ? { extents: [{ start, bytes: PAGE }] } : {});
  });
}

function whyNot(program: string): string | undefined {
  const found = (process.env.PATH ?? '').split(':').some((folder) => existsSync(path.join(folder, program)));
  return found ? undefined : `(${program} is not installed)`;
}

function judge(core: Uint8Array, program: string, args: (file: string) => string[]): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-core-'));
  try {
    const file = path.join(folder, 'core');
    writeFileSync(file, core);
    // gdb's exit status is that of its last command, which may be meant to fail.
    const { stdout } = spawnSync('sh', ['-c', 'exec "$0" "$@" 2>&1', program, ...args(file)], {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
    });
    return stdout;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe('independent readers', () => {
  const file = { path: Buffer.from('/usr/bin/shop'), offset: 8192n };
  const small = [
    region(0x400000n, 4, { zeroElsewhere: false, file, extents: [{ start: 0x401000n, bytes: PAGE }] }),
    region(0x800000n, 8, { extents: [{ start: 0x802000n, bytes: 2 * PAGE }] }),
  ];

  const noReadelf = whyNot('readelf');
  test.skipIf(noReadelf).each(['x86-64', 'arm64'] as const)(
    `readelf reads a core of %s without a warning ${noReadelf ?? ''}`,
    async (machine) => {
      const out = judge(await wholeCore(input(small, machine)), 'readelf', (core) => ['-lhn', core]);
      expect(out).not.toMatch(/warning|error|corrupt/i);
      expect(out).toMatch(/CORE \(Core file\)/);
      expect(out.match(/NT_PRSTATUS/g)).toHaveLength(3);
      expect(out).toMatch(/NT_PRPSINFO/);
      expect(out).toMatch(/NT_AUXV/);
    },
  );

  test.skipIf(noReadelf)(`readelf finds register notes where the kernel puts them ${noReadelf ?? ''}`, async () => {
    const full = (fill: number) => ({
      ...{ kind: 'full' as const, general: new Uint8Array(216).fill(fill), floating: new Uint8Array(512) },
      extra: [{ type: 0x202, bytes: new Uint8Array(832) }],
    });
    const threads = [4711, 4712].map((tid) => ({ tid, registers: full(tid & 0xff) }));
    const out = judge(await wholeCore({ ...input(small), process: { ...PROCESS, threads } }), 'readelf', (core) => [
      '-nW',
      core,
    ]);
    expect(out).not.toMatch(/warning|error|corrupt/i);
    const notes = [...out.matchAll(/^ +(CORE|LINUX)\s+0x[0-9a-f]+\s+(NT_\w+)/gm)].map(
      ([, owner, type]) => `${owner} ${type}`,
    );
    const registers = ['CORE NT_FPREGSET', 'LINUX NT_X86_XSTATE'];
    expect(notes).toEqual([
      ...['CORE NT_PRSTATUS', 'CORE NT_PRPSINFO', 'CORE NT_AUXV', 'CORE NT_FILE', ...registers],
      ...['CORE NT_PRSTATUS', ...registers],
    ]);
  });

  test.skipIf(noReadelf)(
    `readelf counts more than 65,534 segments ${noReadelf ?? ''}`,
    { timeout: 120_000 },
    async () => {
      const out = judge(await wholeCore(input(manyRegions(70_000))), 'readelf', (core) => ['-lhn', '-W', core]);
      expect(out).not.toMatch(/warning|error|corrupt/i);
      expect(out).toMatch(/Number of program headers: +65535 \(70001\)/);
      expect(out.match(/^ +LOAD/gm)).toHaveLength(70_000);
    },
  );

  const noGdb = whyNot('gdb');
  const gdb = (commands: string[]) => (core: string) => {
    return ['-nx', '-batch', '-ex', `core-file ${core}`, ...commands.flatMap((command) => ['-ex', command])];
  };

  test.skipIf(noGdb)(`gdb shows threads, content, and zeros ${noGdb ?? ''}`, async () => {
    const commands = ['info threads', 'p $pc', 'p $sp', 'x/gx 0x802000', 'x/gx 0x803000', 'x/gx 0x807000'];
    const out = judge(await wholeCore(input(small)), 'gdb', gdb(commands));
    expect(out).toContain('shop --port 80');
    expect(out).toMatch(/LWP 4711[\s\S]*LWP 4712[\s\S]*LWP 4713/);
    expect(out).toContain('0x401000');
    expect(out).toContain('0x7ffc1000');
    expect(out).toMatch(/0x802000:\s+0x0*802000/);
    expect(out).toMatch(/0x803000:\s+0x0*803000/);
    expect(out).toMatch(/0x807000:\s+0x0+$/m);
  });

  test.skipIf(noGdb)(`gdb says that it has no bytes where none were captured ${noGdb ?? ''}`, async () => {
    const out = judge(
      await wholeCore(input(small)),
      'gdb',
      gdb(['info proc mappings', 'x/gx 0x401000', 'x/gx 0x402000']),
    );
    expect(out).toMatch(/0x401000:\s+0x0*401000/);
    expect(out).toMatch(/0x400000 +0x404000 +0x4000 +0x2000 +\/usr\/bin\/shop/);
    expect(out).toMatch(/Cannot access memory at address 0x402000/);
  });

  test.skipIf(noGdb)(`gdb reads the last of 66,000 segments ${noGdb ?? ''}`, { timeout: 300_000 }, async () => {
    const regions = manyRegions(66_000);
    const last = regions.at(-1)?.start.toString(16);
    const out = judge(await wholeCore(input(regions)), 'gdb', gdb([`x/gx 0x${last}`]));
    expect(out).toMatch(new RegExp(`0x${last}:\\s+0x0*${last}`));
  });
});
