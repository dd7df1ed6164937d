import { createHash, constants as crypto, verify as verifyBytes, X509Certificate } from 'node:crypto';
import * as asn1js from 'asn1js';
import * as pkijs from 'pkijs';
import { ExhibitError } from './error.ts';
import { MAX_TIMESTAMP_BYTES } from './seal.ts';

/**
 * RFC 3161: the request for a timestamp, and the reading of an answer. Structures are read by pkijs, certificates and signatures by
 * Node's OpenSSL. What is read is hostile: whatever is wrong with it is an ExhibitError `bundle-corrupt`, in bounded time.
 */

/** An answer with three certificates nests 12 deep and has some 300 nodes. */
const READ_LIMITS = { maxDepth: 40, maxNodes: 5000, maxContentLength: MAX_TIMESTAMP_BYTES, parseEmbedded: false };
/** In one answer; a chain has three or four. */
const MAX_CERTIFICATES = 16;

const SHA256 = '2.16.840.1.101.3.4.2.1';
const SIGNED_DATA = '1.2.840.113549.1.7.2';
const TST_INFO = '1.2.840.113549.1.9.16.1.4';
const CONTENT_TYPE = '1.2.840.113549.1.9.3';
const MESSAGE_DIGEST = '1.2.840.113549.1.9.4';
const SIGNING_CERTIFICATE = '1.2.840.113549.1.9.16.2.12';
const SIGNING_CERTIFICATE_V2 = '1.2.840.113549.1.9.16.2.47';
const RSA_PSS = '1.2.840.113549.1.1.10';

/** What may have been signed; SHA-1 and older are no proof of anything any more. */
const DIGESTS = new Map([
  [SHA256, 'sha256'],
  ['2.16.840.1.101.3.4.2.2', 'sha384'],
  ['2.16.840.1.101.3.4.2.3', 'sha512'],
]);
/** Signature algorithms that name their digest; the others (RSA, Ed25519) take it from the signer's digestAlgorithm. */
const SIGNATURE_DIGESTS = new Map([
  ['1.2.840.113549.1.1.11', 'sha256'],
  ['1.2.840.113549.1.1.12', 'sha384'],
  ['1.2.840.113549.1.1.13', 'sha512'],
  ['1.2.840.10045.4.3.2', 'sha256'],
  ['1.2.840.10045.4.3.3', 'sha384'],
  ['1.2.840.10045.4.3.4', 'sha512'],
]);
/** RFC 3161, 2.4.2: `granted`, `grantedWithMods`. */
const GRANTED = new Set([0, 1]);

/** What an authority said, as it says it; whether to believe it is timestamp-chain.ts' to find out. */
export interface Timestamp {
  readonly genTime: Date;
  /** How far off the authority says that it may be. */
  readonly accuracyMs: number | undefined;
  readonly policy: string;
  /** Lower-case hex. */
  readonly serial: string;
  /** Lower-case hex. */
  readonly nonce: string | undefined;
  /** SHA-256 of what was stamped, lower-case hex. */
  readonly sha256: string;
  /** Who signed, by the certificate within: its signature is good. */
  readonly signer: X509Certificate;
  /** All certificates within, the signer's among them. */
  readonly certificates: readonly X509Certificate[];
}

/** DER of a request for a timestamp of what has this digest, with the authority's certificates. `nonce`: any bytes. */
export function encodeTimestampRequest(sha256: Buffer, nonce: Buffer): Buffer {
  const request = new pkijs.TimeStampReq({
    version: 1,
    messageImprint: new pkijs.MessageImprint({
      hashAlgorithm: new pkijs.AlgorithmIdentifier({ algorithmId: SHA256, algorithmParams: new asn1js.Null() }),
      hashedMessage: new asn1js.OctetString({ valueHex: exactBuffer(sha256) }),
    }),
    nonce: asn1js.Integer.fromBigInt(BigInt(`0x${nonce.toString('hex')}`)),
    certReq: true,
  });
  return Buffer.from(request.toSchema().toBER());
}

/** Reads an answer and checks it against itself: granted, signed by the certificate that it names. */
export function readTimestamp(bytes: Uint8Array): Timestamp {
  if (bytes.length > MAX_TIMESTAMP_BYTES)
    throw corrupt(`larger than the ${MAX_TIMESTAMP_BYTES} bytes that are read of it`);
  try {
    return read(bytes);
  } catch (error) {
    if (error instanceof ExhibitError) throw error;
    throw corrupt('not an RFC 3161 answer', error);
  }
}

function read(bytes: Uint8Array): Timestamp {
  const root = decode(bytes, 'an RFC 3161 answer');
  const response = new pkijs.TimeStampResp({ schema: root });
  const { status, statusStrings = [] } = response.status;
  if (!GRANTED.has(status)) {
    const words = statusStrings.map(({ valueBlock }) => valueBlock.value.slice(0, 200)).join('; ');
    throw corrupt(`not granted (status ${status}${words === '' ? '' : `: ${words}`})`);
  }
  const token = response.timeStampToken;
  if (token === undefined || token.contentType !== SIGNED_DATA) throw corrupt('without a signed token');
  const signed = new pkijs.SignedData({ schema: token.content });
  const { eContentType, eContent } = signed.encapContentInfo;
  if (eContentType !== TST_INFO || eContent === undefined) throw corrupt('the token is not of a timestamp');
  const content = Buffer.from(eContent.getValue());
  const info = new pkijs.TSTInfo({ schema: decode(content, 'the TSTInfo') });
  const certificates = (signed.certificates ?? []).slice(0, MAX_CERTIFICATES).flatMap(certificateOf);
  const [signerInfo, ...more] = signed.signerInfos;
  if (signerInfo === undefined || more.length > 0) throw corrupt('the token has not exactly one signer');
  const signer = certificates.find((certificate) => isNamed(certificate, signerInfo.sid));
  if (signer === undefined) throw corrupt('the certificate of its signer is not in it');
  checkSignature(signerInfo, content, signer);
  const { hashAlgorithm, hashedMessage } = info.messageImprint;
  if (hashAlgorithm.algorithmId !== SHA256) throw corrupt('it is not of a SHA-256');
  return {
    genTime: timeOf(info.genTime),
    accuracyMs: accuracyOf(info.accuracy),
    policy: info.policy,
    serial: hexOf(info.serialNumber),
    nonce: info.nonce === undefined ? undefined : hexOf(info.nonce),
    sha256: Buffer.from(hashedMessage.valueBlock.valueHexView).toString('hex'),
    signer,
    certificates,
  };
}

function decode(bytes: Uint8Array, what: string): asn1js.AsnType {
  const { offset, result } = asn1js.fromBER(exactBuffer(bytes), READ_LIMITS);
  if (offset === -1) throw corrupt(`not ${what}: ${result.error}`);
  if (offset !== bytes.length) throw corrupt(`${bytes.length - offset} bytes follow ${what}`);
  return result;
}

/** Certificates of other kinds (attribute certificates) say nothing here. */
function certificateOf(given: pkijs.CertificateSetItem): X509Certificate[] {
  if (!(given instanceof pkijs.Certificate)) return [];
  return [new X509Certificate(Buffer.from(given.toSchema().toBER()))];
}

function isNamed(certificate: X509Certificate, sid: unknown): boolean {
  const parsed = pkijs.Certificate.fromBER(exactBuffer(certificate.raw));
  if (sid instanceof pkijs.IssuerAndSerialNumber) {
    return parsed.issuer.isEqual(sid.issuer) && parsed.serialNumber.isEqual(sid.serialNumber);
  }
  const keyIdentifier = parsed.extensions?.find(({ extnID }) => extnID === '2.5.29.14')?.parsedValue;
  return sid instanceof asn1js.OctetString && keyIdentifier instanceof asn1js.OctetString && keyIdentifier.isEqual(sid);
}

/** RFC 5652, 5.4: the signature is over the signed attributes, one of which is the content's digest. */
function checkSignature(info: pkijs.SignerInfo, content: Buffer, certificate: X509Certificate): void {
  const digestName = DIGESTS.get(info.digestAlgorithm.algorithmId);
  if (digestName === undefined)
    throw corrupt(`signed over a digest that is not believed: ${info.digestAlgorithm.algorithmId}`);
  const signed = info.signedAttrs;
  if (signed === undefined) throw corrupt('nothing of it is signed as RFC 3161 wants it');
  const one = (type: string) => {
    const found = signed.attributes.filter((attribute) => attribute.type === type);
    return found.length === 1 && found[0]?.values.length === 1 ? (found[0].values[0] as unknown) : undefined;
  };
  const type = one(CONTENT_TYPE);
  if (!(type instanceof asn1js.ObjectIdentifier) || type.valueBlock.toString() !== TST_INFO) {
    throw corrupt('its signature is not of a timestamp');
  }
  const digest = one(MESSAGE_DIGEST);
  const expected = createHash(digestName).update(content).digest();
  if (!(digest instanceof asn1js.OctetString) || !expected.equals(Buffer.from(digest.getValue()))) {
    throw corrupt('its time and its imprint are not what was signed');
  }
  checkNamedCertificate(one(SIGNING_CERTIFICATE_V2), one(SIGNING_CERTIFICATE), certificate);
  const algorithm = info.signatureAlgorithm.algorithmId;
  const key = certificate.publicKey;
  const named = key.asymmetricKeyType === 'ed25519' ? null : (SIGNATURE_DIGESTS.get(algorithm) ?? digestName);
  const pss = { padding: crypto.RSA_PKCS1_PSS_PADDING, saltLength: crypto.RSA_PSS_SALTLEN_AUTO };
  const message = Buffer.from(signed.encodedValue);
  const signature = Buffer.from(info.signature.getValue());
  if (!verifyBytes(named, message, algorithm === RSA_PSS ? { key, ...pss } : key, signature)) {
    throw corrupt('its signature is wrong');
  }
}

/** RFC 5035: the signer says which certificate is his, so that another one for the same key cannot be put in its place. */
function checkNamedCertificate(v2: unknown, v1: unknown, certificate: X509Certificate): void {
  const first = firstOf(firstOf(v2 ?? v1));
  const parts: unknown[] = first instanceof asn1js.Sequence ? first.valueBlock.value : [];
  const [head, next] = parts;
  const algorithm = v2 !== undefined && head instanceof asn1js.Sequence ? firstOf(head) : undefined;
  const oid = algorithm instanceof asn1js.ObjectIdentifier ? algorithm.valueBlock.toString() : SHA256;
  const digestName = v2 === undefined ? 'sha1' : DIGESTS.get(oid);
  const hash = head instanceof asn1js.OctetString ? head : next;
  if (
    digestName === undefined ||
    !(hash instanceof asn1js.OctetString) ||
    !createHash(digestName).update(certificate.raw).digest().equals(Buffer.from(hash.getValue()))
  ) {
    throw corrupt('it names another certificate as its signer’s than the one it brings');
  }
}

function firstOf(value: unknown): unknown {
  return value instanceof asn1js.Sequence ? value.valueBlock.value[0] : undefined;
}

function timeOf(genTime: Date): Date {
  if (Number.isNaN(genTime.getTime())) throw corrupt('its time is no time');
  return genTime;
}

/** RFC 3161: seconds, thousandths and millionths, each optional. */
function accuracyOf(accuracy: pkijs.Accuracy | undefined): number | undefined {
  if (accuracy === undefined) return undefined;
  const { seconds = 0, millis = 0, micros = 0 } = accuracy;
  const ms = seconds * 1000 + millis + micros / 1000;
  return Number.isFinite(ms) && ms >= 0 ? ms : undefined;
}

function hexOf(number: asn1js.Integer): string {
  return number.toBigInt().toString(16);
}

/** asn1js takes the whole buffer behind a view in places. */
function exactBuffer(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer;
}

function corrupt(message: string, cause?: unknown): ExhibitError {
  return new ExhibitError('bundle-corrupt', message, cause === undefined ? undefined : { cause });
}
