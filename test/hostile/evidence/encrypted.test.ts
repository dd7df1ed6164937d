import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { createEncryption, type Encrypt, encryptWhole } from '../../../evidence/age-writer.ts';
import { decryptingReader } from '../../../evidence/bundle-encrypted.ts';
import { type VerifyReport, verifyBundle } from '../../../evidence/verify.ts';
import { MAX_CUSTODY_BYTES } from '../../../evidence/verify-custody.ts';
import { custodyBundle } from '../../unit/evidence/custody-bundle.ts';
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

  describe('whose custody log', () => {
    const NAME = 'custody.jsonl.age';
    let encrypt: Encrypt;
    let honest: SampleBundle;
    let other: SampleBundle;
    beforeAll(async () => {
      encrypt = await createEncryption([await identityToRecipient(identity)]);
      honest = await custodyBundle({ tiny: true, encrypt });
      other = await custodyBundle({ tiny: true, encrypt, request: { reason: 'another' } });
    });

    const errors = ({ findings }: VerifyReport) =>
      findings.filter(({ severity }) => severity === 'error').map(({ code, object }) => `${code} ${object}`);

    it('was flipped, cut, appended to, removed, or replaced by another to the same lab is never whole', async () => {
      const bytes = honest.objects.get(NAME) ?? Buffer.alloc(0);
      const flipped = Buffer.from(bytes);
      flipped.writeUInt8(flipped.readUInt8(bytes.length - 40) ^ 1, bytes.length - 40);
      const changes: [string, Buffer | undefined, string[]][] = [
        ['flipped', flipped, [`object-unreadable custody.jsonl`, 'encryption-corrupt custody.jsonl']],
        ['cut', bytes.subarray(0, -9), ['object-unreadable custody.jsonl', 'encryption-corrupt custody.jsonl']],
        ['cut in its header', bytes.subarray(0, 90), ['object-unreadable custody.jsonl']],
        ['appended', Buffer.concat([bytes, bytes]), ['object-unreadable custody.jsonl']],
        ['removed', undefined, ['custody-missing custody.jsonl', 'object-missing custody.jsonl']],
        ['replaced', Buffer.from(await encryptWhole(encrypt, Buffer.from('{}\n'))), ['custody-broken custody.jsonl']],
        ['of another', other.objects.get(NAME), ['object-digest custody.jsonl']],
        ['empty', Buffer.alloc(0), ['object-unreadable custody.jsonl']],
      ];
      for (const [what, changed, expected] of changes) {
        const objects = new Map<string, Buffer>(honest.objects);
        objects.delete(NAME);
        if (changed !== undefined) objects.set(NAME, changed);
        const opened = await verify(objects, [identity]);
        expect([what, opened.intact, errors(opened)]).toEqual([what, false, expect.arrayContaining(expected)]);
        const stored = await verify(objects, []);
        const code = changed === undefined ? 'object-missing' : 'object-digest';
        expect([what, stored.intactAsStored, errors(stored)]).toEqual([what, false, [`${code} ${NAME}`]]);
      }
    });

    it('was written anew and sealed with it by the same key is told by its own links, for who can read it', async () => {
      const log = (bytes: Buffer) => {
        const lines = bytes.toString().split(/(?<=\n)/);
        return Buffer.from(lines.toSpliced(2, 1).join(''));
      };
      const { objects } = await custodyBundle({ tiny: true, encrypt, log });
      const opened = await verify(objects, [identity]);
      expect(errors(opened)).toContain('custody-broken custody.jsonl');
      expect(opened.custody?.whole).toBe(false);
      // Who has no identity is told nothing of it, and verify says that it was not looked at.
      const stored = await verify(objects, []);
      expect(stored).toMatchObject({ intact: false, intactAsStored: true });
      expect(stored.custody).toBeUndefined();
    });

    it('ends in a bomb, and is read no further than its bound', async () => {
      const log = () => Buffer.alloc(MAX_CUSTODY_BYTES + 1, '{');
      const { objects } = await custodyBundle({ tiny: true, encrypt, log });
      expect(errors(await verify(objects, [identity]))).toContain('object-size custody.jsonl');
    });
  });
});
