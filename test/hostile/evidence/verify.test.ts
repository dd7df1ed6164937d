import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { MAX_FINDINGS } from '../../../evidence/findings.ts';
import { createFrameWriter } from '../../../evidence/frames.ts';
import { canonicalJson } from '../../../evidence/json.ts';
import type { Manifest } from '../../../evidence/manifest.ts';
import { encodeHeader } from '../../../evidence/tar-header.ts';
import { type VerifyReport, verifyBundle } from '../../../evidence/verify.ts';
import { createBundleWriter } from '../../../evidence/write.ts';
import { MemorySink, openIn } from '../../unit/evidence/memory-sink.ts';
import { fc } from '../../unit/evidence/properties.ts';
import { readerOf, type SampleBundle, sampleBundle } from '../../unit/evidence/sample-bundle.ts';

const codes = (report: VerifyReport) => new Set(report.findings.map(({ code }) => code));

describe('verifying what an enemy made', () => {
  let sample: SampleBundle;
  beforeAll(async () => {
    sample = await sampleBundle();
  });

  /** The sample with one object's bytes and record replaced, sealed by its own key: the enemy has the key, too. */
  async function resealed(objects: Map<string, Buffer>, change: (manifest: Manifest) => void): Promise<VerifyReport> {
    const manifest = structuredClone(sample.manifest);
    change(manifest);
    await createBundleWriter(openIn(objects), { onStored: () => undefined }).seal(manifest, sample.signer);
    return verifyBundle(readerOf(objects));
  }

  it('reports, and never throws, for garbage in any object', async () => {
    const names = [...sample.objects.keys()];
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...names), fc.uint8Array({ maxLength: 3000 }), async (name, garbage) => {
        const report = await verifyBundle(readerOf(new Map(sample.objects).set(name, Buffer.from(garbage))));
        expect(report.intact).toBe(false);
        expect(report.findings.some(({ object }) => object === name)).toBe(true);
      }),
    );
  });

  it('reports for any object cut anywhere', async () => {
    for (const [name, bytes] of sample.objects) {
      for (let length = 0; length < bytes.length; length += Math.ceil(bytes.length / 12)) {
        const report = await verifyBundle(readerOf(new Map(sample.objects).set(name, bytes.subarray(0, length))));
        expect(report.intact).toBe(false);
        expect(report.findings.some(({ severity, object }) => severity === 'error' && object === name)).toBe(true);
      }
    }
  });

  it('reports for records that are JSON, but of any other shape', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('manifest.json', 'request.json', 'manifest.dsse.json'),
        fc.jsonValue(),
        async (name, value) => {
          const objects = new Map(sample.objects).set(name, Buffer.from(canonicalJson(value)));
          expect(await verifyBundle(readerOf(objects))).toMatchObject({ intact: false });
        },
      ),
    );
  });

  it('does not read a manifest of a gigabyte', async () => {
    let readBytes = 0;
    const inner = readerOf(sample.objects);
    const report = await verifyBundle({
      ...inner,
      [Symbol.asyncDispose]: async () => undefined,
      async *read(name, range) {
        if (name !== 'manifest.json') return yield* inner.read(name, range);
        const chunk = Buffer.alloc(1024 * 1024, ' ');
        for (; readBytes < 2 ** 30; readBytes += chunk.length) yield chunk;
      },
    });
    expect(readBytes).toBeLessThan(80 * 1024 * 1024);
    expect(codes(report)).toContain('object-size');
  });

  it('says so when JSON has a key twice, which two readers would read differently', async () => {
    const twice = (sample.objects.get('manifest.json') ?? '').toString().replace('{\n', '{\n  "agent": {},\n');
    const report = await verifyBundle(readerOf(new Map(sample.objects).set('manifest.json', Buffer.from(twice))));
    expect(codes(report)).toContain('duplicate-key');
    expect(report.findings.map(({ message }) => message).join()).toContain('has the key "agent" twice');
  });

  it('does not unpack more than the manifest declares', async () => {
    const sink = new MemorySink();
    const writer = createFrameWriter(sink, { frameBytes: 16 * 1024 * 1024 });
    for (let round = 0; round < 4; round += 1) await writer.write(Buffer.alloc(16 * 1024 * 1024));
    const { stored } = await writer.end();
    const report = await resealed(new Map(sample.objects).set('processes.tar.zst', sink.bytes), (manifest) => {
      const object = manifest.objects.find(({ name }) => name === 'processes.tar.zst');
      if (object !== undefined) object.stored = stored;
    });
    expect([...codes(report)]).toEqual(['content-size', 'signer-unvouched']);
  });

  it('does not believe a member that declares a tebibyte', async () => {
    const sink = new MemorySink();
    const frames = createFrameWriter(sink);
    await frames.write(encodeHeader({ path: 'huge', type: 'file', sizeBytes: 2 ** 40 }));
    await frames.write(Buffer.from('x'));
    const { stored, content } = await frames.end();
    const report = await resealed(new Map(sample.objects).set('processes.tar.zst', sink.bytes), (manifest) => {
      const object = manifest.objects.find(({ name }) => name === 'processes.tar.zst');
      if (object !== undefined) Object.assign(object, { stored, content });
    });
    expect(codes(report)).toContain('tar-corrupt');
  });

  it('names members that climb out of their folder or are there twice', async () => {
    const objects = new Map(sample.objects);
    let record: Manifest['objects'][number] | undefined;
    const writer = createBundleWriter(openIn(objects), { onStored: (object) => (record = object) });
    await using archive = await writer.openArchive('processes.tar.zst');
    for (const path of ['../../etc/passwd', '/etc/shadow', 'a/../../b', 'twice', 'twice', './fine', 'fine/']) {
      await archive.add({ path, type: 'directory' });
    }
    await archive.commit();
    const report = await resealed(objects, (manifest) => {
      manifest.objects = manifest.objects.map((object) => (object.name === record?.name ? record : object));
    });
    expect(report.intact).toBe(true);
    const named = report.findings.filter(({ code }) => code === 'member-name-unsafe').map(({ member }) => member);
    expect(named).toEqual(['../../etc/passwd', '/etc/shadow', 'a/../../b']);
    expect(report.findings.find(({ code }) => code === 'member-duplicate')?.member).toBe('twice');
  });

  it('refuses object names that lead out of the bundle', async () => {
    for (const name of ['../../../etc/passwd', '/etc/passwd', '', '.', 'a//b', 'a\0b']) {
      const report = await resealed(new Map(sample.objects), (manifest) => {
        manifest.objects.push({ name, mediaType: 'x', stored: { sha256: '0'.repeat(64), sizeBytes: 1 } });
      });
      expect(codes(report), name).toContain('object-name-unsafe');
    }
  });

  it('keeps its report small when there are twenty thousand things to say', { timeout: 60_000 }, async () => {
    const ghosts = Array.from({ length: 20_000 }, (_, index) => ({
      path: `ghost${index}`,
      type: 'fifo' as const,
      sizeBytes: 0,
    }));
    const report = await resealed(new Map(sample.objects), (manifest) => {
      manifest.objects.find(({ name }) => name === 'processes.tar.zst')?.members?.push(...ghosts);
    });
    expect(report.counts.errors).toBe(20_000);
    expect(report.findings.length).toBe(MAX_FINDINGS);
    expect(report.findings.every(({ severity }) => severity === 'error')).toBe(true);
  });

  it('reports lists of members that are garbage, cut, or of another shape', async () => {
    for (const lines of [
      'garbage\n',
      '{"path":"x"}\n',
      '{"path":"x","type":"file","sizeBytes":1',
      '\n',
      '[]\n',
      randomBytes(100).toString('latin1'),
    ]) {
      const sink = new MemorySink();
      const frames = createFrameWriter(sink);
      await frames.write(Buffer.from(lines));
      const { stored, content } = await frames.end();
      const report = await resealed(new Map(sample.objects).set('inventory.jsonl.zst', sink.bytes), (manifest) => {
        const object = manifest.objects.find(({ name }) => name === 'inventory.jsonl.zst');
        if (object !== undefined) Object.assign(object, { stored, content });
      });
      expect([...codes(report)], lines).toEqual(['members-list-corrupt', 'signer-unvouched']);
      expect(report.findings[0]).toMatchObject({ object: 'inventory.jsonl.zst' });
    }
  });

  it('reports a list of members that is not there', async () => {
    const objects = new Map(sample.objects);
    objects.delete('inventory.jsonl.zst');
    const report = await verifyBundle(readerOf(objects));
    expect(codes(report)).toContain('object-missing');
    expect(codes(report)).toContain('members-list-corrupt');
  });

  it('reports a reader whose list or objects fail', async () => {
    const inner = readerOf(sample.objects);
    const report = await verifyBundle({
      ...inner,
      [Symbol.asyncDispose]: async () => undefined,
      // biome-ignore lint/correctness/useYield: it fails before its first entry.
      async *list() {
        throw new Error('connection reset');
      },
    });
    expect(codes(report)).toContain('list-failed');
    const broken = await verifyBundle({
      ...inner,
      [Symbol.asyncDispose]: async () => undefined,
      async *read(name, range) {
        if (name.endsWith('.zst')) throw new Error('connection reset');
        yield* inner.read(name, range);
      },
    });
    expect(codes(broken)).toContain('object-unreadable');
  });
});
