import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../../../agent/config.ts';
import { openSealer } from '../../../agent/sign/open.ts';
import { tryAuthorities, tryKeys } from '../../../agent/sign/trial.ts';
import { checkSeal, loadSigner } from '../../../evidence/seal.ts';
import { startTsa } from '../../lab/tsa.ts';
import { requireProgram, run } from '../evidence/programs.ts';
import { requestRecord } from '../evidence/sample-bundle.ts';

const signing = (yaml: string, env = {}) =>
  parseConfig(`sink: { url: "file:///e" }\nsigning: ${yaml}`, 'f', env).signing;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'exhibit-sign-'));
});
afterAll(async () => rm(folder, { recursive: true, force: true }));

const write = async (name: string, key: KeyObject, type: 'pkcs8' | 'sec1' = 'pkcs8') => {
  const file = join(folder, name);
  await writeFile(file, key.export({ type, format: 'pem' }));
  return file;
};
const p256 = () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;

describe('the configuration of signing', () => {
  it('takes one key file, or several keys of both kinds', () => {
    expect(signing('{ keyFile: /k }')).toEqual({ keyFile: '/k' });
    expect(signing('{}', { EXHIBIT_SIGNING_KEY_FILE: '/k' })).toEqual({ keyFile: '/k' });
    const keys = [{ file: '/a' }, { kms: 'alias/x', region: 'eu-central-1', publicKeyFile: '/p' }];
    expect(signing(`{ keys: ${JSON.stringify(keys)} }`)).toEqual({ keys });
  });

  it('takes one authority, or several', () => {
    expect(signing('{ timestamp: { url: "http://tsa/" } }').timestamp).toEqual({
      url: ['http://tsa/'],
      timeoutMs: 3000,
    });
    expect(signing('{ timestamp: { url: ["http://a/", "https://b/"], timeoutMs: 500 } }').timestamp).toEqual({
      url: ['http://a/', 'https://b/'],
      timeoutMs: 500,
    });
  });

  const faults: [what: string, yaml: string, why: RegExp][] = [
    ['a key file beside a list', '{ keyFile: /k, keys: [{ file: /k }] }', /signing.keys: expected nothing beside/],
    ['an empty list', '{ keys: [] }', /signing.keys/],
    ['a key of neither kind', '{ keys: [{ pkcs11: x }] }', /signing.keys.0: expected \{ file: \/path \} or \{ kms/],
    ['a relative path', '{ keys: [{ file: k }] }', /signing.keys.0/],
    ['an authority that is no web server', '{ timestamp: { url: "ftp://tsa/" } }', /signing.timestamp.url/],
    ['a password in an address', '{ timestamp: { url: "https://a:b@tsa/" } }', /without a password/],
    ['a longer wait than a seal is given', '{ timestamp: { url: "https://tsa/", timeoutMs: 60000 } }', /timeoutMs/],
  ];
  for (const [what, yaml, why] of faults) {
    it(`refuses ${what}`, () => expect(() => signing(yaml)).toThrow(why));
  }
});

describe('opening what vouches for a bundle', () => {
  const facts = { captureId: 'c', agent: requestRecord('0'.repeat(64)).agent, subjects: [] };
  const idle = new AbortController().signal;

  it('reads P-256 keys in PKCS #8 and in SEC 1', async () => {
    const key = p256();
    const [pkcs8, sec1] = [await write('p.pem', key), await write('s.pem', key, 'sec1')];
    expect((await loadSigner(sec1)).keyId).toBe((await loadSigner(pkcs8)).keyId);
    using sealer = await openSealer({ keyFile: sec1 });
    const { signers } = checkSeal((await sealer.seal(facts, idle)).envelope);
    expect(signers).toMatchObject([{ keyId: sealer.keyId, algorithm: 'ecdsa-p256-sha256' }]);
  });

  it('makes a key when none is configured, another one each time', async () => {
    using one = await openSealer({});
    using two = await openSealer({});
    expect(one.keyId).not.toBe(two.keyId);
    expect(checkSeal((await one.seal(facts, idle)).envelope).signers).toMatchObject([{ keyId: one.keyId }]);
  });

  it('refuses the same key twice: it would count as two', async () => {
    const key = p256();
    const keys = [{ file: await write('a.pem', key) }, { file: await write('b.pem', key, 'sec1') }];
    await expect(openSealer({ keys })).rejects.toThrow(/signing.keys names key [0-9a-f]{64} twice/);
  });

  it('refuses a key that cannot seal, and says which would', async () => {
    const file = await write('384.pem', generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey);
    await expect(openSealer({ keyFile: file })).rejects.toThrow(
      /is ec on secp384r1, not Ed25519 or P-256; make one with/,
    );
  });
});

describe('trying what vouches for a bundle', () => {
  const idle = new AbortController().signal;

  it('has every key sign, and says which cannot', async () => {
    const file = await write('try.pem', p256());
    const [good, bad] = await tryKeys({ keys: [{ file }, { file: '/absent.pem' }] }, idle);
    expect(good).toEqual({ name: file });
    expect(bad).toMatchObject({ name: '/absent.pem', why: expect.stringContaining('cannot be read') });
  });

  it('has every authority stamp, and says which does not', async (context) => {
    requireProgram(context, 'openssl');
    expect(run(['openssl', 'version']).status).toBe(0);
    await using tsa = await startTsa();
    const url = [tsa.url, 'http://127.0.0.1:1/?token=x'];
    const [good, bad] = await tryAuthorities({ timestamp: { url, timeoutMs: 10_000 } }, idle);
    expect(good).toEqual({ name: tsa.url, clock: expect.objectContaining({ source: tsa.url }) });
    // Its clock is this machine's.
    expect(Math.abs(good?.clock?.offsetMs ?? Number.NaN)).toBeLessThan(5_000);
    expect(bad).toMatchObject({ name: 'http://127.0.0.1:1/', why: expect.stringMatching(/^http:\/\/127.0.0.1:1\/: /) });
    expect(await tryAuthorities({}, idle)).toEqual([]);
  });
});
