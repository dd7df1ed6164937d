import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { mkdtemp, open, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createCheckpointCollector } from '../../../agent/collect/checkpoint.ts';
import type { CollectContext } from '../../../agent/collect/collector.ts';
import { cleanStaleFifos } from '../../../agent/host/fifo.ts';
import {
  asHostPath,
  type CheckpointRung,
  type HostPath,
  type Runtime,
  type Target,
} from '../../../agent/runtime/runtime.ts';
import { ExhibitError, isExhibitError } from '../../../evidence/error.ts';
import { bundleContext, makeTarget } from './bundle-context.ts';
import { planFor } from './checkpoint-plan.ts';

const HOST = { procRoot: '/proc', hostRoot: '' };
/** More than a FIFO holds (64 KiB), so that a writer whose reader stops would block. */
const BIG = Buffer.alloc(1024 * 1024, 7);
/** Two records of zeros, as a tar archive ends; with a first record that is not zero. */
const tarOf = (body: Buffer) => Buffer.concat([body, Buffer.alloc(1024)]);

let folder: string;
let runDir: HostPath;
let resumed: number;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'exhibit-checkpoint-'));
  runDir = asHostPath(path.join(folder, 'run'));
  resumed = 0;
});

// Retried: a guard that is ending may still store the code it was loaded from.
afterEach(() => rm(folder, { recursive: true, maxRetries: 10 }));

/** A runtime that writes to the FIFO as containerd does: opened for reading and writing. */
function runtimeThat(write: (fifo: Writer) => Promise<void>): Runtime {
  return {
    ...bundleContext(path.join(folder, 'unused'), makeTarget({})).context.runtime,
    kind: 'cri',
    rungs: [
      rungThat(async (_, location) => {
        await using writer = await openWriter(location);
        await write(writer);
      }),
    ],
    pauseOf: () => undefined,
    resumeIfPaused: async () => {
      resumed += 1;
      return true;
    },
  };
}

const rungThat = (checkpoint: (target: Target, location: HostPath) => Promise<void>): CheckpointRung => ({
  name: 'cri',
  delivers: 'archive',
  checkpoint,
  clean: async () => [],
});

interface Writer extends AsyncDisposable {
  write(bytes: Buffer): Promise<void>;
}

async function openWriter(location: string): Promise<Writer> {
  const handle = await open(location, constants.O_RDWR | constants.O_CREAT);
  return {
    async write(bytes) {
      for (let at = 0; at < bytes.length; ) at += (await handle.write(bytes, at)).bytesWritten;
    },
    [Symbol.asyncDispose]: () => handle.close(),
  };
}

interface Run {
  readonly runtime: Runtime;
  readonly signal?: AbortSignal;
  readonly abortWaitMs?: number;
  readonly change?: (context: CollectContext) => Partial<CollectContext>;
}

async function collect({ runtime, signal, abortWaitMs = 5000, change = () => ({}) }: Run) {
  const bundle = bundleContext(path.join(folder, 'bundle'), makeTarget({}), signal === undefined ? {} : { signal });
  const checkpoint = planFor(runtime.rungs);
  const context = { ...bundle.context, runtime, checkpoint, ...change(bundle.context) };
  const failure = await createCheckpointCollector({ runDir, abortWaitMs })
    .collect(context)
    .then(
      () => undefined,
      (error: unknown) => error,
    );
  return { ...bundle, failure };
}

/** What a checkpoint left: not the code that its guard, like every guard, is loaded from. */
const left = async () => (await readdir(runDir)).filter((name) => name !== 'code');

describe('the checkpoint collector', () => {
  test('stores every byte the runtime writes and removes the FIFO', async () => {
    const tar = tarOf(BIG);
    const { failure, content, facts, footprint } = await collect({ runtime: runtimeThat((fifo) => fifo.write(tar)) });
    expect(failure).toBeUndefined();
    expect(content('checkpoint.tar.zst').equals(tar)).toBe(true);
    expect(facts.get('rungs')).toMatchObject([{ rung: 'cri', outcome: 'worked', wallMs: expect.any(Number) }]);
    expect(facts.get('checkpointBy')).toBe('cri');
    expect(footprint.bytes).toBe(tar.length);
    expect(resumed).toBe(0);
    expect(await left()).toEqual([]);
  });

  test('waits for a runtime that opens the FIFO late', async () => {
    const late = rungThat(async (_, location) => {
      await sleep(300);
      await using writer = await openWriter(location);
      await writer.write(tarOf(BIG));
    });
    const { failure, objects } = await collect({ runtime: { ...runtimeThat(async () => {}), rungs: [late] } });
    expect(failure).toBeUndefined();
    expect(objects).toHaveLength(1);
  });

  test('drops the object and resumes the container when the runtime fails in the middle', async () => {
    const runtime = runtimeThat(async (fifo) => {
      await fifo.write(BIG);
      throw new ExhibitError('runtime-failed', 'criu failed: type NOTIFY errno 0');
    });
    const { failure, objects, facts, notes } = await collect({ runtime });
    expect(isExhibitError(failure, 'runtime-failed')).toBe(true);
    expect(String(failure)).toContain('no checkpoint: cri: criu failed');
    expect(objects).toEqual([]);
    expect(facts.get('rungs')).toMatchObject([
      { rung: 'cri', outcome: 'failed', error: 'criu failed: type NOTIFY errno 0' },
    ]);
    expect(resumed).toBe(1);
    expect(notes.join()).toContain('the agent resumed it');
    expect(await left()).toEqual([]);
  });

  test('ends when the runtime fails before it opened the FIFO', async () => {
    const rungs = [rungThat(() => Promise.reject(new Error('no criu')))];
    const runtime: Runtime = { ...runtimeThat(async () => {}), rungs };
    const { failure } = await collect({ runtime });
    expect(String(failure)).toContain('no criu');
    expect(await left()).toEqual([]);
  });

  test('says why a runtime without checkpoints has none, and leaves the task alone', async () => {
    const refusal = new ExhibitError('runtime-unsupported', 'containerd 1.7 offers no checkpoint; 2.0 and newer do');
    const runtime: Runtime = { ...runtimeThat(async () => {}), rungs: [rungThat(() => Promise.reject(refusal))] };
    const { failure } = await collect({ runtime });
    expect(isExhibitError(failure, 'runtime-unsupported')).toBe(true);
    expect(String(failure)).toContain('2.0 and newer do');
    expect(resumed).toBe(0);
  });

  test('calls an archive without an end broken although the runtime was content', async () => {
    const { failure, objects } = await collect({ runtime: runtimeThat((fifo) => fifo.write(BIG)) });
    expect(isExhibitError(failure, 'runtime-failed')).toBe(true);
    expect(String(failure)).toContain('ended early, after 1048576 bytes');
    expect(objects).toEqual([]);
  });

  test('reads the runtime dry after the sink failed, then tells the sink’s error', async () => {
    const broken = new ExhibitError('sink-failed', 'the bucket is gone');
    let written = 0;
    const runtime = runtimeThat(async (fifo) => {
      for (let round = 0; round < 8; round += 1) {
        await fifo.write(BIG);
        written += 1;
      }
    });
    const { failure, objects } = await collect({
      runtime,
      change: () => ({
        foreignArchive: async () => ({
          write: () => Promise.reject(broken),
          commit: () => Promise.reject(broken),
          [Symbol.asyncDispose]: async () => {},
        }),
      }),
    });
    expect(failure).toBe(broken);
    expect(written).toBe(8);
    expect(objects).toEqual([]);
    expect(await left()).toEqual([]);
  });

  test('never starts a checkpoint when the sink cannot take the object', async () => {
    const broken = new ExhibitError('sink-failed', 'the bucket is gone');
    let asked = false;
    const runtime = runtimeThat(async () => {
      asked = true;
    });
    const { failure } = await collect({ runtime, change: () => ({ foreignArchive: () => Promise.reject(broken) }) });
    expect(failure).toBe(broken);
    expect(asked).toBe(false);
  });

  test('stops storing on abort but lets the runtime finish', async () => {
    const end = new AbortController();
    let finished = false;
    const runtime = runtimeThat(async (fifo) => {
      await fifo.write(BIG);
      end.abort(new Error('enough'));
      await fifo.write(BIG);
      finished = true;
    });
    const { failure, objects } = await collect({ runtime, signal: end.signal });
    expect(isExhibitError(failure, 'cancelled')).toBe(true);
    expect(finished).toBe(true);
    expect(objects).toEqual([]);
    expect(await left()).toEqual([]);
  });

  test('waits for a slow runtime only so long after an abort, and still reads it dry', async () => {
    const end = new AbortController();
    const gate = Promise.withResolvers<void>();
    const finished = Promise.withResolvers<void>();
    const runtime = runtimeThat(async (fifo) => {
      end.abort(new Error('enough'));
      await gate.promise;
      await fifo.write(BIG);
      finished.resolve();
    });
    const { failure } = await collect({ runtime, signal: end.signal, abortWaitMs: 50 });
    expect(isExhibitError(failure, 'cancelled')).toBe(true);
    gate.resolve();
    await finished.promise;
    while ((await left()).length > 0) await sleep(5);
  });
});

describe('FIFOs that a dead agent left', () => {
  const DEAD = 'checkpoint-999999999-1-x.fifo';

  test('are read to the end, so that a runtime that waits goes on, and removed', async () => {
    await createLeftover(DEAD);
    const writer = await openWriter(path.join(runDir, DEAD));
    const written = writer.write(BIG).finally(() => writer[Symbol.asyncDispose]());
    const found = await cleanStaleFifos(HOST, runDir);
    await written;
    expect(found).toEqual([{ path: path.join(runDir, DEAD), drainedBytes: BIG.length }]);
    expect(await left()).toEqual([]);
  });

  test('without a writer are removed at once', async () => {
    await createLeftover(DEAD);
    expect(await cleanStaleFifos(HOST, runDir)).toEqual([{ path: path.join(runDir, DEAD), drainedBytes: 0 }]);
    expect(await left()).toEqual([]);
  });

  test('are not mixed up with those of a living one, or with other files', async () => {
    let during: readonly unknown[] | undefined;
    const runtime = runtimeThat(async (fifo) => {
      await writeFile(path.join(runDir, 'journal.json'), '{}');
      during = await cleanStaleFifos(HOST, runDir);
      await fifo.write(tarOf(BIG));
    });
    const { failure } = await collect({ runtime });
    expect(failure).toBeUndefined();
    expect(during).toEqual([]);
    expect(await left()).toEqual(['journal.json']);
  });

  test('became files when the runtime opened the name too late; those go as well', async () => {
    await createLeftover(DEAD);
    await rm(path.join(runDir, DEAD));
    await writeFile(path.join(runDir, DEAD), 'half a checkpoint');
    expect(await cleanStaleFifos(HOST, runDir)).toEqual([{ path: path.join(runDir, DEAD), drainedBytes: 0 }]);
  });

  test('are none where the folder was never made', async () => {
    expect(await cleanStaleFifos(HOST, asHostPath('/run/exhibit-nowhere'))).toEqual([]);
  });
});

async function createLeftover(name: string): Promise<void> {
  await promisify(execFile)('mkdir', ['-p', '-m', '700', runDir]);
  await promisify(execFile)('mkfifo', [path.join(runDir, name)]);
}
