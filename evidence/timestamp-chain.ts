import type { X509Certificate } from 'node:crypto';
import * as pkijs from 'pkijs';
import type { TrustedAuthority } from './trust.ts';

/**
 * Whether an authority's certificate leads to a root that the reader trusts, at the time of the timestamp. Offline: nothing is
 * asked about revocation. Signatures by Node's OpenSSL; the rules are those of RFC 5280, 6.1, that concern time-stamping.
 */

const TIME_STAMPING = '1.3.6.1.5.5.7.3.8';
const BASIC_CONSTRAINTS = '2.5.29.19';
const EXTENDED_KEY_USAGE = '2.5.29.37';
/** Critical extensions that are looked at here or by OpenSSL (key usage, basic constraints), or that only restrict policies we do not require. */
const UNDERSTOOD = new Set([BASIC_CONSTRAINTS, EXTENDED_KEY_USAGE, '2.5.29.15', '2.5.29.17', '2.5.29.32']);
/** From the signer to the root. */
const MAX_CHAIN = 8;

/** `why` a path ended is said of the longest path that was found. */
export type Chain = { readonly root: TrustedAuthority } | { readonly why: string };

export function chainToRoot(
  signer: X509Certificate,
  certificates: readonly X509Certificate[],
  roots: readonly TrustedAuthority[],
  at: Date,
): Chain {
  const misuse = whyNotTimestamping(signer);
  if (misuse !== undefined) return { why: misuse };
  let below = signer;
  for (let length = 0; length < MAX_CHAIN; length += 1) {
    const fault = faultOf(below, at);
    if (fault !== undefined) return { why: fault };
    const itself = roots.find(({ certificate }) => certificate.raw.equals(below.raw));
    if (itself !== undefined) return { root: itself };
    const root = roots.find(({ certificate }) => issued(certificate, below, length));
    if (root !== undefined) {
      const rootFault = faultOf(root.certificate, at);
      return rootFault === undefined ? { root } : { why: rootFault };
    }
    const issuer = certificates.find((one) => !one.raw.equals(below.raw) && issued(one, below, length));
    if (issuer === undefined) return { why: `nothing that is trusted issued the certificate of ${nameOf(below)}` };
    below = issuer;
  }
  return { why: `the chain of certificates is longer than ${MAX_CHAIN}` };
}

/** One line of a certificate's subject. */
export function nameOf(certificate: X509Certificate): string {
  return certificate.subject.split('\n').join(', ') || 'an unnamed subject';
}

/** RFC 3161, 2.3: extended key usage is there, critical, and time-stamping alone. */
function whyNotTimestamping(certificate: X509Certificate): string | undefined {
  const usage = extensionsOf(certificate).find(({ extnID }) => extnID === EXTENDED_KEY_USAGE);
  const name = nameOf(certificate);
  const purposes = certificate.keyUsage ?? [];
  if (usage === undefined || purposes.length !== 1 || purposes[0] !== TIME_STAMPING) {
    return `the certificate of ${name} is not for time-stamping alone`;
  }
  return usage.critical ? undefined : `the certificate of ${name} does not say critically that it is for time-stamping`;
}

/** `between`: how many certificates of CAs stand between the issuer and the signer. */
function issued(issuer: X509Certificate, subject: X509Certificate, between: number): boolean {
  if (!issuer.ca || !subject.checkIssued(issuer)) return false;
  const constraints = extensionsOf(issuer).find(({ extnID }) => extnID === BASIC_CONSTRAINTS)?.parsedValue;
  const limit: unknown = constraints instanceof pkijs.BasicConstraints ? constraints.pathLenConstraint : undefined;
  if (typeof limit === 'number' && between > limit) return false;
  return subject.verify(issuer.publicKey);
}

function faultOf(certificate: X509Certificate, at: Date): string | undefined {
  const name = nameOf(certificate);
  if (at < certificate.validFromDate) return `the certificate of ${name} was not valid yet, at ${at.toISOString()}`;
  if (at > certificate.validToDate) return `the certificate of ${name} was not valid any more, at ${at.toISOString()}`;
  const unknown = extensionsOf(certificate).find(({ critical, extnID }) => critical && !UNDERSTOOD.has(extnID));
  return unknown && `the certificate of ${name} has a critical extension that is not understood: ${unknown.extnID}`;
}

function extensionsOf(certificate: X509Certificate): readonly pkijs.Extension[] {
  return pkijs.Certificate.fromBER(new Uint8Array(certificate.raw).buffer).extensions ?? [];
}
