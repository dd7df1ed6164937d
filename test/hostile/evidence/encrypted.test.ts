import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { createEncryption } from '../../../evidence/age-writer.ts';
import { decryptingReader } from '../../../evidence/bundle-encrypted.ts';
import { verifyBundle } from '../../../evidence/verify.ts';
import { readerOf, type SampleBundle, sampleBundle } from '../../unit/evidence/sample-bundle.ts';

describe('an encrypted bundle that somebody worked on', () => {
  let identity: string;
  let sample: SampleBundle;
  beforeAll(async () => {
    identity = await generateX25519Identity();
    sample = await sampleBundle(undefined, true, await createEncryption([await identityToRecipient(identity)]));
  });

  const verify = async (objects: ReadonlyMap<string, Uint8Array>, identities: string[]) =>
    verifyBundle(await decryptingReader(readerOf(objects), identities));

  it('is neither intact nor intact as stored, and verify ends, whatever was changed in whichever object', async () => {
    const names = [...sample.objects.keys()];
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...names),
        fc.constantFrom('flip', 'cut', 'append', 'insert'),
        fc.nat(),
        fc.uint8Array({ minLength: 1, maxLength: 40 }),
        fc.boolean(),
        async (name, kind, at, bytes, withIdentity) => {
          const objects = new Map<string, Buffer>(sample.objects);
          const before = objects.get(name) ?? Buffer.alloc(0);
          const index = at % before.length;
          const flipped = Buffer.from(before);
          flipped[index] = (flipped[index] ?? 0) ^ ((bytes[0] ?? 0) | 1);
          const changed = {
            flip: flipped,
            cut: before.subarray(0, index),
            append: Buffer.concat([before, bytes]),
            insert: Buffer.concat([before.subarray(0, index), bytes, before.subarray(index)]),
          }[kind];
          objects.set(name, changed);
          const report = await verify(objects, withIdentity ? [identity] : []);
          expect(report.intact).toBe(false);
          expect(report.intactAsStored).toBe(false);
          expect(report.counts.errors).toBeGreaterThan(0);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('has a header of thousands of recipients, which is refused before they are tried', async () => {
    const stanza = `-> X25519 ${'A'.repeat(43)}\n${'B'.repeat(43)}\n`;
    const header = `age-encryption.org/v1\n${stanza.repeat(5000)}--- ${'C'.repeat(43)}\n`;
    const objects = new Map<string, Buffer>(sample.objects);
    objects.set('processes.tar.zst.age', Buffer.from(header.padEnd(header.length + 100, 'x')));
    const { findings } = await verify(objects, [identity]);
    const found = findings.find(({ code }) => code === 'encryption-corrupt');
    expect(found).toMatchObject({ severity: 'error', object: 'processes.tar.zst' });
    expect(found?.message).toMatch(/age header is longer than 65536 bytes/);
  });

  it('has words in its header for a terminal, which are not repeated', async () => {
    const header = `age-encryption.org/v1\n-> ssh\x1b[2J ${'A'.repeat(43)}\n${'B'.repeat(43)}\n--- ${'C'.repeat(43)}\n`;
    const objects = new Map<string, Buffer>(sample.objects);
    for (const name of ['manifest.json.age', 'request.json.age']) objects.set(name, Buffer.from(header));
    const report = await verify(objects, []);
    expect(report.intactAsStored).toBe(false);
    expect(JSON.stringify(report)).not.toMatch(/\\u001b/);
  });

  it('has the objects of another bundle to the same lab, which open and are not its own', async () => {
    const other = await sampleBundle(undefined, true, await createEncryption([await identityToRecipient(identity)]));
    const objects = new Map<string, Buffer>(sample.objects);
    objects.set('processes.tar.zst.age', other.objects.get('processes.tar.zst.age') ?? Buffer.alloc(0));
    const report = await verify(objects, [identity]);
    const codes = report.findings.filter(({ severity }) => severity === 'error').map(({ code }) => code);
    expect(codes).toEqual(['object-digest']);
    expect((await verify(objects, [])).intactAsStored).toBe(false);
  });
});
