import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleepMs } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openLocalSink } from '../../../agent/sink/local.ts';
import { openS3Sink } from '../../../agent/sink/s3.ts';
import type { Sink } from '../../../agent/sink/sink.ts';
import { openVault } from '../../../agent/sink/vault.ts';
import { openBundle } from '../../../evidence/bundle.ts';
import { verifyBundle } from '../../../evidence/verify.ts';
import { BUCKET, type FakeS3, startFakeS3 } from '../sink/fake-s3.ts';
import { keyOf, startAgent, type TestAgent } from './agent.ts';
import type { Collect } from './spine.ts';

/** The agent dies while it writes a manifest that is longer than what a sink writes in one go. */

const MANIFEST = keyOf('manifest.json');
/** More than one part of S3's (8 MiB) and than a folder's buffer. */
const WRITTEN_BYTES = 9 * 2 ** 20;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir(), 'exhibit-manifest-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** As many members as a manifest lists, three times, with long names: together above 10 MiB. */
const manyMembers: Collect = async (context) => {
  for (const part of ['one', 'two', 'three']) {
    await using archive = await context.archive(`memory-${part}.tar.zst`);
    for (let index = 0; index < 10_000; index += 1)
      await archive.add({ path: `${part}/${'d'.repeat(250)}/${index}`, type: 'directory', sizeBytes: 0 });
    await archive.commit();
  }
};

/** What stands still is kept, or its open files would be closed at some moment of the garbage collector's. */
const stuck: unknown[] = [];

/** Dies after the first bytes of the manifest were written: nothing more is done, and nothing taken back. */
function dyingInManifest(sink: Sink, died: () => void): Sink {
  return {
    ...sink,
    async open(key, options) {
      const object = await sink.open(key, options);
      if (key !== MANIFEST) return object;
      stuck.push(object);
      return {
        ...object,
        async write(chunk) {
          expect(chunk.length).toBeGreaterThan(WRITTEN_BYTES + 2 ** 20);
          await object.write(chunk.subarray(0, WRITTEN_BYTES));
          died();
          await new Promise(() => undefined);
        },
        commit: () => object.commit(),
        [Symbol.asyncDispose]: async () => undefined,
      };
    },
  };
}

async function diesInManifest(sink: Sink): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const agent = await startAgent({ folder, sinks: [{ name: 'one', sink: dyingInManifest(sink, resolve) }] });
  void agent.capture({ artifacts: ['memory'], collectors: { memory: manyMembers } });
  await promise;
}

/** What the first agent had made the manifest, by its draft. */
function notedManifest(next: TestAgent): string {
  const noted = next.drafts[0]?.state.sealing.get('one')?.objects.find(({ name }) => name === 'manifest.json');
  return sha256(Buffer.from(noted?.base64 ?? '', 'base64'));
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

async function expectWhole(bundle: string, manifestSha256: string): Promise<void> {
  expect(sha256(await readFile(path.join(bundle, 'manifest.json')))).toBe(manifestSha256);
  await using reader = await openBundle(bundle);
  const { intact, findings } = await verifyBundle(reader);
  const bad = findings.filter(({ code }) => code !== 'signer-unvouched' && code !== 'capture-partial');
  expect({ intact, bad }).toEqual({ intact: true, bad: [] });
}

describe('an agent that is killed in the middle of a manifest', () => {
  test('in a folder is followed by one that writes the same bytes again, and leaves nothing beside them', async () => {
    const opened = () => openLocalSink({ url: `file://${folder}/evidence` });
    const bundle = path.join(folder, 'evidence', path.dirname(MANIFEST));
    await diesInManifest(opened());
    expect((await readdir(bundle)).filter((name) => name.includes('manifest'))).toEqual([
      expect.stringMatching(/^\.manifest\.json\.[0-9a-f]{16}\.whole\.partial$/),
    ]);
    await using next = await startAgent({ folder, sinks: [{ name: 'one', sink: opened() }] });
    const noted = notedManifest(next);
    await next.settled();
    expect((await readdir(bundle)).filter((name) => name.startsWith('.'))).toEqual([]);
    await expectWhole(bundle, noted);
  }, 60_000);

  test('in S3 is followed by one that aborts the upload and stores the same bytes', async () => {
    await using server = await startFakeS3();
    const opened = async () =>
      openS3Sink(
        { url: `s3://${BUCKET}`, endpoint: server.endpoint, forcePathStyle: true },
        {
          credentials: { accessKeyId: 'key', secretAccessKey: 'secret' },
          vault: await openVault(path.join(folder, 'spool'), Buffer.alloc(32, 7)),
        },
      );
    await using dying = await opened();
    await diesInManifest(dying);
    const isThere = () => [...server.uploads.values()].some(({ key, parts }) => key === MANIFEST && parts.size === 1);
    while (!isThere()) await sleepMs(5);
    await sleepMs(50); // The part's answer is noted.
    await using sink = await opened();
    {
      await using next = await startAgent({ folder, sinks: [{ name: 'one', sink }] });
      const noted = notedManifest(next);
      await next.settled();
      expect(server.requests.filter(({ operation }) => operation === 'AbortMultipartUpload')).toHaveLength(1);
      expect(server.uploads.size).toBe(0);
      await expectWhole(await downloaded(server), noted);
    }
  }, 60_000);
});

async function downloaded({ objects }: FakeS3): Promise<string> {
  const bundle = path.join(folder, 'downloaded', path.dirname(MANIFEST));
  await mkdir(bundle, { recursive: true });
  for (const [key, bytes] of objects) await writeFile(path.join(bundle, path.basename(key)), bytes);
  return bundle;
}
