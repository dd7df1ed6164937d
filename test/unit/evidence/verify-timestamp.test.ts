import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createFindings } from '../../../evidence/findings.ts';
import { createSealer } from '../../../evidence/sealer.ts';
import { readTimestamp } from '../../../evidence/timestamp.ts';
import { parseTrust, trustInKeys } from '../../../evidence/trust.ts';
import { verifyBundle } from '../../../evidence/verify.ts';
import { compareClocks } from '../../../evidence/verify-timestamp.ts';
import { type Authority, type AuthorityOptions, makeAuthority } from '../../lab/tsa.ts';
import { hasProgram, run } from './programs.ts';
import { readerOf, type SampleBundle, sampleBundle } from './sample-bundle.ts';
import { resealedBy } from './sealing.ts';
import { answerOver, SEAL, type Stamped, stampedBy, TSR } from './stamping.ts';

const obstacle = hasProgram('openssl') ? undefined : 'needs openssl, which is not installed here';

describe.skipIf(obstacle !== undefined)(`verifying a bundle with a timestamp ${obstacle ?? ''}`, () => {
  let folder: string;
  let sample: SampleBundle;
  let authority: Authority;
  let stamped: Stamped;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'exhibit-stamp-'));
    sample = await sampleBundle();
    authority = await makeAuthority({ intermediate: true });
    stamped = await stampedBy(sample, authority);
  });
  afterAll(async () => {
    await authority[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  /** What is found, of the timestamp and the seal, by somebody who knows the key and these authorities. */
  async function verify(
    { objects, signer }: Stamped,
    roots: readonly Authority[] = [authority],
    change: (objects: Map<string, Buffer>) => void = () => undefined,
  ) {
    const changed = new Map(objects);
    change(changed);
    const { timestampAuthorities } = parseTrust(Buffer.from(roots.map(({ ca }) => ca).join('\n') || '{}'), 'roots');
    const trust = { ...trustInKeys([signer.publicKey]), timestampAuthorities };
    const report = await verifyBundle(readerOf(changed), { trust });
    // The sample ended long before it was stamped.
    const findings = report.findings.filter(({ code }) => code !== 'timestamp-clock');
    return { report, found: findings.map(({ severity, code, object }) => `${severity} ${code} ${object}`), findings };
  }

  it('says when the seal existed, according to whom, and what that does not prove', async () => {
    const { report, found } = await verify(stamped);
    expect(found).toEqual([]);
    const { genTime, serial } = readTimestamp(stamped.objects.get(TSR) ?? Buffer.alloc(0));
    expect(report.timestamp).toMatchObject({
      time: genTime.toISOString(),
      accuracyMs: 1500,
      authority: 'lab root',
      trusted: true,
      policy: '1.3.6.1.4.1.55555.1',
      serial,
    });
    expect(report.proves.join('\n')).toContain(
      `existed at ${genTime.toISOString()}, give or take 1500 ms, according to lab root`,
    );
    expect(report.doesNotProve.join('\n')).toContain('not revoked');
  });

  it('agrees with openssl about the answer', async () => {
    const [data, answer, changed] = ['data', 'answer', 'changed'].map((name) => join(folder, name));
    await writeFile(data ?? '', stamped.objects.get(SEAL) ?? '');
    await writeFile(answer ?? '', stamped.objects.get(TSR) ?? '');
    await writeFile(changed ?? '', 'something else');
    const judge = (file = '') =>
      run(['openssl', 'ts', '-verify', '-in', answer ?? '', '-data', file, '-CAfile', authority.caFile]);
    expect(judge(data)).toMatchObject({ status: 0 });
    expect(judge(changed).status).toBe(1);
  });

  it('without a root says that nothing vouches for the authority', async () => {
    const { report, found } = await verify(stamped, []);
    expect(found).toEqual([`warning timestamp-untrusted ${TSR}`]);
    expect(report).toMatchObject({ intact: true, timestamp: { trusted: false, authority: 'CN=lab tsa' } });
    expect(report.proves.join('\n')).not.toContain('existed at');
    expect(report.doesNotProve.join('\n')).toContain('by an authority that you did not name');
  });

  it('does not believe an authority of another root, even of the same name', async () => {
    await using other = await makeAuthority({ intermediate: true });
    const { report, found } = await verify(stamped, [other]);
    expect(found).toEqual([`error timestamp-untrusted ${TSR}`]);
    expect(report.intact).toBe(false);
    expect((await verify(stamped, [other, authority])).found).toEqual([]);
  });

  it('misses an answer that was removed', async () => {
    const { report, found } = await verify(stamped, [authority], (objects) => objects.delete(TSR));
    expect(found).toEqual([`error timestamp-missing ${TSR}`]);
    expect(report.intact).toBe(false);
  });

  it('knows a removed answer from an outage', async () => {
    const { signer } = stamped;
    const sealer = createSealer({
      signers: [signer],
      timestamp: { requestedFrom: ['http://tsa/'], stamp: () => Promise.reject(new Error('refused')) },
    });
    const objects = await resealedBy(sample, sealer);
    const { report, found, findings } = await verify({ objects, signer });
    expect(found).toEqual([`warning timestamp-unavailable ${TSR}`]);
    expect(findings[0]?.message).toMatch(/asked http:\/\/tsa\/: refused/);
    expect(report.intact).toBe(true);
  });

  it('lets nobody add an answer that the seal does not speak of', async () => {
    const { signer } = stamped;
    const objects = await resealedBy(sample, createSealer(signer));
    objects.set(TSR, await answerOver(authority, objects.get(SEAL) ?? Buffer.alloc(0)));
    expect((await verify({ objects, signer })).found).toEqual([`error object-unlisted ${TSR}`]);
  });

  it('does not take the answer of another bundle', async () => {
    const other = await stampedBy(sample, authority);
    const { found, findings } = await verify(stamped, [authority], (objects) =>
      objects.set(TSR, other.objects.get(TSR) ?? Buffer.alloc(0)),
    );
    expect(found).toEqual([`error timestamp-invalid ${TSR}`]);
    expect(findings[0]?.message).toContain('of other bytes than this seal');
  });

  const usage = 'extendedKeyUsage=critical';
  const authorities: [what: string, options: AuthorityOptions, why: RegExp | undefined][] = [
    ['of RSA', { key: 'rsa' }, undefined],
    ['right below its root', {}, undefined],
    [
      'whose certificate is not valid any more',
      { valid: ['20200101000000Z', '20210101000000Z'] },
      /not valid any more/,
    ],
    ['whose certificate is not valid yet', { valid: ['20400101000000Z', '20410101000000Z'] }, /not valid yet/],
    [
      'with a critical extension that nobody knows',
      { extensions: `${usage},timeStamping\n1.2.3.4=critical,ASN1:NULL\n` },
      /not understood: 1.2.3.4/,
    ],
  ];
  for (const [what, options, why] of authorities) {
    it(`${why === undefined ? 'believes' : 'does not believe'} an authority ${what}`, async () => {
      await using one = await makeAuthority(options);
      const { found, findings } = await verify(await stampedBy(sample, one), [one]);
      expect(found).toEqual(why === undefined ? [] : [`error timestamp-untrusted ${TSR}`]);
      if (why !== undefined) expect(findings[0]?.message).toMatch(why);
    });
  }

  it('judges a key’s validity by the timestamp, where that is trusted', async () => {
    const { objects, signer } = stamped;
    const { timestampAuthorities } = parseTrust(Buffer.from(authority.ca), 'root');
    // The sample's manifest says that it ended in November 2026, by the node's clock; the stamp is of today.
    const at = readTimestamp(objects.get(TSR) ?? Buffer.alloc(0)).genTime;
    const keys = [{ keyId: signer.keyId, validUntil: new Date(at.getTime() - 1) }];
    const report = await verifyBundle(readerOf(objects), { trust: { keys, timestampAuthorities } });
    const [first] = report.findings;
    expect(first).toMatchObject({ severity: 'error', code: 'signer-expired' });
    expect(first?.message).toContain(`before ${at.toISOString()}, when it signed by the timestamp`);
  });
});

describe('the node’s clock against the authority’s', () => {
  const timestamp = {
    time: '2026-11-22T10:00:00.000Z',
    accuracyMs: 500,
    authority: 'A',
    trusted: true,
    policy: '1',
    serial: '1',
    words: '',
  };
  const against = (finishedAt: string) => {
    const findings = createFindings();
    const { afterEndMs } = compareClocks(timestamp, finishedAt, findings);
    return { afterEndMs, found: findings.list().map(({ severity, message }) => `${severity}: ${message}`) };
  };

  it('agrees when a seal is stamped soon after the end', () => {
    expect(against('2026-11-22T09:59:58.000Z')).toEqual({ afterEndMs: 2000, found: [] });
    // Within the authority's accuracy, and its whole seconds.
    expect(against('2026-11-22T10:00:01.500Z')).toEqual({ afterEndMs: -1500, found: [] });
  });

  it('was ahead when a capture ended after its seal was stamped', () => {
    const { afterEndMs, found } = against('2026-11-22T10:20:00.000Z');
    expect(afterEndMs).toBe(-1_200_000);
    expect(found).toEqual([expect.stringMatching(/^warning: .*1200000 ms.*ahead by at least/)]);
  });

  it('was behind, or the bundle waited, when long after', () => {
    expect(against('2026-11-22T09:00:00.000Z').found).toEqual([expect.stringMatching(/^info: .*3600000 ms.*behind/)]);
  });
});
