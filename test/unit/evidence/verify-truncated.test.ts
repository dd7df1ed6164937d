import { createHash } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { decodeFrames, measureFrames, StreamCut } from '../../../evidence/frame-decoder.ts';
import type { Manifest, StoredObject } from '../../../evidence/manifest.ts';
import { generateSigner } from '../../../evidence/seal.ts';
import { verifyBundle } from '../../../evidence/verify.ts';
import { custodyBundle } from './custody-bundle.ts';
import { gather } from './memory-sink.ts';
import { readerOf } from './sample-bundle.ts';

const NAME = 'rootfs.tar.zst';
const WHY = 'the agent died';

/** Cuts an object in the bundle and its record, as an agent does that finds a first part in the sink. */
function cutTo(keepBytes: number, extra: Partial<StoredObject> = {}, name = NAME) {
  return (manifest: Manifest, objects: Map<string, Buffer>): void => {
    const first = (objects.get(name) ?? Buffer.alloc(0)).subarray(0, keepBytes);
    objects.set(name, first);
    const stored = { sha256: createHash('sha256').update(first).digest('hex'), sizeBytes: first.length };
    manifest.outcome = 'truncated';
    manifest.objects = manifest.objects.map((object) =>
      object.name === name ? { name, mediaType: object.mediaType, stored, truncated: WHY, ...extra } : object,
    );
  };
}

describe('an object of which only a first part was kept', () => {
  const signer = generateSigner();
  let whole: Buffer;
  let content: Buffer;
  beforeAll(async () => {
    whole = (await custodyBundle({ signer })).objects.get(NAME) ?? Buffer.alloc(0);
    content = await gather(decodeFrames([whole]));
  });

  const verified = async (keepBytes: number, extra: Partial<StoredObject> = {}) => {
    const { objects } = await custodyBundle({ signer, change: cutTo(keepBytes, extra) });
    return { objects, report: await verifyBundle(readerOf(objects)) };
  };

  it('gives the content of its whole frames and then says after how many it ends, wherever it was cut', async () => {
    const { frames } = await measureFrames([whole]);
    expect(frames).toBeGreaterThan(5);
    let most = 0;
    for (let keep = 0; keep < whole.length; keep += 7) {
      const got: Uint8Array[] = [];
      const cut = await (async () => {
        for await (const chunk of decodeFrames([whole.subarray(0, keep)])) got.push(chunk);
      })().catch((error: unknown) => error);
      expect(cut).toBeInstanceOf(StreamCut);
      const bytes = Buffer.concat(got);
      expect(bytes.equals(content.subarray(0, bytes.length))).toBe(true);
      const measured = await measureFrames([whole.subarray(0, keep)]);
      expect(measured).toMatchObject({
        frames: cut instanceof StreamCut ? cut.frames : -1,
        contentBytes: bytes.length,
      });
      most = Math.max(most, measured.frames);
    }
    expect(most).toBe(frames);
  });

  it('is what the manifest says: intact, with what can be read of it', async () => {
    const { report } = await verified(Math.floor(whole.length / 2));
    const { frames, contentBytes } = await measureFrames([whole.subarray(0, Math.floor(whole.length / 2))]);
    const found = report.findings.find(({ code }) => code === 'object-truncated');
    expect(found).toEqual({
      severity: 'info',
      code: 'object-truncated',
      message: `${NAME} is a first part only, as the manifest says (${WHY}): ${frames} whole frames of it can be read, ${contentBytes} bytes of content`,
      artifact: 'rootfs',
      object: NAME,
    });
    const errors = report.findings.filter(({ severity }) => severity === 'error').map(({ code }) => code);
    // The log of this bundle was written by an agent that knew of no death.
    expect(new Set(errors)).toEqual(new Set(['custody-disagrees']));
  });

  it('is altered when one byte of the part is another, is missing, or comes after it', async () => {
    const { objects } = await verified(500);
    const part = objects.get(NAME) ?? Buffer.alloc(0);
    const flipped = Buffer.from(part);
    flipped.writeUInt8(flipped.readUInt8(100) ^ 1, 100);
    const cases = [
      [flipped, 'object-digest'],
      [part.subarray(0, -1), 'object-size'],
      [Buffer.concat([part, Buffer.alloc(1)]), 'object-size'],
    ] as const;
    for (const [bytes, code] of cases) {
      const report = await verifyBundle(readerOf(new Map(objects).set(NAME, bytes)));
      expect(report.findings.filter(({ object }) => object === NAME).map((finding) => finding.code)).toContain(code);
      expect(report.intact).toBe(false);
    }
  });

  it('may be the list of an archive’s members, which is then compared as far as it goes', async () => {
    const { objects } = await custodyBundle({ signer, change: cutTo(400, {}, 'inventory.jsonl.zst') });
    const report = await verifyBundle(readerOf(objects));
    const found = report.findings.filter(({ code }) => code.startsWith('member'));
    expect(found.map(({ severity, code }) => `${severity} ${code}`)).toContain('warning members-not-listed');
    expect(found.filter(({ severity }) => severity === 'error')).toEqual([]);
  });

  it('cannot have a declared content or members', async () => {
    const extras: Partial<StoredObject>[] = [
      { content: { sizeBytes: 1 } },
      { members: [] },
      { membersIn: 'inventory.jsonl.zst' },
    ];
    for (const extra of extras) {
      const { report } = await verified(500, extra);
      const found = report.findings.find(({ code }) => code === 'manifest-inconsistent');
      expect(found?.message).toBe(`the manifest says that ${NAME} ends early, and yet what its whole content is`);
    }
  });

  it('is corrupt, not short, when a frame in it is none', async () => {
    const change = (manifest: Manifest, objects: Map<string, Buffer>) => {
      objects.set(NAME, Buffer.concat([whole.subarray(0, 300), Buffer.alloc(5000, 'x')]));
      cutTo(5000)(manifest, objects);
    };
    const { objects } = await custodyBundle({ signer, change });
    const report = await verifyBundle(readerOf(objects));
    expect(report.findings.map(({ code }) => code)).toContain('frames-corrupt');
  });
});
