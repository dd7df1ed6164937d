import { z } from 'zod';
import { DEFAULT_TRUST_DOMAIN, NAME, TRUST_DOMAIN } from './certificates.ts';
import { type Grant, ROLES } from './identity.ts';
import { issuersSchema } from './oidc-config.ts';
import { rateSchema } from './rate.ts';
import { PATTERN } from './rights.ts';

/** Who may do what, from the configuration; docs/controller-identity.md. */

const patterns = z
  .array(z.string().regex(PATTERN, { error: 'letters, digits, dots, dashes, underscores, and * for any of them' }))
  .min(1)
  .max(100);

const grantSchema = z.strictObject({ role: z.enum(ROLES), clusters: patterns, namespaces: patterns });

const claim = z.string().min(1).max(500);
const ONE_OF = 'one of subject, group and email';
const oidcSchema = z
  .strictObject({
    issuer: z.string(),
    /** `sub`: what an issuer never gives to somebody else. */
    subject: claim.optional(),
    group: claim.optional(),
    /** Only where the issuer says `email_verified`; as it writes it. */
    email: claim.optional(),
  })
  .refine(({ subject, group, email }) => [subject, group, email].filter(Boolean).length === 1, { error: ONE_OF });

const operatorSchema = z
  .strictObject({
    /** For people who read the configuration. */
    name: z.string().min(1).max(100),
    /** The NAME of `spiffe://TRUST-DOMAIN/operator/NAME`. */
    certificate: z.string().regex(NAME, { error: 'the name in a certificate' }).optional(),
    oidc: oidcSchema.optional(),
    grants: z.array(grantSchema).min(1).max(100),
  })
  .refine(({ certificate, oidc }) => certificate !== undefined || oidc !== undefined, { error: 'certificate or oidc' })
  // A group is many people, and whose an address is only their token says.
  .refine(({ certificate, oidc }) => certificate === undefined || oidc === undefined || oidc.subject !== undefined, {
    error: 'beside a certificate, oidc by subject: both name one person',
  });

/** More are better told by groups. */
const MAX_OPERATORS = 1_000;
const operatorsSchema = z
  .array(operatorSchema)
  .max(MAX_OPERATORS)
  .refine((all) => new Set(all.map(({ name }) => name)).size === all.length, { error: 'each name once' });
export type Operators = z.output<typeof operatorsSchema>;

export const identitySchema = z
  .strictObject({
    trustDomain: z.string().regex(TRUST_DOMAIN).default(DEFAULT_TRUST_DOMAIN),
    operators: operatorsSchema.default([]),
    issuers: issuersSchema.default([]),
    rate: rateSchema,
  })
  .superRefine(({ operators, issuers }, context) => {
    for (const [index, { oidc }] of operators.entries()) {
      if (oidc === undefined || issuers.some(({ issuer }) => issuer === oidc.issuer)) continue;
      context.addIssue({ code: 'custom', path: ['operators', index, 'oidc', 'issuer'], message: 'one of issuers' });
    }
  });
export type IdentityConfig = z.output<typeof identitySchema>;

/** What an issuer says of somebody, checked. */
export interface Claims {
  readonly issuer: string;
  readonly subject: string;
  readonly groups: readonly string[];
  /** Only a verified one. */
  readonly email?: string;
}

/** How the audit log calls the bearer of such a token. */
export const nameOfToken = ({ issuer, subject }: { issuer: string; subject: string }): string => `${issuer}#${subject}`;

/** The other names of one person, from the entries that have both a certificate and a token's subject. */
export function aliasesOf(operators: Operators, name: string): string[] {
  const people = operators.flatMap(({ certificate, oidc }) =>
    certificate === undefined || oidc?.subject === undefined
      ? []
      : [[certificate, nameOfToken({ issuer: oidc.issuer, subject: oidc.subject })]],
  );
  const known = new Set([name]);
  // Until nothing is added: a person may have several certificates.
  for (let before = 0; before < known.size; ) {
    before = known.size;
    for (const names of people) if (names.some((one) => known.has(one))) for (const one of names) known.add(one);
  }
  known.delete(name);
  return [...known];
}

/** All grants of the entries that name this certificate; none: nobody knows it. */
export function grantsOfCertificate(operators: Operators, name: string): Grant[] {
  return operators.filter(({ certificate }) => certificate === name).flatMap(({ grants }) => grants);
}

export function grantsOfClaims(operators: Operators, claims: Claims): Grant[] {
  const isMeant = ({ oidc }: Operators[number]): boolean => {
    if (oidc === undefined || oidc.issuer !== claims.issuer) return false;
    if (oidc.subject !== undefined) return oidc.subject === claims.subject;
    if (oidc.group !== undefined) return claims.groups.includes(oidc.group);
    return oidc.email !== undefined && oidc.email === claims.email;
  };
  return operators.filter(isMeant).flatMap(({ grants }) => grants);
}
