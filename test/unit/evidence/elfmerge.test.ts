import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openProcess } from '../../../evidence/core-reader.ts';
import { PN_XNUM, readHeaders } from '../../../evidence/elfheader.ts';
import { mergeCore } from '../../../evidence/elfmerge.ts';
import type { MemoryArchive } from '../../../evidence/memory-archive.ts';
import { readMappings } from '../../../evidence/region-map.ts';
import { hex, memoryMembers, openMembers, PAGE, pages, type TestProcess } from './memory-bundle.ts';
import { gather } from './memory-sink.ts';
import { requireProgram, run } from './programs.ts';

const HEAP = 0x5000_0000n;
const SHM = 0x7f10_0000_0000n;

const shop: TestProcess = {
  pid: 4711,
  programCounter: 0x401000n,
  regions: [
    {
      start: HEAP,
      pages: 8,
      kind: 'heap',
      path: '[heap]',
      captured: [
        [0, pages(1, 'changed')],
        [2, pages(1, 'changed too')],
      ],
      precopied: [[1, pages(1, 'unchanged')]],
    },
    {
      start: SHM,
      pages: 4,
      permissions: 'r-xs',
      kind: 'shared-memory',
      shared: [
        { page: 0, number: 1, from: 1, pages: 1 },
        { page: 1, number: 1, from: 0, pages: 1 },
        { page: 3, number: 1, from: 2, pages: 1 },
      ],
    },
  ],
};
const SHARED = Buffer.concat([pages(1, 'second'), pages(1, Buffer.from([0xef, 0xbe, 0xad, 0xde])), pages(1, 'fourth')]);

async function merged(archive: MemoryArchive, pid: number) {
  const core = mergeCore(archive, await openProcess(archive, pid), await readMappings(archive, pid));
  const bytes = await gather(core.bytes());
  expect(bytes.length).toBe(core.totalBytes);
  return { core, bytes };
}

const loads = (bytes: Buffer) =>
  (readHeaders(bytes)?.programHeaders ?? [])
    .filter(({ kind }) => kind === 'load')
    .map(({ address, fileBytes, memoryBytes, flags }) => [
      hex(address),
      fileBytes / PAGE,
      Number(memoryBytes) / PAGE,
      flags,
    ]);

describe('a complete core', () => {
  it('has what was stored elsewhere in its place, with the rights of its mapping', async () => {
    const archive = await openMembers(await memoryMembers([shop], new Map([[1, SHARED]])));
    const { bytes, core } = await merged(archive, 4711);
    expect(loads(bytes)).toEqual([
      // Changed and unchanged pages are one segment, and the zeros after them are its end.
      [hex(HEAP), 3, 8, 6],
      [hex(SHM), 2, 2, 5],
      [hex(SHM + 3n * 4096n), 1, 1, 5],
    ]);
    expect(core).toMatchObject({ segments: 4, addedBytes: 4 * PAGE });
    const heap = readHeaders(bytes)?.programHeaders[1]?.fileOffset ?? 0;
    expect([0, 1, 2].map((index) => bytes.toString('latin1', heap + index * PAGE, heap + index * PAGE + 9))).toEqual([
      'changed\xfe\xfe',
      'unchanged',
      'changed t',
    ]);
  });

  it('keeps the notes byte for byte', async () => {
    const archive = await openMembers(await memoryMembers([shop], new Map([[1, SHARED]])));
    const notesOf = (bytes: Uint8Array) => {
      const note = readHeaders(bytes)?.programHeaders.find(({ kind }) => kind === 'note');
      return Buffer.from(bytes).subarray(note?.fileOffset, (note?.fileOffset ?? 0) + (note?.fileBytes ?? 0));
    };
    const stored = await archive.read('4711/core', 0, await archive.sizeOf('4711/core'));
    expect(notesOf(stored).length).toBeGreaterThan(300);
    expect(notesOf((await merged(archive, 4711)).bytes)).toEqual(notesOf(stored));
  });

  it('is the stored core itself when that lacks nothing', async () => {
    const alone: TestProcess = { pid: 7, regions: [{ start: HEAP, pages: 2, captured: [[0, pages(1, 'all')]] }] };
    const archive = await openMembers(await memoryMembers([alone]));
    const { bytes, core } = await merged(archive, 7);
    expect(bytes).toEqual(Buffer.from(await archive.read('7/core', 0, await archive.sizeOf('7/core'))));
    expect(core.addedBytes).toBe(0);
  });

  it('is read by readelf and gdb, also the value in shared memory', async (context) => {
    requireProgram(context, 'readelf', 'gdb');
    const archive = await openMembers(await memoryMembers([shop], new Map([[1, SHARED]])));
    const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-core-'));
    try {
      const file = path.join(folder, 'core');
      writeFileSync(file, (await merged(archive, 4711)).bytes);
      const headers = run(['readelf', '-lhnW', file]);
      expect(headers.stderr).toBe('');
      expect(headers.stdout.toString()).toMatch(/LOAD\s+0x\w+ 0x00007f1000000000 0x0+ 0x002000 0x002000 R E/);
      expect(headers.stdout.toString()).toContain('NT_PRPSINFO');
      const commands = [
        'p/x *(unsigned*)0x7f1000000000',
        'x/s 0x50001000',
        'x/s 0x7f1000003000',
        'p $pc',
        'x/1xb 0x50007fff',
      ];
      const gdb = run(['gdb', '-nx', '-batch', ...commands.flatMap((one) => ['-ex', one]), '-c', file]);
      expect(gdb.stdout.toString('latin1')).toMatch(
        /\$1 = 0xdeadbeef[\s\S]*unchanged[\s\S]*fourth[\s\S]*0x401000[\s\S]*0x50007fff:\s+0x00/,
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('may have more segments than its header can count', async (context) => {
    requireProgram(context, 'readelf');
    const count = PN_XNUM + 10;
    const shared = Array.from({ length: count }, (_, index) => ({ page: index * 2, number: 1, from: 0, pages: 1 }));
    const many: TestProcess = { pid: 9, regions: [{ start: SHM, pages: 2 * count, permissions: 'rw-s', shared }] };
    const archive = await openMembers(await memoryMembers([many], new Map([[1, pages(1)]])), { frameBytes: 1 << 20 });
    const core = mergeCore(archive, await openProcess(archive, 9), await readMappings(archive, 9));
    expect(core.segments).toBe(count + 1);
    const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-core-'));
    try {
      const chunks = core.bytes()[Symbol.asyncIterator]();
      const head = (await chunks.next()).value;
      await chunks.return?.();
      writeFileSync(path.join(folder, 'core'), head);
      expect(readHeaders(head)?.programHeaders.length).toBe(count + 1);
      expect(run(['readelf', '-hW', path.join(folder, 'core')]).stdout.toString()).toContain(`65535 (${count + 1})`);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
