import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign as signBytes,
  verify as verifyBytes,
} from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { ExhibitError } from './error.ts';
import { canonicalJson, isCanonical, parseJson, whyNotCanonical } from './json.ts';
import { list } from './list-schema.ts';
import { agentSchema } from './manifest.ts';

/**
 * The seal: an in-toto Statement v1 whose subjects are all other objects of the bundle, in a DSSE v1 envelope, signed with
 * Ed25519. Every public key that signed is inside, so that the seal can always be checked against itself; whether a key is
 * to be believed is the reader's to say.
 *
 * in-toto: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
 * DSSE: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
 */
export const STATEMENT_TYPE = 'https://in-toto.io/Statement/v1';
export const PREDICATE_TYPE = 'https://exhibit.dev/attestation/capture/v1';
export const PAYLOAD_TYPE = 'application/vnd.in-toto+json';

/** 4 KiB a subject, and no bundle has so many objects. */
export const MAX_SEAL_BYTES = 16 * 1024 * 1024;

/** A key that can sign: here in memory, elsewhere a service that never shows it. */
export interface Signer {
  /** SHA-256 of the public key's SubjectPublicKeyInfo in DER, lower-case hex. */
  readonly keyId: string;
  readonly publicKey: KeyObject;
  sign(message: Uint8Array): Promise<Uint8Array>;
}

/** One file of the bundle and the SHA-256 of its stored bytes, lower-case hex. */
export interface Subject {
  readonly name: string;
  readonly sha256: string;
}

export interface SealFacts {
  readonly captureId: string;
  readonly agent: z.infer<typeof agentSchema>;
  /** Every object of the bundle, `request.json` and `manifest.json` among them. */
  readonly subjects: readonly Subject[];
}

/** A key that lives as long as the process: it makes a bundle checkable against itself, not against the world. */
export function generateSigner(): Signer {
  return signerOf(generateKeyPairSync('ed25519').privateKey);
}

/** Reads an Ed25519 private key in PEM (PKCS #8). Throws ExhibitError `config`. */
export async function loadSigner(path: string): Promise<Signer> {
  const advice = `make one with: openssl genpkey -algorithm ed25519 -out ${path}`;
  let key: KeyObject;
  try {
    key = createPrivateKey(await readFile(path));
  } catch (cause) {
    throw new ExhibitError('config', `the signing key ${path} cannot be read; ${advice}`, { cause });
  }
  if (key.asymmetricKeyType === 'ed25519') return signerOf(key);
  throw new ExhibitError('config', `the signing key ${path} is ${key.asymmetricKeyType}, not Ed25519; ${advice}`);
}

function signerOf(key: KeyObject): Signer {
  const publicKey = createPublicKey(key);
  return { keyId: keyIdOf(publicKey), publicKey, sign: async (message) => signBytes(null, message, key) };
}

/** Reads a public key in PEM, as `openssl pkey -pubout` writes it. Throws ExhibitError `usage`. `from` names it in errors. */
export function parseTrustedKey(pem: string | Uint8Array, from: string): KeyObject {
  try {
    const key = createPublicKey(Buffer.from(pem));
    if (key.asymmetricKeyType === 'ed25519') return key;
  } catch (cause) {
    throw new ExhibitError('usage', `${from} is not a public key in PEM`, { cause });
  }
  throw new ExhibitError('usage', `${from} is not an Ed25519 key, and no other kind seals a bundle`);
}

function spki(key: KeyObject): Buffer {
  return key.export({ type: 'spki', format: 'der' });
}

export function keyIdOf(publicKey: KeyObject): string {
  return createHash('sha256').update(spki(publicKey)).digest('hex');
}

/** DSSE's pre-authentication encoding: the bytes that are signed. */
export function preAuthEncoding(payloadType: string, payload: Uint8Array): Buffer {
  const type = Buffer.from(payloadType);
  return Buffer.concat([
    Buffer.from(`DSSEv1 ${type.length} `),
    type,
    Buffer.from(` ${payload.length} `),
    Buffer.from(payload),
  ]);
}

/** The bytes of `manifest.dsse.json`. */
export async function sealBundle(facts: SealFacts, signer: Signer): Promise<Uint8Array> {
  const subjects = [...facts.subjects].sort((a, b) => (a.name < b.name ? -1 : 1));
  const statement: Statement = {
    _type: STATEMENT_TYPE,
    subject: subjects.map(({ name, sha256 }) => ({ name, digest: { sha256 } })),
    predicateType: PREDICATE_TYPE,
    predicate: {
      captureId: facts.captureId,
      formatVersion: 1,
      agent: facts.agent,
      keys: [{ keyId: signer.keyId, algorithm: 'ed25519', publicKey: spki(signer.publicKey).toString('base64') }],
    },
  };
  const payload = canonicalJson(statement);
  const signature = await signer.sign(preAuthEncoding(PAYLOAD_TYPE, payload));
  return canonicalJson({
    payload: Buffer.from(payload).toString('base64'),
    payloadType: PAYLOAD_TYPE,
    signatures: [{ keyid: signer.keyId, sig: Buffer.from(signature).toString('base64') }],
  } satisfies Envelope);
}

/** What a bundle's end is made of. `timestamp` where one was asked for and had. */
export interface Seal {
  /** The bytes of `manifest.dsse.json`. */
  readonly envelope: Uint8Array;
  /** The bytes of `manifest.dsse.json.tsr`. */
  readonly timestamp?: Uint8Array;
  /** What did not go as configured: a key that could not sign, an authority that did not answer. */
  readonly notes: readonly string[];
}

/** Everything that vouches for a bundle: the keys, and the authority that says when. */
export interface Sealer {
  /** The first key that is asked to sign; named in `request.json` before anything is signed. */
  readonly keyId: string;
  seal(facts: SealFacts, signal: AbortSignal): Promise<Seal>;
}

export function createSealer(signer: Signer): Sealer {
  return {
    keyId: signer.keyId,
    seal: async (facts) => ({ envelope: await sealBundle(facts, signer), notes: [] }),
  };
}

/** Base64 with one spelling: padded, the unused bits zero. */
const base64 = z.string().refine((text) => Buffer.from(text, 'base64').toString('base64') === text, 'not plain base64');
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const envelopeSchema = z.strictObject({
  payload: base64,
  payloadType: z.literal(PAYLOAD_TYPE),
  signatures: z
    .array(z.strictObject({ keyid: sha256, sig: base64 }))
    .min(1)
    .max(16),
});
type Envelope = z.infer<typeof envelopeSchema>;

const statementSchema = z.strictObject({
  _type: z.literal(STATEMENT_TYPE),
  subject: list(z.strictObject({ name: z.string(), digest: z.strictObject({ sha256 }) })),
  predicateType: z.literal(PREDICATE_TYPE),
  predicate: z.strictObject({
    captureId: z.string(),
    formatVersion: z.literal(1),
    agent: agentSchema,
    /** In the order of the envelope's signatures. */
    keys: z.array(z.strictObject({ keyId: sha256, algorithm: z.literal('ed25519'), publicKey: base64 })),
  }),
});
export type Statement = z.infer<typeof statementSchema>;

export interface CheckedSeal {
  readonly statement: Statement;
  /** Each of them signed these very bytes. */
  readonly signers: readonly { readonly keyId: string; readonly publicKey: KeyObject }[];
}

/** Checks a seal against itself. Throws ExhibitError `bundle-corrupt` with the first thing that is wrong. */
export function checkSeal(bytes: Uint8Array): CheckedSeal {
  const envelope = parseAs(envelopeSchema, bytes, 'the seal');
  const payload = Buffer.from(envelope.payload, 'base64');
  const statement = parseAs(statementSchema, payload, "the seal's statement");
  const { keys } = statement.predicate;
  if (keys.length !== envelope.signatures.length) throw corrupt('the seal has not one key for each signature');
  const message = preAuthEncoding(PAYLOAD_TYPE, payload);
  const signers = envelope.signatures.map((signature, index) => {
    const key = keys[index];
    if (key === undefined || key.keyId !== signature.keyid) throw corrupt(`signature ${index} names another key`);
    const publicKey = embeddedKey(key.publicKey);
    if (keyIdOf(publicKey) !== key.keyId) throw corrupt(`the key of signature ${index} has not the id it claims`);
    if (!verifyBytes(null, message, publicKey, Buffer.from(signature.sig, 'base64'))) {
      throw corrupt(`the signature by key ${key.keyId} is wrong`);
    }
    return { keyId: key.keyId, publicKey };
  });
  return { statement, signers };
}

function embeddedKey(base64Der: string): KeyObject {
  const der = Buffer.from(base64Der, 'base64');
  try {
    const key = createPublicKey({ key: der, format: 'der', type: 'spki' });
    if (key.asymmetricKeyType === 'ed25519' && spki(key).equals(der)) return key;
  } catch (cause) {
    throw corrupt('a public key in the seal cannot be read', cause);
  }
  throw corrupt('a public key in the seal is not plain Ed25519');
}

function parseAs<T>(schema: z.ZodType<T>, bytes: Uint8Array, what: string): T {
  const value = schema.safeParse(parseJson(bytes, MAX_SEAL_BYTES, what));
  if (!value.success) throw corrupt(`${what} has not the expected shape`, value.error);
  if (!isCanonical(bytes)) throw corrupt(`${what} ${whyNotCanonical(bytes)}`);
  return value.data;
}

function corrupt(message: string, cause?: unknown): ExhibitError {
  return new ExhibitError('bundle-corrupt', message, cause === undefined ? undefined : { cause });
}
