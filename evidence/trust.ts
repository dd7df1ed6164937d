import { type KeyObject, X509Certificate } from 'node:crypto';
import { z } from 'zod';
import { ExhibitError, explain } from './error.ts';
import { parseJson } from './json.ts';
import { parseTrustedKey } from './seal.ts';
import { keyIdOf } from './signing-key.ts';

/**
 * What a reader believes: keys that seal, and authorities that say when. It comes from the reader, another way than the bundle
 * did: PEM blocks, or a trust root in JSON with names, validity and how many keys must have signed. See docs/trust.md.
 */
export interface Trust {
  readonly keys: readonly TrustedKey[];
  readonly timestampAuthorities: readonly TrustedAuthority[];
  /** How many of the keys must have signed; one unless told. */
  readonly requiredSignatures?: number;
}

export interface TrustedKey {
  readonly keyId: string;
  readonly name?: string;
  /** Seals of before or after are not believed. */
  readonly validFrom?: Date;
  readonly validUntil?: Date;
}

export interface TrustedAuthority {
  readonly name: string;
  /** Of a root, of a CA below it, or of the authority itself. */
  readonly certificate: X509Certificate;
}

export const NO_TRUST: Trust = { keys: [], timestampAuthorities: [] };

/** Hundreds of keys and certificates. */
export const MAX_TRUST_BYTES = 1024 * 1024;

const time = z.iso.datetime({ offset: true }).transform((text) => new Date(text));

const trustSchema = z.strictObject({
  keys: z
    .array(
      z.strictObject({
        name: z.string().min(1),
        publicKey: z.string(),
        validFrom: time.optional(),
        validUntil: time.optional(),
      }),
    )
    .default([]),
  timestampAuthorities: z.array(z.strictObject({ name: z.string().min(1), certificate: z.string() })).default([]),
  requiredSignatures: z.number().int().min(1).max(16).optional(),
});

/** Reads PEM blocks (`PUBLIC KEY`, `CERTIFICATE`), or a trust root in JSON. Throws ExhibitError `usage`; `from` names the file. */
export function parseTrust(bytes: Uint8Array, from: string): Trust {
  if (bytes.length > MAX_TRUST_BYTES)
    throw new ExhibitError('usage', `${from} is larger than ${MAX_TRUST_BYTES} bytes`);
  return /^\s*\{/.test(Buffer.from(bytes.subarray(0, 1024)).toString('latin1'))
    ? parseTrustRoot(bytes, from)
    : parseBlocks(Buffer.from(bytes).toString('latin1'), from);
}

/** Several files are one trust root; the strictest `requiredSignatures` holds. */
export function mergeTrust(parts: readonly Trust[]): Trust {
  const required = parts.flatMap(({ requiredSignatures }) => requiredSignatures ?? []);
  return {
    keys: parts.flatMap(({ keys }) => keys),
    timestampAuthorities: parts.flatMap(({ timestampAuthorities }) => timestampAuthorities),
    ...(required.length === 0 ? {} : { requiredSignatures: Math.max(...required) }),
  };
}

/** Keys that are believed whenever they signed. */
export function trustInKeys(keys: readonly KeyObject[]): Trust {
  return { keys: keys.map((key) => ({ keyId: keyIdOf(key) })), timestampAuthorities: [] };
}

function parseTrustRoot(bytes: Uint8Array, from: string): Trust {
  let given: unknown;
  try {
    given = parseJson(bytes, MAX_TRUST_BYTES, from);
  } catch (cause) {
    throw new ExhibitError('usage', explain(cause), { cause });
  }
  const parsed = trustSchema.safeParse(given);
  if (!parsed.success) {
    const faults = parsed.error.issues.map(({ path, message }) => `${path.join('.') || 'the file'}: ${message}`);
    throw new ExhibitError('usage', `${from} is not a trust root: ${faults.slice(0, 5).join('; ')}`);
  }
  const { keys, timestampAuthorities, requiredSignatures } = parsed.data;
  return {
    keys: keys.map(({ name, publicKey, validFrom, validUntil }) => ({
      keyId: keyIdOf(parseTrustedKey(publicKey, `${from}: ${name}`)),
      name,
      ...(validFrom === undefined ? {} : { validFrom }),
      ...(validUntil === undefined ? {} : { validUntil }),
    })),
    timestampAuthorities: timestampAuthorities.map(({ name, certificate }) => ({
      name,
      certificate: parseCertificate(certificate, `${from}: ${name}`),
    })),
    ...(requiredSignatures === undefined ? {} : { requiredSignatures }),
  };
}

const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----[^-]*-----END \1-----/g;

function parseBlocks(text: string, from: string): Trust {
  const keys: KeyObject[] = [];
  const certificates: X509Certificate[] = [];
  for (const [pem, label = ''] of text.matchAll(BLOCK)) {
    if (label === 'PUBLIC KEY') keys.push(parseTrustedKey(pem, from));
    else if (label === 'CERTIFICATE') certificates.push(parseCertificate(pem, from));
    else
      throw new ExhibitError(
        'usage',
        `${from} holds a ${label}; public keys and certificates are what a reader trusts`,
      );
  }
  if (keys.length + certificates.length === 0) {
    throw new ExhibitError('usage', `${from} is not a public key in PEM, nor a certificate, nor a trust root in JSON`);
  }
  return {
    ...trustInKeys(keys),
    timestampAuthorities: certificates.map((certificate) => ({ name: commonName(certificate), certificate })),
  };
}

function parseCertificate(pem: string, from: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new ExhibitError('usage', `${from} is not a certificate in PEM`, { cause });
  }
}

function commonName({ subject }: X509Certificate): string {
  return /^CN=(.*)$/m.exec(subject)?.[1] ?? (subject.split('\n').join(', ') || 'an unnamed authority');
}
