import type { X509Certificate } from 'node:crypto';
import type { Logger } from 'pino';

/** Why TLS let somebody not in, in words for the log; and a bound on how often it is said. */

/** OpenSSL's X509_V_ERR codes as Node names them; verification(1). */
const VERIFICATION: Readonly<Record<string, string>> = {
  UNABLE_TO_GET_ISSUER_CERT: 'it was not issued by an authority that is trusted here',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'it was not issued by an authority that is trusted here',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'it was not issued by an authority that is trusted here',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'it is signed by itself, and not trusted here',
  SELF_SIGNED_CERT_IN_CHAIN: 'its chain ends at an authority that is not trusted here',
  CERT_SIGNATURE_FAILURE: 'its signature is wrong',
  CERT_HAS_EXPIRED: 'it has expired',
  CERT_NOT_YET_VALID: 'it is not valid yet',
  CERT_REVOKED: 'it was revoked',
  // OpenSSL goes on after an error, and Node tells the last: of a stranger's chain it may be this one.
  UNABLE_TO_GET_CRL:
    'an authority in its chain is not trusted here, or may not be one, or has no revocation list in crlFile',
  UNSPECIFIED: 'it has a name that its authority may not give, or its chain breaks another rule of RFC 5280',
  CRL_HAS_EXPIRED: 'the revocation list of its authority is out of date: put a new one into crlFile',
  CRL_NOT_YET_VALID: 'the revocation list of its authority is not valid yet',
  CRL_SIGNATURE_FAILURE: 'the revocation list of its authority has a wrong signature',
  INVALID_PURPOSE: 'it is not for clients (extended key usage)',
  INVALID_CA: 'an authority in its chain may not issue certificates',
  PATH_LENGTH_EXCEEDED: 'its chain is longer than an authority in it allows',
  CERT_CHAIN_TOO_LONG: 'its chain is too long',
  CERT_UNTRUSTED: 'it is not trusted here',
  CERT_REJECTED: 'it is rejected here',
};

/** What is no certificate's fault; codes of Node and of OpenSSL's ssl library. */
const HANDSHAKE: Readonly<Record<string, string>> = {
  ECONNRESET: 'it hung up during the handshake',
  EPIPE: 'it hung up during the handshake',
  ERR_SSL_HTTP_REQUEST: 'it spoke HTTP without TLS',
  ERR_SSL_WRONG_VERSION_NUMBER: 'it did not speak TLS',
  ERR_SSL_UNSUPPORTED_PROTOCOL: 'it speaks only versions of TLS that are not allowed here (minVersion)',
  ERR_SSL_NO_APPLICATION_PROTOCOL: 'it speaks no protocol that is served here (ALPN)',
  ERR_SSL_EXCESSIVE_MESSAGE_SIZE: 'its certificate chain is too large',
  ERR_SSL_NO_SHARED_CIPHER: 'it has no cipher in common with us',
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: 'it does not trust the certificate of this listener',
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: 'it does not like the certificate of this listener',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN: 'it does not like the certificate of this listener',
};

export function verificationWords(code: string): string {
  return `its certificate is refused: ${VERIFICATION[code] ?? code}`;
}

export function handshakeWords(error: Error): string {
  const code = 'code' in error ? String(error.code) : '';
  return HANDSHAKE[code] ?? `the handshake failed (${code || error.message})`;
}

/** A hostile SAN is as long as its owner likes. */
const MAX_SAN_IN_LOG = 300;

/** What a log may say of somebody's certificate; their words are cut, and pino escapes them. */
export function certificateFields(certificate: X509Certificate): {
  serial: string;
  names: string;
  fingerprint: string;
} {
  return {
    serial: certificate.serialNumber.slice(0, 64),
    names: (certificate.subjectAltName ?? '').slice(0, MAX_SAN_IN_LOG),
    fingerprint: certificate.fingerprint256,
  };
}

export interface BoundedLog {
  warn(fields: object, words: string): void;
  /** Says how many were not told, if any. */
  flush(): void;
}

/** Enough to see what goes on; a flood must not fill a disk. */
const LINES_PER_WINDOW = 50;
const WINDOW_MS = 10_000;

export function createBoundedLog(log: Logger, now: () => number = Date.now): BoundedLog {
  let windowStartMs = Number.NEGATIVE_INFINITY;
  let told = 0;
  let untold = 0;
  const flush = () => {
    if (untold > 0) log.warn({ untold }, 'more of the same was not logged');
    untold = 0;
  };
  return {
    warn(fields, words) {
      if (now() - windowStartMs >= WINDOW_MS) {
        flush();
        windowStartMs = now();
        told = 0;
      }
      told += 1;
      if (told > LINES_PER_WINDOW) untold += 1;
      else log.warn(fields, words);
    },
    flush,
  };
}
