import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { generateSigner } from '../../../evidence/seal.ts';
import { createSealer } from '../../../evidence/sealer.ts';
import { mergeTrust, parseTrust, type Trust } from '../../../evidence/trust.ts';
import { verifyBundle } from '../../../evidence/verify.ts';
import { readerOf, type SampleBundle, sampleBundle } from './sample-bundle.ts';
import { p256Signer, resealedBy } from './sealing.ts';

const one = generateSigner();
const two = p256Signer();
const pem = (key: KeyObject) => key.export({ type: 'spki', format: 'pem' }).toString();
const parse = (given: string | object) =>
  parseTrust(Buffer.from(typeof given === 'string' ? given : JSON.stringify(given)), 'trust.json');

describe('what a reader trusts', () => {
  it('is any number of public keys in PEM, with words between them', () => {
    const { keys } = parse(`ours:\n${pem(one.publicKey)}\nand\n${pem(two.publicKey)}`);
    expect(keys).toEqual([{ keyId: one.keyId }, { keyId: two.keyId }]);
  });

  it('is a trust root in JSON, with names and validity', () => {
    const root = parse({
      keys: [{ name: 'node 1', publicKey: pem(two.publicKey), validFrom: '2026-01-01T00:00:00+01:00' }],
      requiredSignatures: 1,
    });
    expect(root).toEqual({
      keys: [{ keyId: two.keyId, name: 'node 1', validFrom: new Date('2025-12-31T23:00:00Z') }],
      timestampAuthorities: [],
      requiredSignatures: 1,
    });
  });

  it('is several files together, of which the strictest counts the signatures', () => {
    const merged = mergeTrust([parse(pem(one.publicKey)), parse({ requiredSignatures: 2 }), parse({})]);
    expect(merged).toMatchObject({ keys: [{ keyId: one.keyId }], requiredSignatures: 2 });
  });

  const secret = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const rsa = pem(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey);
  const p384 = pem(generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey);
  const cases: [what: string, given: string | object, why: RegExp][] = [
    ['text', 'hello', /trust.json is not a public key in PEM, nor a certificate, nor a trust root/],
    ['a private key', secret, /holds a PRIVATE KEY; public keys and certificates/],
    ['an RSA key', rsa, /trust.json is rsa; bundles are sealed with Ed25519 or P-256/],
    ['a key on another curve', p384, /is ec on secp384r1/],
    ['half of a block', pem(one.publicKey).slice(0, 60), /not a public key in PEM/],
    ['a certificate that is none', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----', /not a certificate/],
    ['a JSON key that it does not know', { kees: [] }, /not a trust root: the file: .*kees/],
    ['a key in JSON that is none', { keys: [{ name: 'x', publicKey: 'y' }] }, /trust.json: x is not a public key/],
    [
      'a time without a zone',
      { keys: [{ name: 'x', publicKey: '', validUntil: '2026-01-01T00:00:00' }] },
      /validUntil/,
    ],
    ['no signatures', { requiredSignatures: 0 }, /requiredSignatures/],
    ['broken JSON', '{ "keys": [', /trust.json is not JSON/],
  ];
  for (const [what, given, why] of cases) {
    it(`is not ${what}`, () => expect(() => parse(given)).toThrow(why));
  }

  it('never shows a private key in an error', () => {
    let words = '';
    try {
      parse(secret);
    } catch (error) {
      words = String(error);
    }
    expect(words).not.toContain(secret.split('\n')[1]);
    expect(words).not.toBe('');
  });
});

describe('verifying by a trust root', () => {
  let objects: Map<string, Buffer>;
  let sample: SampleBundle;
  beforeAll(async () => {
    sample = await sampleBundle();
    objects = await resealedBy(sample, createSealer({ signers: [one, two] }));
  });
  const verify = async (trust: Partial<Trust>) => {
    const report = await verifyBundle(readerOf(objects), { trust: { keys: [], timestampAuthorities: [], ...trust } });
    return { report, found: report.findings.map(({ severity, code }) => `${severity} ${code}`) };
  };
  const key = (signer: typeof one, more: object = {}) => ({ keyId: signer.keyId, ...more });
  // The sample's manifest ended then.
  const end = Date.parse('2026-11-22T10:00:00.000Z');

  it('shows everybody who signed, by name', async () => {
    const { report, found } = await verify({ keys: [key(two, { name: 'the lab' })] });
    expect(found).toEqual([]);
    expect(report.signers).toMatchObject([
      { keyId: one.keyId, algorithm: 'ed25519', trusted: false },
      { keyId: two.keyId, algorithm: 'ecdsa-p256-sha256', trusted: true, name: 'the lab' },
    ]);
    expect(report.signer).toMatchObject({ words: `signed by key ${two.keyId} (the lab), which you trust` });
    expect(report.proves.join('\n')).toContain('the lab’s, by your trust root');
  });

  it('wants as many signatures of trusted keys as the root says', async () => {
    const both = { keys: [key(one), key(two)], requiredSignatures: 2 };
    expect((await verify(both)).found).toEqual([]);
    expect((await verify({ keys: [key(one)], requiredSignatures: 2 })).found).toEqual(['error signatures-too-few']);
    expect((await verify({ keys: [key(one), key(generateSigner())], requiredSignatures: 2 })).found).toEqual([
      'error signatures-too-few',
    ]);
  });

  it('does not believe a key outside of its validity, and says whose clock that is by', async () => {
    const late = await verify({ keys: [key(one, { validUntil: new Date(end - 1) })] });
    expect(late.found).toEqual(['error signer-expired']);
    expect(late.report.findings[0]?.message).toContain('by the node’s own clock');
    expect((await verify({ keys: [key(one, { validFrom: new Date(end + 1) })] })).found).toEqual([
      'error signer-expired',
    ]);
    const inside = { validFrom: new Date(end), validUntil: new Date(end) };
    expect((await verify({ keys: [key(one, inside)] })).found).toEqual([]);
  });

  it('is content with another key that is valid, and warns of the first', async () => {
    const { report, found } = await verify({ keys: [key(one, { validUntil: new Date(0) }), key(two)] });
    expect(found).toEqual(['warning signer-expired']);
    expect(report).toMatchObject({ intact: true, signer: { keyId: two.keyId } });
  });

  it('believes a key that is listed twice in either of its times', async () => {
    const keys = [key(one, { validUntil: new Date(0) }), key(one, { validFrom: new Date(1) })];
    expect((await verify({ keys })).found).toEqual([]);
  });
});
