import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseMaps } from '../../../agent/host/maps.ts';
import {
  memorylessReason,
  pageBytesOf,
  parseOwner,
  parseSyscall,
  readTextSync,
  waitingDevices,
} from '../../../agent/host/memory.ts';
import { decodePagemap, openPageMap, PAGE, type PageRun } from '../../../agent/host/pagemap.ts';
import { parseStat } from '../../../agent/host/process-stat.ts';
import { startVictim, whyNoVictims } from '../collect/memory-victim.ts';

describe('/proc/PID/task/TID/syscall', () => {
  test('a thread in pause(2) shows its call, arguments, stack pointer and program counter', () => {
    const text = '34 0x7ffd2 0x0 0x0 0x0 0x0 0x7f27 0x7fff0bf2c6c8 0x7f278fc06df2\n';
    expect(parseSyscall(text)).toEqual({
      kind: 'stopped',
      stackPointer: 0x7fff0bf2c6c8n,
      programCounter: 0x7f278fc06df2n,
      call: { number: 34n, args: [0x7ffd2n, 0n, 0n, 0n, 0n, 0x7f27n] },
    });
  });

  test('a thread stopped outside a call shows only where it is', () => {
    expect(parseSyscall('-1 0x7ffc 0x401000\n')).toEqual({
      kind: 'stopped',
      stackPointer: 0x7ffcn,
      programCounter: 0x401000n,
    });
  });

  test('a running thread shows nothing', () => {
    expect(parseSyscall('running\n')).toEqual({ kind: 'running' });
  });

  test('text of any other shape is undefined, never an error', () => {
    expect(parseSyscall('0 0x1 0x2\n')).toBeDefined();
    for (const text of ['', '0', '0 0x1', '0 0x1 0x2 0x3', 'x 0x1 0x2', '0 1 2'])
      expect(parseSyscall(text)).toBeUndefined();
    fc.assert(fc.property(fc.string(), (text) => void parseSyscall(text)));
  });
});

describe('the small facts', () => {
  const stat = (state: string, flags: number) =>
    parseStat(Buffer.from(`7 (a) Z (b) ${state} 1 7 7 0 -1 ${flags} ${Array(43).fill('0').join(' ')}\n`));

  test('a zombie and a kernel thread have no memory and say why', () => {
    const [zombie, thread, process] = [stat('Z', 0), stat('S', 0x00208040), stat('S', 0x400000)];
    expect(zombie && memorylessReason(zombie)).toContain('zombie');
    expect(thread && memorylessReason(thread)).toContain('kernel thread');
    expect(process && memorylessReason(process)).toBeUndefined();
  });

  test('the effective owner is the second number', () => {
    expect(parseOwner('Name:\tx\nUid:\t1000\t1001\t1002\t1003\nGid:\t5\t6\t7\t8\n')).toEqual({ uid: 1001, gid: 6 });
    expect(parseOwner('Name:\tx\n')).toBeUndefined();
  });

  test('the devices of FUSE and network file systems are told from mountinfo', () => {
    const mountinfo = [
      '36 35 0:50 / /data rw,nosuid - fuse.sshfs host:/ rw',
      '37 35 254:1 / /x rw - ext4 /dev/vda rw',
      '38 35 0:300 / /nfs rw shared:3 - nfs4 host:/ rw',
    ].join('\n');
    expect([...waitingDevices(mountinfo)]).toEqual(['00:32', '00:12c']);
  });

  test('the page size is in the auxiliary vector', () => {
    const auxv = new Uint8Array(new BigUint64Array([3n, 64n, 6n, 65536n, 0n, 0n]).buffer);
    expect(pageBytesOf(auxv)).toBe(65536);
    expect(pageBytesOf(auxv.subarray(0, 16))).toBeUndefined();
  });
});

describe('/proc/PID/pagemap', () => {
  const entryOf = { '.': 0n, p: 1n << 63n, s: 1n << 62n, f: 5n << 61n, g: (1n << 62n) | (1n << 58n), d: 1n << 55n };
  const stateOf = { '.': 0, p: PAGE.present, s: PAGE.swapped, f: PAGE.present | PAGE.file, g: 0, d: 0 };
  type Letter = keyof typeof entryOf;

  test('runs say of every page what its entry says', () => {
    const letters = fc.array(fc.constantFrom<Letter>('.', 'p', 's', 'f', 'g', 'd'), { maxLength: 200 });
    fc.assert(
      fc.property(letters, fc.bigInt(0n, 1n << 36n), (pages, firstPage) => {
        const entries = new Uint32Array(BigUint64Array.from(pages, (letter) => entryOf[letter]).buffer);
        const seen = pages.map(() => 0);
        const runs: PageRun[] = [];
        decodePagemap(entries, firstPage, 4096n, (start, end, state) => {
          runs.push({ start, end, state });
          for (let page = start / 4096n; page < end / 4096n; page += 1n) seen[Number(page - firstPage)] = state;
        });
        expect(seen).toEqual(pages.map((letter) => stateOf[letter]));
        runs.slice(1).forEach((run, index) => {
          const before = runs[index];
          expect(before?.end !== run.start || before.state !== run.state).toBe(true);
        });
      }),
    );
  });

  const reason = whyNoVictims();
  test.skipIf(reason !== undefined)(`PAGEMAP_SCAN and reading the page map agree ${reason ?? ''}`, async () => {
    using victim = await startVictim(4, 2);
    process.kill(victim.pid, 'SIGSTOP');
    const host = { procRoot: '/proc', hostRoot: '' };
    const { vmas } = parseMaps(readTextSync(host, victim.pid, 'maps').text);
    const small = vmas.filter((vma) => vma.end - vma.start < 1n << 30n && vma.end < 1n << 63n);
    using scan = openPageMap(host, victim.pid, 4096);
    using read = openPageMap(host, victim.pid, 4096, { method: 'read' });
    expect(read.method).toBe('read');
    // The shared page of zeros is present for both; only the scan can tell it.
    const comparable = (runs: PageRun[]): PageRun[] => {
      const merged: PageRun[] = [];
      for (const run of runs.map((each) => ({ ...each, state: each.state & ~(PAGE.zero | PAGE.file) }))) {
        const last = merged.at(-1);
        if (last?.end === run.start && last.state === run.state) merged[merged.length - 1] = { ...last, end: run.end };
        else merged.push(run);
      }
      return merged;
    };
    const names = small.map((vma) => vma.name);
    expect(names.some((name) => name.startsWith('/memfd'))).toBe(true);
    const ofScan = scan.runs(small).runs;
    const ofRead = read.runs(small).runs;
    small.forEach((vma, index) => {
      if (vma.name.startsWith('[v')) return;
      expect(comparable(ofScan[index] ?? []), vma.name).toEqual(comparable(ofRead[index] ?? []));
    });
  });

  test.skipIf(reason !== undefined)(
    `a reservation of 1 TiB costs the scan next to nothing ${reason ?? ''}`,
    async () => {
      using victim = await startVictim(1, 0);
      const host = { procRoot: '/proc', hostRoot: '' };
      using scan = openPageMap(host, victim.pid, 4096);
      if (scan.method !== 'scan') return;
      const { vmas } = parseMaps(readTextSync(host, victim.pid, 'maps').text);
      const started = performance.now();
      const { runs, unknownFrom } = scan.runs(vmas);
      expect(performance.now() - started).toBeLessThan(500);
      expect(unknownFrom).toBeUndefined();
      const sparse = victim.places.get('sparse') ?? 0n;
      expect(runs.flat().filter((run) => run.start <= sparse && sparse < run.end)).toEqual([
        { start: sparse, end: sparse + 4096n, state: PAGE.present },
      ]);
    },
  );
});
