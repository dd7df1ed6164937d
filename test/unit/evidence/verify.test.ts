import { generateKeyPairSync } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { canonicalJson } from '../../../evidence/json.ts';
import type { Manifest } from '../../../evidence/manifest.ts';
import { generateSigner } from '../../../evidence/seal.ts';
import { createSealer } from '../../../evidence/sealer.ts';
import { type VerifyOptions, type VerifyReport, verifyBundle } from '../../../evidence/verify.ts';
import { createBundleWriter } from '../../../evidence/write.ts';
import { openIn } from './memory-sink.ts';
import { readerOf, type SampleBundle, sampleBundle } from './sample-bundle.ts';

describe('verifying a bundle', () => {
  let sample: SampleBundle;
  beforeAll(async () => {
    sample = await sampleBundle();
  });

  async function verifyChanged(
    change: (objects: Map<string, Buffer>) => void | Promise<void>,
    options: VerifyOptions = {},
  ): Promise<VerifyReport> {
    const objects = new Map(sample.objects);
    await change(objects);
    return verifyBundle(readerOf(objects), options);
  }

  /** `sample` with another manifest, sealed again with the same key: what a careless agent would make. */
  async function verifyResealed(change: (manifest: Manifest) => void): Promise<VerifyReport> {
    return verifyChanged(async (objects) => {
      const manifest = structuredClone(sample.manifest);
      change(manifest);
      await createBundleWriter(openIn(objects), { onStored: () => undefined }).seal(manifest, sample.signer);
    });
  }

  const codes = (report: VerifyReport, severity = 'error') =>
    report.findings
      .filter((finding) => finding.severity === severity)
      .map(({ code, object, member }) => [code, object, member].filter((part) => part !== undefined).join(' '));

  it('calls an untouched one intact, and says who signed', async () => {
    const report = await verifyChanged(() => undefined, { trustedKeys: [sample.signer.publicKey] });
    expect(report.findings).toEqual([]);
    expect(report).toMatchObject({ intact: true, sealed: true, signer: { keyId: sample.signer.keyId, trusted: true } });
    expect(report.counts).toMatchObject({ objects: 6, members: 3 + 26 + 26, errors: 0, warnings: 0 });
    expect(report.counts.bytes).toBe(sample.manifest.objects.reduce((sum, object) => sum + object.stored.sizeBytes, 0));
    expect(report.proves.join(' ')).toContain(sample.signer.keyId);
    expect(report.doesNotProve.join(' ')).toContain('node told the truth');
  });

  it('without a trusted key says that nothing vouches for the signer', async () => {
    const report = await verifyChanged(() => undefined);
    expect(report.intact).toBe(true);
    expect(report.signer?.words).toBe(`signed by key ${sample.signer.keyId}, which nothing here vouches for`);
    expect(codes(report, 'warning')).toEqual(['signer-unvouched manifest.dsse.json']);
  });

  it('does not call a bundle intact that another key has signed', async () => {
    const { publicKey } = generateKeyPairSync('ed25519');
    const report = await verifyChanged(() => undefined, { trustedKeys: [publicKey] });
    expect(report.intact).toBe(false);
    expect(codes(report)).toEqual(['signer-untrusted manifest.dsse.json']);
  });

  it('catches a manifest that was edited and sealed again by somebody else', async () => {
    const report = await verifyChanged(
      async (objects) => {
        const manifest = structuredClone(sample.manifest);
        manifest.artifacts.pop();
        await createBundleWriter(openIn(objects), { onStored: () => undefined }).seal(manifest, generateSigner());
      },
      { trustedKeys: [sample.signer.publicKey] },
    );
    expect(codes(report)).toEqual(['signer-untrusted manifest.dsse.json', 'signer-disagrees manifest.json']);
  });

  for (const name of [
    'processes.tar.zst',
    'rootfs.tar.zst',
    'inventory.jsonl.zst',
    'bodyfile.zst',
    'checkpoint.tar.zst',
  ]) {
    it(`names ${name} and its artifact when one byte of it is flipped`, async () => {
      const length = sample.objects.get(name)?.length ?? 0;
      for (let at = 0; at < length; at += Math.ceil(length / 40)) {
        const report = await verifyChanged((objects) => {
          const bytes = Buffer.from(objects.get(name) ?? []);
          bytes[at] = (bytes[at] ?? 0) ^ 0x10;
          objects.set(name, bytes);
        });
        expect(report.intact).toBe(false);
        expect(codes(report)).toContain(`object-digest ${name}`);
        const finding = report.findings.find(({ code }) => code === 'object-digest');
        expect(finding?.artifact).toBe(sample.manifest.artifacts.find(({ objects }) => objects.includes(name))?.name);
      }
    });

    it(`names ${name} when it is cut, longer, or gone`, async () => {
      const bytes = sample.objects.get(name) ?? Buffer.alloc(0);
      const cut = await verifyChanged((objects) => void objects.set(name, bytes.subarray(0, -1)));
      expect(codes(cut)).toContain(`object-size ${name}`);
      const longer = await verifyChanged((objects) => void objects.set(name, Buffer.concat([bytes, Buffer.alloc(1)])));
      expect(codes(longer)).toContain(`object-size ${name}`);
      const gone = await verifyChanged((objects) => void objects.delete(name));
      expect(codes(gone)).toContain(`object-missing ${name}`);
    });
  }

  it('names an object that nobody listed', async () => {
    const report = await verifyChanged((objects) => void objects.set('extra.tar.zst', Buffer.from('x')));
    expect(codes(report)).toEqual(['object-unlisted extra.tar.zst']);
  });

  it('names both objects when two are swapped', async () => {
    const report = await verifyChanged((objects) => {
      const [a, b] = [objects.get('processes.tar.zst'), objects.get('checkpoint.tar.zst')];
      if (a !== undefined && b !== undefined) objects.set('processes.tar.zst', b).set('checkpoint.tar.zst', a);
    });
    expect(codes(report)).toContain('object-size processes.tar.zst');
    expect(codes(report)).toContain('object-size checkpoint.tar.zst');
  });

  it('says who asked, when a capture did not end', async () => {
    const report = await verifyChanged((objects) => {
      objects.delete('manifest.json');
      objects.delete('manifest.dsse.json');
    });
    expect(report).toMatchObject({ intact: false, sealed: false, captureId: sample.manifest.captureId });
    expect(codes(report)).toContain('manifest-missing manifest.json');
    expect(codes(report)).toContain('seal-missing manifest.dsse.json');
    const words = report.findings.find(({ code }) => code === 'capture-unfinished')?.message;
    expect(words).toMatch(/2026-11-22T10:00:00.000Z by uid 0, pid 17 \(socket\).*default\/shop-1 on node node-1/);
    expect(report.proves).toEqual([]);
  });

  it('checks everything else when only the seal is gone', async () => {
    const report = await verifyChanged((objects) => void objects.delete('manifest.dsse.json'));
    expect(codes(report)).toEqual(['seal-missing manifest.dsse.json']);
    expect(report.counts.members).toBe(55);
  });

  it('catches a request that is not the one of the manifest', async () => {
    const report = await verifyChanged((objects) => {
      const request: unknown = JSON.parse((objects.get('request.json') ?? '').toString());
      objects.set('request.json', Buffer.from(canonicalJson({ ...Object(request), node: 'node-2' })));
    });
    expect(codes(report)).toContain('request-disagrees request.json');
    expect(codes(report)).toContain('seal-disagrees request.json');
  });

  it('catches a seal that covers less than there is', async () => {
    const report = await verifyChanged(async (objects) => {
      const { captureId, agent } = sample.manifest;
      objects.set(
        'manifest.dsse.json',
        Buffer.from(
          (await createSealer(sample.signer).seal({ captureId, agent, subjects: [] }, new AbortController().signal))
            .envelope,
        ),
      );
    });
    expect(codes(report)).toContain('seal-disagrees manifest.json');
    expect(codes(report)).toContain('seal-disagrees processes.tar.zst');
  });

  const members = (manifest: Manifest) =>
    manifest.objects.find(({ name }) => name === 'processes.tar.zst')?.members ?? [];

  it('names the member whose digest, size or type is not the listed one', async () => {
    const digest = await verifyResealed(
      (manifest) => void Object.assign(members(manifest)[0] ?? {}, { sha256: '0'.repeat(64) }),
    );
    expect(codes(digest)).toEqual(['member-digest processes.tar.zst 4711/status']);
    const size = await verifyResealed((manifest) => void Object.assign(members(manifest)[1] ?? {}, { sizeBytes: 7 }));
    expect(codes(size)).toEqual(['member-size processes.tar.zst 4711/exe']);
    const type = await verifyResealed(
      (manifest) => void Object.assign(members(manifest)[2] ?? {}, { type: 'hardlink' }),
    );
    expect(codes(type)).toEqual(['member-type processes.tar.zst 4711/cwd']);
  });

  it('has nothing against a file without a digest of its own: the archive’s digest covers it', async () => {
    const report = await verifyResealed((manifest) => {
      for (const { members } of manifest.objects) for (const member of members ?? []) delete member.sha256;
    });
    expect(codes(report)).toEqual([]);
    expect(report.counts.members).toBe(3 + 26 + 26);
    // And it really does.
    const altered = await verifyResealed((manifest) => {
      for (const object of manifest.objects) {
        for (const member of object.members ?? []) delete member.sha256;
        if (object.members !== undefined && object.content !== undefined) object.content.sha256 = '0'.repeat(64);
      }
    });
    expect(codes(altered)).toContain('content-digest processes.tar.zst');
  });

  it('names members that are missing, not listed, or in another order', async () => {
    const unlisted = await verifyResealed((manifest) => void members(manifest).pop());
    expect(codes(unlisted)).toEqual(['member-unlisted processes.tar.zst 4711/cwd']);
    const missing = await verifyResealed(
      (manifest) => void members(manifest).push({ path: 'ghost', type: 'fifo', sizeBytes: 0 }),
    );
    expect(codes(missing)).toEqual(['member-missing processes.tar.zst ghost']);
    const order = await verifyResealed((manifest) => void members(manifest).reverse());
    expect(codes(order)).toEqual(['member-order processes.tar.zst 4711/status']);
  });

  it('catches a manifest that names objects it does not list, or lists one twice', async () => {
    const absent = await verifyResealed((manifest) => void manifest.artifacts[0]?.objects.push('ghost.tar.zst'));
    expect(codes(absent)).toEqual(['manifest-inconsistent manifest.json']);
    const twice = await verifyResealed((manifest) => void manifest.objects.push(...manifest.objects.slice(0, 1)));
    expect(codes(twice)).toContain('manifest-inconsistent manifest.json');
  });

  it('says that the members of an archive were not checked when nobody listed them', async () => {
    const report = await verifyResealed((manifest) => {
      for (const object of manifest.objects) if (object.name === 'processes.tar.zst') delete object.members;
    });
    expect(report.intact).toBe(true);
    expect(codes(report, 'warning')).toContain('members-not-listed processes.tar.zst');
  });

  it('ends with an error when it is cancelled, and reports progress until then', async () => {
    const controller = new AbortController();
    const seen: number[] = [];
    const onProgress = ({ doneBytes }: { doneBytes: number }) => {
      seen.push(doneBytes);
      if (seen.length === 3) controller.abort();
    };
    await expect(verifyChanged(() => undefined, { signal: controller.signal, onProgress })).rejects.toThrow(
      'cancelled',
    );
    expect(seen).toHaveLength(3);
  });
});
