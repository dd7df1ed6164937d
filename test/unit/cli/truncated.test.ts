import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createEncryption, encryptWhole } from '../../../evidence/age-writer.ts';
import { decodeFrames } from '../../../evidence/frame-decoder.ts';
import { createFrameWriter } from '../../../evidence/frames.ts';
import { custodyBundle } from '../evidence/custody-bundle.ts';
import { gather, MemorySink } from '../evidence/memory-sink.ts';
import { writeTo } from '../evidence/sample-bundle.ts';
import { exhibit, TEST_TIMEOUT_MS } from './run.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

const NAME = 'rootfs.tar.zst';
const SENTENCE = `${NAME} is a first part only, as the manifest says (S3 was away): nothing can be read after it.`;

describe('an object that ends early', () => {
  let folder: string;
  let content: Buffer;
  let bundle: string;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'exhibit-truncated-'));
    bundle = path.join(folder, 'bundle');
    const { objects } = await custodyBundle({
      change(manifest, all) {
        const whole = all.get(NAME) ?? Buffer.alloc(0);
        const part = whole.subarray(0, Math.floor(whole.length * 0.7));
        all.set(NAME, part);
        const stored = { sha256: createHash('sha256').update(part).digest('hex'), sizeBytes: part.length };
        const mediaType = 'application/vnd.oci.image.layer.v1.tar+zstd';
        const record = { name: NAME, mediaType, stored, truncated: 'S3 was away' };
        manifest.objects = manifest.objects.map((object) => (object.name === NAME ? record : object));
      },
    });
    await writeTo(bundle, objects);
    const chunks = decodeFrames([objects.get(NAME) ?? Buffer.alloc(0)]);
    content = await gather(
      (async function* () {
        try {
          yield* chunks;
        } catch {
          // The part has no end.
        }
      })(),
    );
    expect(content.length).toBeGreaterThan(4096);
  });
  afterAll(async () => rm(folder, { recursive: true }));

  test('is given to its last whole frame, and a sentence says that this is all', async () => {
    const ran = await exhibit(['extract', bundle, 'rootfs']);
    expect(ran.code).toBe(1);
    expect(ran.stdout.equals(content)).toBe(true);
    expect(ran.stderr).toContain(`exhibit: ${SENTENCE} The ${content.length} bytes before that were written.\n`);
  });

  test('is kept in the file that was asked for', async () => {
    const file = path.join(folder, 'part.tar');
    const ran = await exhibit(['extract', bundle, NAME, '--out', file, '--json']);
    expect(ran.code).toBe(1);
    expect((await readFile(file)).equals(content)).toBe(true);
    expect(JSON.parse(ran.stdout.toString())).toMatchObject({
      file,
      sizeBytes: content.length,
      matches: false,
      truncated: 'S3 was away',
    });
    expect(JSON.parse(ran.stderr).error.message).toBe(
      `${SENTENCE} The ${content.length} bytes before that are in ${file}.`,
    );
  });

  test('lists and gives those of its members that are whole', async () => {
    const list = await exhibit(['extract', bundle, 'rootfs', '--list']);
    const lines = list.stdout.toString().trimEnd().split('\n');
    expect(list).toMatchObject({ code: 1, stderr: `exhibit: ${SENTENCE}\n` });
    expect(lines.length).toBeGreaterThan(3);
    const [sha256 = '', , , name = ''] = (lines.find((line) => / file /.test(line)) ?? '').split(/ {2,}/);
    const got = await exhibit(['extract', bundle, 'rootfs', name.trim()]);
    expect(got.code).toBe(0);
    expect(createHash('sha256').update(got.stdout).digest('hex')).toBe(sha256);
    const absent = await exhibit(['extract', bundle, 'rootfs', 'no/such/member']);
    expect(absent).toMatchObject({ code: 1, stderr: `exhibit: ${SENTENCE}\n` });
  });

  test('is told by verify and custody, and is no error there', async () => {
    const ran = await exhibit(['verify', bundle, '--json']);
    const report = JSON.parse(ran.stdout.toString());
    expect(report.findings.map(({ code }: { code: string }) => code)).toContain('object-truncated');
    const record = await exhibit(['custody', bundle]);
    expect(record.stdout.toString()).toContain('first part only: S3 was away');
  });

  test('leaves a timeline with the rest and a line that says what is missing', async () => {
    const { objects } = await custodyBundle({
      change(manifest, all) {
        const name = 'processes.tar.zst';
        const part = (all.get(name) ?? Buffer.alloc(0)).subarray(0, 100);
        all.set(name, part);
        const stored = { sha256: createHash('sha256').update(part).digest('hex'), sizeBytes: part.length };
        const record = { name, mediaType: 'application/x-tar+zstd', stored, truncated: 'S3 was away' };
        manifest.objects = manifest.objects.map((object) => (object.name === name ? record : object));
      },
    });
    const other = path.join(folder, 'other');
    await writeTo(other, objects);
    const ran = await exhibit(['timeline', other]);
    expect(ran.code).toBe(1);
    expect(ran.stdout.toString()).toContain('"message":"');
    expect(ran.stderr).toContain(
      'exhibit: processes.tar.zst: processes.tar.zst is a first part only, as the manifest says (S3 was away)',
    );
  });

  test('is given to its last whole frame where it is encrypted, with the same sentence, and is as stored without a key', async () => {
    const identity = await generateX25519Identity();
    const encrypt = await createEncryption([await identityToRecipient(identity)]);
    const key = path.join(folder, 'lab.key');
    await writeFile(key, identity);
    const noise = createHash('shake256', { outputLength: 200_000 }).update('rootfs').digest();
    const sink = new MemorySink();
    const writer = createFrameWriter(sink, { frameBytes: 15_000 });
    await writer.write(noise);
    await writer.end();
    const part = Buffer.from(await encryptWhole(encrypt, sink.bytes)).subarray(0, 150_000);
    const { objects } = await custodyBundle({
      encrypt,
      change(manifest, all) {
        all.set(`${NAME}.age`, part);
        const stored = { sha256: createHash('sha256').update(part).digest('hex'), sizeBytes: part.length };
        const mediaType = 'application/vnd.oci.image.layer.v1.tar+zstd';
        const record = { name: NAME, mediaType, stored, truncated: 'S3 was away', encryption: 'age' as const };
        manifest.objects = manifest.objects.map((object) => (object.name === NAME ? record : object));
      },
    });
    const other = path.join(folder, 'encrypted');
    await writeTo(other, objects);
    const ran = await exhibit(['extract', other, NAME, '--identity', key]);
    // Two chunks of 64 KiB are whole, and 8 frames of 15,000 bytes in them.
    expect([ran.code, ran.stdout.equals(noise.subarray(0, 120_000))]).toEqual([1, true]);
    expect(ran.stderr).toContain(`exhibit: ${SENTENCE} The 120000 bytes before that were written.\n`);
    const stored = await exhibit(['verify', other]);
    expect(stored.code).toBe(3);
    expect(stored.stdout.toString()).toMatch(/^INTACT AS STORED/);
  });
});
