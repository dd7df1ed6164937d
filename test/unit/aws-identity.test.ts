import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { identityWords, lookAtIdentity } from '../../agent/aws-identity.ts';
import { openKms } from '../../agent/sign/kms.ts';
import { openS3Sink } from '../../agent/sink/s3.ts';
import { isAway, waitsForNobody } from '../../agent/sink/s3-away.ts';
import { explain, isExhibitError } from '../../evidence/error.ts';

/** The SDK's own chain in the surroundings that a pod may have, against small servers in place of AWS. */

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly type?: string;
}

let folder: string;
let port: number;
let answer: (request: IncomingMessage) => Answer;
const server = createServer((request: IncomingMessage, response: ServerResponse) => {
  const { status, body, type = 'application/json' } = answer(request);
  request.resume().on('end', () => response.writeHead(status, { 'content-type': type }).end(body));
});

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-identity-'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  port = typeof address === 'object' && address !== null ? address.port : 0;
});
afterAll(() => {
  server.close();
  rmSync(folder, { recursive: true });
});

const AWS = Object.keys(process.env).filter((name) => name.startsWith('AWS_'));
beforeEach(() => {
  for (const name of AWS) vi.stubEnv(name, undefined);
  surround({ AWS_EC2_METADATA_DISABLED: 'true', HOME: folder, AWS_REGION: 'eu-central-1' });
});
afterEach(() => void vi.unstubAllEnvs());

function surround(variables: Record<string, string | undefined>): void {
  for (const [name, value] of Object.entries(variables)) vi.stubEnv(name, value);
}

/** A token as kubelet projects it, which ends at `untilMs`. */
function token(untilMs: number): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const file = path.join(mkdtempSync(path.join(folder, 'token-')), 'token');
  writeFileSync(file, `${part({ alg: 'RS256' })}.${part({ exp: untilMs / 1000, sub: 'it' })}.${'c2ln'.repeat(60)}`);
  return file;
}

const podIdentity = (file: string | undefined, uri = `http://127.0.0.1:${port}/v1/credentials`) =>
  surround({ AWS_CONTAINER_CREDENTIALS_FULL_URI: uri, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: file });

const irsa = (file: string, role: string | undefined = 'arn:aws:iam::111122223333:role/exhibit-agent') =>
  surround({
    AWS_ROLE_ARN: role,
    AWS_WEB_IDENTITY_TOKEN_FILE: file,
    AWS_ENDPOINT_URL_STS: `http://127.0.0.1:${port}`,
  });

const stsError = (code: string, message: string, status = 403): Answer => ({
  status,
  body: `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error><RequestId>1</RequestId></ErrorResponse>`,
  type: 'text/xml',
});

async function failure(): Promise<Error> {
  await using sink = openS3Sink({ url: 's3://evidence/prefix' }, { maxAttempts: 1 });
  const error: unknown = await sink.check(AbortSignal.timeout(15_000)).catch((reason: unknown) => reason);
  if (!isExhibitError(error, 'sink-failed')) throw new Error(`no failure of the sink: ${String(error)}`);
  expect(error.message).not.toMatch(/Could not load credentials|c2lnc2ln/);
  return error;
}

const HOUR_MS = 3_600_000;

describe('an agent without credentials', () => {
  test('names both ways to give it some, where the pod has neither', async () => {
    const { message } = await failure();
    expect(message).toContain('cannot write evidence to s3://evidence/prefix: no credentials were found');
    expect(message).toContain('AWS_CONTAINER_CREDENTIALS_FULL_URI is not set');
    expect(message).toContain('create-pod-identity-association; manifests/overlays/eks-pod-identity');
    expect(message).toContain('eks.amazonaws.com/role-arn (manifests/overlays/eks-irsa)');
    expect(message).toContain('hop limit of 1');
  });

  test('has evidence wait in the spool, and does not call itself ready', async () => {
    const error = await failure();
    expect(isAway(error)).toBe(true);
    expect(waitsForNobody(error)).toBe(false);
  });

  test('names the half of a pair of keys', async () => {
    surround({ AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE' });
    expect((await failure()).message).toContain('set AWS_SECRET_ACCESS_KEY too, or neither');
  });

  test('has the same words for a key of KMS', async () => {
    using kms = await openKms({ kms: 'alias/exhibit', region: 'eu-central-1' });
    await expect(kms.signer(AbortSignal.timeout(5_000))).rejects.toThrow(/create-pod-identity-association/);
  });

  test('says where the region comes from when there is none', async () => {
    surround({ AWS_REGION: undefined });
    expect((await failure()).message).toContain('set sink.region, or AWS_REGION');
  });
});

describe('EKS Pod Identity', () => {
  test('without its token file', async () => {
    podIdentity(path.join(folder, 'missing'));
    const { message } = await failure();
    expect(message).toContain(`EKS Pod Identity gave no credentials: its token ${folder}/missing is not there`);
    expect(message).toContain('rollout restart daemonset exhibit-agent');
  });

  test('without the variable that names the token', async () => {
    const facts = await lookAtIdentity({ AWS_CONTAINER_CREDENTIALS_FULL_URI: 'http://127.0.0.1:1/' }, 'none', 0);
    expect(identityWords(facts)).toContain('AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE is not set');
  });

  test('without its agent on the node', async () => {
    podIdentity(token(Date.now() + HOUR_MS), 'http://127.0.0.1:1/v1/credentials');
    const { message } = await failure();
    expect(message).toContain('nobody answers at http://127.0.0.1:1/v1/credentials (ECONNREFUSED)');
    expect(message).toContain('install the add-on eks-pod-identity-agent');
  });

  test('whose agent refuses', async () => {
    podIdentity(token(Date.now() + HOUR_MS));
    answer = () => ({ status: 404, body: '{"Code":"ResourceNotFoundException","Message":"no association"}' });
    const { message } = await failure();
    expect(message).toContain('its agent on this node refused');
    expect(message).toContain('trusts pods.eks.amazonaws.com with sts:AssumeRole and sts:TagSession');
  });

  test('whose token has ended, by the clock of a node that is ahead', async () => {
    const untilMs = Date.parse('2026-01-02T03:04:05Z');
    const env = {
      AWS_CONTAINER_CREDENTIALS_FULL_URI: `http://127.0.0.1:${port}/`,
      AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: token(untilMs),
    };
    const words = identityWords(await lookAtIdentity(env, new Error('400'), untilMs + 1));
    expect(words).toContain("its token ended at 2026-01-02T03:04:05.000Z, and the node's clock says 2026");
    expect(words).toContain('kubelet renews it');
  });

  test('that works needs no words', async () => {
    podIdentity(token(Date.now() + HOUR_MS));
    const expiration = new Date(Date.now() + HOUR_MS).toISOString();
    const keys = { AccessKeyId: 'AKIDEXAMPLE', SecretAccessKey: 'secret', Token: 'session', Expiration: expiration };
    const asked: (string | undefined)[] = [];
    answer = ({ url, headers }) => {
      asked.push(url);
      if (url === '/v1/credentials') return { status: 200, body: JSON.stringify(keys) };
      expect(headers.authorization).toContain('Credential=AKIDEXAMPLE/');
      const type = 'application/xml';
      return { status: 403, body: '<Error><Code>AccessDenied</Code><Message>no</Message></Error>', type };
    };
    await using sink = openS3Sink(
      { url: 's3://evidence', endpoint: `http://127.0.0.1:${port}`, forcePathStyle: true },
      { maxAttempts: 1 },
    );
    await expect(sink.check(AbortSignal.timeout(15_000))).rejects.toThrow('it denies access');
    await expect(sink.check(AbortSignal.timeout(15_000))).rejects.toThrow('it denies access');
    // What the chain got is remembered: S3 is asked twice, the pod's own agent once.
    expect(asked.filter((url) => url === '/v1/credentials')).toHaveLength(1);
  });
});

describe('IRSA', () => {
  test('whose token STS repeats: it is in no word of the error, nor of its causes', async () => {
    irsa(token(Date.now() + HOUR_MS));
    answer = () => stsError('InvalidIdentityToken', `The token ${'c2ln'.repeat(60)} has no known issuer`, 400);
    const error = await failure();
    expect(explain(error)).toContain('has no known issuer');
    expect(explain(error)).not.toContain('c2lnc2ln');
  });

  test('whose token is a FIFO that nobody writes to, which is not waited for', async () => {
    const fifo = path.join(mkdtempSync(path.join(folder, 'fifo-')), 'token');
    execFileSync('mkfifo', [fifo]);
    const env = { AWS_WEB_IDENTITY_TOKEN_FILE: fifo, AWS_ROLE_ARN: 'arn:aws:iam::111122223333:role/exhibit-agent' };
    const words = identityWords(await lookAtIdentity(env, 'none', 0));
    expect(words).toContain(`its token ${fifo} cannot be read (ESPIPE)`);
  });

  test('without its token file', async () => {
    irsa(path.join(folder, 'missing'));
    expect((await failure()).message).toContain(`IRSA gave no credentials: its token ${folder}/missing is not there`);
  });

  test('whose role trusts another service account', async () => {
    irsa(token(Date.now() + HOUR_MS));
    answer = () => stsError('AccessDenied', 'Not authorized to perform sts:AssumeRoleWithWebIdentity');
    const { message } = await failure();
    expect(message).toContain(
      'arn:aws:iam::111122223333:role/exhibit-agent may not be assumed by this service account',
    );
    expect(message).toContain('system:serviceaccount:exhibit:exhibit-agent');
  });

  test('whose token STS finds too old', async () => {
    irsa(token(Date.now() + HOUR_MS));
    answer = () => stsError('ExpiredTokenException', 'Token expired: current date/time must be before', 400);
    expect((await failure()).message).toContain("and see the node's clock");
  });

  test('whose STS cannot be reached is not called an S3 that cannot', async () => {
    irsa(token(Date.now() + HOUR_MS));
    surround({ AWS_ENDPOINT_URL_STS: 'http://127.0.0.1:1' });
    const { message } = await failure();
    expect(message).toContain('STS did not give arn:aws:iam::111122223333:role/exhibit-agent');
    expect(message).toContain('a VPC endpoint');
    expect(message).not.toContain('nothing listens at Amazon S3');
  });

  test('without the annotation’s other half', async () => {
    irsa(token(Date.now() + HOUR_MS), '');
    expect((await failure()).message).toContain('AWS_ROLE_ARN is not set beside AWS_WEB_IDENTITY_TOKEN_FILE');
  });
});

describe('a token file that is none', () => {
  test.each([
    ['empty', ''],
    ['no JWT', 'hello'],
    ['claims that are no JSON', 'a.!!!.b'],
    ['claims that are a list', `a.${Buffer.from('[1]').toString('base64url')}.b`],
    ['an end beyond all time', `a.${Buffer.from('{"exp":1e300}').toString('base64url')}.b`],
    ['a megabyte', 'A.'.repeat(500_000)],
  ])('is read without harm: %s', async (_what, text) => {
    const file = path.join(folder, 'strange');
    writeFileSync(file, text);
    const env = { AWS_WEB_IDENTITY_TOKEN_FILE: file, AWS_ROLE_ARN: 'arn:aws:iam::1:role/x' };
    const facts = await lookAtIdentity(env, new Error('x'.repeat(100_000)), 0);
    expect(facts.tokenUntilMs).toBeUndefined();
    expect(identityWords(facts).length).toBeLessThan(1_000);
  });
});
