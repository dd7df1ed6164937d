import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openAuthorities, shownUrl } from '../../../agent/sign/authorities.ts';
import { readTimestamp } from '../../../evidence/timestamp.ts';
import { type Fault, type LabTsa, serveTsa, startTsa } from '../../lab/tsa.ts';
import { hasProgram } from '../evidence/programs.ts';

const idle = new AbortController().signal;
const message = randomBytes(5000);

/** Where the digest begins in a request: behind SHA-256's identifier, a NULL and an OCTET STRING's head. */
const imprintAt = (request: Buffer) => request.indexOf(Buffer.from('05000420', 'hex')) + 4;

describe.skipIf(!hasProgram('openssl'))('asking an authority for a timestamp (needs openssl)', () => {
  let authority: LabTsa;
  beforeAll(async () => {
    authority = await startTsa();
  });
  afterAll(async () => authority[Symbol.asyncDispose]());

  const stamp = (urls: readonly string[], timeoutMs = 10_000, signal = idle) =>
    openAuthorities({ urls, timeoutMs }).stamp(message, signal);

  /** What is said of an authority that answers in its own way. */
  async function refusal(fault: Fault, timeoutMs?: number): Promise<string> {
    await using broken = await serveTsa(fault);
    return await stamp([broken.url], timeoutMs).then(
      () => 'taken',
      (error: unknown) => String(error).replace(broken.url, 'URL'),
    );
  }

  it('gives the bytes of an answer over the message, which says when', async () => {
    const before = Date.now();
    const { sha256, genTime, accuracyMs, policy, certificates } = readTimestamp(await stamp([authority.url]));
    expect(sha256).toBe(createHash('sha256').update(message).digest('hex'));
    expect(genTime.getTime()).toBeGreaterThanOrEqual(Math.floor(before / 1000) * 1000);
    expect([accuracyMs, policy, certificates.length]).toEqual([1500, '1.3.6.1.4.1.55555.1', 2]);
  });

  it('asks the next one when the first refuses, and no other after a good answer', async () => {
    await using closed = await serveTsa((_request, response) => void response.writeHead(503).end('busy'));
    const asked = authority.asked;
    expect(readTimestamp(await stamp([closed.url, authority.url, 'http://127.0.0.1:1/'])).accuracyMs).toBe(1500);
    expect([closed.asked, authority.asked - asked]).toEqual([1, 1]);
  });

  it('says of each authority why it gave none', async () => {
    await using closed = await serveTsa((_request, response) => void response.writeHead(503).end('busy'));
    const urls = ['http://127.0.0.1:1/', closed.url];
    await expect(stamp(urls)).rejects.toThrow(
      new RegExp(`http://127.0.0.1:1/: .*; ${closed.url}: it answered with status 503`),
    );
  });

  const answerTo = async (request: Buffer) => await authority.answer(request);
  const cases: [what: string, fault: Fault, why: RegExp][] = [
    ['a connection that is cut', (_request, response) => void response.destroy(), /fetch failed/],
    ['text', (_request, response) => void response.end('<html>'), /not an RFC 3161 answer/],
    ['nothing', (_request, response) => void response.end(), /not an RFC 3161 answer/],
    [
      'half of an answer',
      async (request, response) => void response.end((await answerTo(request)).subarray(0, 500)),
      /not an RFC 3161 answer/,
    ],
    [
      'bytes behind an answer',
      async (request, response) => void response.end(Buffer.concat([await answerTo(request), Buffer.alloc(9)])),
      /9 bytes follow/,
    ],
    [
      'more than any answer has',
      (_request, response) => void response.end(Buffer.alloc(1_000_000, 0x30)),
      /larger than 65536 bytes/,
    ],
    [
      'a rejection',
      (_request, response) => void response.end(Buffer.from('30053003020102', 'hex')),
      /not granted \(status 2\)/,
    ],
    [
      'the way to elsewhere',
      (_request, response) => void response.writeHead(307, { location: authority.url }).end(),
      /redirect/,
    ],
    [
      'an answer of other bytes',
      async (request, response) => {
        const other = Buffer.from(request);
        other.fill(7, imprintAt(request), imprintAt(request) + 32);
        response.end(await answerTo(other));
      },
      /its answer is of other bytes/,
    ],
    [
      'an answer to another request',
      async (request, response) => {
        const other = Buffer.from(request);
        // The nonce's last byte; `certReq` (three bytes) follows.
        other.writeUInt8(other.readUInt8(other.length - 4) ^ 1, other.length - 4);
        response.end(await answerTo(other));
      },
      /it has another nonce/,
    ],
    [
      'an answer whose time was changed',
      async (request, response) => {
        const answered = await answerTo(request);
        // genTime is the first GeneralizedTime of 15 characters.
        const at = answered.indexOf(Buffer.from([0x18, 0x0f])) + 2;
        answered.write('1', at);
        response.end(answered);
      },
      /its time and its imprint are not what was signed/,
    ],
  ];
  for (const [what, fault, why] of cases) {
    it(`does not take ${what}`, async () => expect(await refusal(fault)).toMatch(why));
  }

  it('says of one that is away that it refused the connection', async () => {
    const gone = await serveTsa(() => undefined);
    await gone[Symbol.asyncDispose]();
    await expect(stamp([gone.url])).rejects.toThrow(/ECONNREFUSED/);
  });

  it('gives up on one that does not answer, and on one that never ends', async () => {
    expect(await refusal(() => undefined, 100)).toMatch(/timeout/);
    const trickle: Fault = (_request, response) => void response.writeHead(200).write('0');
    expect(await refusal(trickle, 100)).toMatch(/timeout/);
  });

  it('ends when it is told to', async () => {
    const asked = Promise.withResolvers<void>();
    await using silent = await serveTsa(() => asked.resolve());
    const over = new AbortController();
    const stamping = stamp([silent.url], 10_000, over.signal);
    await asked.promise;
    over.abort(new Error('enough'));
    await expect(stamping).rejects.toThrow('enough');
  });

  it('shows no name, password or token of an address', () => {
    expect(shownUrl('https://me:secret@tsa.example/stamp?token=secret#x')).toBe('https://tsa.example/stamp');
    expect(openAuthorities({ urls: ['https://tsa.example/?key=secret'], timeoutMs: 1 }).requestedFrom).toEqual([
      'https://tsa.example/',
    ]);
  });
});
