import type { X509Certificate } from 'node:crypto';
import { ExhibitError } from '../../evidence/error.ts';

/** Certificate revocation lists (RFC 5280, 5), read so that connections that stand already can be judged by a new one. */

export interface RevocationList {
  /** The authority that signed it. */
  readonly authority: X509Certificate;
  readonly number: bigint | undefined;
  /** From then on TLS refuses every certificate of the authority. */
  readonly nextUpdateMs: number | undefined;
  /** False when the certificate is of another authority. */
  revokes(certificate: X509Certificate): boolean;
}

/** A list of 50,000 entries with a reason each; a larger one is better cut by shorter certificates. */
const READ_LIMITS = { maxDepth: 20, maxNodes: 600_000, maxContentLength: 4 * 2 ** 20, parseEmbedded: false };

const CRL_NUMBER = '2.5.29.20';
const REMOVE_FROM_CRL = 8;
const REASON_CODE = '2.5.29.21';

/** @throws ExhibitError `config` for what is no list, or one that none of `authorities` signed */
export async function readRevocationList(
  der: Uint8Array,
  authorities: readonly X509Certificate[],
): Promise<RevocationList> {
  // Loaded only where there is a list.
  const [asn1js, pkijs] = await Promise.all([import('asn1js'), import('pkijs')]);
  const bytes = new Uint8Array(der).buffer;
  const parsed = asn1js.fromBER(bytes, READ_LIMITS);
  if (parsed.offset === -1) throw new ExhibitError('config', `The revocation list is damaged: ${parsed.result.error}.`);
  const list = parse(() => new pkijs.CertificateRevocationList({ schema: parsed.result }));
  const authority = await signerOf(list, authorities);
  const serials = new Set<string>();
  for (const { userCertificate, crlEntryExtensions } of list.revokedCertificates ?? []) {
    const reason = crlEntryExtensions?.extensions.find(({ extnID }) => extnID === REASON_CODE)?.parsedValue;
    const isBack = reason instanceof asn1js.Enumerated && reason.valueBlock.valueDec === REMOVE_FROM_CRL;
    if (!isBack) serials.add(serialOf(Buffer.from(userCertificate.valueBlock.valueHexView).toString('hex')));
  }
  const number = list.crlExtensions?.extensions.find(({ extnID }) => extnID === CRL_NUMBER)?.parsedValue;
  return {
    authority,
    number: number instanceof asn1js.Integer ? number.toBigInt() : undefined,
    nextUpdateMs: list.nextUpdate?.value.getTime(),
    revokes: (certificate) => serials.has(serialOf(certificate.serialNumber)) && certificate.checkIssued(authority),
  };
}

type List = import('pkijs').CertificateRevocationList;

async function signerOf(list: List, authorities: readonly X509Certificate[]): Promise<X509Certificate> {
  const pkijs = await import('pkijs');
  for (const authority of authorities) {
    const issuerCertificate = pkijs.Certificate.fromBER(new Uint8Array(authority.raw).buffer);
    // It throws for an algorithm that it does not know, and answers false for another name.
    if (await list.verify({ issuerCertificate }).catch(() => false)) return authority;
  }
  throw new ExhibitError('config', 'The revocation list is signed by none of the trusted authorities.');
}

function parse<Value>(read: () => Value): Value {
  try {
    return read();
  } catch (cause) {
    throw new ExhibitError('config', 'The revocation list is damaged.', { cause });
  }
}

/** Hex without the zeros before it, which readers of certificates and of lists write differently. */
function serialOf(hex: string): string {
  return hex.toLowerCase().replace(/^0+(?=.)/, '');
}
