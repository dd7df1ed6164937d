import { constants, createPrivateKey, X509Certificate } from 'node:crypto';
import { open, stat } from 'node:fs/promises';
import tls, { type SecureContextOptions } from 'node:tls';
import { z } from 'zod';
import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import { isAddress } from '../../proto/address.ts';
import { type RevocationList, readRevocationList } from './revocation.ts';

/** What a listener shows and trusts, from its files; read whole or not at all. */

const absolutePath = z.string().regex(/^\//, { error: 'an absolute path' });

/** 10,000 agents, and room for those that come again before their old connection is known to be gone. */
const DEFAULT_MAX_CONNECTIONS = 12_000;

export const listenerSchema = z.strictObject({
  listen: z.string().refine(isAddress, { error: 'HOST:PORT, or [ADDRESS]:PORT' }),
  /** PEM: the certificate, then those between it and what clients trust. */
  certFile: absolutePath,
  keyFile: absolutePath,
  /** PEM: the authorities that issue clients' certificates. */
  caFile: absolutePath,
  /** PEM: a revocation list of every authority in a client's chain; refuses all once its nextUpdate has passed. */
  crlFile: absolutePath.optional(),
  /** 1.2 for clients that know no other: their certificates then go over the wire in the clear. */
  minVersion: z.enum(['TLSv1.2', 'TLSv1.3']).default('TLSv1.3'),
  maxConnections: z.number().int().min(1).max(100_000).default(DEFAULT_MAX_CONNECTIONS),
});
export type ListenerConfig = z.output<typeof listenerSchema>;
export type TlsFiles = Pick<ListenerConfig, 'certFile' | 'keyFile' | 'caFile' | 'crlFile' | 'minVersion'>;

export interface Material {
  readonly context: SecureContextOptions;
  readonly certificate: X509Certificate;
  readonly authorities: readonly X509Certificate[];
  readonly lists: readonly RevocationList[];
}

/** Larger than any chain or bundle of authorities; a list of 50,000 revoked certificates in PEM. */
const MAX_FILE_BYTES = 4 * 2 ** 20;
/** In one bundle: a root that is replaced is there twice, and an organisation has a handful. */
const MAX_CERTIFICATES = 64;

/**
 * No stateless tickets (and Node keeps no sessions by itself): every connection is a whole handshake, so that a certificate
 * that was revoked or has expired since is never resumed. It costs 1.2 ms of CPU where a stream lives for days.
 */
const SECURE_OPTIONS = constants.SSL_OP_NO_TICKET;

/** @throws ExhibitError `config` that names the file and says what is wrong with it; never what is in a key */
export async function loadMaterial(files: TlsFiles, nowMs: number): Promise<Material> {
  const [cert, key, ca, crl] = await Promise.all([
    readBounded(files.certFile, 'certFile'),
    readBounded(files.keyFile, 'keyFile'),
    readBounded(files.caFile, 'caFile'),
    files.crlFile === undefined ? undefined : readBounded(files.crlFile, 'crlFile'),
  ]);
  const [certificate] = certificatesIn(cert, files.certFile);
  const authorities = certificatesIn(ca, files.caFile);
  if (certificate === undefined) throw new ExhibitError('config', `${files.certFile} has no certificate.`);
  checkOwn(certificate, key, files, nowMs);
  const stranger = authorities.find((one) => !one.ca);
  if (stranger !== undefined)
    throw new ExhibitError('config', `${files.caFile} has a certificate that is no authority's: ${subject(stranger)}.`);
  const pem = crl === undefined ? [] : blocks(crl, 'X509 CRL');
  if (crl !== undefined && pem.length === 0)
    throw new ExhibitError('config', `${files.crlFile} has no revocation list in PEM.`);
  const lists = await Promise.all(pem.map((one) => readList(one, authorities, files.crlFile ?? '')));
  const context: SecureContextOptions = {
    cert,
    key,
    ca: authorities.map(String),
    ...(pem.length === 0 ? {} : { crl: pem }),
    minVersion: files.minVersion,
    secureOptions: SECURE_OPTIONS,
  };
  try {
    tls.createSecureContext(context);
  } catch (cause) {
    throw new ExhibitError('config', `TLS cannot use ${Object.values(files).join(', ')}`, { cause });
  }
  return { context, certificate, authorities, lists };
}

/** Changes when a file was written or replaced, through any number of links; undefined when one is not there. */
export async function stateOf(files: TlsFiles): Promise<string | undefined> {
  const paths = [files.certFile, files.keyFile, files.caFile, ...(files.crlFile === undefined ? [] : [files.crlFile])];
  try {
    const stats = await Promise.all(paths.map((file) => stat(file, { bigint: true })));
    return stats.map(({ dev, ino, size, mtimeNs, ctimeNs }) => [dev, ino, size, mtimeNs, ctimeNs].join(':')).join(' ');
  } catch {
    return undefined;
  }
}

function checkOwn(certificate: X509Certificate, key: string, files: TlsFiles, nowMs: number): void {
  if (certificate.validToDate.getTime() <= nowMs)
    throw new ExhibitError('config', `The certificate in ${files.certFile} has expired on ${certificate.validTo}.`);
  let matches: boolean;
  try {
    matches = certificate.checkPrivateKey(createPrivateKey(key));
  } catch {
    // OpenSSL's words could tell what is in the file.
    throw new ExhibitError('config', `${files.keyFile} has no private key in PEM that can be read without a password.`);
  }
  if (!matches)
    throw new ExhibitError(
      'config',
      `The key in ${files.keyFile} is not that of the certificate in ${files.certFile}.`,
    );
}

async function readList(pem: string, authorities: readonly X509Certificate[], file: string): Promise<RevocationList> {
  const der = Buffer.from(pem.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64');
  return await readRevocationList(der, authorities).catch((cause: unknown) => {
    if (!isExhibitError(cause)) throw new ExhibitError('config', `${file} cannot be read`, { cause });
    throw new ExhibitError('config', `${file}: ${cause.message}`, { cause });
  });
}

async function readBounded(file: string, key: string): Promise<string> {
  try {
    await using handle = await open(file);
    const buffer = Buffer.alloc(Math.min(MAX_FILE_BYTES, (await handle.stat()).size) + 1);
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, 0);
    if (bytesRead > MAX_FILE_BYTES) throw new ExhibitError('config', `it is larger than ${MAX_FILE_BYTES} bytes`);
    return buffer.toString('latin1', 0, bytesRead);
  } catch (cause) {
    throw new ExhibitError('config', `Cannot read ${key} ${file} (${explain(cause)}).`, { cause });
  }
}

function certificatesIn(text: string, file: string): X509Certificate[] {
  const found = blocks(text, 'CERTIFICATE');
  if (found.length === 0) throw new ExhibitError('config', `${file} has no certificate in PEM.`);
  if (found.length > MAX_CERTIFICATES)
    throw new ExhibitError('config', `${file} has more than ${MAX_CERTIFICATES} certificates.`);
  return found.map((pem) => {
    try {
      return new X509Certificate(pem);
    } catch (cause) {
      throw new ExhibitError('config', `${file} has a certificate that is damaged.`, { cause });
    }
  });
}

function blocks(text: string, label: string): string[] {
  const pattern = new RegExp(`-----BEGIN ${label}-----[A-Za-z0-9+/=\\s]+-----END ${label}-----`, 'g');
  return text.match(pattern) ?? [];
}

function subject(certificate: X509Certificate): string {
  return (certificate.subject ?? '').replaceAll('\n', ', ').slice(0, 200);
}
