import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createFindings } from '../../../evidence/findings.ts';
import { canonicalJson } from '../../../evidence/json.ts';
import {
  checkSeal,
  generateSigner,
  loadSigner,
  PAYLOAD_TYPE,
  parseTrustedKey,
  preAuthEncoding,
} from '../../../evidence/seal.ts';
import { keyIdOf } from '../../../evidence/signing-key.ts';
import { NO_TRUST } from '../../../evidence/trust.ts';
import { verifyBundle } from '../../../evidence/verify.ts';
import { compareRecords, compareSubjects, readRecords } from '../../../evidence/verify-records.ts';
import { requireProgram, run } from './programs.ts';
import { readerOf, type SampleBundle, sampleBundle } from './sample-bundle.ts';

describe('the seal', () => {
  let folder: string;
  let sample: SampleBundle;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'exhibit-seal-'));
    sample = await sampleBundle();
  });
  afterAll(async () => rm(folder, { recursive: true, force: true }));

  const seal = () => sample.objects.get('manifest.dsse.json') ?? Buffer.alloc(0);

  it('encodes what is signed as the DSSE specification shows', () => {
    expect(preAuthEncoding('http://example.com/HelloWorld', Buffer.from('hello world')).toString()).toBe(
      'DSSEv1 29 http://example.com/HelloWorld 11 hello world',
    );
  });

  it('covers every object of the bundle but itself', () => {
    const { statement, signers } = checkSeal(seal());
    const digests = [...sample.objects].filter(([name]) => name !== 'manifest.dsse.json');
    expect(statement.subject).toEqual(
      digests
        .map(([name, bytes]) => ({ name, digest: { sha256: createHash('sha256').update(bytes).digest('hex') } }))
        .sort((a, b) => (a.name < b.name ? -1 : 1)),
    );
    expect(signers.map(({ keyId }) => keyId)).toEqual([sample.signer.keyId]);
  });

  it('has a signature that openssl accepts over the encoded payload', async (context) => {
    requireProgram(context, 'openssl');
    const envelope: { payload: string; signatures: { sig: string }[] } = JSON.parse(seal().toString());
    const files = ['key.pem', 'message', 'signature'].map((name) => join(folder, name));
    const [key = '', message = '', signature = ''] = files;
    await writeFile(key, sample.signer.publicKey.export({ type: 'spki', format: 'pem' }));
    await writeFile(message, preAuthEncoding(PAYLOAD_TYPE, Buffer.from(envelope.payload, 'base64')));
    await writeFile(signature, Buffer.from(envelope.signatures[0]?.sig ?? '', 'base64'));
    const argv = [
      'openssl',
      'pkeyutl',
      '-verify',
      '-rawin',
      '-pubin',
      '-inkey',
      key,
      '-in',
      message,
      '-sigfile',
      signature,
    ];
    expect(run(argv)).toMatchObject({ status: 0 });
    await writeFile(message, 'something else');
    expect(run(argv).status).not.toBe(0);
  });

  it('is made with a key that openssl made', async (context) => {
    requireProgram(context, 'openssl');
    const path = join(folder, 'ed25519.pem');
    expect(run(['openssl', 'genpkey', '-algorithm', 'ed25519', '-out', path]).status).toBe(0);
    const signer = await loadSigner(path);
    const der = run(['openssl', 'pkey', '-in', path, '-pubout', '-outform', 'DER']).stdout;
    expect(signer.keyId).toBe(createHash('sha256').update(der).digest('hex'));
    const pem = run(['openssl', 'pkey', '-in', path, '-pubout']).stdout;
    const trusted = parseTrustedKey(pem, path);
    expect(keyIdOf(trusted)).toBe(signer.keyId);
    const { objects } = await sampleBundle(signer);
    expect(await verifyBundle(readerOf(objects), { trustedKeys: [trusted] })).toMatchObject({
      intact: true,
      signer: { trusted: true },
    });
  });

  it('says what to do about a key that is missing, of another kind, or no key', async (context) => {
    await expect(loadSigner(join(folder, 'absent.pem'))).rejects.toThrow(/openssl genpkey -algorithm ed25519/);
    await writeFile(join(folder, 'text.pem'), 'hello');
    await expect(loadSigner(join(folder, 'text.pem'))).rejects.toThrow(/cannot be read/);
    expect(() => parseTrustedKey('hello', 'trusted.pem')).toThrow(/trusted.pem is not a public key/);
    requireProgram(context, 'openssl');
    run(['openssl', 'genpkey', '-algorithm', 'x25519', '-out', join(folder, 'x.pem')]);
    await expect(loadSigner(join(folder, 'x.pem'))).rejects.toThrow(/is x25519, not Ed25519 or P-256/);
  });

  for (const name of ['manifest.dsse.json', 'manifest.json', 'request.json']) {
    it(`does not survive a change of any byte of ${name}`, { timeout: 120_000 }, async () => {
      const { objects } = await sampleBundle(undefined, true);
      // The records alone must tell: nothing else is read, so that every error is about the change.
      const check = async (changed: Uint8Array) => {
        const findings = createFindings();
        const records = await readRecords(
          readerOf(new Map(objects).set(name, Buffer.from(changed)), 1 << 20),
          findings,
          NO_TRUST,
        );
        compareRecords(records, findings);
        compareSubjects(records, findings);
        return findings.list().filter(({ severity }) => severity === 'error');
      };
      const original = objects.get(name) ?? Buffer.alloc(0);
      expect(await check(original)).toEqual([]);
      for (let at = 0; at < original.length; at += 1) {
        const changed = Buffer.from(original);
        changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
        const errors = await check(changed);
        expect(
          errors.map(({ object }) => object),
          `byte ${at}`,
        ).toContain(name);
      }
    });
  }

  it('refuses a payload with two signatures for one key, or a key that is not the one named', () => {
    const envelope: { payload: string; payloadType: string; signatures: unknown[] } = JSON.parse(seal().toString());
    const doubled = canonicalJson({ ...envelope, signatures: [...envelope.signatures, ...envelope.signatures] });
    expect(() => checkSeal(doubled)).toThrow(/one key for each signature/);
    const other = generateSigner().keyId;
    const renamed = Buffer.from(seal().toString().replace(sample.signer.keyId, other));
    expect(() => checkSeal(renamed)).toThrow(/names another key/);
  });
});
