import { createPublicKey, type KeyObject } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { canonicalJson } from '../../../evidence/json.ts';
import { generateSigner, preAuthEncoding, type Signer, type Statement } from '../../../evidence/seal.ts';
import { createSealer } from '../../../evidence/sealer.ts';
import { keyIdOf, spkiOf } from '../../../evidence/signing-key.ts';
import { verifyBundle } from '../../../evidence/verify.ts';
import { readerOf, sampleBundle } from '../../unit/evidence/sample-bundle.ts';
import { p256Signer, resealedBy } from '../../unit/evidence/sealing.ts';
import { SEAL } from '../../unit/evidence/stamping.ts';

interface Envelope {
  payload: string;
  payloadType: string;
  signatures: { keyid: string; sig: string }[];
}

const one = generateSigner();
const two = p256Signer();
const enemy = p256Signer();

describe('a seal that an enemy made', () => {
  let objects: Map<string, Buffer>;
  beforeAll(async () => {
    objects = await resealedBy(await sampleBundle(undefined, true), createSealer({ signers: [one, two] }));
  });

  const envelope = (): Envelope => JSON.parse(objects.get(SEAL)?.toString() ?? '');
  const statementOf = ({ payload }: Envelope): Statement => JSON.parse(Buffer.from(payload, 'base64').toString());

  /** The only error, when this is the seal and its two keys are trusted. */
  async function errorOf(seal: Envelope | Uint8Array): Promise<string> {
    const bytes = seal instanceof Uint8Array ? seal : canonicalJson(seal);
    const { publicKey: first } = one;
    const report = await verifyBundle(readerOf(new Map(objects).set(SEAL, Buffer.from(bytes))), {
      trustedKeys: [first, two.publicKey],
    });
    expect(report.intact).toBe(false);
    const errors = report.findings.filter(({ severity }) => severity === 'error');
    return errors.map(({ code, message }) => `${code}: ${message}`).join('\n');
  }

  /** A statement that these signed, whatever keys it names. */
  async function signedBy(signers: readonly Signer[], change: (statement: Statement) => void): Promise<Envelope> {
    const sealed = envelope();
    const statement = statementOf(sealed);
    change(statement);
    const payload = canonicalJson(statement);
    const message = preAuthEncoding(sealed.payloadType, payload);
    const signatures = signers.map(async ({ keyId, sign }) => {
      return { keyid: keyId, sig: Buffer.from(await sign(message)).toString('base64') };
    });
    return { ...sealed, payload: Buffer.from(payload).toString('base64'), signatures: await Promise.all(signatures) };
  }

  const keyOf = ({ keyId, publicKey }: Signer) => ({
    keyId,
    algorithm: 'ecdsa-p256-sha256' as const,
    publicKey: spkiOf(publicKey).toString('base64'),
  });

  it('has its signatures swapped', async () => {
    const seal = envelope();
    const [a, b] = seal.signatures;
    seal.signatures = [
      { keyid: a?.keyid ?? '', sig: b?.sig ?? '' },
      { keyid: b?.keyid ?? '', sig: a?.sig ?? '' },
    ];
    expect(await errorOf(seal)).toBe(`seal-invalid: ${SEAL}: the signature by key ${one.keyId} is wrong`);
    seal.signatures = [b, a].flatMap((each) => each ?? []);
    expect(await errorOf(seal)).toBe(`seal-invalid: ${SEAL}: signature 0 names another key`);
  });

  it('has the right key’s signature over another payload', async () => {
    const seal = envelope();
    const statement = statementOf(seal);
    statement.predicate.captureId = 'another';
    seal.payload = Buffer.from(canonicalJson(statement)).toString('base64');
    expect(await errorOf(seal)).toBe(`seal-invalid: ${SEAL}: the signature by key ${one.keyId} is wrong`);
  });

  it('has the right key’s signature over the payload without its type', async () => {
    const seal = envelope();
    const bare = await two.sign(Buffer.from(seal.payload, 'base64'));
    const second = seal.signatures[1];
    if (second !== undefined) second.sig = Buffer.from(bare).toString('base64');
    expect(await errorOf(seal)).toBe(`seal-invalid: ${SEAL}: the signature by key ${two.keyId} is wrong`);
  });

  it('is signed again by a key that nobody knows', async () => {
    const seal = await signedBy([enemy], (statement) => {
      statement.predicate.keys = [keyOf(enemy)];
    });
    expect(await errorOf(seal)).toMatch(/^signer-untrusted: .*none of the keys you trust\nsigner-disagrees: /);
  });

  it('is signed by a key that nobody knows under the id of one that you trust', async () => {
    const seal = await signedBy([{ ...enemy, keyId: two.keyId }], (statement) => {
      statement.predicate.keys = [{ ...keyOf(enemy), keyId: two.keyId }];
    });
    expect(await errorOf(seal)).toBe(`seal-invalid: ${SEAL}: the key of signature 0 has not the id it claims`);
  });

  it('counts one key for two', async () => {
    const seal = await signedBy([two, two], (statement) => {
      statement.predicate.keys = [keyOf(two), keyOf(two)];
    });
    expect(await errorOf(seal)).toBe(`seal-invalid: ${SEAL}: the seal names a key twice`);
  });

  it('calls a key by the other algorithm', async () => {
    const seal = await signedBy([two], (statement) => {
      statement.predicate.keys = [{ ...keyOf(two), algorithm: 'ed25519' }];
    });
    expect(await errorOf(seal)).toBe(`seal-invalid: ${SEAL}: key ${two.keyId} is not ed25519`);
  });

  it('spells a trusted key another way, so that it has another id', async () => {
    // The point compressed: the same key, 59 bytes in place of 91.
    const x = spkiOf(two.publicKey).subarray(27, 59);
    const odd = spkiOf(two.publicKey).at(-1) ?? 0;
    const der = Buffer.concat([
      Buffer.from('3039301306072a8648ce3d020106082a8648ce3d030107032200', 'hex'),
      Buffer.from([2 + (odd % 2)]),
      x,
    ]);
    const same: KeyObject = createPublicKey({ key: der, format: 'der', type: 'spki' });
    expect(same.export({ format: 'jwk' })).toEqual(two.publicKey.export({ format: 'jwk' }));
    const keyId = keyIdOf(same);
    const seal = await signedBy([{ ...two, keyId }], (statement) => {
      statement.predicate.keys = [{ ...keyOf(two), keyId, publicKey: der.toString('base64') }];
    });
    expect(await errorOf(seal)).toBe(
      `seal-invalid: ${SEAL}: a public key in the seal is neither plain Ed25519 nor plain P-256`,
    );
  });

  it('has a JSON key twice, in the envelope or in the statement', async () => {
    const TWICE = 'twice in one object: two readers would read it differently';
    const text = objects.get(SEAL)?.toString() ?? '';
    const twice = text.replace('{\n', '{\n  "payloadType": "text/plain",\n');
    expect(await errorOf(Buffer.from(twice))).toBe(
      `seal-invalid: ${SEAL}: the seal has the key "payloadType" ${TWICE}`,
    );
    const seal = envelope();
    const statement = Buffer.from(seal.payload, 'base64').toString();
    const payload = Buffer.from(statement.replace('{\n', '{\n  "_type": "other",\n'));
    const sig = Buffer.from(await two.sign(preAuthEncoding(seal.payloadType, payload))).toString('base64');
    const forged = { ...seal, payload: payload.toString('base64'), signatures: [{ keyid: two.keyId, sig }] };
    expect(await errorOf(forged)).toBe(`seal-invalid: ${SEAL}: the seal's statement has the key "_type" ${TWICE}`);
  });

  it('has a signature that is no DER, or DER that is spelled another way', async () => {
    const seal = envelope();
    const good = Buffer.from(seal.signatures[1]?.sig ?? '', 'base64');
    const long = Buffer.concat([Buffer.from([0x30, 0x81, good.readUInt8(1)]), good.subarray(2)]);
    const variants = [
      Buffer.alloc(0),
      Buffer.alloc(64, 1),
      Buffer.concat([good, Buffer.alloc(1)]),
      long,
      good.subarray(0, -1),
    ];
    for (const sig of variants) {
      const second = seal.signatures[1];
      if (second !== undefined) second.sig = sig.toString('base64');
      expect(await errorOf(seal)).toBe(`seal-invalid: ${SEAL}: the signature by key ${two.keyId} is wrong`);
    }
  });

  it('claims that the trusted keys could not sign', async () => {
    const seal = await signedBy([enemy], (statement) => {
      statement.predicate.keys = [keyOf(enemy)];
      statement.predicate.missing = [{ keyId: one.keyId, why: 'KMS was away' }];
    });
    expect(await errorOf(seal)).toMatch(/^signer-untrusted: [^\n]*$/);
  });
});
