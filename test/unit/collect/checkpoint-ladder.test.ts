import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, type TestContext, test } from 'vitest';
import { createCheckpointCollector } from '../../../agent/collect/checkpoint.ts';
import type { DumpNote } from '../../../agent/collect/collector.ts';
import { asHostPath, type CheckpointRung, type DumpFolders, type Runtime } from '../../../agent/runtime/runtime.ts';
import type { CheckpointPlan, DumpOptions, RungRecord } from '../../../evidence/dump.ts';
import { ExhibitError } from '../../../evidence/error.ts';
import { bundleContext, makeTarget } from './bundle-context.ts';
import { NO_OPTIONS, planFor } from './checkpoint-plan.ts';

let folder: string;
let runDir: string;
let resumed: number;

/** What a checkpoint left: not the code that its guard, like every guard, is loaded from. */
const left = async () => (await readdir(runDir)).filter((name) => name !== 'code');

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'exhibit-ladder-'));
  runDir = path.join(folder, 'run');
  resumed = 0;
});

afterEach(async () => {
  expect(mountsBelow(folder)).toEqual([]);
  // Retried: a guard that is ending may still store the code it was loaded from.
  await rm(folder, { recursive: true, maxRetries: 10 });
});

const mountsBelow = (root: string) =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(root));

function requireMounts(context: TestContext): void {
  const held = /^CapEff:\s+([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0';
  if (((BigInt(`0x${held}`) >> 21n) & 1n) === 0n) context.skip('needs CAP_SYS_ADMIN: a tmpfs is mounted');
}

type Dump = (folders: DumpFolders, options: DumpOptions) => Promise<void>;

const imagesRung = (name: 'tasks' | 'docker', dump: Dump): CheckpointRung => ({
  name,
  delivers: 'images',
  passes: ['openTcp'],
  checkpoint: (_, folders, options) => dump(folders, options),
});

const archiveRung = (error: ExhibitError): CheckpointRung => ({
  name: 'cri',
  delivers: 'archive',
  checkpoint: () => Promise.reject(error),
  clean: async () => [],
});

/** As CRIU and runc leave it, in the folder that the agent has made. */
const goodDump: Dump = async ({ images, work }) => {
  await writeFile(path.join(images, 'inventory.img'), 'inventory');
  await writeFile(path.join(images, 'pages-1.img'), Buffer.alloc(2 * 1024 * 1024, 3));
  await writeFile(path.join(work, 'dump.log'), '(00.1) Dumping finished successfully\n');
};

const refusal = (log: string): Dump => {
  return async ({ work }) => {
    await writeFile(path.join(work, 'dump.log'), log);
    throw new ExhibitError('runtime-failed', 'criu failed: type DUMP errno 0');
  };
};

interface Run {
  readonly rungs: readonly CheckpointRung[];
  readonly plan?: CheckpointPlan;
  readonly signal?: AbortSignal;
}

async function climb({ rungs, plan = planFor(rungs), signal }: Run) {
  const spec = Buffer.from('{"ociVersion":"1.1.0"}');
  const target = makeTarget({ documents: [{ name: 'oci-spec.json', bytes: spec }] });
  const bundle = bundleContext(path.join(folder, 'bundle'), target, signal === undefined ? {} : { signal });
  const journal: string[] = [];
  const runtime: Runtime = {
    ...bundle.context.runtime,
    kind: 'containerd',
    rungs,
    pauseOf: () => undefined,
    resumeIfPaused: async () => {
      resumed += 1;
      return false;
    },
  };
  const dumping = async (dump: DumpNote | undefined) => void journal.push(dump?.rung ?? 'over');
  const failure = await createCheckpointCollector({ runDir: asHostPath(runDir), abortWaitMs: 100 })
    .collect({ ...bundle.context, runtime, dumping, checkpoint: plan })
    .then(
      () => undefined,
      (error: unknown) => error,
    );
  const records = (bundle.facts.get('rungs') ?? []) as RungRecord[];
  const membersOf = (name: string) =>
    bundle.objects.find((object) => object.name === name)?.members?.map((member) => member.path);
  return { ...bundle, failure, journal, records, membersOf };
}

describe('a rung that leaves CRIU’s files', () => {
  test('becomes the archive that CRI would have made, and leaves no mount', async (context) => {
    requireMounts(context);
    const { failure, membersOf, records, journal, content } = await climb({ rungs: [imagesRung('tasks', goodDump)] });
    expect(failure).toBeUndefined();
    expect(membersOf('checkpoint.tar.zst')).toEqual([
      'checkpoint/',
      'checkpoint/inventory.img',
      'checkpoint/pages-1.img',
      'config.dump',
      'spec.dump',
      'dump.log',
    ]);
    expect(content('checkpoint.tar.zst').includes(Buffer.alloc(2 * 1024 * 1024, 3))).toBe(true);
    expect(records).toMatchObject([{ rung: 'tasks', outcome: 'worked', criu: { log: 'checkpoint.tar.zst dump.log' } }]);
    expect(journal).toEqual(['tasks', 'over']);
    expect(resumed).toBe(0);
    expect(await left()).toEqual([]);
  });

  test('gets the options that the plan chose', async (context) => {
    requireMounts(context);
    const asked: DumpOptions[] = [];
    const rung = imagesRung('tasks', async (folders, options) => {
      asked.push(options);
      await goodDump(folders, options);
    });
    await climb({ rungs: [rung], plan: planFor([rung], { options: { ...NO_OPTIONS, openTcp: true } }) });
    expect(asked).toEqual([{ openTcp: true, fileLocks: false, externalUnixSockets: false }]);
  });

  test('that wrote where the agent does not look has failed', async (context) => {
    requireMounts(context);
    const { failure, records, objects } = await climb({ rungs: [imagesRung('tasks', async () => {})] });
    expect(String(failure)).toContain('it sees another folder there');
    expect(records).toMatchObject([{ outcome: 'failed' }]);
    expect(objects).toEqual([]);
  });

  test('that fills the tmpfs fails, and the next one is tried', async (context) => {
    requireMounts(context);
    const large = imagesRung('tasks', async (folders, options) => {
      await goodDump(folders, options);
      await writeFile(path.join(folders.images, 'pages-2.img'), Buffer.alloc(8 * 1024 * 1024)).catch((cause) => {
        throw new ExhibitError('runtime-failed', 'criu failed: type DUMP errno 28', { cause });
      });
    });
    const { failure, records, membersOf } = await climb({ rungs: [large, imagesRung('docker', goodDump)] });
    expect(failure).toBeUndefined();
    expect(records.map(({ rung, outcome }) => `${rung} ${outcome}`)).toEqual(['tasks failed', 'docker worked']);
    expect(resumed).toBe(1);
    expect(membersOf('checkpoint.tar.zst')).toContain('checkpoint/pages-1.img');
    expect(membersOf('checkpoint-logs.tar.zst')).toEqual(['tasks/dump.log']);
  });

  test('with something among its files that is none says so', async (context) => {
    requireMounts(context);
    const odd = imagesRung('tasks', async (folders, options) => {
      await goodDump(folders, options);
      await symlink('/etc/shadow', path.join(folders.images, 'core-1.img'));
      await mkdir(path.join(folders.images, 'folder.img'));
    });
    const { failure, gaps, membersOf } = await climb({ rungs: [odd] });
    expect(failure).toBeUndefined();
    expect(gaps).toEqual([
      { what: 'checkpoint/core-1.img', why: 'it cannot be opened', errno: 'ELOOP' },
      { what: 'checkpoint/folder.img', why: 'it is no regular file' },
    ]);
    expect(membersOf('checkpoint.tar.zst')).not.toContain('checkpoint/core-1.img');
  });

  test('that is still at work when the capture is cancelled keeps its memory until it is done', async (context) => {
    requireMounts(context);
    const end = new AbortController();
    const gate = Promise.withResolvers<void>();
    const slow = imagesRung('tasks', async (folders, options) => {
      end.abort(new Error('enough'));
      await gate.promise;
      await goodDump(folders, options);
    });
    const { failure, objects } = await climb({ rungs: [slow], signal: end.signal });
    expect(failure).toMatchObject({ code: 'cancelled' });
    expect(objects).toEqual([]);
    expect(mountsBelow(runDir)).toHaveLength(2);
    gate.resolve();
    while ((await left()).length > 0) await sleep(5);
  });
});

describe('the ladder', () => {
  const LOG =
    '(00.1) Error (criu/sk-inet.c:200): inet: Connected TCP socket\n(00.2) Error (criu/cr-dump.c:1): Dumping FAILED.\n';

  test('goes on where a runtime has no such call, and keeps the reasons of all', async (context) => {
    requireMounts(context);
    const unimplemented = new ExhibitError('runtime-unsupported', 'the runtime has no CheckpointContainer');
    const { failure, records, journal } = await climb({
      rungs: [archiveRung(unimplemented), imagesRung('tasks', goodDump)],
    });
    expect(failure).toBeUndefined();
    expect(records.map(({ outcome }) => outcome)).toEqual(['not-offered', 'worked']);
    expect(journal).toEqual(['cri', 'over', 'tasks', 'over']);
    expect(resumed).toBe(0);
  });

  test('ends at the first that works', async (context) => {
    requireMounts(context);
    const never = new ExhibitError('internal', 'must not be asked');
    const { records } = await climb({ rungs: [imagesRung('tasks', goodDump), archiveRung(never)] });
    expect(records).toMatchObject([
      { rung: 'tasks', outcome: 'worked' },
      { rung: 'cri', outcome: 'not-tried', error: 'tasks worked' },
    ]);
  });

  test('with nothing that works fails with every cause, and stores CRIU’s logs', async (context) => {
    requireMounts(context);
    const failed = new ExhibitError('runtime-failed', 'containerd says no');
    const { failure, membersOf, records } = await climb({
      rungs: [imagesRung('tasks', refusal(LOG)), archiveRung(failed)],
    });
    expect(failure).toMatchObject({
      code: 'runtime-failed',
      message: 'no checkpoint: tasks: CRIU says: inet: Connected TCP socket; cri: containerd says no',
    });
    expect(records[0]?.criu).toMatchObject({
      errors: [expect.stringContaining('Connected TCP'), expect.stringContaining('Dumping FAILED')],
      lastLines: [expect.any(String), expect.any(String)],
      log: 'checkpoint-logs.tar.zst tasks/dump.log',
    });
    expect(membersOf('checkpoint-logs.tar.zst')).toEqual(['tasks/dump.log']);
    expect(membersOf('checkpoint.tar.zst')).toBeUndefined();
  });

  test('tries one of those that are expected to fail, for CRIU’s own words', async (context) => {
    requireMounts(context);
    const rungs = [imagesRung('tasks', refusal(LOG)), archiveRung(new ExhibitError('internal', 'must not be asked'))];
    const { records } = await climb({ rungs, plan: planFor(rungs, { expected: 'fails', reasons: ['io_uring'] }) });
    expect(records.map(({ outcome }) => outcome)).toEqual(['failed', 'not-tried']);
  });

  test('tries none of them where policy says so', async () => {
    const rungs = [archiveRung(new ExhibitError('internal', 'must not be asked'))];
    const plan = planFor(rungs, { expected: 'fails', reasons: ['io_uring'], askAnyway: false });
    const { failure, journal } = await climb({ rungs, plan });
    expect(failure).toMatchObject({ message: expect.stringContaining('io_uring') });
    expect(journal).toEqual([]);
  });

  test('goes on where no tmpfs can be mounted and no FIFO be made, and says both', async () => {
    await writeFile(runDir, 'a file where a folder should be');
    const never = new ExhibitError('internal', 'must not be asked');
    const { failure, records, journal } = await climb({ rungs: [imagesRung('tasks', goodDump), archiveRung(never)] });
    expect(failure).toMatchObject({
      code: 'capture-failed',
      message: expect.stringMatching(/^no checkpoint: tasks: no tmpfs could be mounted.*; cri: cannot make the FIFO/),
    });
    expect(records.map(({ rung, outcome }) => `${rung} ${outcome}`)).toEqual(['tasks failed', 'cri failed']);
    expect(journal).toEqual([]);
  });
});
