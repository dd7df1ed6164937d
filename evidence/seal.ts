import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { ExhibitError } from './error.ts';
import { canonicalJson, isCanonical, parseJson, whyNotCanonical } from './json.ts';
import { list } from './list-schema.ts';
import { agentSchema, type ChainLink, chainSchema } from './manifest.ts';
import { whyNotOfShape } from './shape.ts';
import {
  algorithmOf,
  KEY_ALGORITHMS,
  type KeyAlgorithm,
  keyIdOf,
  kindOf,
  publicKeyFromSpki,
  signMessage,
  spkiOf,
  verifyMessage,
} from './signing-key.ts';

/**
 * The seal: an in-toto Statement v1 whose subjects are all other objects of the bundle, in a DSSE v1 envelope, signed by one
 * key or several (signing-key.ts). Every public key that signed is inside, so that the seal can always be checked against
 * itself; whether a key is to be believed is the reader's to say.
 *
 * in-toto: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
 * DSSE: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
 */
export const STATEMENT_TYPE = 'https://in-toto.io/Statement/v1';
export const PREDICATE_TYPE = 'https://exhibit.dev/attestation/capture/v1';
export const PAYLOAD_TYPE = 'application/vnd.in-toto+json';

/** 4 KiB a subject, and no bundle has so many objects. */
export const MAX_SEAL_BYTES = 16 * 1024 * 1024;
/** An RFC 3161 answer with four certificates of RSA 4096 and a few OCSP answers is below 16 KiB. */
export const MAX_TIMESTAMP_BYTES = 64 * 1024;

/** Of one seal; more keys than anybody keeps. */
const MAX_SIGNATURES = 16;
/** An ARN of a KMS has at most 2048 characters (AWS' API reference of Sign). */
export const MAX_KEY_NAME_CHARS = 2048;
/** Asked for one timestamp, one after the other. */
export const MAX_AUTHORITIES = 8;

/** A key that can sign: here in memory, elsewhere a service that never shows it. */
export interface Signer {
  /** SHA-256 of the public key's SubjectPublicKeyInfo in DER, lower-case hex. */
  readonly keyId: string;
  readonly publicKey: KeyObject;
  /** Throws ExhibitError when it cannot; what it does over a network ends with `signal`. */
  sign(message: Uint8Array, signal?: AbortSignal): Promise<Uint8Array>;
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
  /** The manifest's own: whoever cannot read an encrypted manifest can check the chain all the same. */
  readonly chain?: ChainLink | undefined;
}

/** A key that lives as long as the process: it makes a bundle checkable against itself, not against the world. */
export function generateSigner(): Signer {
  return signerOf(generateKeyPairSync('ed25519').privateKey);
}

/** Reads an Ed25519 or P-256 private key in PEM: PKCS #8, or SEC 1 (`BEGIN EC PRIVATE KEY`). Throws ExhibitError `config`. */
export async function loadSigner(path: string): Promise<Signer> {
  const advice = `make one with: openssl genpkey -algorithm ed25519 -out ${path}`;
  let key: KeyObject;
  try {
    key = createPrivateKey(await readFile(path));
  } catch (cause) {
    throw new ExhibitError('config', `the signing key ${path} cannot be read; ${advice}`, { cause });
  }
  if (algorithmOf(key) !== undefined) return signerOf(key);
  throw new ExhibitError('config', `the signing key ${path} is ${kindOf(key)}, not Ed25519 or P-256; ${advice}`);
}

function signerOf(key: KeyObject): Signer {
  const publicKey = createPublicKey(key);
  return { keyId: keyIdOf(publicKey), publicKey, sign: async (message) => signMessage(key, message) };
}

/** Reads a public key in PEM, as `openssl pkey -pubout` writes it. Throws ExhibitError `usage`. `from` names it in errors. */
export function parseTrustedKey(pem: string | Uint8Array, from: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPublicKey(Buffer.from(pem));
  } catch (cause) {
    throw new ExhibitError('usage', `${from} is not a public key in PEM`, { cause });
  }
  if (publicKeyFromSpki(spkiOf(key)) !== undefined) return key;
  throw new ExhibitError('usage', `${from} is ${kindOf(key)}; bundles are sealed with Ed25519 or P-256 keys`);
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

/** What is said of a seal besides its subjects: who else was to sign, and who was asked for the time. */
export type SealNotes = Pick<Statement['predicate'], 'missing' | 'timestamp'>;

/** A statement that names those who are to sign it, and the bytes that they are to sign. */
export interface SealDraft {
  readonly signers: readonly Signer[];
  readonly payload: Uint8Array;
  readonly message: Uint8Array;
}

export function draftSeal(facts: SealFacts, signers: readonly Signer[], notes: SealNotes): SealDraft {
  const subjects = [...facts.subjects].sort((a, b) => (a.name < b.name ? -1 : 1));
  const statement: Statement = {
    _type: STATEMENT_TYPE,
    subject: subjects.map(({ name, sha256 }) => ({ name, digest: { sha256 } })),
    predicateType: PREDICATE_TYPE,
    predicate: {
      captureId: facts.captureId,
      formatVersion: 1,
      agent: facts.agent,
      keys: signers.map(({ keyId, publicKey }) => {
        const algorithm = algorithmOf(publicKey);
        if (algorithm === undefined) throw new ExhibitError('internal', `key ${keyId} is ${kindOf(publicKey)}`);
        return { keyId, algorithm, publicKey: spkiOf(publicKey).toString('base64') };
      }),
      ...(facts.chain === undefined ? {} : { chain: facts.chain }),
      ...notes,
    },
  };
  const payload = canonicalJson(statement);
  return { signers, payload, message: preAuthEncoding(PAYLOAD_TYPE, payload) };
}

/** `signatures` in the order of the draft's signers. */
export function envelopeOf({ signers, payload }: SealDraft, signatures: readonly Uint8Array[]): Uint8Array {
  return canonicalJson({
    payload: Buffer.from(payload).toString('base64'),
    payloadType: PAYLOAD_TYPE,
    signatures: signers.map(({ keyId }, index) => ({
      keyid: keyId,
      sig: Buffer.from(signatures[index] ?? []).toString('base64'),
    })),
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

/** Everything that vouches for a bundle: the keys, and the authority that says when. See sealer.ts. */
export interface Sealer {
  /** The first key that is known, or the one that signs for want of others; named in `request.json` before anything is signed. */
  readonly keyId: string;
  /**
   * Where keys are not known yet: asks for them, within a bounded time, and resolves to a sealer whose keys do not change. What
   * it seals may name its `keyId`. Never throws.
   */
  forOneSeal?(signal: AbortSignal): Promise<Sealer>;
  seal(facts: SealFacts, signal: AbortSignal): Promise<Seal>;
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
    .max(MAX_SIGNATURES),
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
    keys: z.array(z.strictObject({ keyId: sha256, algorithm: z.enum(KEY_ALGORITHMS), publicKey: base64 })),
    /** As in the manifest. Absent where the agent kept no chain, and in older bundles. */
    chain: chainSchema.optional(),
    /** Keys that were to sign as well and could not. Absent when there are none, and in older bundles. */
    missing: z
      .array(
        z.union([
          z.strictObject({ keyId: sha256, why: z.string() }),
          /** A key that was never asked successfully for its public half: by its name in the agent's configuration. Not in older bundles. */
          z.strictObject({ name: z.string().min(1).max(MAX_KEY_NAME_CHARS), why: z.string() }),
        ]),
      )
      .max(MAX_SIGNATURES)
      .optional(),
    /** Absent when no timestamp was asked for, and in older bundles. */
    timestamp: z
      .strictObject({
        /** Addresses of the authorities, in the order in which they were asked. */
        requestedFrom: z.array(z.string()).min(1).max(MAX_AUTHORITIES),
        /** Why none of them gave one. Without it `manifest.dsse.json.tsr` lies beside the seal. */
        missing: z.string().optional(),
      })
      .optional(),
  }),
});
export type Statement = z.infer<typeof statementSchema>;

export interface CheckedSeal {
  readonly statement: Statement;
  /** Each of them signed these very bytes. */
  readonly signers: readonly {
    readonly keyId: string;
    readonly algorithm: KeyAlgorithm;
    readonly publicKey: KeyObject;
  }[];
}

/** Checks a seal against itself. Throws ExhibitError `bundle-corrupt` with the first thing that is wrong. */
export function checkSeal(bytes: Uint8Array): CheckedSeal {
  const envelope = parseAs(envelopeSchema, bytes, 'the seal');
  const payload = Buffer.from(envelope.payload, 'base64');
  const statement = parseAs(statementSchema, payload, "the seal's statement");
  const { keys } = statement.predicate;
  if (keys.length !== envelope.signatures.length) throw corrupt('the seal has not one key for each signature');
  if (new Set(keys.map(({ keyId }) => keyId)).size !== keys.length) throw corrupt('the seal names a key twice');
  const message = preAuthEncoding(PAYLOAD_TYPE, payload);
  const signers = envelope.signatures.map((signature, index) => {
    const key = keys[index];
    if (key === undefined || key.keyId !== signature.keyid) throw corrupt(`signature ${index} names another key`);
    const publicKey = publicKeyFromSpki(Buffer.from(key.publicKey, 'base64'));
    if (publicKey === undefined) throw corrupt('a public key in the seal is neither plain Ed25519 nor plain P-256');
    if (keyIdOf(publicKey) !== key.keyId) throw corrupt(`the key of signature ${index} has not the id it claims`);
    if (algorithmOf(publicKey) !== key.algorithm) throw corrupt(`key ${key.keyId} is not ${key.algorithm}`);
    if (!verifyMessage(publicKey, message, Buffer.from(signature.sig, 'base64'))) {
      throw corrupt(`the signature by key ${key.keyId} is wrong`);
    }
    return { keyId: key.keyId, algorithm: key.algorithm, publicKey };
  });
  return { statement, signers };
}

function parseAs<T>(schema: z.ZodType<T>, bytes: Uint8Array, what: string): T {
  const value = schema.safeParse(parseJson(bytes, MAX_SEAL_BYTES, what));
  if (!value.success) throw corrupt(`${what} has not the expected shape: ${whyNotOfShape(value.error.issues)}`);
  if (!isCanonical(bytes)) throw corrupt(`${what} ${whyNotCanonical(bytes)}`);
  return value.data;
}

function corrupt(message: string): ExhibitError {
  return new ExhibitError('bundle-corrupt', message);
}
