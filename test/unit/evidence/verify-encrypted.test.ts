import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { beforeAll, describe, expect, it } from 'vitest';
import { createEncryption, type Encrypt } from '../../../evidence/age-writer.ts';
import { openBundle } from '../../../evidence/bundle.ts';
import { decryptingReader, readableBytes } from '../../../evidence/bundle-encrypted.ts';
import type { StoredObject } from '../../../evidence/manifest.ts';
import { checkSeal } from '../../../evidence/seal.ts';
import { createSealer } from '../../../evidence/sealer.ts';
import { openSeekable } from '../../../evidence/seekable.ts';
import { type VerifyOptions, type VerifyReport, verifyBundle } from '../../../evidence/verify.ts';
import { createBundleWriter, sealManifest } from '../../../evidence/write.ts';
import { gather, openIn } from './memory-sink.ts';
import { readerOf, type SampleBundle, sampleBundle, writeTo } from './sample-bundle.ts';

describe('an encrypted bundle', () => {
  let identity: string;
  let other: string;
  let encrypt: Encrypt;
  let sample: SampleBundle;
  let plain: SampleBundle;
  beforeAll(async () => {
    identity = await generateX25519Identity();
    other = await generateX25519Identity();
    const second = await identityToRecipient(await generateX25519Identity());
    encrypt = await createEncryption([second, await identityToRecipient(identity)]);
    sample = await sampleBundle(undefined, false, encrypt);
    plain = await sampleBundle(sample.signer);
  });

  async function verifyChanged(
    identities: string[],
    change: (objects: Map<string, Buffer>) => void | Promise<void> = () => undefined,
    options: VerifyOptions = {},
  ): Promise<VerifyReport> {
    const objects = new Map(sample.objects);
    await change(objects);
    return verifyBundle(await decryptingReader(readerOf(objects), identities), options);
  }

  const codes = (report: VerifyReport, severity = 'error') =>
    report.findings
      .filter((finding) => finding.severity === severity)
      .map(({ code, object }) => [code, object].filter((part) => part !== undefined).join(' '));

  const flip = (objects: Map<string, Buffer>, name: string, at: number) => {
    const bytes = Buffer.from(objects.get(name) ?? Buffer.alloc(0));
    const index = at < 0 ? bytes.length + at : at;
    bytes[index] = (bytes[index] ?? 0) ^ 1;
    objects.set(name, bytes);
  };

  it('lies in the sink as age files, but for its seal', () => {
    expect([...sample.objects.keys()].sort()).toEqual(
      [...plain.objects.keys()].map((name) => (name === 'manifest.dsse.json' ? name : `${name}.age`)).sort(),
    );
    for (const [name, bytes] of sample.objects) {
      const isAge = bytes.subarray(0, 22).toString('latin1') === 'age-encryption.org/v1\n';
      expect(isAge, name).toBe(name.endsWith('.age'));
    }
  });

  it('has records with the names of what it holds, and digests of what is stored', () => {
    for (const object of sample.manifest.objects) {
      const bytes = sample.objects.get(`${object.name}.age`) ?? Buffer.alloc(0);
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      expect(object).toMatchObject({ encryption: 'age', stored: { sha256, sizeBytes: bytes.length } });
      const same = plain.manifest.objects.find(({ name }) => name === object.name);
      if (object.name !== 'request.json') expect(object.content).toEqual(same?.content);
    }
    const { statement } = checkSeal(sample.objects.get('manifest.dsse.json') ?? Buffer.alloc(0));
    expect(statement.subject.map(({ name }) => name)).toEqual(
      [...sample.manifest.objects.map(({ name }) => `${name}.age`), 'manifest.json.age'].sort(),
    );
  });

  it('is read by the names of what it holds', async () => {
    const reader = await decryptingReader(readerOf(sample.objects), [other, identity]);
    const names: string[] = [];
    for await (const { name } of reader.list()) names.push(name);
    expect(names.sort()).toEqual([...plain.objects.keys()].sort());
    for (const [name, bytes] of plain.objects) {
      if (name.startsWith('manifest') || name === 'request.json') continue;
      expect((await gather(reader.read(name))).equals(bytes), name).toBe(true);
      expect((await gather(reader.read(name, { start: 5, end: 90 }))).equals(bytes.subarray(5, 90)), name).toBe(true);
      expect((await gather(reader.read(name, { start: 7 }))).equals(bytes.subarray(7)), name).toBe(true);
    }
    expect(await gather(reader.read('manifest.dsse.json'))).toEqual(sample.objects.get('manifest.dsse.json'));
    await expect(gather(reader.read('absent.json'))).rejects.toMatchObject({ code: 'bundle-not-found' });
  });

  it('is opened from a folder with its identity, and says what is needed without', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'exhibit-encrypted-'));
    try {
      await writeTo(folder, sample.objects);
      await using reader = await openBundle(folder, { identities: [identity] });
      expect((await gather(reader.read('manifest.json'))).toString()).toContain('"formatVersion": 1');
      await using locked = await openBundle(folder);
      const reading = gather(locked.read('manifest.json'));
      await expect(reading).rejects.toThrow(
        /encrypted to 2 x X25519 with age, and no identity .* --identity .*EXHIBIT_IDENTITY.*verify` checks the seal/s,
      );
      await expect(reading).rejects.toMatchObject({ code: 'bundle-encrypted' });
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('is told by its seal where somebody put plain records beside its own', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'exhibit-encrypted-'));
    try {
      await writeTo(folder, sample.objects);
      await writeTo(folder, new Map([['request.json', plain.objects.get('request.json') ?? Buffer.alloc(0)]]));
      await using reader = await openBundle(folder, { identities: [identity] });
      const report = await verifyBundle(reader);
      expect(codes(report)).toEqual(['object-unlisted request.json']);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('stays seekable: a read in the middle costs the frames and chunks that it touches', async () => {
    const objects = new Map<string, Buffer>();
    const records: StoredObject[] = [];
    const frameBytes = 256 * 1024;
    const writer = createBundleWriter(openIn(objects), {
      frameBytes,
      level: 0,
      onStored: (object) => records.push(object),
      encrypt,
    });
    const content = Buffer.alloc(40 * frameBytes);
    for (let at = 0; at < content.length; at += 4) content.writeUInt32LE(at, at);
    await writer.writeJson('request.json', {});
    await using archive = await writer.openArchive('memory.tar.zst');
    await archive.add({ path: '1/core', type: 'file', sizeBytes: content.length }, content);
    await archive.commit();
    const object = records[1];
    if (object === undefined) throw new Error('no record');
    let read = 0;
    const counted = readerOf(objects, 1 << 20);
    const reader = await decryptingReader(
      {
        ...counted,
        async *read(name, range) {
          for await (const chunk of counted.read(name, range)) {
            read += chunk.length;
            yield chunk;
          }
        },
      },
      [identity],
    );
    const sizeBytes = await readableBytes(reader, object);
    const seekable = await openSeekable(
      (start, end) => gather(reader.read('memory.tar.zst', { start, end })),
      sizeBytes,
    );
    const middle = 20 * frameBytes + 512;
    read = 0;
    const got = await seekable.read(middle, 4096);
    expect(Buffer.from(got).readUInt32LE(0)).toBe(middle - 512);
    expect(read).toBeLessThan(frameBytes + 3 * 64 * 1024 + 1024);
    expect(sizeBytes).toBeLessThan(object.stored.sizeBytes);
  });

  describe('verified with its identity', () => {
    it('is intact as a plain one is', async () => {
      const trustedKeys = [sample.signer.publicKey];
      const report = await verifyChanged([identity], undefined, { trustedKeys });
      expect(report.findings).toEqual([]);
      expect(report).toMatchObject({ intact: true, intactAsStored: true, encryption: { read: true, recipients: [] } });
      const reference = await verifyBundle(readerOf(plain.objects), { trustedKeys });
      expect(report.counts.objects).toBe(reference.counts.objects);
      expect(report.counts.members).toBe(reference.counts.members);
      expect(report.counts.bytes).toBe(sample.manifest.objects.reduce((sum, { stored }) => sum + stored.sizeBytes, 0));
    });

    for (const name of ['processes.tar.zst', 'rootfs.tar.zst', 'inventory.jsonl.zst', 'bodyfile.zst']) {
      it(`names the object when a byte of ${name} was changed, by both of its layers`, async () => {
        const report = await verifyChanged([identity], (objects) => flip(objects, `${name}.age`, -1));
        expect(report.intact).toBe(false);
        expect(codes(report)).toContain(`encryption-corrupt ${name}`);
        expect(codes(report)).toContain(`object-digest ${name}`);
      });
    }

    it('says that bytes were appended to an object', async () => {
      const name = 'processes.tar.zst.age';
      const report = await verifyChanged([identity], (objects) => {
        objects.set(name, Buffer.concat([objects.get(name) ?? Buffer.alloc(0), Buffer.alloc(10)]));
      });
      expect(codes(report)).toEqual(['encryption-corrupt processes.tar.zst', 'object-size processes.tar.zst']);
    });

    it('names a missing object, one too many, and one in the place of another', async () => {
      const report = await verifyChanged([identity], (objects) => {
        objects.delete('bodyfile.zst.age');
        objects.set('more.age', Buffer.from('x'));
        objects.set('rootfs.tar.zst', Buffer.from('x'));
        objects.set('checkpoint.tar.zst.age', objects.get('processes.tar.zst.age') ?? Buffer.alloc(0));
      });
      expect(codes(report)).toEqual(
        expect.arrayContaining([
          'object-missing bodyfile.zst',
          'object-unlisted more.age',
          'object-unlisted rootfs.tar.zst',
          'object-size checkpoint.tar.zst',
        ]),
      );
    });

    it('still reads the rest when the header of one record is damaged', async () => {
      const report = await verifyChanged([identity], (objects) => flip(objects, 'request.json.age', 60));
      expect(codes(report)).toContain('object-unreadable request.json');
      expect(report.encryption).toEqual({ read: true, recipients: [] });
      expect(report.counts.objects).toBe(6);
    });

    it('takes an object that was cut when it was stored for what its record says, and says where it ends', async () => {
      const objects = new Map(sample.objects);
      const manifest = structuredClone(sample.manifest);
      const object = manifest.objects.find(({ name }) => name === 'checkpoint.tar.zst');
      if (object === undefined) throw new Error('no such object');
      const bytes = (objects.get('checkpoint.tar.zst.age') ?? Buffer.alloc(0)).subarray(0, 700);
      objects.set('checkpoint.tar.zst.age', bytes);
      object.stored = { sizeBytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
      object.truncated = 'the agent died';
      delete object.content;
      delete object.members;
      const end = await sealManifest(manifest, createSealer(sample.signer), AbortSignal.timeout(5000), encrypt);
      for (const one of end.objects) objects.set(one.name, Buffer.from(one.bytes));
      const report = await verifyBundle(await decryptingReader(readerOf(objects), [identity]));
      expect(codes(report)).toEqual([]);
      const said = report.findings.find(({ code }) => code === 'object-truncated');
      expect(said).toMatchObject({ severity: 'info', object: 'checkpoint.tar.zst' });
      expect(said?.message).toMatch(/\(the agent died\): 0 whole frames of it can be read, 0 bytes of content$/);
    });
  });

  describe('verified without an identity of its own', () => {
    it('is intact as stored, and not as a whole; that its contents were not read is said', async () => {
      const report = await verifyChanged([], undefined, { trustedKeys: [sample.signer.publicKey] });
      expect(report).toMatchObject({
        intact: false,
        intactAsStored: true,
        sealed: true,
        captureId: sample.manifest.captureId,
        encryption: { read: false, recipients: ['X25519', 'X25519'] },
        signer: { trusted: true },
        counts: { objects: 7, members: 0, errors: 0, warnings: 1 },
      });
      expect(codes(report, 'warning')).toEqual(['contents-encrypted']);
      expect(report.proves[0]).toMatch(/Each of the 7 objects, \d+ bytes as stored, is what the holder of key/);
      expect(report.doesNotProve.join(' ')).toContain('they are encrypted and were not opened');
      const sizes = [...sample.objects].filter(([name]) => name.endsWith('.age')).map(([, bytes]) => bytes.length);
      expect(report.counts.bytes).toBe(sizes.reduce((sum, size) => sum + size, 0));
    });

    it('says so when none of the identities given is of its recipients', async () => {
      const report = await verifyChanged([other]);
      expect(codes(report, 'warning')).toContain('identity-wrong');
      expect(report).toMatchObject({ intact: false, intactAsStored: true, encryption: { read: false } });
    });

    it('is not intact as stored when any stored byte was changed, and the object is named', async () => {
      for (const name of [...sample.objects.keys()].filter((one) => one.endsWith('.age'))) {
        const report = await verifyChanged([], (objects) => flip(objects, name, -1));
        expect(codes(report)).toEqual([`object-digest ${name}`]);
        expect(report).toMatchObject({ intact: false, intactAsStored: false, proves: [] });
      }
    });

    it('names what is missing, what nobody sealed, and what is sealed by another key', async () => {
      const report = await verifyChanged([], (objects) => {
        objects.delete('rootfs.tar.zst.age');
        objects.set('planted.age', Buffer.from('x'));
      });
      expect(codes(report)).toEqual(['object-unlisted planted.age', 'object-missing rootfs.tar.zst.age']);
      const { signer } = await sampleBundle(undefined, true);
      const untrusted = await verifyChanged([], undefined, { trustedKeys: [signer.publicKey] });
      expect(codes(untrusted)).toEqual(['signer-untrusted manifest.dsse.json']);
      expect(untrusted.intactAsStored).toBe(false);
    });

    it('without a seal is vouched for by nobody', async () => {
      const report = await verifyChanged([], (objects) => void objects.delete('manifest.dsse.json'));
      expect(report).toMatchObject({ intact: false, intactAsStored: false, sealed: false });
      expect(codes(report)).toContain('seal-missing manifest.dsse.json');
      expect(codes(report)).toContain('object-unlisted manifest.json.age');
    });
  });
});
