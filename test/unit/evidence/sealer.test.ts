import { beforeAll, describe, expect, it } from 'vitest';
import { checkSeal, generateSigner, type SealFacts, type Signer } from '../../../evidence/seal.ts';
import { createSealer, type SealerParts } from '../../../evidence/sealer.ts';
import { verifyBundle } from '../../../evidence/verify.ts';
import { readerOf, requestRecord, type SampleBundle, sampleBundle } from './sample-bundle.ts';
import { p256Signer, resealedBy } from './sealing.ts';

const ed25519 = generateSigner();
const p256 = p256Signer();
const fallback = generateSigner();
const failing = (signer: Signer, why = 'KMS is away'): Signer => ({
  ...signer,
  sign: () => Promise.reject(new Error(why)),
});
const facts: SealFacts = {
  captureId: 'c',
  agent: requestRecord(ed25519.keyId).agent,
  subjects: [{ name: 'request.json', sha256: '0'.repeat(64) }],
};
const idle = new AbortController().signal;
const seal = async (parts: SealerParts, signal = idle) => {
  const sealed = await createSealer(parts).seal(facts, signal);
  const { statement, signers } = checkSeal(sealed.envelope);
  return { ...sealed, ...statement.predicate, signers };
};

describe('sealing with several keys', () => {
  it('has a signature of each, in their order, over the very same statement', async () => {
    const { signers, keys, missing, notes } = await seal({ signers: [p256, ed25519], fallback });
    expect(signers.map(({ keyId, algorithm }) => [keyId, algorithm])).toEqual([
      [p256.keyId, 'ecdsa-p256-sha256'],
      [ed25519.keyId, 'ed25519'],
    ]);
    expect(keys.map(({ keyId }) => keyId)).toEqual([p256.keyId, ed25519.keyId]);
    expect([missing, notes]).toEqual([undefined, []]);
  });

  it('names the first configured key, whoever signs in the end', async () => {
    const sealer = createSealer({ signers: [failing(p256), ed25519], fallback });
    expect(sealer.keyId).toBe(p256.keyId);
    expect(createSealer({ signers: [], fallback }).keyId).toBe(fallback.keyId);
  });

  it('goes on without a key that fails, and says which and why', async () => {
    const { signers, missing, notes } = await seal({ signers: [failing(p256), ed25519], fallback });
    expect(signers.map(({ keyId }) => keyId)).toEqual([ed25519.keyId]);
    expect(missing).toEqual([{ keyId: p256.keyId, why: 'KMS is away' }]);
    expect(notes).toEqual([`key ${p256.keyId} could not sign: KMS is away`]);
  });

  it('waits no longer for a key that hangs than the time that it is given', async () => {
    const hanging: Signer = { ...p256, sign: () => Promise.withResolvers<never>().promise };
    const over = new AbortController();
    const sealing = seal({ signers: [hanging, ed25519], fallback }, over.signal);
    over.abort(new Error('the time is over'));
    const { signers, missing } = await sealing;
    expect(signers.map(({ keyId }) => keyId)).toEqual([ed25519.keyId]);
    expect(missing).toEqual([{ keyId: p256.keyId, why: 'the time is over' }]);
  });

  it('takes nothing for a signature that the public key does not verify', async () => {
    const moved: Signer = { ...p256, sign: (message) => p256Signer().sign(message) };
    const { missing } = await seal({ signers: [moved, ed25519], fallback });
    expect(missing).toEqual([{ keyId: p256.keyId, why: 'what it signed does not verify with its public key' }]);
  });

  it('is done by the key of the start when no other is left', async () => {
    const { signers, missing } = await seal({ signers: [failing(p256), failing(ed25519, 'gone')], fallback });
    expect(signers.map(({ keyId }) => keyId)).toEqual([fallback.keyId]);
    expect(missing).toEqual([
      { keyId: p256.keyId, why: 'KMS is away' },
      { keyId: ed25519.keyId, why: 'gone' },
    ]);
  });

  it('fails when nobody can sign at all, and says of each why', async () => {
    await expect(seal({ signers: [failing(p256)], fallback: failing(fallback, 'broken') })).rejects.toThrow(
      'no key could sign the bundle: KMS is away; broken',
    );
  });

  it('keeps the words of a failure short in the bundle', async () => {
    const { missing } = await seal({ signers: [failing(p256, 'x'.repeat(10_000)), ed25519] });
    expect(missing?.[0]?.why).toHaveLength(300);
  });
});

describe('sealing with a timestamp', () => {
  const requestedFrom = ['https://one.example/', 'https://two.example/'];
  const token = Buffer.from('an answer');

  it('stamps the bytes of the seal that is kept, and says who was asked', async () => {
    let stamped: Uint8Array | undefined;
    const sealed = await seal({
      signers: [ed25519],
      timestamp: {
        requestedFrom,
        async stamp(message) {
          stamped = message;
          return token;
        },
      },
    });
    expect(stamped).toEqual(sealed.envelope);
    expect(sealed.timestamp).toEqual({ requestedFrom });
    expect(sealed.notes).toEqual([]);
  });

  it('seals again without one when no authority answers, and says why', async () => {
    const { envelope, timestamp, notes } = await createSealer({
      signers: [ed25519],
      timestamp: { requestedFrom, stamp: () => Promise.reject(new Error('both refused')) },
    }).seal(facts, idle);
    expect(timestamp).toBeUndefined();
    expect(checkSeal(envelope).statement.predicate.timestamp).toEqual({ requestedFrom, missing: 'both refused' });
    expect(notes).toEqual(['no timestamp: both refused']);
  });

  it('does not wait longer for an authority than the seal is given', async () => {
    const over = new AbortController();
    const asked = Promise.withResolvers<void>();
    const sealing = createSealer({
      signers: [ed25519],
      timestamp: {
        requestedFrom,
        stamp() {
          asked.resolve();
          return Promise.withResolvers<never>().promise;
        },
      },
    }).seal(facts, over.signal);
    await asked.promise;
    over.abort(new Error('the time is over'));
    const { envelope } = await sealing;
    expect(checkSeal(envelope).statement.predicate.timestamp).toMatchObject({ missing: 'the time is over' });
  });
});

describe('a bundle that a configured key did not sign', () => {
  let sample: SampleBundle;
  beforeAll(async () => {
    sample = await sampleBundle();
  });
  const codes = async (objects: Map<string, Buffer>, trusted: Signer[]) => {
    const report = await verifyBundle(readerOf(objects), { trustedKeys: trusted.map(({ publicKey }) => publicKey) });
    return { report, found: report.findings.map(({ severity, code }) => `${severity} ${code}`) };
  };

  it('is intact by the other key, with a warning that names the missing one', async () => {
    const objects = await resealedBy(sample, createSealer({ signers: [failing(p256), ed25519], fallback }));
    const { report, found } = await codes(objects, [ed25519, p256]);
    expect(found).toEqual(['warning signer-missing']);
    expect(report).toMatchObject({ intact: true, signer: { keyId: ed25519.keyId, trusted: true } });
    expect(report.findings[0]?.message).toContain(`${p256.keyId} (which you trust) was to sign as well`);
  });

  it('is not believed when only the key of a start signed it: anybody can say that a key was missing', async () => {
    const objects = await resealedBy(sample, createSealer({ signers: [failing(p256)], fallback }));
    const { report, found } = await codes(objects, [p256]);
    expect(found).toEqual(['error signer-untrusted', 'warning signer-missing']);
    expect(report.intact).toBe(false);
    expect((await codes(objects, [])).found).toEqual(['warning signer-unvouched', 'warning signer-missing']);
  });

  it('is a forgery when the seal says nothing about that key', async () => {
    const objects = await resealedBy(sample, createSealer(ed25519), p256.keyId);
    expect((await codes(objects, [ed25519])).found).toEqual(['error signer-disagrees']);
  });
});
