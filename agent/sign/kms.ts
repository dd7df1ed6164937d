import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import { parseTrustedKey, type Signer } from '../../evidence/seal.ts';
import { algorithmOf, keyIdOf, kindOf } from '../../evidence/signing-key.ts';
import { explainIdentity } from '../aws-identity.ts';

/**
 * A key in AWS KMS that never leaves it: KeySpec ECC_NIST_P256, asked to sign a digest (`kms:Sign`), so that a statement of any
 * length goes. KMS signs with Ed25519 only messages of at most 4096 bytes (MessageType RAW), or in Ed25519's other, pre-hashed
 * form, which is not what `ed25519` means in a seal; the statement of a common bundle is longer than 4096 bytes.
 */
export interface KmsKey {
  /** ARN of a key or an alias, a key's id, or `alias/name`. */
  readonly kms: string;
  /** Taken from an ARN, or from the SDK's chain, when absent. */
  readonly region?: string | undefined;
  /** For servers other than AWS. */
  readonly endpoint?: string | undefined;
  /** The public key in PEM: with it nothing is asked at the start, and `kms:GetPublicKey` is not needed. */
  readonly publicKeyFile?: string | undefined;
}

/** KMS answers in some 20 ms; the sealer gives all keys together 5 s. */
const CONNECT_TIMEOUT_MS = 1000;
const REQUEST_TIMEOUT_MS = 2000;
const ATTEMPTS = 3;

export interface KmsSigner extends Signer, Disposable {}

/** Throws ExhibitError `config` when the public key cannot be had or is of another kind. */
export async function openKmsSigner(key: KmsKey, signal?: AbortSignal): Promise<KmsSigner> {
  const opened = await openKms(key);
  try {
    return { ...(await opened.signer(signal)), [Symbol.dispose]: () => opened[Symbol.dispose]() };
  } catch (error) {
    opened[Symbol.dispose]();
    throw isExhibitError(error, 'config') ? error : new ExhibitError('config', explain(error), { cause: error });
  }
}

export interface Kms extends Disposable {
  /**
   * Throws ExhibitError: `config` for what only a person can mend (no such key, no right, another kind), `capture-failed` for a KMS
   * that is away or in trouble now.
   */
  signer(signal?: AbortSignal): Promise<Signer>;
}

/** What KMS says of a key that no later question makes better (AWS' API reference of GetPublicKey). */
const FAULTS_OF_CONFIGURATION = [
  'AccessDeniedException',
  'InvalidArnException',
  'NotFoundException',
  'UnsupportedOperationException',
  'ValidationException',
];

/** Asks nothing yet. Throws ExhibitError `config` where no region is known. */
export async function openKms(key: KmsKey): Promise<Kms> {
  const { GetPublicKeyCommand, KMSClient, SignCommand } = await import('@aws-sdk/client-kms');
  const region = key.region ?? regionOf(key.kms);
  const client = new KMSClient({
    ...(region === undefined ? {} : { region }),
    ...(key.endpoint === undefined ? {} : { endpoint: key.endpoint }),
    maxAttempts: ATTEMPTS,
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      throwOnRequestTimeout: true,
    },
  });
  explainIdentity(client);
  const options = (given: AbortSignal | undefined) => (given === undefined ? {} : { abortSignal: given });
  await client.config.region().catch((cause: unknown) => {
    client.destroy();
    throw new ExhibitError('config', `no region is known for the KMS key ${key.kms}; set region`, { cause });
  });
  return { signer, [Symbol.dispose]: () => client.destroy() };

  async function signer(given?: AbortSignal): Promise<Signer> {
    const publicKey = await publicKeyOf(key, async () => {
      const { PublicKey } = await client.send(new GetPublicKeyCommand({ KeyId: key.kms }), options(given));
      return PublicKey;
    });
    return { keyId: keyIdOf(publicKey), publicKey, sign };
  }

  async function sign(message: Uint8Array, until?: AbortSignal): Promise<Uint8Array> {
    const command = new SignCommand({
      KeyId: key.kms,
      Message: createHash('sha256').update(message).digest(),
      MessageType: 'DIGEST',
      SigningAlgorithm: 'ECDSA_SHA_256',
    });
    try {
      const { Signature } = await client.send(command, options(until));
      if (Signature !== undefined) return Signature;
    } catch (cause) {
      throw new ExhibitError('capture-failed', `KMS did not sign with ${key.kms}: ${said(cause)}`);
    }
    throw new ExhibitError('capture-failed', `KMS answered without a signature by ${key.kms}`);
  }
}

async function publicKeyOf(key: KmsKey, ask: () => Promise<Uint8Array | undefined>): Promise<KeyObject> {
  const publicKey = key.publicKeyFile === undefined ? await askedKey(key, ask) : await readKey(key.publicKeyFile);
  if (algorithmOf(publicKey) === 'ecdsa-p256-sha256') return publicKey;
  throw new ExhibitError(
    'config',
    `the KMS key ${key.kms} is ${kindOf(publicKey)}; make one with KeySpec ECC_NIST_P256 and KeyUsage SIGN_VERIFY`,
  );
}

async function askedKey({ kms }: KmsKey, ask: () => Promise<Uint8Array | undefined>): Promise<KeyObject> {
  try {
    return createPublicKey({ key: Buffer.from((await ask()) ?? []), format: 'der', type: 'spki' });
  } catch (cause) {
    const fault = cause instanceof Error && FAULTS_OF_CONFIGURATION.includes(cause.name);
    throw new ExhibitError(
      fault ? 'config' : 'capture-failed',
      `the public key of KMS key ${kms} cannot be had: ${said(cause)}; allow kms:GetPublicKey, or name a file with it in publicKeyFile`,
    );
  }
}

async function readKey(file: string): Promise<KeyObject> {
  try {
    return parseTrustedKey(await readFile(file), file);
  } catch (cause) {
    throw new ExhibitError('config', `publicKeyFile ${file} cannot be used`, { cause });
  }
}

/** The SDK's errors say what went wrong in their names, and sometimes nothing in their messages. */
function said(error: unknown): string {
  const words = explain(error);
  return error instanceof Error && !words.includes(error.name) ? `${error.name}: ${words}` : words;
}

/** `arn:aws:kms:eu-central-1:111122223333:key/...` */
function regionOf(kms: string): string | undefined {
  return /^arn:[^:]+:kms:([^:]+):/.exec(kms)?.[1];
}
