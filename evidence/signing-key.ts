import { createHash, createPublicKey, type KeyObject, sign as signBytes, verify as verifyBytes } from 'node:crypto';

/**
 * The two kinds of keys that seal a bundle: Ed25519 (RFC 8032, over the message itself), and ECDSA on P-256 over the message's
 * SHA-256, the signature DER-encoded as `openssl dgst -sha256 -verify` takes it (RFC 5480, RFC 3279).
 */
export const KEY_ALGORITHMS = ['ed25519', 'ecdsa-p256-sha256'] as const;
export type KeyAlgorithm = (typeof KEY_ALGORITHMS)[number];

/**
 * What the SubjectPublicKeyInfo of a P-256 key with an uncompressed point begins with, and how long it is. Other spellings
 * of the same key (compressed points, explicit parameters) would have other ids.
 */
const P256_PREFIX = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex');
const P256_SPKI_BYTES = 91;

/** Undefined for a key of any other kind. Takes private and public keys. */
export function algorithmOf(key: KeyObject): KeyAlgorithm | undefined {
  if (key.asymmetricKeyType === 'ed25519') return 'ed25519';
  const isP256 = key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1';
  return isP256 ? 'ecdsa-p256-sha256' : undefined;
}

/** `x25519`, `ec on secp384r1`: what a key is, for messages. */
export function kindOf(key: KeyObject): string {
  const curve = key.asymmetricKeyDetails?.namedCurve;
  return `${key.asymmetricKeyType ?? key.type}${curve === undefined ? '' : ` on ${curve}`}`;
}

/** SubjectPublicKeyInfo in DER. */
export function spkiOf(publicKey: KeyObject): Buffer {
  return publicKey.export({ type: 'spki', format: 'der' });
}

/** SHA-256 of the public key's SubjectPublicKeyInfo, lower-case hex. */
export function keyIdOf(publicKey: KeyObject): string {
  return createHash('sha256').update(spkiOf(publicKey)).digest('hex');
}

/** Undefined unless `der` is the one spelling of a key that seals bundles. */
export function publicKeyFromSpki(der: Buffer): KeyObject | undefined {
  let key: KeyObject;
  try {
    key = createPublicKey({ key: der, format: 'der', type: 'spki' });
  } catch {
    return undefined;
  }
  const algorithm = algorithmOf(key);
  if (algorithm === undefined || !spkiOf(key).equals(der)) return undefined;
  const plain = der.length === P256_SPKI_BYTES && der.subarray(0, P256_PREFIX.length).equals(P256_PREFIX);
  return algorithm === 'ed25519' || plain ? key : undefined;
}

export function signMessage(privateKey: KeyObject, message: Uint8Array): Buffer {
  return signBytes(algorithmOf(privateKey) === 'ed25519' ? null : 'sha256', message, privateKey);
}

/** False for whatever is not a good signature; never throws. */
export function verifyMessage(publicKey: KeyObject, message: Uint8Array, signature: Uint8Array): boolean {
  try {
    return verifyBytes(algorithmOf(publicKey) === 'ed25519' ? null : 'sha256', message, publicKey, signature);
  } catch {
    return false;
  }
}
