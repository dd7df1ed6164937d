import { createPrivateKey, X509Certificate } from 'node:crypto';
import { lstat, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { isIP } from 'node:net';
import path from 'node:path';
import { agentUri, NAME, operatorUri, TRUST_DOMAIN } from '../../controller/identity/certificates.ts';
import { ExhibitError, explain, isErrno, isExhibitError } from '../../evidence/error.ts';
import { openNewFile } from '../new-file.ts';
import { type AlternativeName, issueAuthority, issueLeaf, type LeafSpec, type Pair } from './issue.ts';
import { issueRevocationList, type Revoked, readOwnList, serialOf } from './revoke.ts';

/**
 * A folder with three authorities and what they issued, for trials:
 *
 *     trust-domain
 *     agents/ operators/ controller/      each: ca.pem ca.key crl.pem issued/SERIAL.pem
 *     agents/nodes/CLUSTER/NODE.pem .key  operators/people/NAME.pem .key  controller/server.pem server.key
 *
 * Keys lie there unencrypted, mode 600. Nothing but revocation lists is ever overwritten.
 */

const AUTHORITIES = ['agents', 'operators', 'controller'] as const;
export type AuthorityName = (typeof AUTHORITIES)[number];

const DAY_MS = 24 * 3_600_000;
/** For a trial, and as long as a year's trial takes. */
const AUTHORITY_DAYS = 365;
/** Short, because a certificate that is renewed often needs no revocation. */
const LEAF_DAYS = 30;
/** Then nobody is let in before a new list is there; `exhibit pki crl` writes one. */
const LIST_DAYS = 30;
/** Clocks of nodes differ. */
const BACKDATED_MS = 5 * 60_000;
const USAGE = { agents: 'client', operators: 'client', controller: 'server' } as const;

export interface Files {
  readonly certFile: string;
  readonly keyFile: string;
  readonly serial: string;
  readonly notAfter: Date;
}

export interface IssueOptions {
  readonly days?: number;
  /** Path of the files without `.pem` and `.key`; its usual place unless told. */
  readonly out?: string;
  readonly now?: Date;
}

/** @throws ExhibitError `usage` when one is there already, or a name is none */
export async function initPki(
  folder: string,
  options: { readonly trustDomain: string; readonly names: readonly string[]; readonly now?: Date },
): Promise<Files> {
  const { trustDomain, names, now = new Date() } = options;
  if (!TRUST_DOMAIN.test(trustDomain)) throw new ExhibitError('usage', `${trustDomain} is no trust domain.`);
  // Before anything is made.
  names.forEach(alternativeName);
  await makeFolder(folder);
  for (const name of AUTHORITIES) {
    await makeFolder(path.join(folder, name, 'issued'));
    const pair = await issueAuthority({
      commonName: `exhibit ${name} (${trustDomain})`,
      usage: USAGE[name],
      ...(name === 'controller' ? {} : { trustDomain }),
      notBefore: new Date(now.getTime() - BACKDATED_MS),
      notAfter: new Date(now.getTime() + AUTHORITY_DAYS * DAY_MS),
    });
    await writePair(path.join(folder, name, 'ca'), pair);
    const list = { number: 1n, revoked: [], ...listTimes(now) };
    await write(path.join(folder, name, 'crl.pem'), await issueRevocationList(list, pair));
  }
  const files = await issueController(folder, names, { now });
  // Last: what is half made is not taken for a whole.
  await write(path.join(folder, 'trust-domain'), `${trustDomain}\n`);
  return files;
}

/** @throws ExhibitError `usage` */
export async function issueAgent(folder: string, cluster: string, node: string, options: IssueOptions): Promise<Files> {
  const uri = agentUri(await trustDomainOf(folder), { cluster: checkName(cluster), node: checkName(node) });
  const usual = path.join(folder, 'agents', 'nodes', cluster, node);
  return await issueInto(folder, 'agents', usual, { commonName: `node ${cluster}/${node}`, names: [{ uri }] }, options);
}

/** @throws ExhibitError `usage` */
export async function issueOperator(folder: string, name: string, options: IssueOptions): Promise<Files> {
  const uri = operatorUri(await trustDomainOf(folder), checkName(name));
  const usual = path.join(folder, 'operators', 'people', name);
  return await issueInto(folder, 'operators', usual, { commonName: `operator ${name}`, names: [{ uri }] }, options);
}

/** `names` are DNS names and addresses. @throws ExhibitError `usage` */
export async function issueController(folder: string, names: readonly string[], options: IssueOptions): Promise<Files> {
  if (names.length === 0) throw new ExhibitError('usage', 'Name at least one --san: how agents and people reach it.');
  const usual = path.join(folder, 'controller', 'server');
  const commonName = 'exhibit controller';
  return await issueInto(folder, 'controller', usual, { commonName, names: names.map(alternativeName) }, options);
}

/** Adds the certificate to its authority's list; one that is there already stays as it is. @throws ExhibitError `usage` */
export async function revoke(
  folder: string,
  fileOrSerial: string,
  now = new Date(),
): Promise<Listed & { authority: AuthorityName }> {
  const found = await findIssued(folder, fileOrSerial);
  await replaceList(folder, found.authority, now, (revoked) =>
    revoked.some(({ serial }) => serial === found.serial) ? revoked : [...revoked, { serial: found.serial, at: now }],
  );
  return found;
}

/** The same list with a new number and time. */
export async function renewLists(folder: string, now = new Date()): Promise<string[]> {
  await trustDomainOf(folder);
  return await Promise.all(AUTHORITIES.map((name) => replaceList(folder, name, now, (revoked) => revoked)));
}

export interface Listed {
  readonly serial: string;
  readonly names: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
}
export interface Shown {
  readonly authority: AuthorityName;
  readonly notAfter: Date;
  readonly fingerprint: string;
  readonly list: { readonly number: bigint; readonly nextUpdate: Date | undefined };
  readonly issued: readonly (Listed & { readonly revokedAt: Date | undefined })[];
}

export async function showPki(folder: string): Promise<Shown[]> {
  await trustDomainOf(folder);
  return await Promise.all(
    AUTHORITIES.map(async (authority) => {
      const certificate = certificateIn(await read(path.join(folder, authority, 'ca.pem')), 'ca.pem');
      const list = readOwnList(await read(path.join(folder, authority, 'crl.pem')));
      const issued = (await issuedBy(folder, authority)).map(listed).map((one) => ({
        ...one,
        revokedAt: list.revoked.find(({ serial }) => serial === one.serial)?.at,
      }));
      issued.sort((a, b) => a.notBefore.getTime() - b.notBefore.getTime() || a.serial.localeCompare(b.serial));
      const { number, nextUpdate } = list;
      const { fingerprint256: fingerprint, validToDate: notAfter } = certificate;
      return { authority, notAfter, fingerprint, list: { number, nextUpdate }, issued };
    }),
  );
}

export async function authority(folder: string, name: AuthorityName): Promise<Pair> {
  const files = [path.join(folder, name, 'ca.pem'), path.join(folder, name, 'ca.key')] as const;
  const [certificate, key] = await Promise.all(files.map(read));
  try {
    return { certificate: certificateIn(certificate ?? '', files[0]), key: createPrivateKey(key ?? '') };
  } catch (cause) {
    if (isExhibitError(cause)) throw cause;
    // OpenSSL's words could tell what is in the file.
    throw new ExhibitError('usage', `${files[1]} is no private key in PEM.`);
  }
}

async function issueInto(
  folder: string,
  by: AuthorityName,
  usual: string,
  who: Pick<LeafSpec, 'commonName' | 'names'>,
  { days = LEAF_DAYS, out = usual, now = new Date() }: IssueOptions,
): Promise<Files> {
  // Else what nobody gets would be listed as issued.
  for (const file of [`${out}.pem`, `${out}.key`]) await expectFree(file);
  const issuer = await authority(folder, by);
  // A certificate that outlives its authority is none.
  const notAfter = new Date(Math.min(daysAfter(now, days).getTime(), issuer.certificate.validToDate.getTime()));
  const notBefore = new Date(now.getTime() - BACKDATED_MS);
  // RFC 5280 bounds a common name at 64; it is for eyes only. OpenSSL takes one that could be a DNS name for one, which the name
  // constraints of our authorities refuse: a space keeps it from that.
  const spec = { ...who, commonName: who.commonName.slice(0, 64), usage: USAGE[by], notBefore, notAfter };
  const pair = await issueLeaf(spec, issuer);
  const serial = serialOf(pair.certificate);
  await makeFolder(path.dirname(out));
  // Known here before it can be used anywhere, so that it can be revoked.
  await write(path.join(folder, by, 'issued', `${serial}.pem`), pair.certificate.toString());
  return { ...(await writePair(out, pair)), serial, notAfter: pair.certificate.validToDate };
}

async function expectFree(file: string): Promise<void> {
  const isThere = await lstat(file).then(
    () => true,
    () => false,
  );
  if (isThere)
    throw new ExhibitError('usage', `${file} exists and is not overwritten: remove it or choose another --out.`);
}

async function writePair(prefix: string, { certificate, key }: Pair): Promise<{ certFile: string; keyFile: string }> {
  const keyFile = `${prefix}.key`;
  await write(keyFile, key.export({ format: 'pem', type: 'pkcs8' }).toString());
  try {
    await write(`${prefix}.pem`, certificate.toString());
  } catch (error) {
    await rm(keyFile);
    throw error;
  }
  return { certFile: `${prefix}.pem`, keyFile };
}

async function replaceList(
  folder: string,
  name: AuthorityName,
  now: Date,
  change: (revoked: Revoked[]) => Revoked[],
): Promise<string> {
  const file = path.join(folder, name, 'crl.pem');
  const next = `${file}.next`;
  // Two at once: the second finds the first one's file, and says so.
  await using made = await openNewFile(next, 'wait for the other one, if it runs');
  const { number, revoked } = readOwnList(await read(file));
  const spec = {
    number: number + 1n,
    revoked: change(revoked),
    ...listTimes(now),
  };
  await made.write(Buffer.from(await issueRevocationList(spec, await authority(folder, name))));
  await made.commit();
  await rename(next, file);
  return file;
}

function listTimes(now: Date): { thisUpdate: Date; nextUpdate: Date } {
  return { thisUpdate: new Date(now.getTime() - BACKDATED_MS), nextUpdate: daysAfter(now, LIST_DAYS) };
}

async function findIssued(folder: string, fileOrSerial: string): Promise<Listed & { authority: AuthorityName }> {
  await trustDomainOf(folder);
  const wanted = /^[0-9A-Fa-f:]+$/.test(fileOrSerial)
    ? serialOf(fileOrSerial.replaceAll(':', ''))
    : serialOf(certificateIn(await read(fileOrSerial), fileOrSerial));
  for (const name of AUTHORITIES) {
    const found = (await issuedBy(folder, name)).map(listed).find(({ serial }) => serial === wanted);
    if (found !== undefined) return { ...found, authority: name };
  }
  throw new ExhibitError('usage', `${fileOrSerial} was not issued by ${folder}: see \`exhibit pki show\`.`);
}

async function issuedBy(folder: string, name: AuthorityName): Promise<X509Certificate[]> {
  const issued = path.join(folder, name, 'issued');
  const files = (await readdir(issued)).filter((file) => file.endsWith('.pem'));
  return await Promise.all(files.map(async (file) => certificateIn(await read(path.join(issued, file)), file)));
}

function listed(certificate: X509Certificate): Listed {
  return {
    serial: serialOf(certificate),
    names: certificate.subjectAltName ?? '',
    notBefore: certificate.validFromDate,
    notAfter: certificate.validToDate,
  };
}

function certificateIn(pem: string, file: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new ExhibitError('usage', `${file} is no certificate in PEM.`, { cause });
  }
}

async function trustDomainOf(folder: string): Promise<string> {
  try {
    return (await readFile(path.join(folder, 'trust-domain'), 'utf8')).trim();
  } catch (cause) {
    if (!isErrno(cause, 'ENOENT', 'ENOTDIR')) throw new ExhibitError('usage', `Cannot read ${folder}`, { cause });
    throw new ExhibitError('usage', `${folder} is not made by \`exhibit pki init\`: name its folder with --pki.`, {
      cause,
    });
  }
}

/** Labels of DNS, the first one perhaps a star. */
const DNS_NAME =
  /^(?=.{1,253}$)(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$/;

function alternativeName(text: string): AlternativeName {
  if (isIP(text) !== 0 && !text.includes('%')) return { ip: text };
  if (DNS_NAME.test(text)) return { dns: text };
  throw new ExhibitError('usage', `${text} is neither a DNS name nor an address.`);
}

function checkName(text: string): string {
  if (NAME.test(text)) return text;
  throw new ExhibitError('usage', `${text} is no name: letters, digits, dots, dashes and underscores, up to 253.`);
}

function daysAfter(now: Date, days: number): Date {
  return new Date(now.getTime() + days * DAY_MS);
}

async function makeFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 }).catch((cause: unknown) => {
    throw new ExhibitError('usage', `${folder} cannot be made (${explain(cause)}).`, { cause });
  });
}

async function read(file: string): Promise<string> {
  return await readFile(file, 'latin1').catch((cause: unknown) => {
    throw new ExhibitError('usage', `Cannot read ${file} (${explain(cause)}).`, { cause });
  });
}

async function write(file: string, text: string): Promise<void> {
  await using made = await openNewFile(file, 'choose another folder');
  await made.write(Buffer.from(text));
  await made.commit();
}
