import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openS3Sink, type S3SinkParts } from '../../../agent/sink/s3.ts';
import type { ObjectSubject, Sink } from '../../../agent/sink/sink.ts';
import { openVault, type Vault } from '../../../agent/sink/vault.ts';
import { BUCKET, type FakeS3, type Fault, type Operation, startFakeS3 } from './fake-s3.ts';

const MIB = 2 ** 20;
const PART_BYTES = 5 * MIB;
const SECRET = Buffer.alloc(32, 7);
const TYPE = 'application/x-tar+zstd';
const never = new AbortController().signal;
const MEMORY = 'node/id/memory.tar.zst';
const ROOTFS = 'node/id/rootfs.tar.zst';
const LARGE = randomBytes(3 * PART_BYTES + 1234);

let server: FakeS3;
let folder: string;
let sinks: Sink[];
let events: { fields: object; event: string }[];

beforeEach(async () => {
  server = await startFakeS3();
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-spool-'));
  sinks = [];
  events = [];
});
afterEach(async () => {
  for (const sink of sinks) await sink[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

const vaultAgain = () => openVault(folder, SECRET);

function sinkOn(vault: Vault, parts: S3SinkParts = {}, prefix = ''): Sink {
  const sink = openS3Sink(
    { url: `s3://${BUCKET}${prefix}`, endpoint: server.endpoint, forcePathStyle: true, partBytes: PART_BYTES },
    {
      credentials: { accessKeyId: 'key', secretAccessKey: 'secret' },
      maxAttempts: 1,
      firstProbeMs: 20,
      log: { warn: (fields, event) => events.push({ fields, event }) },
      vault,
      ...parts,
    },
  );
  sinks.push(sink);
  return sink;
}

const about = (volatility: number, startedAtMs = 1): ObjectSubject => ({
  captureId: 'id',
  caseId: '',
  startedAtMs,
  volatility,
});

async function store(sink: Sink, key: string, bytes: Uint8Array, subject?: ObjectSubject, refusable = false) {
  await using object = await sink.open(key, {
    contentType: TYPE,
    signal: never,
    refusable,
    ...(subject && { about: subject }),
  });
  for (let at = 0; at < bytes.length; at += MIB) await object.write(bytes.subarray(at, at + MIB));
  return await object.commit();
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const back = () => {
  server.fault = () => undefined;
};
const always = (fault: Fault, ...operations: Operation[]) => {
  server.fault = (request) => (operations.length === 0 || operations.includes(request.operation) ? fault : undefined);
};
const AWAY: Fault = { kind: 'answer', status: 503, code: 'ServiceUnavailable' };
const DENIED: Fault = { kind: 'answer', status: 403, code: 'AccessDenied' };
const count = (operation: Operation) => server.requests.filter((request) => request.operation === operation).length;

describe('the spool, while S3 is away,', () => {
  test('gives up less volatile evidence for more volatile one, from its end, and each object says what became of it', async () => {
    always(AWAY);
    const vault = await vaultAgain();
    // Room for one of the two, and half of the other.
    const sink = sinkOn(vault, { spoolBytes: 26 * MIB });
    expect(await store(sink, ROOTFS, LARGE, about(4))).toBe('waiting');
    expect(await store(sink, MEMORY, LARGE, about(2))).toBe('waiting');
    expect(vault.usedBytes).toBeLessThanOrEqual(26 * MIB);
    back();
    const next = sinkOn(await vaultAgain());
    expect(await next.settle(MEMORY, never)).toEqual({ kind: 'stored' });
    expect(server.objects.get(MEMORY)?.equals(LARGE)).toBe(true);
    const cut = await next.settle(ROOTFS, never);
    const beginning = LARGE.subarray(0, 2 * PART_BYTES);
    expect(cut).toMatchObject({ kind: 'cut', sizeBytes: beginning.length, sha256: sha256(beginning) });
    expect(cut).toHaveProperty(
      'why',
      expect.stringContaining(`of ${LARGE.length} bytes ${beginning.length} are stored`),
    );
    expect(cut).toHaveProperty('why', expect.stringContaining(`${LARGE.length - beginning.length} bytes were dropped`));
    expect(server.objects.get(ROOTFS)?.equals(beginning)).toBe(true);
    expect(server.uploads.size).toBe(0);
  });

  test('never gives up more volatile evidence: the less volatile object ends, and keeps its beginning', async () => {
    always(AWAY);
    const vault = await vaultAgain();
    const sink = sinkOn(vault, { spoolBytes: 26 * MIB });
    expect(await store(sink, MEMORY, LARGE, about(2))).toBe('waiting');
    await expect(store(sink, ROOTFS, LARGE, about(4))).rejects.toMatchObject({ code: 'spool-full' });
    back();
    const next = sinkOn(await vaultAgain());
    expect(await next.settle(MEMORY, never)).toEqual({ kind: 'stored' });
    expect(await next.settle(ROOTFS, never)).toMatchObject({ kind: 'cut', sizeBytes: 2 * PART_BYTES });
    expect(server.objects.get(MEMORY)?.equals(LARGE)).toBe(true);
    expect(server.objects.get(ROOTFS)?.equals(LARGE.subarray(0, 2 * PART_BYTES))).toBe(true);
  });

  test('ends an object whose waiting parts were given up while it was written', async () => {
    always(AWAY);
    const vault = await vaultAgain();
    const sink = sinkOn(vault, { spoolBytes: 16 * MIB });
    await using rootfs = await sink.open(ROOTFS, { contentType: TYPE, signal: never, about: about(4) });
    await rootfs.write(LARGE.subarray(0, 2 * PART_BYTES + 1));
    expect(await store(sink, MEMORY, LARGE.subarray(0, 2 * PART_BYTES + 1), about(2))).toBe('waiting');
    await expect(rootfs.write(LARGE.subarray(2 * PART_BYTES + 1))).rejects.toMatchObject({ code: 'spool-full' });
    await rootfs[Symbol.asyncDispose]();
    back();
    const next = sinkOn(await vaultAgain());
    expect(await next.settle(ROOTFS, never)).toMatchObject({ kind: 'cut', sizeBytes: PART_BYTES });
    expect(server.objects.get(ROOTFS)?.equals(LARGE.subarray(0, PART_BYTES))).toBe(true);
  });

  test('has one bound for all sinks of a vault, and keeps their objects apart', async () => {
    always(AWAY);
    const vault = await vaultAgain();
    const parts = { spoolBytes: 26 * MIB };
    const [one, other] = [
      sinkOn(vault, { ...parts, name: 'one' }, '/one'),
      sinkOn(vault, { ...parts, name: 'other' }, '/other'),
    ];
    expect(await store(one, MEMORY, LARGE, about(2))).toBe('waiting');
    await expect(store(other, MEMORY, LARGE, about(2))).rejects.toMatchObject({ code: 'spool-full' });
    back();
    await expect(sinkOn(await vaultAgain(), { name: 'one' }, '/elsewhere').settle(MEMORY, never)).rejects.toThrow(
      `was begun in s3://${BUCKET}/one`,
    );
    expect(await sinkOn(await vaultAgain(), { name: 'one' }, '/one').settle(MEMORY, never)).toEqual({ kind: 'stored' });
    expect(server.objects.get(`one/${MEMORY}`)?.equals(LARGE)).toBe(true);
    expect(server.objects.has(`other/${MEMORY}`)).toBe(false);
  });

  test('takes a file system that is full for a full spool', async (context) => {
    const small = path.join(folder, 'small');
    execFileSync('mkdir', [small]);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=12m', 'exhibit-test', small]);
    } catch {
      context.skip('needs root: a small file system is mounted');
    }
    try {
      always(AWAY);
      const vault = await openVault(small, SECRET);
      expect(vault.inMemory).toBe(true);
      const sink = sinkOn(vault);
      await expect(store(sink, MEMORY, LARGE, about(2))).rejects.toMatchObject({ code: 'spool-full' });
      back();
      const next = sinkOn(await openVault(small, SECRET));
      expect(await next.settle(MEMORY, never)).toMatchObject({ kind: 'cut', sizeBytes: 2 * PART_BYTES });
      expect(server.objects.get(MEMORY)?.equals(LARGE.subarray(0, 2 * PART_BYTES))).toBe(true);
    } finally {
      execFileSync('umount', [small]);
    }
  });

  test('asks S3 for nothing but whether it is back', async () => {
    always(AWAY);
    const sink = sinkOn(await vaultAgain(), { firstProbeMs: 60_000 });
    for (const name of ['a', 'b', 'c']) expect(await store(sink, name, LARGE)).toBe('waiting');
    expect(server.requests).toHaveLength(1);
  });
});

describe('an object that S3 refuses', () => {
  test('fails at once and leaves nothing, where nothing was read for it yet', async () => {
    always(DENIED);
    const vault = await vaultAgain();
    await expect(store(sinkOn(vault), 'request.json', Buffer.from('{}'), about(0), true)).rejects.toThrow(
      'it denies access; allow s3:PutObject',
    );
    expect(vault.usedBytes).toBe(0);
  });

  test('waits while S3 is away, even where it may be refused', async () => {
    always(AWAY);
    expect(await store(sinkOn(await vaultAgain()), 'request.json', Buffer.from('{}'), about(0), true)).toBe('waiting');
  });

  test('waits until a person has given the right back', async () => {
    const sink = sinkOn(await vaultAgain());
    server.fault = ({ operation, part }) => (operation === 'UploadPart' && part > 1 ? DENIED : undefined);
    const committed = await store(sink, MEMORY, LARGE, about(2));
    expect(committed).toBe('waiting');
    await expect(sink.settle(MEMORY, never)).rejects.toThrow('it denies access');
    back();
    expect(await sink.settle(MEMORY, never)).toEqual({ kind: 'stored' });
    expect(server.objects.get(MEMORY)?.equals(LARGE)).toBe(true);
  });
});

describe('an object that is cancelled', () => {
  test('leaves nothing in the vault nor at S3', async () => {
    const vault = await vaultAgain();
    const end = new AbortController();
    {
      await using object = await sinkOn(vault).open(MEMORY, { contentType: TYPE, signal: end.signal });
      await object.write(LARGE);
      end.abort(new Error('no longer wanted'));
    }
    expect([vault.usedBytes, server.uploads.size, server.objects.size]).toEqual([0, 0, 0]);
  });

  test('leaves no bytes while S3 is away, and no upload once that is back', async () => {
    const vault = await vaultAgain();
    const sink = sinkOn(vault);
    {
      await using object = await sink.open(MEMORY, { contentType: TYPE, signal: never });
      await object.write(LARGE.subarray(0, 2 * PART_BYTES + 1));
      while (count('UploadPart') === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      always(AWAY);
      await object.write(LARGE.subarray(2 * PART_BYTES + 1));
    }
    expect(server.uploads.size).toBe(1);
    expect((await vault.list('')).filter((name) => !name.endsWith('/notes'))).toEqual([]);
    back();
    while (vault.usedBytes > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(server.uploads.size).toBe(0);
  });

  test('leaves no upload behind for the next agent either', async () => {
    const vault = await vaultAgain();
    {
      const sink = sinkOn(vault, { firstProbeMs: 60_000 });
      await using object = await sink.open(MEMORY, { contentType: TYPE, signal: never });
      await object.write(LARGE.subarray(0, 2 * PART_BYTES + 1));
      while (count('UploadPart') === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      always(AWAY);
      await object.write(LARGE.subarray(2 * PART_BYTES + 1));
    }
    back();
    const next = await vaultAgain();
    await using _other = await sinkOn(next).open('node/id/other', { contentType: TYPE, signal: never });
    while (next.usedBytes > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(server.uploads.size).toBe(0);
  });
});

describe('an upload that somebody else ended', () => {
  /** Parts 1 to 4 are S3's, and the agent is dead before the completion. */
  async function leave(...faults: [Fault, Operation][]): Promise<Sink> {
    server.fault = ({ operation }) => faults.find(([, faulty]) => faulty === operation)?.[0];
    expect(await store(sinkOn(await vaultAgain()), MEMORY, LARGE, about(2))).toBe('waiting');
    back();
    return sinkOn(await vaultAgain());
  }

  test('loses what it had, and that is said', async () => {
    const next = await leave([AWAY, 'CompleteMultipartUpload']);
    server.uploads.clear();
    // An attempt to complete it had no clear answer, but a rule may have aborted it since.
    const later = sinkOn(await vaultAgain(), { now: () => Date.now() + 48 * 3600_000 });
    const settled = await later.settle(MEMORY, never);
    expect(settled).toMatchObject({
      kind: 'lost',
      why: expect.stringContaining('S3 knew nothing of the unfinished upload'),
    });
    expect(settled).toHaveProperty('why', expect.stringContaining('it may be there all the same'));
    expect(server.objects.size).toBe(0);
    void next;
  });

  test('is made again of what still waits', async () => {
    always(AWAY, 'UploadPart');
    expect(await store(sinkOn(await vaultAgain()), MEMORY, LARGE, about(2))).toBe('waiting');
    server.uploads.clear();
    back();
    expect(await sinkOn(await vaultAgain()).settle(MEMORY, never)).toEqual({ kind: 'stored' });
    expect(server.objects.get(MEMORY)?.equals(LARGE)).toBe(true);
    expect(server.uploads.size).toBe(0);
  });

  test('was completed by an attempt whose answer got lost', async () => {
    const next = await leave([{ kind: 'do-and-reset' }, 'CompleteMultipartUpload']);
    expect(server.objects.get(MEMORY)?.equals(LARGE)).toBe(true);
    expect(await next.settle(MEMORY, never)).toEqual({ kind: 'stored' });
    expect(events.map(({ event }) => event)).toContain('commit concluded without an answer');
  });

  test('is completed by the next attempt, where the first never arrived', async () => {
    const next = await leave([{ kind: 'reset', afterBytes: 0 }, 'CompleteMultipartUpload']);
    expect(server.objects.size).toBe(0);
    expect(await next.settle(MEMORY, never)).toEqual({ kind: 'stored' });
    expect(server.objects.get(MEMORY)?.equals(LARGE)).toBe(true);
  });

  test('is never put over the object of somebody else', async () => {
    const next = await leave([{ kind: 'reset', afterBytes: 0 }, 'CompleteMultipartUpload']);
    server.objects.set(MEMORY, Buffer.from('first'));
    expect(await next.settle(MEMORY, never)).toMatchObject({
      kind: 'lost',
      why: expect.stringContaining('exists already'),
    });
    expect(server.objects.get(MEMORY)?.toString()).toBe('first');
    expect(server.uploads.size).toBe(0);
  });

  test('becomes as many parts as S3 still has, where it lost one that it had acknowledged', async () => {
    const next = await leave([{ kind: 'reset', afterBytes: 0 }, 'CompleteMultipartUpload']);
    for (const { parts } of server.uploads.values()) parts.delete(4);
    const settled = await next.settle(MEMORY, never);
    const kept = LARGE.subarray(0, 2 * PART_BYTES);
    expect(settled).toMatchObject({ kind: 'cut', sizeBytes: kept.length, sha256: sha256(kept) });
    expect(server.objects.get(MEMORY)?.equals(kept)).toBe(true);
  });
});

describe('a part behind a hole', () => {
  test('is named in what is said of the object, and is not part of it', async () => {
    const vault = await vaultAgain();
    // The second part gets no answer and finds no room; meanwhile S3 takes the third.
    const sink = sinkOn(vault, { spoolBytes: MIB, idleTimeoutMs: 1000 });
    server.fault = ({ operation, part }) => (operation === 'UploadPart' && part === 2 ? { kind: 'stall' } : undefined);
    const failure = store(sink, MEMORY, LARGE, about(2)).catch((error: unknown) => error);
    expect(await failure).toMatchObject({ code: 'spool-full' });
    back();
    const settled = await sinkOn(await vaultAgain()).settle(MEMORY, never);
    expect(settled).toMatchObject({
      kind: 'cut',
      sizeBytes: PART_BYTES,
      sha256: sha256(LARGE.subarray(0, PART_BYTES)),
    });
    expect(settled).toHaveProperty(
      'why',
      expect.stringContaining(`had taken the bytes ${2 * PART_BYTES}-${3 * PART_BYTES}`),
    );
    expect(server.objects.get(MEMORY)?.equals(LARGE.subarray(0, PART_BYTES))).toBe(true);
    expect(server.uploads.size).toBe(0);
  });
});
