import { X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isExhibitError } from '../../../evidence/error.ts';
import { MAX_TIMESTAMP_BYTES } from '../../../evidence/seal.ts';
import { readTimestamp } from '../../../evidence/timestamp.ts';
import { chainToRoot } from '../../../evidence/timestamp-chain.ts';
import { parseTrust } from '../../../evidence/trust.ts';
import { verifyBundle } from '../../../evidence/verify.ts';
import { type Authority, makeAuthority } from '../../lab/tsa.ts';
import { hasProgram } from '../../unit/evidence/programs.ts';
import { fc } from '../../unit/evidence/properties.ts';
import { readerOf, sampleBundle } from '../../unit/evidence/sample-bundle.ts';
import { type Stamped, stampedBy, TSR } from '../../unit/evidence/stamping.ts';

const obstacle = hasProgram('openssl') ? undefined : 'needs openssl, which is not installed here';

/** DER of one element: identifier, length, content. */
function element(identifier: number, ...content: Uint8Array[]): Buffer {
  const body = Buffer.concat(content);
  if (body.length < 128) return Buffer.concat([Buffer.from([identifier, body.length]), body]);
  const length = Buffer.alloc(5);
  length.writeUInt8(0x84);
  length.writeUInt32BE(body.length, 1);
  return Buffer.concat([Buffer.from([identifier]), length, body]);
}

/** What a reader takes an answer for; undefined when it is refused. Nothing but the one error may come of it. */
function verdict(bytes: Uint8Array) {
  try {
    return readTimestamp(bytes);
  } catch (error) {
    if (isExhibitError(error, 'bundle-corrupt')) return undefined;
    throw error;
  }
}

describe.skipIf(obstacle !== undefined)(`an RFC 3161 answer that an enemy made ${obstacle ?? ''}`, () => {
  let authority: Authority;
  let stamped: Stamped;
  let answer: Buffer;
  beforeAll(async () => {
    authority = await makeAuthority({ intermediate: true });
    stamped = await stampedBy(await sampleBundle(undefined, true), authority);
    answer = stamped.objects.get(TSR) ?? Buffer.alloc(0);
  });
  afterAll(async () => authority[Symbol.asyncDispose]());

  it('never says anything else than the authority said, whatever byte is changed', { timeout: 120_000 }, () => {
    const { certificates: _, signer, ...said } = readTimestamp(answer);
    const roots = parseTrust(Buffer.from(authority.ca), 'root').timestampAuthorities;
    let believed = 0;
    for (let at = 0; at < answer.length; at += 1) {
      const changed = Buffer.from(answer);
      changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
      const read = verdict(changed);
      if (read === undefined) continue;
      const { certificates, signer: changedSigner, ...now } = read;
      expect(now, `byte ${at}`).toEqual(said);
      expect(changedSigner.raw.equals(signer.raw), `byte ${at}`).toBe(true);
      if ('root' in chainToRoot(changedSigner, certificates, roots, now.genTime)) believed += 1;
    }
    // Some bytes say nothing: of the status' words, of lengths that are spelled another way, of certificates that are not needed.
    expect(believed).toBeLessThan(answer.length / 4);
  });

  it('is refused when it is cut anywhere', () => {
    for (let length = 0; length < answer.length; length += 1) {
      expect(verdict(answer.subarray(0, length)), `${length} bytes`).toBeUndefined();
    }
  });

  it('is refused when it is random, and when it is a splice of random and good', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 2000 }),
        fc.nat(answer.length),
        fc.nat(answer.length),
        (noise, from, to) => {
          expect(verdict(noise)).toBeUndefined();
          const spliced = Buffer.concat([answer.subarray(0, from), noise, answer.subarray(to)]);
          const read = verdict(spliced);
          if (read !== undefined) expect(read.sha256).toBe(readTimestamp(answer).sha256);
        },
      ),
    );
  });

  const deep = (depth: number) => {
    let bytes: Buffer = Buffer.alloc(0);
    for (let level = 0; level < depth; level += 1) bytes = element(0x30, bytes);
    return bytes;
  };
  const hostile: [what: string, bytes: () => Buffer][] = [
    ['larger than any', () => Buffer.alloc(MAX_TIMESTAMP_BYTES + 1, 0x30)],
    ['nested a thousand deep', () => deep(1000)],
    [
      'nested as deep as its bytes allow, without lengths',
      () => Buffer.alloc(MAX_TIMESTAMP_BYTES, Buffer.from('3080', 'hex')),
    ],
    ['made of the smallest elements', () => element(0x30, Buffer.alloc(60_000, Buffer.from('0500', 'hex')))],
    ['a string in pieces of one byte', () => element(0x24, Buffer.alloc(60_000, Buffer.from('040141', 'hex')))],
    ['longer than it says that it is', () => Buffer.from('3084ffffffff', 'hex')],
    ['of a length of 127 bytes', () => Buffer.concat([Buffer.from([0x30, 0xff]), Buffer.alloc(200, 0xff)])],
    ['of a length without an end', () => Buffer.from('308030800000', 'hex')],
    ['an identifier without an end', () => Buffer.alloc(60_000, 0xff)],
    ['a number of 60,000 bytes', () => element(0x30, element(0x30, element(0x02, Buffer.alloc(60_000, 0x7f))))],
    [
      'an object identifier of 60,000 bytes',
      () =>
        element(
          0x30,
          element(0x30, Buffer.from('020100', 'hex')),
          element(0x30, element(0x06, Buffer.alloc(60_000, 0xff))),
        ),
    ],
    ['granted, with nothing in it', () => Buffer.from('30053003020100', 'hex')],
  ];
  for (const [what, bytes] of hostile) {
    it(`is a finding, and no crash, when it is ${what}`, async () => {
      const objects = new Map(stamped.objects).set(TSR, bytes());
      const report = await verifyBundle(readerOf(objects), { trustedKeys: [stamped.signer.publicKey] });
      const errors = report.findings.filter(({ severity }) => severity === 'error');
      expect(errors).toHaveLength(1);
      expect(errors[0]).toMatchObject({ object: TSR });
      expect(['timestamp-invalid', 'object-size']).toContain(errors[0]?.code);
      expect(errors[0]?.message).not.toMatch(/\n|node_modules|at .*\.js/);
    });
  }

  it('keeps control characters of its words out of what is thrown', () => {
    const words = element(
      0x30,
      element(0x02, Buffer.from([2])),
      element(0x30, element(0x0c, Buffer.from('\u001b[2J no'))),
    );
    // Shown words are escaped by whoever shows them; here they are only bounded.
    expect(() => readTimestamp(element(0x30, words))).toThrow(/not granted \(status 2: /);
    const long = element(
      0x30,
      element(0x02, Buffer.from([2])),
      element(0x30, element(0x0c, Buffer.alloc(50_000, 'x'))),
    );
    expect(() => readTimestamp(element(0x30, long))).toThrow(/^.{0,400}$/);
  });

  for (const [what, extensions] of [
    ['for time-stamping among other things', 'extendedKeyUsage=critical,timeStamping,serverAuth\n'],
    ['for time-stamping, and does not insist', 'extendedKeyUsage=timeStamping\n'],
    ['for web servers', 'extendedKeyUsage=critical,serverAuth\n'],
    ['for nothing in particular', 'keyUsage=digitalSignature\n'],
  ] as const) {
    it(`is not believed by a certificate that is ${what}`, async () => {
      // openssl refuses to answer with such a certificate: it is judged alone.
      await using other = await makeAuthority({ extensions });
      const roots = parseTrust(Buffer.from(other.ca), 'root').timestampAuthorities;
      const chain = chainToRoot(new X509Certificate(other.certificate), [], roots, new Date());
      expect(chain).toMatchObject({ why: expect.stringContaining('time-stamping') });
    });
  }
});
