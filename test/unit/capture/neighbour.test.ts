import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { CaptureRequest } from '../../../agent/capture/captures.ts';
import { type NeighbourParts, openNeighbour } from '../../../agent/capture/neighbour.ts';
import { diskRoom } from '../../../agent/host/disk-room.ts';
import { limitsSchema } from '../../../agent/limits.ts';
import { Bandwidth } from '../../../agent/sink/bandwidth.ts';
import { openSink } from '../../../agent/sink/open.ts';
import type { ArtifactName } from '../../../evidence/layout.ts';
import { ID, requestOf } from './agent.ts';

/** The limits applied, to the machine that the test runs on. */

const log = pino({ enabled: false });
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'exhibit-neighbour-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

function open(limits: object, more: Partial<NeighbourParts> = {}) {
  const sinks = [{ name: 'default', sink: openSink({ url: pathToFileURL(folder).href }) }];
  const host = { procRoot: '/proc', hostRoot: folder };
  const neighbour = openNeighbour({ limits: limitsSchema.parse(limits), host, sinks, log, ...more });
  const admit = (artifacts: ArtifactName[], over: Partial<CaptureRequest> = {}) =>
    neighbour.admit(ID, { ...requestOf(ID, artifacts), ...over }, { artifacts, sinks: [] });
  return { neighbour, admit };
}

const TOO_MUCH = { memory: { minAvailableBytes: '100000GiB' } };

describe('a request that says force', () => {
  test('is refused like any other where its trigger may not, and told how it may', async () => {
    const { neighbour, admit } = open(TOO_MUCH);
    await expect(admit(['memory'], { force: true })).rejects.toMatchObject({
      code: 'refused',
      message: expect.stringContaining('limits.override'),
    });
    expect(neighbour.numbers()).toMatchObject({ refusals: { memory: 1 }, overridden: 0, heavyRunning: 0 });
  });

  test('passes where it may, with what it passed', async () => {
    const { neighbour, admit } = open({ ...TOO_MUCH, override: ['socket'] });
    await expect(admit(['memory'])).rejects.toThrow('--force');
    const { overridden } = await admit(['memory'], { force: true });
    expect(overridden).toEqual([expect.stringContaining('limits.memory.minAvailableBytes is 102400000 MiB')]);
    expect(neighbour.numbers()).toMatchObject({ refusals: { memory: 1 }, overridden: 1, heavyRunning: 1 });
  });

  test('does not pass a full line', async () => {
    const { neighbour, admit } = open({ queue: { length: 0 }, override: ['socket'], memory: { minAvailableBytes: 0 } });
    const { turn } = await admit(['memory']);
    await expect(admit(['rootfs'], { force: true })).rejects.toThrow('limits.queue.length is 0');
    expect(neighbour.numbers()).toMatchObject({ refusals: { queue: 1 }, heavyRunning: 1, heavyWaiting: 0 });
    turn[Symbol.dispose]();
    expect(neighbour.numbers().heavyRunning).toBe(0);
  });
});

describe('a light capture', () => {
  test('stands in no line, and is not asked for memory', async () => {
    const { neighbour, admit } = open({ ...TOO_MUCH, queue: { length: 0 } });
    for (let count = 0; count < 3; count += 1) expect((await admit(['processes', 'network'])).turn.before).toBe(0);
    expect(neighbour.numbers()).toMatchObject({ heavyRunning: 0, heavyWaiting: 0 });
  });
});

test('a capture that a schedule asked for stands behind one that somebody asked for later', async () => {
  const { admit } = open({ memory: { minAvailableBytes: 0 } });
  const scheduled = { requester: { trigger: 'schedule', identity: 'nightly' } };
  const [, early, late] = [
    await admit(['memory'], scheduled),
    await admit(['memory'], scheduled),
    await admit(['memory']),
  ];
  expect([late?.turn.before, early?.turn.before]).toEqual([1, 2]);
});

describe('a node that fills up while a capture waits', () => {
  const say = (availableKiB: number) => writeFile(path.join(folder, 'meminfo'), `MemAvailable: ${availableKiB} kB\n`);

  test.each([
    ['has no room any more for what is heavy', false, expect.stringContaining('1 MiB of memory are available')],
    ['has room for what may pass its limits', true, undefined],
  ])('%s', async (_, force, expected) => {
    await say(8 * 2 ** 20);
    const { admit } = open({ override: ['socket'] }, { host: { procRoot: folder, hostRoot: folder } });
    const { stillShort } = await admit(['memory'], force ? { force } : {});
    expect(await stillShort()).toBeUndefined();
    await say(1024);
    expect(await stillShort()).toEqual(expected);
  });
});

test('what the line to S3 held back is among its numbers', () => {
  const upload = Object.assign(new Bandwidth(65_536), { waitedMs: 2_500 });
  expect(open({}, { upload }).neighbour.numbers().pacedSeconds).toEqual({ cpu: 0, read: 0, upload: 2.5 });
});

test('the disk where evidence waits is looked at beside those of the sinks', async (context) => {
  // Only looked at; the temporary folder may be memory, which is no disk.
  const spoolFolder = import.meta.dirname;
  if ((await diskRoom({ procRoot: '/proc', hostRoot: folder }, spoolFolder)) === undefined)
    context.skip('needs a checkout on a disk');
  const limits = { memory: { minAvailableBytes: 0, maxPressurePercent: 100 }, disk: { minFreeBytes: '1000000GiB' } };
  const found = await open(limits, { sinks: [], spoolFolder }).neighbour.shortages();
  expect(found).toEqual([expect.stringContaining(`the disk of ${spoolFolder},`)]);
});

describe('readiness', () => {
  test('hears what a heavy capture would be refused for', async () => {
    expect(await open(TOO_MUCH).neighbour.shortages()).toEqual([
      expect.stringContaining('limits.memory.minAvailableBytes'),
    ]);
  });
});
