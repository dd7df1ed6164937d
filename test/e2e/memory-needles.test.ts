import { closeSync, openSync, readSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, type TestContext, test } from 'vitest';
import type { RegionRecord } from '../../evidence/elfregion.ts';
import { startAgent } from '../lab/agent.ts';
import { lendHugePages, lendSwap } from '../lab/lend.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import type { Needle } from '../lab/planted.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { PLACES, startZoo, type Zoo, zooNodeRoot } from '../lab/zoo.ts';
import { hasProgram } from './readers.ts';
import { type Agent, addressesOf, atAddress, gdb, type TakenMemory, takeMemory } from './taken-memory.ts';

/**
 * Needles in every kind of memory of C, Go, Java, Python, Node, nginx and redis, all in one container that containerd
 * pauses. The machine lends swap space and huge pages for the length of this file.
 */

/** Gives everything back, also when one of them cannot be. */
const lent = new DisposableStack();
let node: LabNode;
let zoo: Zoo;
let agent: Agent;
let taken: TakenMemory;
let wasSwapped = false;

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  lent.use(lendSwap(32));
  lent.use(lendHugePages(2));
  node = await startNode({ root: zooNodeRoot() });
  zoo = await startZoo(node);
  agent = await startAgent(node, { config: { memory: { bufferBytes: '512MiB' } } });
  wasSwapped = isSwapped(zoo.needles.get('c-swapped'));
  taken = await takeMemory(agent, zoo.target);
}, 180_000);

afterAll(async () => {
  taken?.[Symbol.dispose]();
  await agent?.[Symbol.asyncDispose]();
  zoo?.[Symbol.dispose]();
  await node?.[Symbol.asyncDispose]();
  lent.dispose();
}, 60_000);

beforeEach((context) => requireLab(context));

/** Bit 62 of the page's entry in /proc/PID/pagemap. */
function isSwapped(needle: Needle | undefined): boolean {
  if (needle?.address === undefined) return false;
  const entry = Buffer.alloc(8);
  const file = openSync(path.join(node.procRoot, String(needle.pid), 'pagemap'), 'r');
  readSync(file, entry, 0, 8, (needle.address / 4096n) * 8n);
  closeSync(file);
  return (entry.readBigUInt64LE() >> 62n) % 2n === 1n;
}

function needleIn(place: string, context: TestContext): Needle {
  const needle = zoo.needles.get(place);
  if (needle === undefined) context.skip(zoo.absent.get(place) ?? 'the program did not say where');
  return needle;
}

/** The mapping that holds the needle, as the evidence describes it. */
function regionOf({ pid, address = 0n }: Needle): RegionRecord | undefined {
  return taken.regions(pid).find(({ start, end }) => BigInt(start) <= address && address < BigInt(end));
}

describe('one container that was frozen as a whole', () => {
  test.for(PLACES)('the needle in %s is found', async (place, context) => {
    if (place === 'c-parent-shared' && !taken.hasShared) context.skip('shared memory is stored once a process here');
    const { pid, text, address } = needleIn(place, context);
    const core = await taken.core(pid);
    const found = addressesOf(core, text);
    expect(found, 'addresses of the needle in captured memory').not.toEqual([]);
    if (address === undefined) return;
    expect(found).toContain(address);
    if (!hasProgram('gdb')) context.skip('found, but needs gdb to be read at its address');
    expect(gdb(core, [atAddress(address)])).toContain(text);
  });

  test('every process of it has a core, and nothing is missing', () => {
    const pids = new Set([...zoo.needles.values()].map(({ pid }) => pid));
    expect(taken.pids).toEqual(expect.arrayContaining([...pids]));
    expect(taken.gaps()).toEqual([]);
    expect(taken.record).toMatchObject({ status: 'captured', facts: { liveBytes: 0 } });
  });

  test('the record says which page was swapped', (context) => {
    const needle = needleIn('c-swapped', context);
    if (!wasSwapped) context.skip('needs swap space: the kernel did not swap the page out');
    expect(regionOf(needle)?.swappedBytes).toBeGreaterThan(0);
  });

  test('the record says which memory was out of reach for the process itself', (context) => {
    expect(regionOf(needleIn('c-prot-none', context))).toMatchObject({ permissions: '---p', residentBytes: 4096 });
  });

  test('the record says which memory is huge pages', (context) => {
    expect(regionOf(needleIn('c-huge', context))).toMatchObject({ kind: 'huge-pages', residentBytes: 2 << 20 });
  });

  test('the record says which page of a file the process has changed', (context) => {
    expect(regionOf(needleIn('c-file-private', context))).toMatchObject({ kind: 'file-private', modifiedBytes: 4096 });
  });
});
