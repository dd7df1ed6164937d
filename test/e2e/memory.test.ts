import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Frozen } from '../../agent/capture/freeze.ts';
import { type MemoryOptions, memoryCollector } from '../../agent/collect/memory.ts';
import type { RegionRecord } from '../../evidence/elfregion.ts';
import { type FakeContext, fakeContext, stopAll } from '../unit/collect/memory-context.ts';
import { startVictim, type Victim, whyNoVictims } from '../unit/collect/memory-victim.ts';
import { program } from './readers.ts';

/** Real processes of this machine, stopped by SIGSTOP, captured, and their cores judged by gdb and readelf. */

const reason = whyNoVictims('gdb', 'readelf');
beforeEach((context) => {
  if (reason !== undefined) context.skip(reason);
});

function gdb(core: string, commands: readonly string[], executable?: string): string {
  const open = executable === undefined ? ['-ex', `core-file ${core}`] : [executable, core];
  const { stdout, stderr } = program('gdb', ['-nx', '-batch', ...open, ...commands.flatMap((each) => ['-ex', each])]);
  return `${stdout}${stderr}`;
}

const hex = (address: bigint): string => `0x${address.toString(16)}`;

/** Places of the victim that hold a needle. */
function needles(victim: Victim): [string, bigint][] {
  return [...victim.places].filter(([place]) => !['reserved', 'untouched', 'zeros'].includes(place));
}

function expectNeedles(victim: Victim, core: string): void {
  const out = gdb(
    core,
    needles(victim).map(([, address]) => `x/s ${hex(address)}`),
  );
  for (const [place] of needles(victim)) expect(out, place).toContain(`NEEDLE-${place}-${victim.token}`);
}

function regionAt(regions: readonly RegionRecord[], address: bigint | undefined): RegionRecord {
  const found = regions.find((each) => BigInt(each.start) <= (address ?? 0n) && (address ?? 0n) < BigInt(each.end));
  if (found === undefined) throw new Error(`no region at ${hex(address ?? 0n)}`);
  return found;
}

async function capture(fake: FakeContext, options: Partial<MemoryOptions> = {}): Promise<FakeContext> {
  await memoryCollector(options).collect(fake.context);
  for (const [name, { announced, came }] of fake.members) expect(came, name).toBe(announced);
  return fake;
}

const coreOf = (fake: FakeContext, victim: Victim): string => fake.file(`${victim.pid}/core`);

describe('a process that was stopped, copied and let go', () => {
  let victim: Victim;
  let fake: FakeContext;
  let smapsBefore: string;
  beforeAll(async () => {
    if (reason !== undefined) return;
    victim = await startVictim(16, 3);
    smapsBefore = memfdOf(victim);
    fake = await capture(fakeContext({ pids: [victim.pid] }));
  });
  afterAll(() => {
    victim?.[Symbol.dispose]();
    fake?.[Symbol.dispose]();
  });

  test('gdb reads every needle at its address from the core alone', () => {
    expect(needles(victim).length).toBeGreaterThanOrEqual(13);
    expectNeedles(victim, coreOf(fake, victim));
  });

  test('gdb finds a needle by searching', () => {
    const { start, end } = regionAt(fake.regions(victim.pid), victim.places.get('heap'));
    const found = gdb(coreOf(fake, victim), [
      `find ${start}, ${hex(BigInt(end) - 1n)}, 'N','E','E','D','L','E','-','h'`,
    ]);
    expect(found).toContain(hex(victim.places.get('heap') ?? 0n));
  });

  test('gdb shows every thread where it stands', () => {
    const out = gdb(coreOf(fake, victim), ['info threads', 'thread apply all p $pc'], victim.program);
    expect(out.match(/LWP \d+\)/g)?.length).toBeGreaterThanOrEqual(4);
    expect(out.match(/pause/g)?.length).toBeGreaterThanOrEqual(4);
  });

  test('gdb finds the symbols of the executable and its own code beside them', () => {
    const out = gdb(coreOf(fake, victim), ['info symbol main', 'x/i main', `p token`], victim.program);
    expect(out).toContain('main in section .text');
    expect(out).not.toContain('Cannot access memory');
  });

  test('readelf has nothing to complain about', () => {
    const { stdout, stderr } = program('readelf', ['-lhnW', coreOf(fake, victim)]);
    expect(stderr).toBe('');
    expect(stdout).not.toMatch(/warning|error|corrupt/i);
    expect(stdout.match(/NT_PRSTATUS/g)).toHaveLength(4);
  });

  test('every mapping has a record, also those of which nothing was taken', () => {
    const lines = readFileSync(`/proc/${victim.pid}/maps`, 'latin1').trimEnd().split('\n');
    expect(fake.regions(victim.pid).map((each) => `${each.start.slice(2)}-${each.end.slice(2)}`)).toEqual(
      lines.map((line) => line.split(' ')[0]?.replace(/^0+|(?<=-)0+/g, '')),
    );
  });

  test('records say what is there: kind, flags, pages, holes', () => {
    const at = (place: string): RegionRecord => regionAt(fake.regions(victim.pid), victim.places.get(place));
    expect(at('heap')).toMatchObject({ kind: 'heap', consistency: 'frozen', gaps: [] });
    expect(at('dontdump').flags).toContain('dd');
    expect(at('protnone')).toMatchObject({ permissions: '---p', capturedBytes: 4096 });
    expect(at('memfd')).toMatchObject({
      kind: 'shared-memory',
      path: '/memfd:line\\012break (deleted)',
      capturedBytes: 4096,
    });
    expect(at('modified')).toMatchObject({ kind: 'file-private' });
    expect(at('modified').modifiedBytes).toBeGreaterThanOrEqual(4096);
    expect(at('reserved')).toMatchObject({ residentBytes: 0, capturedBytes: 0, gaps: [] });
    expect(at('sparse')).toMatchObject({ residentBytes: 4096, capturedBytes: 4096 });
    for (const each of fake.regions(victim.pid)) {
      if (each.skipped === undefined)
        expect(each.capturedBytes).toBe(each.residentBytes + each.swappedBytes - each.zeroBytes);
    }
  });

  test('no page that the process had not touched was touched for it', () => {
    expect(memfdOf(victim)).toBe(smapsBefore);
  });

  test('terabytes of reservation take no room', () => {
    expect(fake.members.get(`${victim.pid}/core`)?.came).toBeLessThan(32 << 20);
  });

  test('facts, footprint and notes tell how it was done', () => {
    expect(fake.facts.get('processes')).toBe(1);
    expect(fake.facts.get('liveBytes')).toBe(0);
    expect(fake.facts.get('capturedBytes')).toBeGreaterThan(16 << 20);
    expect(fake.footprint.bytes).toBeGreaterThan(16 << 20);
    expect(fake.notes.join()).toMatch(/registers of 4 of 4 threads are partial/);
    expect(fake.gaps).toEqual([]);
  });
});

/** Resident size of the victim's memfd: reading an untouched page of it would allocate it. */
function memfdOf(victim: Victim): string {
  const smaps = readFileSync(`/proc/${victim.pid}/smaps`, 'latin1');
  return /\/memfd:[\s\S]*?Rss:\s+(\d+ kB)/.exec(smaps)?.[1] ?? 'none';
}

describe('when not everything can be had in one moment', () => {
  test('what does not fit into the buffer is read after the thaw, and the record says which', async () => {
    using victim = await startVictim(32);
    using fake = await capture(fakeContext({ pids: [victim.pid], bufferBytes: 8 << 20 }), { whenLarger: 'live' });
    expectNeedles(victim, coreOf(fake, victim));
    expect(fake.facts.get('bufferedBytes')).toBe(8 << 20);
    expect(fake.notes.join()).toMatch(/buffer of 8388608 bytes was full/);
    const live = fake.regions(victim.pid).filter((each) => each.consistency === 'live');
    expect(live.reduce((sum, each) => sum + each.liveBytes, 0)).toBe(fake.facts.get('liveBytes'));
    expect(regionAt(fake.regions(victim.pid), victim.places.get('heap')).consistency).toBe('frozen');
  });

  test('a live capture reads everything and says that it is live', async () => {
    using victim = await startVictim(8, 1);
    using fake = await capture(fakeContext({ pids: [victim.pid], consistency: 'live' }));
    expectNeedles(victim, coreOf(fake, victim));
    expect(fake.pauseMs()).toBe(0);
    expect(fake.facts.get('liveBytes')).toBe(fake.facts.get('capturedBytes'));
  });

  test('a target that cannot be frozen is read live', async () => {
    using victim = await startVictim(1);
    const freeze = () => Promise.reject(new Error('containerd is away'));
    using fake = await capture(fakeContext({ pids: [victim.pid], freeze }));
    expectNeedles(victim, coreOf(fake, victim));
    expect(fake.notes.join()).toContain('could not be frozen (containerd is away)');
    expect(
      fake
        .regions(victim.pid)
        .filter((each) => each.capturedBytes > 0)
        .every((each) => each.consistency === 'live'),
    ).toBe(true);
  });

  test('what is copied after the deadline is called live', async () => {
    using victim = await startVictim(64);
    using fake = await capture(fakeContext({ pids: [victim.pid], deadlineMs: 1 }));
    expectNeedles(victim, coreOf(fake, victim));
    expect(fake.notes.join()).toContain('the freeze ended before the copy');
    expect(fake.facts.get('liveBytes')).toBeGreaterThan(0);
  });
});

describe('processes that come, go and change', () => {
  test('a process that came after the survey is captured', async () => {
    using first = await startVictim(1);
    using second = await startVictim(1);
    let listed = 0;
    const pids = () => (++listed === 1 ? [first.pid] : [first.pid, second.pid]);
    using fake = await capture(fakeContext({ pids }));
    expectNeedles(second, coreOf(fake, second));
    expect(fake.facts.get('processes')).toBe(2);
  });

  test('a process that went before the freeze is a gap, and the others are captured', async () => {
    using first = await startVictim(1);
    using second = await startVictim(1);
    const freeze = async (): Promise<Frozen> => {
      second.process.kill('SIGKILL');
      await once(second.process, 'exit');
      return stopAll([first.pid], 5000, () => undefined);
    };
    using fake = await capture(fakeContext({ pids: () => [first.pid, second.pid], freeze }));
    expectNeedles(first, coreOf(fake, first));
    expect(fake.gaps).toMatchObject([{ pid: second.pid, errno: 'ESRCH' }]);
  });

  test('a process that is killed while frozen is a gap, never a hang', async () => {
    using victim = await startVictim(4);
    const onFrozen = (): void => void victim.process.kill('SIGKILL');
    using fake = await capture(fakeContext({ pids: [victim.pid], onFrozen }));
    expect(fake.gaps.length + fake.members.size).toBeGreaterThan(0);
    expect(fake.gaps.every((gap) => gap.pid === victim.pid)).toBe(true);
  });

  test('a process that is a zombie by the time of the freeze is a gap, for it had memory before', async () => {
    using victim = await startVictim(1);
    // Its parent does not wait for it: it stays a zombie.
    const parent = spawn('sh', ['-c', 'sleep 600 & echo $!; exec sleep 600'], { stdio: ['ignore', 'pipe', 'ignore'] });
    try {
      const [line] = (await once(parent.stdout, 'data')) as [Buffer];
      const pid = Number(line.toString());
      const onFrozen = (): void => {
        process.kill(pid, 'SIGKILL');
        for (let tries = 0; !/\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'latin1')) && tries < 1e6; ) tries += 1;
      };
      using fake = await capture(fakeContext({ pids: [victim.pid, pid], onFrozen }));
      expect(fake.gaps).toMatchObject([{ pid, errno: 'ESRCH' }]);
      expect(fake.members.has(`${victim.pid}/core`)).toBe(true);
    } finally {
      parent.kill('SIGKILL');
    }
  });

  test('a process that runs another program meanwhile is captured as what it is then', async () => {
    const child = spawn('sh', ['-c', 'read go; exec perl -e "\\$s = reverse q(RETFA-XIBIHXE); sleep 600"'], {
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    const pid = child.pid ?? 0;
    const freeze = async (): Promise<Frozen> => {
      child.stdin.write('\n');
      while (!readlinkSync(`/proc/${pid}/exe`).includes('perl')) await sleep(5);
      await sleep(200);
      return stopAll([pid], 5000, () => undefined);
    };
    using fake = await capture(fakeContext({ pids: [pid], freeze }));
    child.kill('SIGKILL');
    expect(readFileSync(fake.file(`${pid}/core`)).includes('EXHIBIX-AFTER')).toBe(true);
    expect(fake.regions(pid).some((each) => each.path.includes('perl'))).toBe(true);
  });

  test('a zombie and a kernel thread have no core and are no gap', async () => {
    // perl forks a child that ends at once, and does not wait for it.
    const script = '$| = 1; my $pid = fork() // die; exit 0 if !$pid; print "$pid\\n"; sleep 600';
    const parent = spawn('perl', ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = (await once(parent.stdout, 'data')) as [Buffer];
    await sleep(100);
    using fake = await capture(fakeContext({ pids: [Number(line.toString()), 2], consistency: 'live' }));
    parent.kill('SIGKILL');
    expect(fake.notes.join('\n')).toMatch(/zombie[\s\S]*kernel thread/);
    expect([fake.gaps, fake.members.size, fake.facts.get('processes')]).toEqual([[], 0, 0]);
  });
});
