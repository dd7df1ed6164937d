import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { PeerCertificate } from 'node:tls';
import { generateKeyPair, SignJWT, UnsecuredJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createIdentity } from '../../../../controller/identity/authenticate.ts';
import type { Caller, Identity } from '../../../../controller/identity/identity.ts';
import { aliasesOf, identitySchema } from '../../../../controller/identity/operators.ts';
import { ExhibitError } from '../../../../evidence/error.ts';
import { AUDIENCE, type Issuer, startIssuer } from '../../../lab/issuer.ts';
import { collectLog } from '../../../lab/log-lines.ts';
import { type LabPki, labPki } from '../../../lab/pki.ts';

let pki: LabPki;
beforeAll(async () => {
  pki = await labPki();
});
afterAll(async () => await pki[Symbol.asyncDispose]());

const grants = (role: string) => [{ role, clusters: ['*'], namespaces: ['*'] }];

function configure(issuer: Issuer, over: object = {}) {
  return identitySchema.parse({
    operators: [
      {
        name: 'Alice',
        certificate: 'alice',
        oidc: { issuer: issuer.url, subject: 'alice' },
        grants: grants('responder'),
      },
      { name: 'On call', oidc: { issuer: issuer.url, group: 'on-call' }, grants: grants('admin') },
      { name: 'Bob', oidc: { issuer: issuer.url, email: 'bob@example.com' }, grants: grants('viewer') },
    ],
    issuers: [{ issuer: issuer.url, audience: AUDIENCE, ...over }],
  });
}

function open(issuer: Issuer, over: object = {}, now?: () => number) {
  const log = collectLog();
  const identity = createIdentity(configure(issuer, over), log.log, now === undefined ? {} : { now });
  return { ...log, identity };
}

const withToken = (identity: Identity, token: string, peer = '10.0.0.1:1000'): Promise<Caller> =>
  identity.authenticate({ authorization: `Bearer ${token}`, peer });

function peerCertificate(files: { certFile: string }): PeerCertificate {
  const { raw } = new X509Certificate(readFileSync(files.certFile));
  // What is read of it is its DER.
  return { raw } as PeerCertificate;
}

async function refusal(attempt: Promise<unknown>): Promise<ExhibitError> {
  const error = await attempt.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof ExhibitError)) throw new Error(`let in, or failed otherwise: ${String(error)}`);
  return error;
}

describe('a caller', () => {
  test('with a certificate of an operator is that operator', async () => {
    await using issuer = await startIssuer();
    const { identity } = open(issuer);
    const certificate = peerCertificate(await pki.operator('alice'));
    expect(await identity.authenticate({ certificate, peer: '10.0.0.1:1' })).toMatchObject({
      name: 'alice',
      by: 'certificate',
      grants: grants('responder'),
    });
    expect(issuer.asked).toEqual([]);
  });

  test('with a token is its issuer and subject, whatever else matched', async () => {
    await using issuer = await startIssuer();
    const { identity } = open(issuer);
    const name = `${issuer.url}#alice`;
    expect(await withToken(identity, await issuer.token())).toMatchObject({ name, by: 'oidc' });
    const both = await withToken(identity, await issuer.token({ groups: ['x', 'on-call'] }));
    expect(both.grants.map(({ role }) => role)).toEqual(['responder', 'admin']);
    expect(issuer.asked).toEqual(['/.well-known/openid-configuration', '/keys']);
  });

  test('is known by a group of the claim that is configured, as text or list', async () => {
    await using issuer = await startIssuer();
    const { identity } = open(issuer, { groupsClaim: 'https://example.com/teams' });
    const claims = { sub: 'carol', 'https://example.com/teams': 'on-call' };
    expect((await withToken(identity, await issuer.token(claims))).grants).toEqual(grants('admin'));
    await refusal(withToken(identity, await issuer.token({ sub: 'carol', groups: ['on-call'] })));
  });

  test('is known by an email that its issuer has verified, and by no other', async () => {
    await using issuer = await startIssuer();
    const { identity } = open(issuer);
    const claims = { sub: 'b', email: 'bob@example.com' };
    expect((await withToken(identity, await issuer.token({ ...claims, email_verified: true }))).grants).toEqual(
      grants('viewer'),
    );
    for (const verified of [undefined, false, 'true', 1])
      await refusal(withToken(identity, await issuer.token({ ...claims, email_verified: verified })));
  });

  test('has the names of all their certificates and tokens, by entries that have both', async () => {
    const oidc = { issuer: 'https://login.example', subject: 'a1' };
    const { operators } = identitySchema.parse({
      issuers: [{ issuer: oidc.issuer, audience: 'exhibit' }],
      operators: [
        { name: 'Alice', certificate: 'alice', oidc, grants: grants('responder') },
        { name: 'Alice at home', certificate: 'alice-home', oidc, grants: grants('viewer') },
        { name: 'Bob', certificate: 'bob', grants: grants('viewer') },
      ],
    });
    const token = 'https://login.example#a1';
    expect(aliasesOf(operators, 'alice').sort()).toEqual(['alice-home', token]);
    expect(aliasesOf(operators, token).sort()).toEqual(['alice', 'alice-home']);
    expect(aliasesOf(operators, 'bob')).toEqual([]);
    await using issuer = await startIssuer();
    const { identity } = open(issuer);
    const certificate = peerCertificate(await pki.operator('alice'));
    const byCertificate = await identity.authenticate({ certificate, peer: '10.0.0.1:1' });
    const byToken = await withToken(identity, await issuer.token());
    expect(byCertificate.aliases).toEqual([byToken.name]);
    expect(byToken.aliases).toEqual([byCertificate.name]);
  });

  test('with both is refused, in words that say so', async () => {
    await using issuer = await startIssuer();
    const { identity } = open(issuer);
    const certificate = peerCertificate(await pki.operator('alice'));
    const authorization = `Bearer ${await issuer.token()}`;
    const error = await refusal(identity.authenticate({ certificate, authorization, peer: '10.0.0.1:1' }));
    expect(error).toMatchObject({ code: 'unauthenticated', message: expect.stringContaining('not both') });
  });
});

describe('who is not let in', () => {
  const nowS = Math.floor(Date.now() / 1000);
  const cases: [string, (issuer: Issuer) => Promise<string> | string, string][] = [
    ['an expired token', (issuer) => issuer.token({ exp: nowS - 31 }), '"exp" claim'],
    ['a token without an end', (issuer) => issuer.token({ exp: undefined }), '"exp" claim'],
    ['a token that is not valid yet', (issuer) => issuer.token({ nbf: nowS + 120 }), '"nbf" claim'],
    ['a token for another audience', (issuer) => issuer.token({ aud: 'other' }), '"aud" claim'],
    ['a token without an audience', (issuer) => issuer.token({ aud: undefined }), '"aud" claim'],
    ['a token of another issuer', (issuer) => issuer.token({ iss: 'https://other' }), 'not configured'],
    ['an issuer with a slash more', (issuer) => issuer.token({ iss: `${issuer.url}/` }), 'not configured'],
    ['a token without a subject', (issuer) => issuer.token({ sub: undefined }), '"sub"'],
    ['a subject with a line feed', (issuer) => issuer.token({ sub: 'alice\nadmin' }), 'no sub'],
    ['a subject that nobody knows', (issuer) => issuer.token({ sub: 'mallory' }), 'no operator'],
    ['a key that is not known', (issuer) => issuer.token({}, { kid: 'other' }), 'no applicable key'],
    ['thousands of groups', (issuer) => issuer.token({ groups: Array(1_001).fill('a') }), '1000 groups'],
    ['a token of 20 KiB', (issuer) => issuer.token({ x: 'a'.repeat(20_000) }), 'longer than 16384'],
    ['no signature', (issuer) => unsigned(issuer), 'no good'],
    ['an HMAC with the public key', (issuer) => confused(issuer), 'no good'],
    ['a signature of a key of their own', (issuer) => forged(issuer), 'signature verification failed'],
    ['garbage', () => 'a.b.signature-of-nobody', 'no JWT'],
    ['something else than a JWT', () => 'abc', 'no JWT'],
  ];
  test.each(cases)('is %s: the caller hears the same as all, the log hears why', async (_, make, why) => {
    await using issuer = await startIssuer();
    const { identity, lines, line } = open(issuer);
    const token = await make(issuer);
    const error = await refusal(withToken(identity, token));
    const nobody = await refusal(identity.authenticate({ peer: '10.0.0.9:1' }));
    expect([error.code, error.message]).toEqual(['unauthenticated', nobody.message]);
    expect(error.cause).toBeUndefined();
    await line('a caller is not known', JSON.stringify(why).slice(1, -1));
    expect(JSON.stringify(lines)).not.toContain(token.split('.')[2] || '\0');
  });

  test.each(['', 'Bearer', 'Bearer ', 'Basic YTpi', 'Bearer a b', 'Bearer \0'])(
    'is the header %j',
    async (authorization) => {
      await using issuer = await startIssuer();
      const { identity } = open(issuer);
      expect(await refusal(identity.authenticate({ authorization, peer: 'x' }))).toMatchObject({
        code: 'unauthenticated',
      });
    },
  );

  test("is a certificate that names nobody whom the configuration knows, or an agent's", async () => {
    await using issuer = await startIssuer();
    const { identity } = open(issuer);
    const messages = await Promise.all(
      [await pki.operator('mallory'), await pki.agent('prod', 'alice')].map(async (files) => {
        const attempt = identity.authenticate({ certificate: peerCertificate(files), peer: 'x' });
        return (await refusal(attempt)).message;
      }),
    );
    const nobody = await refusal(identity.authenticate({ peer: 'y' }));
    expect(messages).toEqual([nobody.message, nobody.message]);
  });

  test('is, after thirty tokens that were no good, everybody with a token from that address, and nobody else', async () => {
    await using issuer = await startIssuer();
    const { identity } = open(issuer, {});
    for (let count = 0; count < 30; count += 1) await refusal(withToken(identity, 'abc', `10.0.0.1:${count}`));
    expect(await refusal(withToken(identity, await issuer.token(), '10.0.0.1:99'))).toMatchObject({
      code: 'rate-limited',
      message: expect.stringMatching(/wait 1 s/),
    });
    expect(await withToken(identity, await issuer.token(), '10.0.0.2:1')).toMatchObject({ by: 'oidc' });
    const certificate = peerCertificate(await pki.operator('alice'));
    expect(await identity.authenticate({ certificate, peer: '10.0.0.1:1' })).toMatchObject({ name: 'alice' });
  });
});

async function unsigned(issuer: Issuer): Promise<string> {
  return new UnsecuredJWT({})
    .setIssuer(issuer.url)
    .setAudience(AUDIENCE)
    .setSubject('alice')
    .setExpirationTime('5m')
    .encode();
}

/** CVE-2015-9235 of other libraries: the public key taken for a secret. */
async function confused(issuer: Issuer): Promise<string> {
  const claims = { iss: issuer.url, aud: AUDIENCE, sub: 'alice', exp: Math.floor(Date.now() / 1000) + 60 };
  const secret = new TextEncoder().encode(issuer.publicKey());
  return await new SignJWT(claims).setProtectedHeader({ alg: 'HS256', kid: 'key-1' }).sign(secret);
}

async function forged(issuer: Issuer): Promise<string> {
  const { privateKey } = await generateKeyPair('ES256');
  const claims = { iss: issuer.url, aud: AUDIENCE, sub: 'alice', exp: Math.floor(Date.now() / 1000) + 60 };
  return await new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid: 'key-1' }).sign(privateKey);
}

describe('an issuer', () => {
  test('that is down keeps the keys that are known, and lets nobody in with others', async () => {
    await using issuer = await startIssuer();
    const { identity, line } = open(issuer);
    await withToken(identity, await issuer.token());
    await issuer.stop();
    expect(await withToken(identity, await issuer.token())).toMatchObject({ by: 'oidc' });
    await issuer.rotate();
    await refusal(withToken(identity, await issuer.token()));
    await line('no applicable key');
  });

  test('that is down at first is asked again after half a minute, however many come meanwhile', async () => {
    await using issuer = await startIssuer();
    let nowMs = Date.now();
    const { identity, line } = open(issuer, {}, () => nowMs);
    issuer.answerWith((_, response) => response.writeHead(503).end());
    for (let count = 0; count < 10; count += 1) await refusal(withToken(identity, await issuer.token()));
    await line('answers 503');
    expect(issuer.asked).toHaveLength(1);
    issuer.answerWith(undefined);
    nowMs += 30_000;
    expect(await withToken(identity, await issuer.token())).toMatchObject({ by: 'oidc' });
  });

  test.each([
    ['another issuer', (url: string) => ({ issuer: `${url}/x`, jwks_uri: `${url}/keys` }), 'of another issuer'],
    [
      'keys over HTTP elsewhere',
      (url: string) => ({ issuer: url, jwks_uri: 'http://192.0.2.1/keys' }),
      'no discovery document',
    ],
    ['keys in a file', (url: string) => ({ issuer: url, jwks_uri: 'file:///etc/passwd' }), 'no discovery document'],
    ['nothing', () => 'nothing', 'no discovery document'],
    ['more than half a MiB', () => 'x'.repeat(600_000), 'answers more than'],
  ])('whose discovery document tells of %s is not believed', async (_, document, why) => {
    await using issuer = await startIssuer();
    issuer.answerWith((__, response) => response.end(JSON.stringify(document(issuer.url))));
    const { identity, line } = open(issuer);
    await refusal(withToken(identity, await issuer.token()));
    await line(why);
  });

  test('that redirects is not followed', async () => {
    await using issuer = await startIssuer();
    issuer.answerWith((_, response) => response.writeHead(302, { location: `${issuer.url}/elsewhere` }).end());
    const { identity } = open(issuer);
    await refusal(withToken(identity, await issuer.token()));
    expect(issuer.asked).toHaveLength(1);
  });
});

describe('the configuration of identities', () => {
  const issuers = [{ issuer: 'https://login.example', audience: 'exhibit' }];
  const oidc = { issuer: 'https://login.example', subject: 'a' };
  test('takes certificates and tokens', () => {
    const operators = [
      { name: 'a', certificate: 'a', grants: grants('viewer') },
      { name: 'b', oidc, grants: grants('viewer') },
    ];
    const config = identitySchema.parse({ issuers, operators });
    expect(config).toMatchObject({ trustDomain: 'exhibit', issuers: [{ groupsClaim: 'groups', clockToleranceS: 30 }] });
    expect(config.issuers[0]?.algorithms.some((one) => /^HS|none/.test(one))).toBe(false);
  });
  const one = (over: object) => ({
    issuers,
    operators: [{ name: 'a', certificate: 'a', grants: grants('viewer'), ...over }],
  });
  test.each([
    ['a certificate and a group, which is many people', one({ oidc: { issuer: oidc.issuer, group: 'g' } })],
    ['a certificate and an address', one({ oidc: { issuer: oidc.issuer, email: 'a@example.com' } })],
    ['neither', one({ certificate: undefined })],
    ['two claims at once', one({ certificate: undefined, oidc: { ...oidc, group: 'g' } })],
    ['an issuer that is not there', one({ certificate: undefined, oidc: { issuer: 'https://other', subject: 'a' } })],
    ['no grant', one({ grants: [] })],
    ['a role of their own', one({ grants: grants('root') })],
    ['a pattern with a slash', one({ grants: [{ role: 'viewer', clusters: ['a/b'], namespaces: ['*'] }] })],
    ['HMAC', { issuers: [{ ...issuers[0], algorithms: ['HS256'] }] }],
    ['no audience', { issuers: [{ issuer: 'https://login.example' }] }],
    ['an issuer over HTTP', { issuers: [{ issuer: 'http://login.example', audience: 'a' }] }],
    ['an issuer with a password', { issuers: [{ issuer: 'https://a:b@login.example', audience: 'a' }] }],
  ])('refuses %s', (_, config) => {
    expect(identitySchema.safeParse(config).success).toBe(false);
  });
});
