import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { type CaptureFolder, openCaptureFolder, siblingsOf } from '../../../evidence/captures.ts';
import { judgeChains } from '../../../evidence/chain-links.ts';
import { ExhibitError } from '../../../evidence/error.ts';
import { createFindings } from '../../../evidence/findings.ts';
import { generateSigner, type Signer } from '../../../evidence/seal.ts';
import { trustInKeys } from '../../../evidence/trust.ts';
import { MAX_CAPTURES, verifyChains } from '../../../evidence/verify-chain.ts';
import { CHAIN_ID, captureIdOf, chainOfBundles, custodyBundle } from './custody-bundle.ts';
import { fc } from './properties.ts';
import { readerOf, sampleBundle, writeTo } from './sample-bundle.ts';

type Captures = Map<string, Map<string, Buffer>>;

const folderOf = (captures: Captures): CaptureFolder => ({
  url: 'memory:',
  async *list() {
    yield* [...captures.keys()].reverse();
  },
  async open(name) {
    const objects = captures.get(name);
    if (objects === undefined) throw new ExhibitError('bundle-not-found', `no ${name}`);
    return readerOf(objects);
  },
  async [Symbol.asyncDispose]() {},
});

describe('a chain of captures', () => {
  const signer: Signer = generateSigner();
  let captures: Captures;
  beforeAll(async () => {
    captures = await chainOfBundles(5, signer);
  });

  async function judged(change: (captures: Captures) => void | Promise<void>) {
    const changed = new Map(captures);
    await change(changed);
    const report = await verifyChains(folderOf(changed), { trust: trustInKeys([signer.publicKey]) });
    return { report, words: report.findings.map(({ severity, code, message }) => `${severity} ${code}: ${message}`) };
  }

  it('is whole when each capture names the seal of the one before, and has a newest link to write down', async () => {
    const { report, words } = await judged(() => undefined);
    expect(words).toEqual([
      `info chain-begins: chain ${CHAIN_ID} begins with capture ${captureIdOf(1)}, started at 2026-11-22T10:00:00.000Z`,
    ]);
    expect(report).toMatchObject({ whole: true, captures: 5, unchained: 0, unsealed: [] });
    expect(report.chains).toMatchObject([
      { chainId: CHAIN_ID, captures: 5, first: { sequence: 1 }, newest: { captureId: captureIdOf(5), sequence: 5 } },
    ]);
    const newest = report.chains[0]?.newest.sealSha256 ?? '';
    expect(newest).toMatch(/^[0-9a-f]{64}$/);
    expect(report.proves).toHaveLength(1);
    expect(report.doesNotProve.join(' ')).toContain(newest);
  });

  it('has a hole where captures were removed, and says between which', async () => {
    const one = await judged((all) => void all.delete(captureIdOf(3)));
    expect(one.words[0]).toBe(
      `error chain-hole: capture 3 of chain ${CHAIN_ID} (${captureIdOf(3)}), between ${captureIdOf(2)} and ${captureIdOf(4)}, is not here`,
    );
    expect(one.report.whole).toBe(false);
    expect(one.report.proves).toEqual([]);
    const two = await judged((all) => [1, 2].forEach((n) => void all.delete(captureIdOf(n))));
    expect(two.words).toEqual([
      `error chain-hole: captures 1 to 2 of chain ${CHAIN_ID} (the last is ${captureIdOf(2)}), before ${captureIdOf(3)}, are not here`,
    ]);
  });

  it('says that a capture removed at its end leaves no trace, by naming the newest', async () => {
    const { report } = await judged((all) => void all.delete(captureIdOf(5)));
    expect(report.whole).toBe(true);
    expect(report.doesNotProve[0]).toContain(`That nothing came after capture ${captureIdOf(4)} of chain ${CHAIN_ID}`);
  });

  const relinked = async (n: number, chain: Parameters<typeof custodyBundle>[0] & object) =>
    (await custodyBundle({ signer, captureId: captureIdOf(n), tiny: true, ...chain })).objects;

  it('is broken where a capture was sealed again, forks, or names another before it', async () => {
    const again = await judged(async (all) => {
      const chain = { chainId: CHAIN_ID, sequence: 1 };
      all.set(captureIdOf(1), await relinked(1, { chain, request: { reason: 'another' } }));
    });
    expect(again.words[0]).toBe(
      `error chain-broken: the seal of capture ${captureIdOf(1)} is not the one that capture ${captureIdOf(2)} names: it was made again`,
    );
    const previous = { captureId: captureIdOf(9), sealSha256: '0'.repeat(64) };
    const other = await judged(async (all) => {
      all.set(captureIdOf(5), await relinked(5, { chain: { chainId: CHAIN_ID, sequence: 5, previous } }));
    });
    expect(other.words[0]).toBe(
      `error chain-broken: capture ${captureIdOf(5)} follows ${captureIdOf(9)}; number 4 of chain ${CHAIN_ID} is ${captureIdOf(4)}`,
    );
    const fork = await judged(async (all) => {
      all.set(captureIdOf(6), await relinked(6, { chain: { chainId: CHAIN_ID, sequence: 1 } }));
    });
    expect(fork.words[0]).toBe(
      `error chain-fork: captures ${captureIdOf(1)} and ${captureIdOf(6)} are both number 1 of chain ${CHAIN_ID}`,
    );
    expect(fork.report.counts.errors).toBe(1);
    const headless = await judged(async (all) => {
      all.set(captureIdOf(5), await relinked(5, { chain: { chainId: CHAIN_ID, sequence: 5 } }));
      all.set(
        captureIdOf(6),
        await relinked(6, { chain: { chainId: '0b7c1c9e-5d0a-4a57-9c50-0a4f0f5e8a12', sequence: 1, previous } }),
      );
    });
    expect(headless.words.slice(0, 2)).toEqual([
      `error chain-broken: capture ${captureIdOf(5)} is number 5 of chain ${CHAIN_ID}, and names none before it`,
      `error chain-broken: capture ${captureIdOf(6)} is the first of chain 0b7c1c9e-5d0a-4a57-9c50-0a4f0f5e8a12, and yet names ${captureIdOf(9)} before it`,
    ]);
  });

  it('does not believe a manifest that is not the sealed one, a key that is not trusted, a renamed folder', async () => {
    const edited = await judged((all) => {
      const objects = new Map(all.get(captureIdOf(2)));
      objects.set(
        'manifest.json',
        Buffer.from((objects.get('manifest.json') ?? '').toString().replace('"node-1"', '"node-2"')),
      );
      all.set(captureIdOf(2), objects);
    });
    expect(edited.words[0]).toBe(
      `error chain-unreadable: capture ${captureIdOf(2)}: its manifest.json is not the one that was sealed`,
    );
    const stranger = await judged(async (all) => {
      const { objects } = await custodyBundle({
        captureId: captureIdOf(6),
        tiny: true,
        chain: { chainId: CHAIN_ID, sequence: 6 },
      });
      all.set(captureIdOf(6), objects);
    });
    expect(stranger.words.join()).toContain(`error signer-untrusted: capture ${captureIdOf(6)} is signed by key`);
    const renamed = await judged((all) => {
      all.set(captureIdOf(7), all.get(captureIdOf(5)) ?? new Map());
      all.delete(captureIdOf(5));
    });
    expect(renamed.words[0]).toBe(
      `error chain-broken: the folder ${captureIdOf(7)} holds capture ${captureIdOf(5)}: it was renamed or copied`,
    );
  });

  it('tells of captures that are not sealed, of those without a chain, and passes by what is no capture', async () => {
    const { report, words } = await judged(async (all) => {
      all.set('unsealed', new Map([['request.json', Buffer.from('{}')]]));
      all.set('other', new Map([['readme', Buffer.from('x')]]));
      all.set('0192f0c1-0000-7000-8000-000000000001x', (await sampleBundle(signer, true)).objects);
    });
    expect(report).toMatchObject({ captures: 7, unchained: 1, unsealed: ['unsealed'] });
    expect(words.join()).toContain('warning chain-unsealed: capture unsealed is not sealed (it has request.json)');
    expect(words.join()).toContain('info chain-none: 1 sealed captures are in no chain');
  });

  it('looks at no more captures than its bound', async () => {
    let opened = 0;
    const report = await verifyChains({
      url: 'memory:',
      async *list() {
        for (let n = 0; ; n += 1) yield String(n);
      },
      async open(name) {
        opened += 1;
        throw new ExhibitError('bundle-not-found', name);
      },
      async [Symbol.asyncDispose]() {},
    });
    expect(opened).toBe(MAX_CAPTURES);
    expect(report.findings[0]?.code).toBe('list-failed');
  });

  it('has every missing number in a hole, whatever was removed, and none that is there', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 1e15 }), { minLength: 1, maxLength: 12 }), (numbers) => {
        const sorted = numbers.toSorted((a, b) => a - b);
        const findings = createFindings();
        judgeChains(
          sorted.map((sequence) => ({
            captureId: `c${sequence}`,
            startedAt: '',
            sealSha256: `s${sequence}`,
            chain: {
              chainId: CHAIN_ID,
              sequence,
              ...(sequence === 1
                ? {}
                : { previous: { captureId: `c${sequence - 1}`, sealSha256: `s${sequence - 1}` } }),
            },
          })),
          findings,
        );
        const holes = sorted.filter((number, index) => number !== (sorted[index - 1] ?? 0) + 1);
        expect(findings.errors).toBe(holes.length);
      }),
    );
  });

  it('is read from a folder without following links', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'exhibit-chain-'));
    try {
      for (const [name, objects] of captures) await writeTo(join(folder, name), objects);
      await symlink(join(folder, captureIdOf(1)), join(folder, 'link'));
      const bundle = pathToFileURL(join(folder, captureIdOf(2))).href;
      const place = siblingsOf(bundle);
      expect(place).toEqual({ folder: pathToFileURL(folder).href, name: captureIdOf(2) });
      await using opened = await openCaptureFolder(place.folder);
      const report = await verifyChains(opened);
      expect(report).toMatchObject({ whole: true, captures: 5 });
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('lies beside a bundle in S3, too', () => {
    expect(siblingsOf('s3://bucket/prefix/c1/n1/ID')).toEqual({ folder: 's3://bucket/prefix/c1/n1', name: 'ID' });
    expect(() => siblingsOf('s3://bucket')).toThrow('lies in no folder of captures');
  });
});
