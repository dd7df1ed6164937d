import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { beforeAll, describe, expect, it } from 'vitest';
import { createEncryption, type Encrypt } from '../../../evidence/age-writer.ts';
import { decryptingReader } from '../../../evidence/bundle-encrypted.ts';
import type { CaptureFolder } from '../../../evidence/captures.ts';
import { ExhibitError } from '../../../evidence/error.ts';
import { checkSeal, generateSigner, type SealFacts, type Signer } from '../../../evidence/seal.ts';
import { createSealer } from '../../../evidence/sealer.ts';
import { verifyBundle } from '../../../evidence/verify.ts';
import { verifyChains } from '../../../evidence/verify-chain.ts';
import { sealManifest } from '../../../evidence/write.ts';
import { CHAIN_ID, captureIdOf, chainOfBundles, custodyBundle } from './custody-bundle.ts';
import { readerOf } from './sample-bundle.ts';

type Captures = Map<string, Map<string, Buffer>>;

/** `read`: every object that was read, in order. */
const folderOf = (captures: Captures, read: string[]): CaptureFolder => ({
  url: 'memory:',
  async *list() {
    yield* captures.keys();
  },
  async open(name) {
    const objects = captures.get(name);
    if (objects === undefined) throw new ExhibitError('bundle-not-found', `no ${name}`);
    const reader = readerOf(objects);
    return {
      ...reader,
      read(object, range) {
        if (range === undefined) read.push(object);
        return reader.read(object, range);
      },
    };
  },
  async [Symbol.asyncDispose]() {},
});

const SEAL = 'manifest.dsse.json';
const MANIFEST = 'manifest.json.age';

/** By the time in its id. */
const BEGINS = new Date(0x0192f0c10000).toISOString();

describe('a chain of captures that are encrypted', () => {
  const signer: Signer = generateSigner();
  let identity: string;
  let other: string;
  let encrypt: Encrypt;
  let captures: Captures;
  let mixed: Captures;
  beforeAll(async () => {
    [identity, other] = [await generateX25519Identity(), await generateX25519Identity()];
    encrypt = await createEncryption([await identityToRecipient(identity)]);
    captures = await chainOfBundles(4, signer, true, () => encrypt);
    mixed = await chainOfBundles(4, signer, true, (sequence) => (sequence % 2 === 0 ? encrypt : undefined));
  });

  async function judged(
    identities: string[],
    change: (captures: Captures) => void | Promise<void> = () => undefined,
    from = captures,
  ) {
    const changed = new Map(from);
    await change(changed);
    const read: string[] = [];
    const report = await verifyChains(folderOf(changed, read), { identities });
    return {
      report,
      read,
      words: report.findings.map(({ severity, code, message }) => `${severity} ${code}: ${message}`),
    };
  }

  const relinked = async (n: number, options: Parameters<typeof custodyBundle>[0]) =>
    (await custodyBundle({ signer, captureId: captureIdOf(n), tiny: true, encrypt, ...options })).objects;

  it('is whole by the seals alone, of which nothing else is read, and its beginning is by the id', async () => {
    const { report, words, read } = await judged([]);
    expect(words).toEqual([
      `info chain-begins: chain ${CHAIN_ID} begins with capture ${captureIdOf(1)}, begun at ${BEGINS} by its id`,
    ]);
    expect(report).toMatchObject({ whole: true, captures: 4, unchained: 0, unsealed: [] });
    expect(report.chains[0]).toMatchObject({
      captures: 4,
      first: { sequence: 1, startedAt: BEGINS, startedAtFrom: 'capture-id' },
      newest: { captureId: captureIdOf(4), sequence: 4 },
    });
    expect(new Set(read)).toEqual(new Set([SEAL]));
  });

  it('is whole with an identity, by the manifests too; with one that does not fit by the seals', async () => {
    const opened = await judged([other, identity]);
    expect(opened.words).toEqual([
      `info chain-begins: chain ${CHAIN_ID} begins with capture ${captureIdOf(1)}, started at 2026-11-22T10:00:00.000Z`,
    ]);
    expect(opened.report.chains[0]?.first).not.toHaveProperty('startedAtFrom');
    expect(new Set(opened.read)).toEqual(new Set([SEAL, MANIFEST]));
    expect((await judged([other])).report).toMatchObject({ whole: true, captures: 4 });
  });

  it('has its hole, its fork and its break, with an identity and without', async () => {
    for (const identities of [[], [identity]]) {
      const hole = await judged(identities, (all) => void all.delete(captureIdOf(2)));
      expect(hole.words[0]).toBe(
        `error chain-hole: capture 2 of chain ${CHAIN_ID} (${captureIdOf(2)}), between ${captureIdOf(1)} and ${captureIdOf(3)}, is not here`,
      );
      const fork = await judged(identities, async (all) => {
        all.set(captureIdOf(6), await relinked(6, { chain: { chainId: CHAIN_ID, sequence: 1 } }));
      });
      expect(fork.words[0]).toBe(
        `error chain-fork: captures ${captureIdOf(1)} and ${captureIdOf(6)} are both number 1 of chain ${CHAIN_ID}`,
      );
      const again = await judged(identities, async (all) => {
        const chain = { chainId: CHAIN_ID, sequence: 1 };
        all.set(captureIdOf(1), await relinked(1, { chain, request: { reason: 'another' } }));
      });
      expect(again.words[0]).toContain(`error chain-broken: the seal of capture ${captureIdOf(1)} is not the one that`);
      const renamed = await judged(identities, (all) => {
        all.set(captureIdOf(7), all.get(captureIdOf(4)) ?? new Map());
        all.delete(captureIdOf(4));
      });
      expect(renamed.words[0]).toContain(`error chain-broken: the folder ${captureIdOf(7)} holds capture`);
    }
  });

  it('is one chain where encryption was switched on and off between its captures', async () => {
    for (const identities of [[], [identity]]) {
      const { report } = await judged(identities, undefined, mixed);
      expect(report).toMatchObject({ whole: true, captures: 4, chains: [{ captures: 4 }] });
      const hole = await judged(identities, (all) => void all.delete(captureIdOf(2)), mixed);
      expect(hole.report.findings[0]?.code).toBe('chain-hole');
    }
  });

  it('tells of one that is not sealed, and of one whose manifest is gone or altered', async () => {
    const unsealed = await judged([], (all) => {
      all.set('unsealed', new Map([['request.json.age', Buffer.from('x')]]));
    });
    expect(unsealed.words.join()).toContain('capture unsealed is not sealed (it has request.json.age)');
    const altered = (change: (objects: Map<string, Buffer>) => void, identities: string[]) =>
      judged(identities, (all) => {
        const objects = new Map(all.get(captureIdOf(4)));
        change(objects);
        all.set(captureIdOf(4), objects);
      });
    const gone = await altered((objects) => objects.delete(MANIFEST), []);
    expect(gone.words[0]).toBe(
      `error chain-unreadable: capture ${captureIdOf(4)}: it has a seal and no manifest.json.age`,
    );
    const swapped = await altered(
      (objects) => objects.set(MANIFEST, captures.get(captureIdOf(3))?.get(MANIFEST) ?? Buffer.alloc(0)),
      [identity],
    );
    expect(swapped.words[0]).toContain('its manifest.json.age is not the one that was sealed');
  });

  /** As older agents sealed, or as one that lies does. */
  async function sealedOver(n: number, change: (facts: SealFacts) => SealFacts): Promise<Map<string, Buffer>> {
    const { objects, manifest } = await custodyBundle({ signer, captureId: captureIdOf(n), tiny: true, encrypt });
    const sealer = createSealer(signer);
    const changed = { ...sealer, seal: (facts: SealFacts, signal: AbortSignal) => sealer.seal(change(facts), signal) };
    const end = await sealManifest(manifest, changed, AbortSignal.timeout(5000), encrypt);
    for (const { name, bytes } of end.objects) objects.set(name, Buffer.from(bytes));
    return objects;
  }

  it('needs an identity where a seal names no place, and says so', async () => {
    const change = async (all: Captures) => {
      const older = await sealedOver(1, ({ chain: _, ...facts }) => facts);
      for (const name of all.keys()) all.delete(name);
      all.set(captureIdOf(1), older);
    };
    const locked = await judged([], change);
    expect(locked.words).toEqual([
      `warning chain-encrypted: capture ${captureIdOf(1)} is encrypted, and its seal names no place in a chain: without an identity it is not known`,
    ]);
    expect(locked.report).toMatchObject({ captures: 1, unchained: 0, chains: [] });
    expect((await judged([identity], change)).report).toMatchObject({ whole: true, chains: [{ captures: 1 }] });
  });

  it('is not believed where a seal and its manifest name different places', async () => {
    const chain = { chainId: CHAIN_ID, sequence: 7 };
    const objects = await sealedOver(1, (facts) => ({ ...facts, chain }));
    expect(checkSeal(objects.get(SEAL) ?? Buffer.alloc(0)).statement.predicate.chain).toEqual(chain);
    const report = await verifyBundle(await decryptingReader(readerOf(objects), [identity]));
    const found = report.findings.filter(({ severity }) => severity === 'error');
    expect(found.map(({ code, message }) => `${code}: ${message}`)).toEqual([
      'seal-disagrees: the seal and the manifest name different places in the chain of captures',
    ]);
    const { words } = await judged([identity], (all) => void all.set(captureIdOf(1), objects));
    expect(words[0]).toBe(
      `error chain-unreadable: capture ${captureIdOf(1)}: its seal and its manifest name different places in the chain`,
    );
  });

  it('has its place said by verify without an identity', async () => {
    const report = await verifyBundle(await decryptingReader(readerOf(captures.get(captureIdOf(3)) ?? new Map()), []));
    expect(report.intactAsStored).toBe(true);
    expect(report.proves.join(' ')).toContain(`this is capture 3 of chain ${CHAIN_ID}`);
  });
});
