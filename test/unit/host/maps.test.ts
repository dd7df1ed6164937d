import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { kindOf, nameBytes, parseMaps, parseSmaps, type Vma } from '../../../agent/host/maps.ts';

/** Recorded on Linux 6.18: a victim of memory-victim.c, its memfd called "line\nbreak". */
const RECORDED = `55bbc08ec000-55bbc08ee000 r--p 00003000 fe:00 1572867                    /tmp/exhibit-victim-NwLta6/victim
55bbfe63b000-55bbfe65c000 rw-p 00000000 00:00 0                          [heap]
7d278a200000-7d278a201000 ---p 00000000 00:00 0 
7f278ab2f000-7f278bb2f000 rw-s 00000000 00:01 1026                       /memfd:line\\012break (deleted)
7f278fd18000-7f278fd1a000 rw-s 00000000 00:01 32769                      /SYSV00000000 (deleted)
7f278fd1a000-7f278fd1c000 rw-s 00000000 00:01 1025                       /dev/zero (deleted)
7f278fd20000-7f278fd24000 r--p 00000000 00:00 0                          [vvar]
7f278fd26000-7f278fd28000 r-xp 00000000 00:00 0                          [vdso]
7fff0bf0d000-7fff0bf2e000 rw-p 00000000 00:00 0                          [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`;

describe('/proc/PID/maps', () => {
  test('a recorded file is read line by line, in address order, with exact addresses', () => {
    const { vmas, strangeLines } = parseMaps(RECORDED);
    expect(strangeLines).toBe(0);
    expect(vmas).toHaveLength(10);
    expect(vmas[0]).toEqual({
      ...{ start: 0x55bbc08ec000n, end: 0x55bbc08ee000n, permissions: 'r--p', fileOffset: 0x3000n },
      ...{ device: 'fe:00', inode: 1572867n, name: '/tmp/exhibit-victim-NwLta6/victim' },
    });
    expect(vmas.at(-1)?.start).toBe(0xffffffffff600000n);
  });

  test('each recorded mapping is of the kind that its line says', () => {
    expect(parseMaps(RECORDED).vmas.map(kindOf)).toEqual([
      ...['file-private', 'heap', 'anonymous', 'shared-memory', 'shared-memory', 'shared-memory'],
      ...['kernel', 'kernel', 'stack', 'kernel'],
    ]);
  });

  test.each<[string, string, string]>([
    ['00:00 0', '[anon:.bss]', 'anonymous'],
    ['00:00 0', '[anon_shmem:cache]', 'shared-memory'],
    ['00:00 0', '[stack:4711]', 'anonymous'],
    ['00:0f 77', '/anon_hugepage (deleted)', 'huge-pages'],
    ['00:15 3', '/dev/shm/pool', 'shared-memory'],
    ['fe:00 9', '/tmp/[heap]', 'file-private'],
    ['00:0e 12', 'anon_inode:[io_uring]', 'file-private'],
  ])('%s %s is %s', (file, name, kind) => {
    expect(parseMaps(`1000-2000 rw-p 00000000 ${file} ${name}\n`).vmas.map(kindOf)).toEqual([kind]);
  });

  test('an escaped newline in a name is kept as printed and can be undone', () => {
    const memfd = parseMaps(RECORDED).vmas[3] as Vma;
    expect(nameBytes(memfd, 'printed').toString()).toBe('/memfd:line\\012break (deleted)');
    expect(nameBytes(memfd, 'unescaped').toString()).toBe('/memfd:line\nbreak (deleted)');
  });

  test('any bytes but NUL and newline in a name come back exactly', () => {
    const byte = fc.integer({ min: 1, max: 255 }).filter((value) => value !== 10);
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 60 }), fc.array(byte), (_, bytes) => {
        const name = Buffer.from([0x2f, ...bytes]);
        const line = `7000-9000 r-xp 0000a000 fe:01 42                         ${name.toString('latin1')}\n`;
        const { vmas, strangeLines } = parseMaps(line + line);
        expect(strangeLines).toBe(0);
        expect(vmas.map((vma) => nameBytes(vma, 'printed').equals(name))).toEqual([true, true]);
      }),
    );
  });

  test('a line that is none is counted and the next is read', () => {
    const { vmas, strangeLines } = parseMaps(`nonsense\n9000-1000 rw-p 0 00:00 0\n${RECORDED}7f00-`);
    expect(strangeLines).toBe(3);
    expect(vmas).toHaveLength(10);
  });

  test('text of any kind never throws', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => void [parseMaps(text), parseSmaps(text)]));
  });

  test('100,000 mappings are read', () => {
    const lines = Array.from({ length: 100_000 }, (_, index) => {
      const start = 0x7f0000000000 + index * 8192;
      return `${start.toString(16)}-${(start + 4096).toString(16)} rw-p 00000000 00:00 0 \n`;
    });
    expect(parseMaps(lines.join('')).vmas).toHaveLength(100_000);
  });
});

describe('/proc/PID/smaps', () => {
  const smaps = `7f278ab2f000-7f278bb2f000 rw-s 00000000 00:01 1026                       /memfd:VmFlags: io
Size:              16384 kB
Rss:                   4 kB
Pss:                   4 kB
Swap:                 12 kB
SwapPss:               0 kB
VmFlags: rd wr sh mr mw me ms dd 
7fff0bf0d000-7fff0bf2e000 rw-p 00000000 00:00 0                          [stack]
Rss:                  16 kB
VmFlags: rd wr mr mw me gd ac 
`;

  test('resident, swapped and flags are read for each mapping; a name cannot forge them', () => {
    const { vmas } = parseSmaps(smaps);
    expect(vmas.map((vma) => [vma.residentBytes, vma.swappedBytes, vma.flags.join(' ')])).toEqual([
      [4096, 12288, 'rd wr sh mr mw me ms dd'],
      [16384, 0, 'rd wr mr mw me gd ac'],
    ]);
  });

  test.skipIf(process.platform !== 'linux')('smaps of this process lists the mappings that maps lists', () => {
    const { vmas } = parseSmaps(readFileSync('/proc/self/smaps', 'latin1'));
    expect(vmas.length).toBeGreaterThan(20);
    expect(vmas.every((vma) => vma.flags.length > 0 || kindOf(vma) === 'kernel')).toBe(true);
  });
});
