import { createHash, timingSafeEqual } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import { open } from 'node:fs/promises';
import type { IncomingHttpHeaders } from 'node:http';
import { ExhibitError, isExhibitError } from '../../evidence/error.ts';
import type { Credentials, Identity } from '../identity/identity.ts';
import type { SecretConfig } from './config.ts';

/** How a source proves that it is itself. Files are looked at with every request, so a secret is replaced by replacing its file. */
export interface SecretCheck {
  /** @throws ExhibitError `unauthenticated`, the same for a wrong secret and for none; `internal` when the file cannot be used */
  verify(headers: IncomingHttpHeaders, credentials: Credentials): Promise<void>;
}

/** Some lines of random characters. */
const MAX_FILE_BYTES = 16 * 1024;
/** What can be guessed in an hour is no secret. */
const MIN_SECRET_CHARS = 16;

export const unauthenticated = (): ExhibitError =>
  new ExhibitError('unauthenticated', 'The secret of this source is missing or wrong');

export function createSecretCheck(config: SecretConfig, identity: Identity): SecretCheck {
  if ('certificate' in config)
    return { verify: (_headers, credentials) => verifyCertificate(config, identity, credentials) };
  const file = secretFile('bearerFile' in config ? config.bearerFile : config.file);
  return {
    verify: async (headers) => {
      const given = presented(config, headers);
      const known = await file();
      // All are compared, whichever is right, so that the time tells nothing.
      const equal = known.map((digest) => timingSafeEqual(digest, sha256(given ?? '')));
      if (given === undefined || !equal.includes(true)) throw unauthenticated();
    },
  };
}

async function verifyCertificate(
  { certificate }: Extract<SecretConfig, { certificate: string }>,
  identity: Identity,
  credentials: Credentials,
): Promise<void> {
  if (credentials.certificate === undefined) throw unauthenticated();
  const { authorization: _, ...shown } = credentials;
  let caller: Awaited<ReturnType<Identity['authenticate']>>;
  try {
    caller = await identity.authenticate(shown);
  } catch (error) {
    if (isExhibitError(error, 'unauthenticated') || isExhibitError(error, 'forbidden')) throw unauthenticated();
    throw error;
  }
  if (caller.by !== 'certificate' || caller.name !== certificate) throw unauthenticated();
}

function presented(
  config: Exclude<SecretConfig, { certificate: string }>,
  headers: IncomingHttpHeaders,
): string | undefined {
  if ('bearerFile' in config) return /^Bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1];
  if ('header' in config) {
    const value = headers[config.header];
    return typeof value === 'string' ? value : undefined;
  }
  const basic = /^Basic +([A-Za-z0-9+/=]+) *$/i.exec(headers.authorization ?? '')?.[1];
  if (basic === undefined) return undefined;
  const [user, ...password] = Buffer.from(basic, 'base64').toString('utf8').split(':');
  return user === config.basicUser ? password.join(':') : undefined;
}

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();

/** Digests of the secrets in the file; read again when it is another one. */
function secretFile(path: string): () => Promise<readonly Buffer[]> {
  let seen = '';
  let digests: readonly Buffer[] = [];
  return async () => {
    try {
      await using handle = await open(path, 'r');
      const stats = await handle.stat({ bigint: true });
      const now = identityOf(stats);
      if (now === seen) return digests;
      if (!stats.isFile() || stats.size > BigInt(MAX_FILE_BYTES))
        throw new ExhibitError('config', 'It is no small file');
      const lines = (await handle.readFile('utf8')).split('\n').map((line) => line.trim());
      const secrets = lines.filter((line) => line !== '');
      if (secrets.length === 0 || secrets.some((line) => line.length < MIN_SECRET_CHARS)) {
        throw new ExhibitError('config', `It holds no secret, or one of less than ${MIN_SECRET_CHARS} characters`);
      }
      digests = secrets.map(sha256);
      seen = now;
      return digests;
    } catch (cause) {
      throw new ExhibitError('internal', "The secret of this source cannot be read; the controller's log says why", {
        cause: new SecretFileError(path, cause),
      });
    }
  };
}

const identityOf = ({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string =>
  [dev, ino, size, mtimeNs, ctimeNs].join(' ');

/** For the log alone: a caller is not told where files are. */
export class SecretFileError extends Error {
  readonly path: string;

  constructor(path: string, cause: unknown) {
    super('', { cause });
    this.path = path;
  }
}
