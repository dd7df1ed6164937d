import { fork } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openSink, type SinkConfig } from '../../agent/sink/open.ts';
import { openVault } from '../../agent/sink/vault.ts';
import { s3Obstacle } from '../lab/requires.ts';
import { type LabS3, startS3 } from '../lab/s3.ts';
import { openS3Store, type S3Store } from '../lab/s3-store.ts';

const PART_BYTES = 5 * 2 ** 20;
const SECRET = Buffer.alloc(32, 7);
const TYPE = 'application/zstd';
const never = new AbortController().signal;
const obstacle = s3Obstacle();
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

describe.skipIf(obstacle !== undefined)(
  obstacle === undefined ? 'evidence on its way to radosgw' : `evidence on its way to radosgw: ${obstacle}`,
  () => {
    let server: LabS3;
    let store: S3Store;
    let folder: string;
    let config: SinkConfig;
    const bytes = randomBytes(4 * PART_BYTES + 999);

    beforeAll(async () => {
      server = await startS3();
      store = openS3Store(server);
      folder = mkdtempSync(path.join(tmpdir(), 'exhibit-outage-'));
      config = {
        url: `s3://${server.bucket}/cases`,
        endpoint: server.endpoint,
        forcePathStyle: true,
        partBytes: PART_BYTES,
        ifNoneMatch: false,
        // radosgw's SQLite store loses a part now and then when several come at once (docs/sinks.md).
        maxPartsInFlight: 1,
      };
    });
    afterAll(async () => {
      store?.[Symbol.dispose]();
      await server?.[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    });

    const open = async () => {
      const events: string[] = [];
      const { accessKeyId, secretAccessKey } = server;
      const vault = await openVault(folder, SECRET);
      const sink = openSink(config, {
        credentials: { accessKeyId, secretAccessKey },
        vault,
        maxAttempts: 2,
        firstProbeMs: 50,
        log: { warn: (_, event) => events.push(event) },
      });
      return { sink, vault, events };
    };
    const waitFor = async (met: () => boolean) => {
      while (!met()) await new Promise((resolve) => setTimeout(resolve, 20));
    };
    async function expectStored(key: string, expected: Uint8Array): Promise<void> {
      const found = await store.read(`cases/${key}`);
      expect(found?.length).toBe(expected.length);
      expect(sha256(found ?? Buffer.of())).toBe(sha256(expected));
      expect(await store.unfinishedUploads()).toEqual([]);
    }

    test('is complete where the server is killed and comes back at any part of it', { timeout: 180_000 }, async () => {
      for (const partsBefore of [0, 1, 3]) {
        const key = `killed/${partsBefore}`;
        const { sink, vault, events } = await open();
        await using _closed = sink;
        await using object = await sink.open(key, { contentType: TYPE, signal: never });
        await object.write(bytes.subarray(0, partsBefore * PART_BYTES));
        await server.kill();
        await object.write(bytes.subarray(partsBefore * PART_BYTES, 4 * PART_BYTES + 1));
        await waitFor(() => events.includes('S3 is away'));
        expect(vault.usedBytes).toBeGreaterThan(0);
        await server.restart();
        await waitFor(() => events.includes('S3 answers again'));
        await object.write(bytes.subarray(4 * PART_BYTES + 1));
        expect(await object.commit()).toBe('stored');
        await expectStored(key, bytes);
        await sink.forget(key);
        expect(vault.usedBytes).toBe(0);
      }
    });

    test('waits while the server is away at the commit, and the next process stores it', {
      timeout: 120_000,
    }, async () => {
      for (const [key, whole] of [
        ['waiting/large', bytes],
        ['waiting/small', bytes.subarray(0, 1000)],
      ] as const) {
        {
          const { sink } = await open();
          await using _closed = sink;
          await using object = await sink.open(key, { contentType: TYPE, signal: never });
          await object.write(whole.subarray(0, Math.min(whole.length, 2 * PART_BYTES + 1)));
          await server.kill();
          await object.write(whole.subarray(Math.min(whole.length, 2 * PART_BYTES + 1)));
          expect(await object.commit()).toBe('waiting');
          await expect(sink.settle(key, never)).rejects.toMatchObject({ code: 'sink-failed' });
        }
        await server.restart();
        const { sink, vault } = await open();
        await using _closed = sink;
        expect(await sink.settle(key, never)).toEqual({ kind: 'stored' });
        expect(await sink.settle(key, never)).toEqual({ kind: 'stored' });
        await expectStored(key, whole);
        await sink.forget(key);
        expect(vault.usedBytes).toBe(0);
      }
    });

    test('is a beginning with its digest after the agent was killed in the middle of it', {
      timeout: 120_000,
    }, async () => {
      for (const afterParts of [1, 2, 4]) {
        const key = `agent/${afterParts}`;
        const { accessKeyId, secretAccessKey } = server;
        const child = fork(path.join(import.meta.dirname, '../lab/writer.ts'), [], { execArgv: [], stdio: 'inherit' });
        const exited = once(child, 'exit');
        child.send({
          config,
          credentials: { accessKeyId, secretAccessKey },
          folder,
          secret: SECRET.toString('hex'),
          key,
          afterParts,
          partBytes: PART_BYTES,
        });
        await once(child, 'message');
        child.kill('SIGKILL');
        await exited;
        const { sink, vault } = await open();
        await using _closed = sink;
        const settled = await sink.settle(key, never);
        // What the writer sends is the same for whoever knows the size.
        const written = Buffer.alloc(afterParts * PART_BYTES, 'evidence ');
        expect(settled).toMatchObject({ kind: 'cut', sizeBytes: written.length, sha256: sha256(written) });
        await expectStored(key, written);
        await sink.forget(key);
        expect(vault.usedBytes).toBe(0);
      }
    });
  },
);
