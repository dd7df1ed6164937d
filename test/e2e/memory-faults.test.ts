import { globSync, readFileSync, statSync } from 'node:fs';
import { release } from 'node:os';
import path from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, type TestContext, test } from 'vitest';
import { startAgent } from '../lab/agent.ts';
import { zooSource } from '../lab/cache.mjs';
import { lendMappings } from '../lab/lend.ts';
import { memoryCgroup } from '../lab/memory-cgroup.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { compileC, type Needle, type Planted, runPlanted } from '../lab/planted.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { hasProgram } from './readers.ts';
import {
  type Agent,
  addressesOf,
  atAddress,
  complaints,
  gdb,
  readTaken,
  type TakenMemory,
  takeMemory,
} from './taken-memory.ts';

/** Processes that are hard to capture, on a real containerd: each gives a core that opens and gaps that say why. */

const MIB = 1 << 20;
const ODD = ['storm', 'sparse', 'reserve', 'secret', 'zombies', 'exec'];
const MAPPINGS = 100_000;

let node: LabNode;
let odd: Planted;
let agent: Agent;
let noCompiler: string | undefined;

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  node = await startNode();
  const place = path.join(node.hostRoot, 'run/odd');
  noCompiler = compileC(zooSource('odd.c'), place);
  if (noCompiler !== undefined) return;
  agent = await startAgent(node, { config: { memory: { bufferBytes: '1GiB' }, freeze: { deadlineMs: 30_000 } } });
}, 120_000);

afterAll(async () => {
  await agent?.[Symbol.asyncDispose]();
  await node?.[Symbol.asyncDispose]();
}, 60_000);

beforeEach((context) => {
  requireLab(context);
  if (noCompiler !== undefined) context.skip(noCompiler);
});

/** A pod whose container runs `odd KIND` for each kind; the needle of KIND is in the place KIND. */
function runOdd(name: string, kinds: readonly string[]): Promise<Planted> {
  const planters = kinds.map((kind) => {
    const [word = kind] = kind.split(' ');
    return { name: word, command: `/bin/odd ${kind}`, places: word === 'secret' ? [word, 'memfd-secret'] : [word] };
  });
  const mounts = [{ hostPath: '/run/odd', containerPath: '/bin/odd', readonly: true }];
  return runPlanted(node, { name, planters, container: { mounts } });
}

function needleOf(planted: Planted, place: string, context: TestContext): Needle {
  const needle = planted.needles.get(place);
  if (needle === undefined) context.skip(`needs what this machine refuses: ${planted.refused.get(place)}`);
  return needle;
}

async function expectNeedle(taken: TakenMemory, { pid, text, address = 0n }: Needle): Promise<void> {
  const core = await taken.core(pid);
  expect(addressesOf(core, text)).toContain(address);
  if (hasProgram('gdb')) expect(gdb(core, [atAddress(address)])).toContain(text);
}

function regionOf(taken: TakenMemory, { pid, address = 0n }: Needle) {
  return taken.regions(pid).find(({ start, end }) => BigInt(start) <= address && address < BigInt(end));
}

/** Older kernels can only look through a mapping page by page. */
function hasPageMapScan(): boolean {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  return major > 6 || (major === 6 && minor >= 7);
}

describe('a container of odd processes', () => {
  beforeAll(async () => {
    if (labObstacle() === undefined && noCompiler === undefined) odd = await runOdd('odd-0', ODD);
  });
  // They keep the machine busy, and the tests that follow do not need them.
  afterAll(() => odd?.pod.stop());

  describe.each(['frozen', 'live'] as const)('captured %s', (consistency) => {
    let taken: TakenMemory;
    beforeAll(async () => {
      if (labObstacle() !== undefined || noCompiler !== undefined) return;
      taken = await takeMemory(agent, 'prod/odd-0', '--consistency', consistency);
    });
    afterAll(() => taken?.[Symbol.dispose]());

    test('every core opens, and every gap says why', async () => {
      expect(taken.pids.length).toBeGreaterThanOrEqual(ODD.length);
      for (const pid of taken.pids) expect(complaints(await taken.core(pid)), `pid ${pid}`).toBe('');
      for (const why of taken.gaps()) expect(why).toMatch(/.{10}/);
      expect(taken.record.facts.liveBytes === 0).toBe(consistency === 'frozen');
      // What stands still leaves no gaps, but for the memory that cannot be read.
      const others = taken.record.gaps.filter(({ pid }) => pid !== odd.needles.get('secret')?.pid);
      if (consistency === 'frozen') expect(others).toEqual([]);
    });

    test('of a process that maps and unmaps all the time, what stood still is there', async (context) => {
      const needle = needleOf(odd, 'storm', context);
      await expectNeedle(taken, needle);
      if (consistency === 'frozen') expect(taken.regions(needle.pid).flatMap(({ gaps }) => gaps)).toEqual([]);
    });

    test('a process that runs itself again all the time is captured as one of its lives, or is a gap', async (context) => {
      const { pid, text } = needleOf(odd, 'exec', context);
      if (!taken.pids.includes(pid)) {
        expect(consistency).toBe('live');
        expect(taken.record.gaps.map((gap) => gap.pid)).toContain(pid);
        return;
      }
      const core = await taken.core(pid);
      expect(addressesOf(core, text)).toEqual([]);
      // Its arguments are on the stack of the life that was captured.
      if (consistency === 'frozen') expect(addressesOf(core, 'exec\0again\0')).not.toEqual([]);
    });

    // Beyond 512 runs, PAGEMAP_SCAN of Linux 6.18 says that it got less far than it did: the last runs are told twice.
    test('of a process whose pages lie scattered, every page is captured once', async (context) => {
      const needle = needleOf(odd, 'sparse', context);
      await expectNeedle(taken, needle);
      const bytes = 4096 * 4096;
      expect(regionOf(taken, needle)).toMatchObject({ residentBytes: bytes, capturedBytes: bytes, gaps: [] });
      for (const { start, end, residentBytes, path: name } of taken.regions(needle.pid)) {
        expect(residentBytes, name).toBeLessThanOrEqual(Number(BigInt(end) - BigInt(start)));
      }
    });

    test('a reservation of 127 TiB with one page in it costs that page', async (context) => {
      const needle = needleOf(odd, 'reserve', context);
      if (!hasPageMapScan()) {
        expect(taken.gapsAt(needle.pid, needle.address ?? 0n).join('\n')).toMatch(/.{10}/);
        context.skip('the gap says why: needs Linux 6.7 for the page itself');
      }
      await expectNeedle(taken, needle);
      const region = regionOf(taken, needle);
      expect(Number(BigInt(region?.end ?? 0) - BigInt(region?.start ?? 0)) / 2 ** 40).toBeGreaterThan(100);
      expect(region).toMatchObject({ residentBytes: 4096, capturedBytes: 4096, gaps: [] });
      expect(statSync(await taken.core(needle.pid)).size).toBeLessThan(8 * MIB);
      expect(taken.record.footprint.pauseMs).toBeLessThan(5000);
    });

    test('memory that nobody else may read is a gap with the reason, and the rest of the process is there', async (context) => {
      await expectNeedle(taken, needleOf(odd, 'secret', context));
      const secret = needleOf(odd, 'memfd-secret', context);
      const region = regionOf(taken, secret);
      expect([region?.capturedBytes, region?.elsewhereBytes ?? 0]).toEqual([0, 0]);
      expect(taken.gapsAt(secret.pid, secret.address ?? 0n).join('\n')).toMatch(/.{10}/);
    });

    test('children that have ended have no core and are no gap', async (context) => {
      const needle = needleOf(odd, 'zombies', context);
      await expectNeedle(taken, needle);
      const ended = zombiesOf(needle.pid);
      expect(ended).toHaveLength(8);
      expect(taken.pids.filter((pid) => ended.includes(pid))).toEqual([]);
      expect(taken.record.gaps.filter(({ pid }) => ended.includes(pid ?? 0))).toEqual([]);
    });
  });
});

function zombiesOf(parent: number): number[] {
  const children = readFileSync(path.join(node.procRoot, `${parent}/task/${parent}/children`), 'latin1');
  return children.trim().split(' ').map(Number);
}

test(`a process with ${MAPPINGS} mappings has a core that gdb opens, and no gap`, async (context) => {
  using lent = lendMappings(MAPPINGS + 1000);
  if (lent === undefined) context.skip('needs vm.max_map_count to be raised');
  const crowd = await runOdd('crowd-0', [`crowd ${MAPPINGS}`]);
  try {
    const needle = needleOf(crowd, 'crowd', context);
    using taken = await takeMemory(agent, 'prod/crowd-0');
    expect(taken.regions(needle.pid).length).toBeGreaterThan(MAPPINGS);
    expect(taken.gaps()).toEqual([]);
    await expectNeedle(taken, needle);
    expect(complaints(await taken.core(needle.pid))).toBe('');
  } finally {
    await crowd.pod.stop();
  }
});

test('an agent whose memory limit is lower than its buffer uses less, says so, and is not killed', async (context) => {
  await using limited = memoryCgroup(300 * MIB) ?? context.skip('needs a memory controller of cgroups');
  const greedy = await runOdd('greedy-0', ['heavy 450']);
  try {
    const needle = needleOf(greedy, 'heavy', context);
    await using small = await limited.within(() =>
      startAgent(node, { config: { memory: { bufferBytes: '2GiB' }, freeze: { deadlineMs: 30_000 } } }),
    );
    using taken = await takeMemory(small, 'prod/greedy-0');
    expect(limited.kills()).toBe(0);
    expect(taken.record.facts.bufferBytes).toBeLessThan(300 * MIB);
    expect(taken.record.notes.join('\n')).toMatch(/limit/);
    expect(taken.gaps()).toEqual([]);
    await expectNeedle(taken, needle);
    const bytes = taken.regions(needle.pid).map((each) => each.capturedBytes + (each.elsewhereBytes ?? 0));
    expect(bytes.reduce((sum, each) => sum + each, 0)).toBeGreaterThanOrEqual(450 * MIB);
  } finally {
    await greedy.pod.stop();
  }
});

test('a process that is killed while it is frozen is a gap, and the others are whole', async (context) => {
  const doomed = await runOdd('doomed-0', ['heavy 300', 'zombies']);
  try {
    const victim = needleOf(doomed, 'heavy', context);
    const id = '01a20000-0000-7000-8000-00000000f00d';
    const files = globSync(path.join(node.hostRoot, 'sys/fs/cgroup', node.cgroupParent, '**/cgroup.events'));
    const isFrozen = () => files.some((file) => /^frozen 1$/m.test(readFileSync(file, 'utf8')));
    const hostPid = node.hostPid(victim.pid);
    const client = agent.exhibit('capture', 'prod/doomed-0', '--artifacts', 'memory', '--id', id);
    let ended = false;
    void client.then(() => (ended = true));
    while (!isFrozen() && !ended) await turn();
    process.kill(hostPid, 'SIGKILL');
    const { code, stderr } = await client;
    expect(code, stderr).toBe(0);
    using taken = await readTaken(agent, id);
    await expectNeedle(taken, needleOf(doomed, 'zombies', context));
    if (taken.pids.includes(victim.pid)) {
      expect(complaints(await taken.core(victim.pid))).toBe('');
      const gaps = taken.regions(victim.pid).flatMap((each) => each.gaps);
      expect(gaps.map(({ why }) => why).join('\n')).toMatch(/.{10}/);
    } else expect(taken.record.gaps.map(({ pid }) => pid)).toContain(victim.pid);
    expect(isFrozen()).toBe(false);
    expect((await doomed.pod.exec('doomed-0', ['true'])).code).toBe(0);
  } finally {
    await doomed.pod.stop();
  }
});

test('a thread of the kernel is refused in a sentence', async (context) => {
  const isKernel = (pid: number) =>
    /^Kthread:\s+1|^Name:\s+kthreadd/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  if (!isKernel(2)) context.skip('needs to see the pids of the machine itself');
  await using plain = await startAgent(undefined);
  const { code, stderr } = await plain.exhibit('capture', 'pid:2', '--artifacts', 'memory');
  expect(stderr).toMatch(/pid:2.*thread of the kernel/);
  expect(code).toBe(2);
});
