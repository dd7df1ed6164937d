import type { X509Certificate } from 'node:crypto';
import * as asn1js from 'asn1js';
import * as pkijs from 'pkijs';
import { extension, keyIdentifier, type Pair, parsed, signingKey, time } from './issue.ts';

/** Revocation lists by RFC 5280, 5. */

export interface Revoked {
  /** Hex. */
  readonly serial: string;
  readonly at: Date;
}

export interface RevocationListSpec {
  readonly number: bigint;
  readonly revoked: readonly Revoked[];
  readonly thisUpdate: Date;
  readonly nextUpdate: Date;
}

const CRL_NUMBER = '2.5.29.20';
const AUTHORITY_KEY_IDENTIFIER = '2.5.29.35';

/** As PEM. */
export async function issueRevocationList(spec: RevocationListSpec, issuer: Pair): Promise<string> {
  const authority = parsed(issuer.certificate);
  const keyId = new asn1js.OctetString({ valueHex: await keyIdentifier(authority) });
  const list = new pkijs.CertificateRevocationList({
    version: 1,
    issuer: authority.subject,
    thisUpdate: time(spec.thisUpdate),
    nextUpdate: time(spec.nextUpdate),
    crlExtensions: new pkijs.Extensions({
      extensions: [
        extension(CRL_NUMBER, false, asn1js.Integer.fromBigInt(spec.number)),
        extension(
          AUTHORITY_KEY_IDENTIFIER,
          false,
          new pkijs.AuthorityKeyIdentifier({ keyIdentifier: keyId }).toSchema(),
        ),
      ],
    }),
  });
  // An empty list has no such field at all.
  if (spec.revoked.length > 0)
    list.revokedCertificates = spec.revoked.map(
      ({ serial, at }) =>
        new pkijs.RevokedCertificate({ userCertificate: integerOf(serial), revocationDate: time(at) }),
    );
  await list.sign(await signingKey(issuer.key), 'SHA-256');
  const base64 = Buffer.from(list.toSchema(true).toBER()).toString('base64');
  return `-----BEGIN X509 CRL-----\n${(base64.match(/.{1,64}/g) ?? []).join('\n')}\n-----END X509 CRL-----\n`;
}

/** What a list of ours says. */
export function readOwnList(pem: string): { number: bigint; revoked: Revoked[]; nextUpdate: Date | undefined } {
  const der = Buffer.from(pem.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64');
  const list = pkijs.CertificateRevocationList.fromBER(new Uint8Array(der).buffer);
  const number = list.crlExtensions?.extensions.find(({ extnID }) => extnID === CRL_NUMBER)?.parsedValue;
  return {
    number: number instanceof asn1js.Integer ? number.toBigInt() : 0n,
    revoked: (list.revokedCertificates ?? []).map(({ userCertificate, revocationDate }) => ({
      serial: serialOf(Buffer.from(userCertificate.valueBlock.valueHexView).toString('hex')),
      at: revocationDate.value,
    })),
    nextUpdate: list.nextUpdate?.value,
  };
}

/** Upper-case hex without zeros before it. */
export function serialOf(certificate: X509Certificate | string): string {
  const hex = typeof certificate === 'string' ? certificate : certificate.serialNumber;
  return hex.toUpperCase().replace(/^0+(?=.)/, '');
}

function integerOf(hex: string): asn1js.Integer {
  return asn1js.Integer.fromBigInt(BigInt(`0x${hex}`));
}
