import { z } from 'zod';

/** Issuers of OIDC tokens. */

/** Signatures by a private key: whoever can check one cannot make one. `none` and HMAC are not among them. */
const ALGORITHMS = [
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
  'PS256',
  'PS384',
  'PS512',
  'RS256',
  'RS384',
  'RS512',
] as const;

const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]']);

/** Over plain HTTP anybody on the way could name keys of theirs; on the machine itself there is no way. */
export function isSafeUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, username, password, hash } = new URL(text);
  if (username !== '' || password !== '' || hash !== '') return false;
  return protocol === 'https:' || (protocol === 'http:' && LOOPBACK.has(hostname));
}

const issuerSchema = z.strictObject({
  /** As it stands in tokens, character by character. */
  issuer: z
    .string()
    .max(1_000)
    .refine(isSafeUrl, { error: 'an https URL' })
    .refine((text) => !text.includes('?'), { error: 'a URL without a query' }),
  /** `aud` must hold one of these: the client ID that was given to the controller. */
  audience: z.union([
    z
      .string()
      .min(1)
      .transform((one) => [one]),
    z.array(z.string().min(1)).min(1),
  ]),
  algorithms: z.array(z.enum(ALGORITHMS)).min(1).default(['RS256', 'PS256', 'ES256', 'EdDSA', 'Ed25519']),
  /** Name of the claim with the groups: a string or a list of strings. */
  groupsClaim: z.string().min(1).max(200).default('groups'),
  clockToleranceS: z.number().int().min(0).max(300).default(30),
});
export type IssuerConfig = z.output<typeof issuerSchema>;

export const issuersSchema = z
  .array(issuerSchema)
  .max(20)
  .refine((all) => new Set(all.map(({ issuer }) => issuer)).size === all.length, { error: 'each issuer once' });
