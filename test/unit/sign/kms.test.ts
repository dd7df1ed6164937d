import { createPublicKey, generateKeyPairSync, sign as signBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CreateAliasCommand, CreateKeyCommand, KMSClient } from '@aws-sdk/client-kms';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openKmsSigner } from '../../../agent/sign/kms.ts';
import { openSealer } from '../../../agent/sign/open.ts';
import { checkSeal, generateSigner } from '../../../evidence/seal.ts';
import { verifyMessage } from '../../../evidence/signing-key.ts';
import { verifyBundle } from '../../../evidence/verify.ts';
import { s3Obstacle } from '../../lab/requires.ts';
import { type LabS3, startMoto } from '../../lab/s3.ts';
import { hasProgram, run } from '../evidence/programs.ts';
import { readerOf, requestRecord, sampleBundle } from '../evidence/sample-bundle.ts';
import { resealedBy } from '../evidence/sealing.ts';

/** Of no value; a KMS of tests takes any. */
function useCredentials(): void {
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'EXHIBITLABKEY0000000');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'lab-secret-key-of-no-value');
}

let folder: string;
beforeAll(async () => {
  useCredentials();
  folder = await mkdtemp(join(tmpdir(), 'exhibit-kms-'));
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

const obstacle = s3Obstacle() ?? (hasProgram('openssl') ? undefined : 'needs openssl');

describe.skipIf(obstacle !== undefined)(`a key in a KMS (moto) ${obstacle ?? ''}`, () => {
  let moto: LabS3;
  let client: KMSClient;
  let arn: string;
  const newKey = async (KeySpec: 'ECC_NIST_P256' | 'ECC_NIST_P384') => {
    const { KeyMetadata } = await client.send(new CreateKeyCommand({ KeySpec, KeyUsage: 'SIGN_VERIFY' }));
    return KeyMetadata?.Arn ?? '';
  };
  beforeAll(async () => {
    moto = await startMoto();
    client = new KMSClient({ endpoint: moto.endpoint, region: moto.region });
    arn = await newKey('ECC_NIST_P256');
  }, 120_000);
  afterAll(async () => {
    client.destroy();
    await moto[Symbol.asyncDispose]();
  });

  it('signs a message longer than KMS takes, so that openssl verifies it', async () => {
    using signer = await openKmsSigner({ kms: arn, endpoint: moto.endpoint });
    const files = ['message', 'signature', 'key.pem'].map((name) => join(folder, name));
    const [message = '', signature = '', key = ''] = files;
    const bytes = Buffer.alloc(100_000, 'evidence ');
    await writeFile(message, bytes);
    await writeFile(signature, await signer.sign(bytes));
    await writeFile(key, signer.publicKey.export({ type: 'spki', format: 'pem' }));
    const argv = ['openssl', 'dgst', '-sha256', '-verify', key, '-signature', signature, message];
    expect(run(argv)).toMatchObject({ status: 0 });
    await writeFile(message, bytes.fill('x', 0, 1));
    expect(run(argv).status).toBe(1);
  });

  it('seals a bundle by its alias, together with a key in a file', async () => {
    await client.send(new CreateAliasCommand({ AliasName: 'alias/seal', TargetKeyId: arn }));
    const file = join(folder, 'seal.pem');
    run(['openssl', 'genpkey', '-algorithm', 'ed25519', '-out', file]);
    const { endpoint, region } = moto;
    using sealer = await openSealer({ keys: [{ kms: 'alias/seal', endpoint, region }, { file }] });
    using signer = await openKmsSigner({ kms: arn, endpoint });
    expect(sealer.keyId).toBe(signer.keyId);
    const objects = await resealedBy(await sampleBundle(), sealer);
    const report = await verifyBundle(readerOf(objects), { trustedKeys: [signer.publicKey] });
    expect(report).toMatchObject({ intact: true, findings: [] });
    expect(report.signers.map(({ algorithm }) => algorithm)).toEqual(['ecdsa-p256-sha256', 'ed25519']);
  });

  it('is refused when it is of another kind, with what to make instead', async () => {
    const kms = await newKey('ECC_NIST_P384');
    await expect(openKmsSigner({ kms, endpoint: moto.endpoint })).rejects.toThrow(
      /ec on secp384r1; make one with KeySpec/,
    );
  });

  it('is refused when it is not there, in the words of the KMS', async () => {
    const kms = arn.replace(/.{12}$/, '000000000000');
    await expect(openKmsSigner({ kms, endpoint: moto.endpoint })).rejects.toThrow(
      /NotFoundException.*kms:GetPublicKey/s,
    );
  });

  it('is named as missing in a seal that is made while the KMS is away', async () => {
    const file = join(folder, 'second.pem');
    run(['openssl', 'genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', file]);
    using sealer = await openSealer({ keys: [{ kms: arn, endpoint: moto.endpoint }, { file }] });
    await moto.kill();
    const facts = { captureId: 'c', agent: requestRecord(sealer.keyId).agent, subjects: [] };
    const { envelope } = await sealer.seal(facts, new AbortController().signal);
    const { statement, signers } = checkSeal(envelope);
    expect(signers).toHaveLength(1);
    expect(statement.predicate.missing).toMatchObject([{ keyId: sealer.keyId }]);
    expect(statement.predicate.missing?.[0]?.why).toContain('ECONNREFUSED');
  });
});

describe('a KMS that fails', () => {
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  type Answer = (response: ServerResponse, target: string, body: { Message?: string }) => void;

  async function fakeKms(answer: Answer) {
    const server = createServer(async (message, response) => {
      const body = JSON.parse(Buffer.concat(await message.toArray()).toString()) as { Message?: string };
      answer(response, String(message.headers['x-amz-target']), body);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : undefined;
    return {
      key: { kms: 'alias/x', region: 'us-east-1', endpoint: `http://127.0.0.1:${port}` },
      async [Symbol.asyncDispose]() {
        server.closeAllConnections();
        server.close();
        await once(server, 'close');
      },
    };
  }
  const publicKeyFile = async () => {
    const file = join(folder, 'public.pem');
    await writeFile(file, pair.publicKey.export({ type: 'spki', format: 'pem' }));
    return file;
  };
  const refuse = (response: ServerResponse, name: string) =>
    void response
      .writeHead(400, { 'content-type': 'application/x-amz-json-1.1' })
      .end(JSON.stringify({ __type: name }));

  it('is not asked for the public key when a file has it', async () => {
    const targets: string[] = [];
    await using kms = await fakeKms((response, target, { Message = '' }) => {
      targets.push(target);
      // What KMS does with a digest, seen from outside: an ECDSA signature over these 32 bytes.
      expect(Buffer.from(Message, 'base64')).toHaveLength(32);
      response.end(
        JSON.stringify({ Signature: signBytes('sha256', Buffer.from('another'), pair.privateKey).toString('base64') }),
      );
    });
    using signer = await openKmsSigner({ ...kms.key, publicKeyFile: await publicKeyFile() });
    expect(targets).toEqual([]);
    const signature = await signer.sign(Buffer.from('message'));
    expect(targets).toEqual(['TrentService.Sign']);
    expect(verifyMessage(signer.publicKey, Buffer.from('another'), signature)).toBe(true);
  });

  it('is told by the name of its refusal', async () => {
    await using kms = await fakeKms((response) => refuse(response, 'AccessDeniedException'));
    using signer = await openKmsSigner({ ...kms.key, publicKeyFile: await publicKeyFile() });
    await expect(signer.sign(Buffer.from('x'))).rejects.toThrow(/KMS did not sign with alias\/x: .*AccessDenied/);
    await expect(openKmsSigner(kms.key)).rejects.toThrow(
      /public key of KMS key alias\/x cannot be had: .*AccessDenied/,
    );
  });

  it('is not waited for when the seal is given no more time', async () => {
    const asked = Promise.withResolvers<void>();
    await using kms = await fakeKms(() => asked.resolve());
    using signer = await openKmsSigner({ ...kms.key, publicKeyFile: await publicKeyFile() });
    const over = new AbortController();
    const signing = signer.sign(Buffer.from('x'), over.signal);
    await asked.promise;
    over.abort();
    await expect(signing).rejects.toThrow(/KMS did not sign/);
  });

  describe('when the agent starts', () => {
    const facts = { captureId: 'c', agent: requestRecord('0'.repeat(64)).agent, subjects: [] };
    const idle = new AbortController().signal;
    const publicKey = pair.publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
    /** Takes a digest for what it is, so that the signature is over the message. */
    const signDigest = (digest: Buffer) =>
      run(['openssl', 'pkeyutl', '-sign', '-inkey', join(folder, 'kms.pem'), '-pkeyopt', 'digest:sha256'], digest)
        .stdout;

    /** Away until `back`, as a KMS behind a load balancer is. */
    async function kmsThatComesBack() {
      await writeFile(join(folder, 'kms.pem'), pair.privateKey.export({ type: 'pkcs8', format: 'pem' }));
      const state = { back: false, asked: 0 };
      const kms = await fakeKms((response, target, { Message = '' }) => {
        state.asked += 1;
        if (!state.back) response.writeHead(503).end();
        else if (target.endsWith('GetPublicKey')) response.end(JSON.stringify({ PublicKey: publicKey }));
        else response.end(JSON.stringify({ Signature: signDigest(Buffer.from(Message, 'base64')).toString('base64') }));
      });
      return Object.assign(kms, { state });
    }
    const logger = () => {
      const lines: Record<string, unknown>[] = [];
      return { lines, log: pino({}, { write: (text: string) => void lines.push(JSON.parse(text)) }) };
    };

    it('is named by its alias in what the key of the start seals, asked again for each seal, and signs when it is back', async () => {
      await using kms = await kmsThatComesBack();
      const { lines, log } = logger();
      using sealer = await openSealer({ keys: [kms.key] }, log);
      const fallback = sealer.keyId;
      const askedAtStart = kms.state.asked;
      const first = checkSeal((await sealer.seal(facts, idle)).envelope);
      expect(first.signers.map(({ keyId }) => keyId)).toEqual([fallback]);
      expect(first.statement.predicate.missing).toMatchObject([
        { name: 'alias/x', why: expect.stringContaining('alias/x cannot be had') },
      ]);
      expect(kms.state.asked).toBeGreaterThan(askedAtStart);
      kms.state.back = true;
      const second = checkSeal((await sealer.seal(facts, idle)).envelope);
      expect(second.statement.predicate.missing).toBeUndefined();
      expect(second.signers).toMatchObject([{ keyId: sealer.keyId, algorithm: 'ecdsa-p256-sha256' }]);
      expect(sealer.keyId).not.toBe(fallback);
      await sealer.seal(facts, idle);
      expect(lines.map(({ level, key, msg }) => [level, key, msg])).toEqual([
        [40, 'alias/x', expect.stringContaining('signing key is away')],
        [30, 'alias/x', 'signing key is there now'],
      ]);
    });

    it('leaves a bundle that verifies, sealed by the other keys, with a warning that names it', async () => {
      await using kms = await kmsThatComesBack();
      const file = join(folder, 'other.pem');
      await writeFile(file, generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }));
      using sealer = await openSealer({ keys: [kms.key, { file }] });
      const objects = await resealedBy(await sampleBundle(), sealer);
      const trustedKeys = [createPublicKey(await readFile(file))];
      const report = await verifyBundle(readerOf(objects), { trustedKeys });
      expect(report.intact).toBe(true);
      expect(report.signers).toMatchObject([{ keyId: sealer.keyId, trusted: true }]);
      expect(report.findings.map(({ code, severity }) => [code, severity])).toEqual([['signer-missing', 'warning']]);
      expect(report.findings[0]?.message).toContain('the key that the agent calls alias/x was to sign as well');
    });

    it('does not come between a manifest and its seal when it is back in the middle', async () => {
      await using kms = await kmsThatComesBack();
      using sealer = await openSealer({ keys: [kms.key] });
      const forOne = await sealer.forOneSeal?.(idle);
      if (forOne === undefined) throw new Error('it has keys to ask for');
      kms.state.back = true;
      await sealer.seal(facts, idle);
      expect(sealer.keyId).not.toBe(forOne.keyId);
      const report = await verifyBundle(readerOf(await resealedBy(await sampleBundle(), forOne)), {});
      expect(report.intact).toBe(true);
      expect(report.signers).toMatchObject([{ keyId: forOne.keyId }]);
    });

    it('signs once where another key turns out to be the same', async () => {
      await using kms = await kmsThatComesBack();
      using sealer = await openSealer({ keys: [kms.key, { ...kms.key, kms: 'alias/twin' }] });
      kms.state.back = true;
      const { signers, statement } = checkSeal((await sealer.seal(facts, idle)).envelope);
      expect(signers).toHaveLength(1);
      expect(statement.predicate.missing).toEqual([
        { name: 'alias/twin', why: `it is key ${sealer.keyId}, which is there already` },
      ]);
    });

    it('is a fault of the configuration when it answers that there is no such key, or that nobody may ask', async () => {
      for (const fault of ['NotFoundException', 'AccessDeniedException']) {
        await using kms = await fakeKms((response) => refuse(response, fault));
        await expect(openSealer({ keys: [kms.key] })).rejects.toMatchObject({ code: 'config' });
      }
    });
  });

  it('does not start with a public key that is none of ours', async () => {
    const file = join(folder, 'ed25519.pem');
    await writeFile(file, generateSigner().publicKey.export({ type: 'spki', format: 'pem' }));
    const key = { kms: 'alias/x', region: 'us-east-1' };
    await expect(openKmsSigner({ ...key, publicKeyFile: file })).rejects.toThrow(/alias\/x is ed25519; make one with/);
    await expect(openKmsSigner({ ...key, publicKeyFile: join(folder, 'absent') })).rejects.toThrow(
      /absent cannot be used/,
    );
  });
});
