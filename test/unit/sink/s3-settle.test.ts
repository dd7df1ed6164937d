import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openS3Sink, type S3SinkParts } from '../../../agent/sink/s3.ts';
import type { ObjectSubject, Sink } from '../../../agent/sink/sink.ts';
import { openVault, type Vault } from '../../../agent/sink/vault.ts';
import { BUCKET, type FakeS3, startFakeS3 } from './fake-s3.ts';

const PART_BYTES = 5 * 2 ** 20;
const KEY = 'node/id/memory.tar.zst';
const SECRET = Buffer.alloc(32, 7);
const TYPE = 'application/x-tar+zstd';
const never = new AbortController().signal;

const SMALL = randomBytes(1000);
const LARGE = randomBytes(3 * PART_BYTES + 1234);

let server: FakeS3;
let folder: string;
let sinks: Sink[];

beforeEach(async () => {
  server = await startFakeS3();
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-settle-'));
  sinks = [];
});
afterEach(async () => {
  for (const sink of sinks) await sink[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

/** As another process would open it. */
const vaultAgain = () => openVault(folder, SECRET);

function sinkOn(vault: Vault, parts: S3SinkParts = {}, writeAhead = false): Sink {
  const sink = openS3Sink(
    { url: `s3://${BUCKET}`, endpoint: server.endpoint, forcePathStyle: true, partBytes: PART_BYTES, writeAhead },
    {
      credentials: { accessKeyId: 'key', secretAccessKey: 'secret' },
      maxAttempts: 1,
      firstProbeMs: 20,
      vault,
      ...parts,
    },
  );
  sinks.push(sink);
  return sink;
}

async function store(sink: Sink, bytes: Uint8Array, key = KEY, about?: ObjectSubject, whole = false) {
  await using object = await sink.open(key, { contentType: TYPE, signal: never, whole, ...(about && { about }) });
  for (let at = 0; at < bytes.length; at += 1_000_000) await object.write(bytes.subarray(at, at + 1_000_000));
  return await object.commit();
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const waitUntil = async (met: () => boolean) => {
  while (!met()) await new Promise((resolve) => setTimeout(resolve, 10));
};
/** S3 is there but takes nothing. */
const away = () => {
  server.fault = () => ({ kind: 'answer', status: 503, code: 'ServiceUnavailable' });
};
const back = () => {
  server.fault = () => undefined;
};

/** A vault whose process is killed at its `step`th operation: from there on nothing ever happens again. */
function killedAt(vault: Vault, step: number): { vault: Vault; killed: Promise<void>; steps: () => number } {
  const { promise: killed, resolve: kill } = Promise.withResolvers<void>();
  let steps = 0;
  let dead = false;
  const hang = () => new Promise<never>(() => {});
  const guard = async <Result>(work: () => Promise<Result>): Promise<Result> => {
    if (dead) return await hang();
    steps += 1;
    if (steps >= step) {
      dead = true;
      // Half of the steps are done and not known to be done.
      if (step % 2 === 0) await work();
      kill();
      return await hang();
    }
    return await work();
  };
  return {
    killed,
    steps: () => steps,
    vault: {
      folder: vault.folder,
      inMemory: vault.inMemory,
      get usedBytes() {
        return vault.usedBytes;
      },
      write: (name, bytes) => guard(() => vault.write(name, bytes)),
      append: (name, record) => guard(() => vault.append(name, record)),
      remove: (name) => guard(() => vault.remove(name)),
      read: (name) => vault.read(name),
      records: (name) => vault.records(name),
      list: (name) => vault.list(name),
    },
  };
}

describe('an object of the S3 sink with a vault', () => {
  test.each([
    ['a small one', SMALL],
    ['a large one', LARGE],
    ['an empty one', Buffer.alloc(0)],
  ])('that was stored is said to be, to the next process as well, until it is forgotten: %s', async (_, bytes) => {
    const vault = await vaultAgain();
    expect(await store(sinkOn(vault), bytes)).toBe('stored');
    expect(server.objects.get(KEY)?.equals(bytes)).toBe(true);
    const next = await vaultAgain();
    const sink = sinkOn(next);
    expect(await sink.settle(KEY, never)).toEqual({ kind: 'stored' });
    expect(await sink.settle(KEY, never)).toEqual({ kind: 'stored' });
    await sink.forget(KEY);
    expect(next.usedBytes).toBe(0);
    expect(await sink.settle(KEY, never)).toMatchObject({ kind: 'lost' });
  });

  test.each([
    ['a small one', SMALL],
    ['a large one', LARGE],
    ['an empty one', Buffer.alloc(0)],
  ])('waits while S3 is away, and is stored by the next process: %s', async (_, bytes) => {
    away();
    const vault = await vaultAgain();
    const sink = sinkOn(vault);
    expect(await store(sink, bytes)).toBe('waiting');
    await expect(sink.settle(KEY, never)).rejects.toMatchObject({ code: 'sink-failed' });
    back();
    const next = await vaultAgain();
    expect(await sinkOn(next).settle(KEY, never)).toEqual({ kind: 'stored' });
    expect(server.objects.get(KEY)?.equals(bytes)).toBe(true);
    expect(server.uploads.size).toBe(0);
  });

  test('goes on while S3 is away in the middle of it, and is stored when that is back before the commit', async () => {
    const vault = await vaultAgain();
    const events: string[] = [];
    const sink = sinkOn(vault, { log: { warn: (_, event) => events.push(event) } });
    await using object = await sink.open(KEY, { contentType: TYPE, signal: never });
    await object.write(LARGE.subarray(0, PART_BYTES + 1));
    away();
    await object.write(LARGE.subarray(PART_BYTES + 1, 3 * PART_BYTES + 1));
    await waitUntil(() => events.includes('S3 is away'));
    back();
    await object.write(LARGE.subarray(3 * PART_BYTES + 1));
    await waitUntil(() => events.includes('S3 answers again'));
    expect(await object.commit()).toBe('stored');
    expect(await sink.settle(KEY, never)).toEqual({ kind: 'stored' });
    expect(server.objects.get(KEY)?.equals(LARGE)).toBe(true);
  });

  test('is never cut where it is all or nothing: it is the same bytes, or nothing and can be written again', {
    timeout: 120_000,
  }, async () => {
    const ends = { stored: 0, lost: 0 };
    for (const bytes of [SMALL, LARGE]) {
      for (let step = 1; ; step += 1) {
        rmSync(folder, { recursive: true, force: true });
        server.objects.clear();
        server.uploads.clear();
        const dying = killedAt(await vaultAgain(), step);
        const storing = store(sinkOn(dying.vault, {}, step % 3 === 0), bytes, KEY, undefined, true);
        const outcome = await Promise.race([storing, dying.killed.then(() => 'killed' as const)]);
        if (outcome === 'stored') break;
        await new Promise((resolve) => setTimeout(resolve, 30)); // Requests that were on their way land.
        const sink = sinkOn(await vaultAgain());
        const { kind } = await sink.settle(KEY, never);
        if (kind === 'cut') throw new Error(`cut, killed at step ${step}`);
        ends[kind] += 1;
        await sink.forget(KEY);
        // What nobody could know of is there, and whole.
        const again = await store(sink, bytes, KEY, undefined, true).catch((error: { code: string }) => error.code);
        expect(['stored', 'sink-exists'], `${step}`).toContain(again);
        expect(server.objects.get(KEY)?.equals(bytes), `killed at step ${step}`).toBe(true);
      }
    }
    expect(ends.stored).toBeGreaterThan(3);
    expect(ends.lost).toBeGreaterThan(3);
  });

  test('leaves no upload open where it is all or nothing and only its first parts had reached S3', async () => {
    const first = sinkOn(await vaultAgain());
    const object = await first.open(KEY, { contentType: TYPE, whole: true, signal: never });
    await object.write(LARGE.subarray(0, 2 * PART_BYTES + 1));
    await waitUntil(() => [...server.uploads.values()].some(({ parts }) => parts.size === 2));
    await new Promise((resolve) => setTimeout(resolve, 30));
    const sink = sinkOn(await vaultAgain());
    expect(await sink.settle(KEY, never)).toMatchObject({ kind: 'lost' });
    expect([server.uploads.size, server.objects.size]).toEqual([0, 0]);
    await sink.forget(KEY);
    expect(await store(sink, LARGE, KEY, undefined, true)).toBe('stored');
    expect(server.objects.get(KEY)?.equals(LARGE)).toBe(true);
  });

  test.each([false, true])(
    'ends as the same bytes or a beginning of them wherever its process was killed (written ahead: %s)',
    { timeout: 120_000 },
    async (writeAhead) => {
      let kills = 0;
      await fc.assert(
        fc.asyncProperty(
          fc.integer({ min: 1, max: 40 }),
          fc.constantFrom('small', 'large'),
          fc.boolean(),
          async (step, size, isAwayFirst) => {
            const bytes = size === 'small' ? SMALL : LARGE;
            rmSync(folder, { recursive: true, force: true });
            server.objects.clear();
            server.uploads.clear();
            if (isAwayFirst) away();
            const dying = killedAt(await vaultAgain(), step);
            const outcome = await Promise.race([
              store(sinkOn(dying.vault, {}, writeAhead), bytes),
              dying.killed.then(() => 'killed' as const),
            ]);
            back();
            if (outcome === 'killed') {
              kills += 1;
              await new Promise((resolve) => setTimeout(resolve, 30)); // Requests that were on their way land.
            }
            const next = await vaultAgain();
            const unnamed: object[] = [];
            const log = {
              warn: (fields: object, event: string) => {
                if (event === 'an upload may be open whose id is not known') unnamed.push(fields);
              },
            };
            const sink = sinkOn(next, { log }, writeAhead);
            const settled = await sink.settle(KEY, never);
            expect(await sink.settle(KEY, never)).toEqual(settled);
            const found = server.objects.get(KEY);
            // Killed before the id of its upload was noted: that one nobody can name, but its key and time are told.
            expect(server.uploads.size).toBeLessThanOrEqual(outcome === 'killed' ? Math.min(1, unnamed.length) : 0);
            if (outcome !== 'killed') expect(settled).toEqual({ kind: 'stored' });
            if (settled.kind === 'stored') expect(found?.equals(bytes)).toBe(true);
            if (settled.kind === 'lost') expect(found).toBeUndefined();
            if (settled.kind === 'cut') {
              expect(found?.equals(bytes.subarray(0, settled.sizeBytes))).toBe(true);
              expect(settled.sha256).toBe(sha256(found ?? Buffer.of()));
            }
            // Nothing but the notes is left.
            expect((await next.list('objects')).filter((name) => !name.endsWith('/notes'))).toEqual([]);
            await sink.forget(KEY);
            expect(next.usedBytes).toBe(0);
          },
        ),
        { numRuns: 50 },
      );
      expect(kills).toBeGreaterThan(5);
    },
  );
});
