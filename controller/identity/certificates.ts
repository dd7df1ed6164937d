import { X509Certificate } from 'node:crypto';
import { ExhibitError } from '../../evidence/error.ts';
import type { AgentIdentity } from './identity.ts';

/**
 * Who a certificate names: exactly one SPIFFE ID in the SAN (SPIFFE's X509-SVID), `spiffe://TRUST-DOMAIN/cluster/CLUSTER/node/NODE`
 * for agents, `spiffe://TRUST-DOMAIN/operator/NAME` for operators. The subject is never looked at. Whether the certificate is
 * to be believed is TLS' to find out, before.
 */

/** What is needed of tls.PeerCertificate: its DER. */
export interface DerCertificate {
  readonly raw: Uint8Array;
}

/** One label or several with dots, as clusters and nodes have them (DNS names end at 253); nothing that a path, a pattern or a shell reads. */
export const NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$/;
/** SPIFFE ID, 2.1: lower case. */
export const TRUST_DOMAIN = /^[a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?$/;
export const DEFAULT_TRUST_DOMAIN = 'exhibit';

/** RFC 5280, 4.2.1.12. */
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
/** Two names and a trust domain of 253 characters each, and some DNS names beside. */
const MAX_SAN_LENGTH = 4096;

/** @throws ExhibitError `unauthenticated` */
export function agentIdentity(certificate: DerCertificate, trustDomain: string): AgentIdentity {
  const [kind, cluster, node, name, ...more] = pathOf(certificate, trustDomain);
  if (kind !== 'cluster' || node !== 'node' || more.length > 0 || !isName(cluster) || !isName(name))
    throw refused('it does not name an agent: spiffe://TRUST-DOMAIN/cluster/CLUSTER/node/NODE is expected in its SAN');
  return { cluster, node: name };
}

/** @throws ExhibitError `unauthenticated` */
export function operatorName(certificate: DerCertificate, trustDomain: string): string {
  const [kind, name, ...more] = pathOf(certificate, trustDomain);
  if (kind !== 'operator' || more.length > 0 || !isName(name))
    throw refused('it does not name an operator: spiffe://TRUST-DOMAIN/operator/NAME is expected in its SAN');
  return name;
}

export function agentUri(trustDomain: string, { cluster, node }: AgentIdentity): string {
  return `spiffe://${trustDomain}/cluster/${cluster}/node/${node}`;
}

export function operatorUri(trustDomain: string, name: string): string {
  return `spiffe://${trustDomain}/operator/${name}`;
}

function isName(text: string | undefined): text is string {
  return text !== undefined && NAME.test(text);
}

/** The segments after the trust domain. */
function pathOf(certificate: DerCertificate, trustDomain: string): string[] {
  const x509 = read(certificate);
  if (x509.ca) throw refused("it is an authority's");
  // Node calls the extended key usages so; RFC 5280's key usage it does not tell.
  const usages: readonly string[] | undefined = x509.keyUsage;
  if (usages?.includes(CLIENT_AUTH) !== true) throw refused('its extended key usage is not clientAuth');
  const uris = alternativeNames(x509.subjectAltName ?? '').filter(({ type }) => type === 'URI');
  const [uri] = uris;
  if (uri === undefined || uris.length > 1) throw refused(`it has ${uris.length} URIs in its SAN, and not one`);
  const prefix = `spiffe://${trustDomain}/`;
  if (!uri.value.startsWith(prefix)) throw refused('its SPIFFE ID is of another trust domain');
  return uri.value.slice(prefix.length).split('/');
}

function read({ raw }: DerCertificate): X509Certificate {
  try {
    return new X509Certificate(raw);
  } catch (cause) {
    throw new ExhibitError('unauthenticated', 'The certificate cannot be read.', { cause });
  }
}

/**
 * Node's text of the SAN: `TYPE:VALUE` joined by `, `. Since CVE-2021-44532 a value with a comma, a quote, a backslash, a control
 * or a byte above 126 stands as a JSON string. No name of ours needs one, so a text with one, or of any other shape, is refused whole:
 * then no value can pass for two.
 */
export function alternativeNames(text: string): { type: string; value: string }[] {
  if (text === '') return [];
  if (text.length > MAX_SAN_LENGTH) throw refused('its SAN is too long');
  return text.split(', ').map((entry) => {
    const [, type, value] = /^(DNS|IP Address|URI|email|Registered ID):([!#-&(-+\--[\]-~]+)$/.exec(entry) ?? [];
    if (type === undefined || value === undefined)
      throw refused('its SAN has a name of a kind or with characters that none of ours has');
    return { type, value };
  });
}

function refused(why: string): ExhibitError {
  return new ExhibitError('unauthenticated', `The certificate is refused: ${why}.`);
}
