import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { CreateKeyCommand, GetPublicKeyCommand, KMSClient } from '@aws-sdk/client-kms';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { VerifyReport } from '../../evidence/verify.ts';
import type { ChainReport } from '../../evidence/verify-chain.ts';
import { type CliResult, runCli, startAgent } from '../lab/agent.ts';
import { s3Obstacle } from '../lab/requires.ts';
import { type LabS3, startMoto } from '../lab/s3.ts';
import { type Authority, makeAuthority, serveTsa, type TsaServer } from '../lab/tsa.ts';
import { hasProgram, program } from './readers.ts';

/**
 * A real agent that seals by two keys in files and one in a KMS, and asks an authority for the time: one capture with all of them
 * there, one with KMS and authority gone. The judges are openssl, by the steps of docs/format.md, and `exhibit verify`.
 */

const obstacle = (): string | undefined => {
  if (process.getuid?.() !== 0) return 'needs root: the agent reads other processes';
  const missing = ['openssl', 'jq'].find((name) => !hasProgram(name));
  return missing === undefined ? s3Obstacle() : `needs ${missing}`;
};

let folder: string;
let moto: LabS3;
let authority: Authority;
let tsa: TsaServer;
let victim: ChildProcess;
/** With everything there, and with neither KMS nor authority. */
let captured: CliResult[];
let bundles: string[];

const file = (name: string) => path.join(folder, name);
const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder });
const NAMES = ['first', 'second', 'in the KMS'];

async function makeKeys(): Promise<string> {
  openssl('genpkey', '-algorithm', 'ed25519', '-out', 'first.pem');
  openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', 'second.pem');
  for (const name of ['first', 'second']) openssl('pkey', '-in', `${name}.pem`, '-pubout', '-out', `${name}.pub.pem`);
  const { endpoint, region, accessKeyId, secretAccessKey } = moto;
  const client = new KMSClient({ endpoint, region, credentials: { accessKeyId, secretAccessKey } });
  const made = await client.send(new CreateKeyCommand({ KeySpec: 'ECC_NIST_P256', KeyUsage: 'SIGN_VERIFY' }));
  const arn = made.KeyMetadata?.Arn ?? '';
  const { PublicKey = new Uint8Array() } = await client.send(new GetPublicKeyCommand({ KeyId: arn }));
  client.destroy();
  writeFileSync(file('kms.der'), PublicKey);
  openssl('pkey', '-pubin', '-inform', 'DER', '-in', 'kms.der', '-out', 'kms.pub.pem');
  return arn;
}

const trustRoot = (requiredSignatures: number): string => {
  const keys = ['first', 'second', 'kms'].map((name, index) => ({
    name: NAMES[index],
    publicKey: readFileSync(file(`${name}.pub.pem`), 'utf8'),
  }));
  const root = { keys, timestampAuthorities: [{ name: 'the lab', certificate: authority.ca }], requiredSignatures };
  writeFileSync(file(`trust-${requiredSignatures}.json`), JSON.stringify(root));
  return file(`trust-${requiredSignatures}.json`);
};

beforeAll(async () => {
  if (obstacle() !== undefined) return;
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-e2e-signed-'));
  [moto, authority] = await Promise.all([startMoto(), makeAuthority()]);
  tsa = await serveTsa(async (request, response) => void response.end(await authority.answer(request)));
  const kms = { kms: await makeKeys(), endpoint: moto.endpoint, publicKeyFile: file('kms.pub.pem') };
  victim = spawn('sleep', ['600'], { stdio: 'ignore' });
  await once(victim, 'spawn');
  await using agent = await startAgent(undefined, {
    config: {
      sink: { url: `file://${folder}/evidence` },
      signing: {
        keys: [{ file: file('first.pem') }, { file: file('second.pem') }, kms],
        // Nobody listens at the first.
        timestamp: { url: ['http://127.0.0.1:1/', tsa.url] },
      },
    },
    env: { AWS_ACCESS_KEY_ID: moto.accessKeyId, AWS_SECRET_ACCESS_KEY: moto.secretAccessKey },
  });
  const capture = () => agent.exhibit('capture', `pid:${victim.pid}`, '--case', 'IR-7', '--artifacts', 'processes');
  captured = [await capture()];
  await moto.kill();
  await tsa[Symbol.asyncDispose]();
  captured.push(await capture());
  const base = file('evidence/lab/this-machine');
  bundles = readdirSync(base)
    .sort()
    .map((id) => path.join(base, id));
}, 120_000);

afterAll(async () => {
  if (obstacle() !== undefined) return;
  victim?.kill('SIGKILL');
  await moto?.[Symbol.asyncDispose]();
  await authority?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

beforeEach((context) => {
  const reason = obstacle();
  if (reason !== undefined) context.skip(reason);
});

async function verify(bundle: string | undefined, ...more: string[]) {
  const { code, stdout } = await runCli(['verify', bundle ?? 'none', '--json', ...more]);
  const report: VerifyReport & { chain?: ChainReport } = JSON.parse(stdout);
  return { code, report, found: report.findings?.map(({ severity, code }) => `${severity} ${code}`) };
}

describe('a capture that three keys sign and an authority stamps', () => {
  test('is believed by a trust root that wants all three, and nothing is left to warn of', async () => {
    expect(captured[0]?.code, captured[0]?.stderr).toBe(0);
    const { code, report, found } = await verify(bundles[0], '--trust', trustRoot(3));
    expect([code, found]).toEqual([0, []]);
    expect(report.signers.map(({ name, algorithm, trusted }) => [name, algorithm, trusted])).toEqual([
      [NAMES[0], 'ed25519', true],
      [NAMES[1], 'ecdsa-p256-sha256', true],
      [NAMES[2], 'ecdsa-p256-sha256', true],
    ]);
    expect(report.timestamp).toMatchObject({ authority: 'the lab', trusted: true });
    expect(report.custody).toMatchObject({ whole: true });
  });

  test('is checked by openssl alone, by the steps of docs/format.md, and a changed byte is seen', () => {
    const text = readFileSync(new URL('../../docs/format.md', import.meta.url), 'utf8');
    for (const heading of ['The seal', 'The timestamp', 'The custody log']) {
      const script = new RegExp(`^## ${heading}\n.*?^\`\`\`sh\n(.*?)^\`\`\`$`, 'ms').exec(text)?.[1] ?? 'false';
      const steps = (cwd = '') =>
        program('env', [`TSA_ROOT=${authority.caFile}`, `TMPDIR=${folder}`, 'bash', '-euo', 'pipefail', '-c', script], {
          cwd,
        });
      const good = steps(bundles[0]);
      expect(good.code, heading + good.stderr).toBe(0);
      const copy = mkdtempSync(file('changed-'));
      for (const name of readdirSync(bundles[0] ?? '')) {
        const bytes = readFileSync(path.join(bundles[0] ?? '', name));
        const at = bytes.length >> 1;
        bytes[at] = (bytes[at] ?? 0) ^ 1;
        writeFileSync(path.join(copy, name), bytes);
      }
      expect(steps(copy).code, heading).not.toBe(0);
    }
  });
});

describe('a capture that is sealed while KMS and authority are away', () => {
  test('is sealed by the keys that are there, and says which is missing and that nobody stamped it', async () => {
    expect(captured[1]?.code, captured[1]?.stderr).toBe(0);
    const { code, report, found } = await verify(bundles[1], '--trust', trustRoot(2));
    expect([code, found]).toEqual([0, ['warning timestamp-unavailable', 'warning signer-missing']]);
    expect(report.signers.map(({ name, trusted }) => [name, trusted])).toEqual([
      [NAMES[0], true],
      [NAMES[1], true],
    ]);
    expect(report.timestamp).toBeUndefined();
  });

  test('is not enough for a trust root that wants all three', async () => {
    const { code, found } = await verify(bundles[1], '--trust', trustRoot(3));
    expect([code, found?.[0]]).toEqual([1, 'error signatures-too-few']);
  });
});

describe('the chain of both', () => {
  test('is whole, and has a hole when the first is taken away', async () => {
    const base = path.dirname(bundles[0] ?? '');
    const whole = await verify(base, '--chain', '--trust', trustRoot(2));
    expect([whole.code, whole.report.chain?.whole, whole.report.chain?.captures]).toEqual([0, true, 2]);
    rmSync(bundles[0] ?? '', { recursive: true });
    const cut = await verify(base, '--chain', '--trust', trustRoot(2));
    expect([cut.code, cut.report.chain?.findings[0]?.code]).toEqual([1, 'chain-hole']);
  });
});
