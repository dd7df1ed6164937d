import { createHash } from 'node:crypto';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { beforeAll, describe, expect, it } from 'vitest';
import { AgeCut } from '../../../evidence/age-format.ts';
import { decryptFile } from '../../../evidence/age-reader.ts';
import { createEncryption, type Encrypt, encryptWhole } from '../../../evidence/age-writer.ts';
import { decryptingReader } from '../../../evidence/bundle-encrypted.ts';
import { decodeFrames, measureFrames } from '../../../evidence/frame-decoder.ts';
import { createFrameWriter } from '../../../evidence/frames.ts';
import type { Manifest } from '../../../evidence/manifest.ts';
import { generateSigner } from '../../../evidence/seal.ts';
import { verifyBundle } from '../../../evidence/verify.ts';
import { custodyBundle } from './custody-bundle.ts';
import { MemorySink } from './memory-sink.ts';
import { readerOf } from './sample-bundle.ts';

const NAME = 'rootfs.tar.zst';
const WHY = 'the agent died';

describe('an encrypted object of which only a first part was kept', () => {
  let identity: string;
  let encrypt: Encrypt;
  /** Frames as they lie inside, and their age file. */
  let frames: Buffer;
  let content: Buffer;
  let file: Buffer;
  beforeAll(async () => {
    identity = await generateX25519Identity();
    encrypt = await createEncryption([await identityToRecipient(identity)]);
    // Random bytes: four frames a chunk of age, none of which ends where a chunk does.
    content = createHash('shake256', { outputLength: 300_000 }).update('rootfs').digest();
    const sink = new MemorySink();
    const writer = createFrameWriter(sink, { frameBytes: 15_000 });
    await writer.write(content);
    await writer.end();
    frames = sink.bytes;
    file = Buffer.from(await encryptWhole(encrypt, frames));
  });

  const readable = async (keepBytes: number) => {
    const got: Uint8Array[] = [];
    let error: unknown;
    try {
      const source = decryptFile([file.subarray(0, keepBytes)], [identity]);
      for await (const chunk of decodeFrames(source)) got.push(chunk);
    } catch (caught) {
      error = caught;
    }
    return { bytes: Buffer.concat(got), error };
  };

  it('gives every whole frame of its whole chunks, wherever it was cut', async () => {
    const headBytes = file.length - frames.length - Math.ceil(frames.length / 65536) * 16;
    const seen = new Set<number>();
    for (let keep = 0; keep < file.length; keep += 16_411) {
      const { bytes, error } = await readable(keep);
      expect(error, `${keep}`).toBeInstanceOf(AgeCut);
      expect(bytes.equals(content.subarray(0, bytes.length))).toBe(true);
      const chunks = Math.floor(Math.max(0, keep - headBytes) / (65536 + 16));
      const inside = await measureFrames([frames.subarray(0, chunks * 65536)]);
      expect([keep, bytes.length]).toEqual([keep, inside.contentBytes]);
      const source = decryptFile([file.subarray(0, keep)], [identity]);
      expect(await measureFrames(source)).toMatchObject({ frames: inside.frames, contentBytes: inside.contentBytes });
      seen.add(inside.frames);
    }
    expect([...seen]).toEqual([0, 4, 8, 13, 17]);
  });

  /** As an agent seals that finds a first part in the sink. */
  const cutTo =
    (keepBytes: number, name: string = NAME) =>
    (manifest: Manifest, objects: Map<string, Buffer>): void => {
      const part = name === NAME ? file.subarray(0, keepBytes) : objects.get(`${name}.age`)?.subarray(0, keepBytes);
      objects.set(`${name}.age`, part ?? Buffer.alloc(0));
      const bytes = objects.get(`${name}.age`) ?? Buffer.alloc(0);
      const stored = { sha256: createHash('sha256').update(bytes).digest('hex'), sizeBytes: bytes.length };
      manifest.outcome = 'truncated';
      manifest.objects = manifest.objects.map((object) =>
        object.name === name
          ? { name, mediaType: object.mediaType, stored, truncated: WHY, encryption: 'age' as const }
          : object,
      );
    };

  const verified = async (identities: string[], keepBytes: number, name?: string) => {
    const { objects } = await custodyBundle({ signer: generateSigner(), encrypt, change: cutTo(keepBytes, name) });
    return verifyBundle(await decryptingReader(readerOf(objects), identities));
  };

  it('is no fault of the bundle, and verify says with an identity how much of it can be read', async () => {
    const keepBytes = 200_000;
    const { bytes } = await readable(keepBytes);
    const report = await verified([identity], keepBytes);
    const found = report.findings.find(({ code }) => code === 'object-truncated');
    expect(found).toEqual({
      severity: 'info',
      code: 'object-truncated',
      message: `${NAME} is a first part only, as the manifest says (${WHY}): 13 whole frames of it can be read, ${bytes.length} bytes of content`,
      artifact: 'rootfs',
      object: NAME,
    });
    const errors = report.findings.filter(({ severity }) => severity === 'error').map(({ code }) => code);
    // The log of this bundle was written by an agent that knew of no death.
    expect(new Set(errors)).toEqual(new Set(['custody-disagrees']));
  });

  it('may end in its header, and then nothing of it can be read', async () => {
    for (const keepBytes of [1, 100, 205]) {
      const report = await verified([identity], keepBytes);
      expect(report.findings.filter(({ code }) => code === 'encryption-corrupt')).toEqual([]);
      const found = report.findings.find(({ code }) => code === 'object-truncated');
      expect(found?.message).toContain('0 whole frames of it can be read, 0 bytes of content');
    }
  });

  it('may be the list of an archive’s members, which is then compared as far as it goes', async () => {
    const report = await verified([identity], 400, 'inventory.jsonl.zst');
    const found = report.findings.filter(({ code }) => code.startsWith('member'));
    expect(found.map(({ severity, code }) => `${severity} ${code}`)).toEqual(['warning members-not-listed']);
  });

  it('is as it was stored, for who has no identity', async () => {
    const report = await verified([], 200_000);
    expect(report).toMatchObject({ intact: false, intactAsStored: true, counts: { errors: 0 } });
  });

  it('is corrupt where the manifest calls it whole, in its header as in its chunks', async () => {
    for (const keepBytes of [100, 200_000]) {
      const { objects } = await custodyBundle({
        encrypt,
        change(manifest, all) {
          const whole = manifest.objects.find(({ name }) => name === NAME);
          cutTo(keepBytes)(manifest, all);
          manifest.objects = manifest.objects.map((object) => {
            if (object.name !== NAME) return object;
            const { truncated: _, ...rest } = object;
            return { ...rest, ...(whole?.content && { content: whole.content }) };
          });
        },
      });
      const report = await verifyBundle(await decryptingReader(readerOf(objects), [identity]));
      const found = report.findings.find(({ code }) => code === 'encryption-corrupt');
      expect(found).toMatchObject({ severity: 'error', object: NAME });
      expect(found?.message).toMatch(/ends inside its age header|cut or altered inside chunk 3/);
    }
  });
});
