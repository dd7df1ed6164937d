import { createPrivateKey, type KeyObject, randomBytes, webcrypto, X509Certificate } from 'node:crypto';
import * as asn1js from 'asn1js';
import * as pkijs from 'pkijs';

/** Certificates by RFC 5280, made by pkijs and signed by WebCrypto. P-256 throughout: what every TLS stack has. */

export interface Pair {
  readonly certificate: X509Certificate;
  /** PKCS #8. */
  readonly key: KeyObject;
}

export type Usage = 'client' | 'server';

export interface AuthoritySpec {
  readonly commonName: string;
  /** What its certificates may be used for. */
  readonly usage: Usage;
  /** Of SPIFFE IDs. Given: its certificates may have URIs of this trust domain, and no name of a machine. */
  readonly trustDomain?: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** How many authorities may stand below it. */
  readonly pathLength?: number;
}

export type AlternativeName = { readonly uri: string } | { readonly dns: string } | { readonly ip: string };

export interface LeafSpec {
  readonly commonName: string;
  readonly usage: Usage;
  readonly names: readonly AlternativeName[];
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/** Of itself, or below `issuer`. */
export async function issueAuthority(spec: AuthoritySpec, issuer?: Pair): Promise<Pair> {
  const constraints = spec.trustDomain === undefined ? [] : [nameConstraints(spec.trustDomain)];
  const basic = new pkijs.BasicConstraints({ cA: true, pathLenConstraint: spec.pathLength ?? 0 });
  return await issue(spec, issuer, [
    extension(OID.basicConstraints, true, basic.toSchema()),
    extension(OID.keyUsage, true, keyUsage(KEY_CERT_SIGN_CRL_SIGN)),
    extension(OID.extendedKeyUsage, false, extendedKeyUsage(spec.usage)),
    ...constraints,
  ]);
}

export async function issueLeaf(spec: LeafSpec, issuer: Pair): Promise<Pair> {
  const names = new pkijs.GeneralNames({ names: spec.names.map(generalName) });
  return await issue(spec, issuer, [
    extension(OID.basicConstraints, true, new pkijs.BasicConstraints({ cA: false }).toSchema()),
    extension(OID.keyUsage, true, keyUsage(DIGITAL_SIGNATURE)),
    extension(OID.extendedKeyUsage, false, extendedKeyUsage(spec.usage)),
    extension(OID.subjectAltName, false, names.toSchema()),
  ]);
}

const OID = {
  commonName: '2.5.4.3',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  nameConstraints: '2.5.29.30',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
} as const;
const EXTENDED_KEY_USAGE = { server: '1.3.6.1.5.5.7.3.1', client: '1.3.6.1.5.5.7.3.2' } as const;

/** Bits of KeyUsage from the left: digitalSignature is 0, keyCertSign 5, cRLSign 6; and how many bits at the end are unused. */
const DIGITAL_SIGNATURE = { byte: 0x80, unusedBits: 7 };
const KEY_CERT_SIGN_CRL_SIGN = { byte: 0x06, unusedBits: 1 };

async function issue(
  spec: { readonly commonName: string; readonly notBefore: Date; readonly notAfter: Date },
  issuer: Pair | undefined,
  extensions: pkijs.Extension[],
): Promise<Pair> {
  const keys = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']);
  const made = new pkijs.Certificate({ version: 2, serialNumber: newSerial() });
  await made.subjectPublicKeyInfo.importKey(keys.publicKey);
  made.subject = name(spec.commonName);
  made.issuer = issuer === undefined ? made.subject : parsed(issuer.certificate).subject;
  made.notBefore = time(spec.notBefore);
  made.notAfter = time(spec.notAfter);
  const keyId = await keyIdentifier(made);
  const issuerKeyId = issuer === undefined ? keyId : await keyIdentifier(parsed(issuer.certificate));
  made.extensions = [
    ...extensions,
    extension(OID.subjectKeyIdentifier, false, new asn1js.OctetString({ valueHex: keyId })),
    extension(
      OID.authorityKeyIdentifier,
      false,
      new pkijs.AuthorityKeyIdentifier({ keyIdentifier: new asn1js.OctetString({ valueHex: issuerKeyId }) }).toSchema(),
    ),
  ];
  await made.sign(issuer === undefined ? keys.privateKey : await signingKey(issuer.key), 'SHA-256');
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return {
    certificate: new X509Certificate(Buffer.from(made.toSchema(true).toBER())),
    key: createPrivateKey({ key: Buffer.from(pkcs8), format: 'der', type: 'pkcs8' }),
  };
}

export async function signingKey(key: KeyObject): Promise<webcrypto.CryptoKey> {
  const der = key.export({ format: 'der', type: 'pkcs8' });
  return await webcrypto.subtle.importKey('pkcs8', der, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign']);
}

export function parsed(certificate: X509Certificate): pkijs.Certificate {
  return pkijs.Certificate.fromBER(new Uint8Array(certificate.raw).buffer);
}

/** RFC 5280, 4.2.1.2, method 1. */
export async function keyIdentifier(certificate: pkijs.Certificate): Promise<ArrayBuffer> {
  return await webcrypto.subtle.digest(
    'SHA-1',
    certificate.subjectPublicKeyInfo.subjectPublicKey.valueBlock.valueHexView,
  );
}

/** 127 random bits, positive, never 0: RFC 5280, 4.1.2.2, and more than the 64 bits that the CA/Browser Forum asks for. */
function newSerial(): asn1js.Integer {
  const bytes = randomBytes(16);
  bytes.writeUInt8((bytes.readUInt8(0) & 0x7f) | 0x40, 0);
  return new asn1js.Integer({ valueHex: new Uint8Array(bytes).buffer });
}

export function extension(extnID: string, critical: boolean, value: asn1js.BaseBlock): pkijs.Extension {
  return new pkijs.Extension({ extnID, critical, extnValue: value.toBER(false) });
}

function keyUsage({ byte, unusedBits }: { byte: number; unusedBits: number }): asn1js.BitString {
  return new asn1js.BitString({ valueHex: new Uint8Array([byte]).buffer, unusedBits });
}

function extendedKeyUsage(usage: Usage): asn1js.BaseBlock {
  return new pkijs.ExtKeyUsage({ keyPurposes: [EXTENDED_KEY_USAGE[usage]] }).toSchema();
}

function name(commonName: string): pkijs.RelativeDistinguishedNames {
  const value = new asn1js.Utf8String({ value: commonName });
  return new pkijs.RelativeDistinguishedNames({
    typesAndValues: [new pkijs.AttributeTypeAndValue({ type: OID.commonName, value })],
  });
}

/** RFC 5280, 4.1.2.5: UTCTime until 2049, GeneralizedTime from then on; whole seconds. */
export function time(at: Date): pkijs.Time {
  const value = new Date(Math.floor(at.getTime() / 1000) * 1000);
  return new pkijs.Time({ type: value.getUTCFullYear() < 2050 ? 0 : 1, value });
}

/** GeneralName's tags, RFC 5280, 4.2.1.6. */
const DNS_NAME = 2;
const URI = 6;
const IP_ADDRESS = 7;

function generalName(one: AlternativeName): pkijs.GeneralName {
  if ('uri' in one) return new pkijs.GeneralName({ type: URI, value: one.uri });
  if ('dns' in one) return new pkijs.GeneralName({ type: DNS_NAME, value: one.dns });
  return new pkijs.GeneralName({ type: IP_ADDRESS, value: new asn1js.OctetString({ valueHex: addressBytes(one.ip) }) });
}

/** Permits URIs of the trust domain; forbids all names and addresses of machines. RFC 5280, 4.2.1.10. */
function nameConstraints(trustDomain: string): pkijs.Extension {
  const subtree = (base: pkijs.GeneralName) => new pkijs.GeneralSubtree({ base });
  const anyAddress = (bytes: number) =>
    new pkijs.GeneralName({
      type: IP_ADDRESS,
      value: new asn1js.OctetString({ valueHex: new ArrayBuffer(2 * bytes) }),
    });
  const constraints = new pkijs.NameConstraints({
    permittedSubtrees: [subtree(new pkijs.GeneralName({ type: URI, value: trustDomain }))],
    excludedSubtrees: [
      subtree(new pkijs.GeneralName({ type: DNS_NAME, value: '' })),
      subtree(anyAddress(4)),
      subtree(anyAddress(16)),
    ],
  });
  return extension(OID.nameConstraints, true, constraints.toSchema());
}

/** Of an address that net.isIP knows. */
function addressBytes(ip: string): ArrayBuffer {
  if (!ip.includes(':')) return new Uint8Array(ip.split('.').map(Number)).buffer;
  // The URL parser writes the address out in its short form, with IPv4 at its end as hex.
  const [head = '', tail] = new URL(`http://[${ip}]`).hostname.slice(1, -1).split('::');
  const words = (text: string) => (text === '' ? [] : text.split(':').map((word) => Number.parseInt(word, 16)));
  const [before, after] = [words(head), words(tail ?? '')];
  const all = [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
  return new Uint8Array(all.flatMap((word) => [word >> 8, word & 0xff])).buffer;
}
