import type { Logger } from 'pino';
import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import { createBoundedLog } from '../tls/words.ts';
import { operatorName } from './certificates.ts';
import type { Caller, Credentials, Grant, Identity } from './identity.ts';
import { createTokenCheck, type TokenCheckOptions } from './oidc.ts';
import { aliasesOf, grantsOfCertificate, grantsOfClaims, type IdentityConfig, nameOfToken } from './operators.ts';
import { createFailures } from './rate.ts';

/** The same for everybody who is not let in: a stranger learns neither who is known nor how near they came. */
const UNKNOWN =
  'The controller does not know you: show a client certificate or an OIDC token of an operator. Its log says why.';

/**
 * Who calls, by a certificate that TLS has verified or by a token. Who shows both is refused: the audit log names one person,
 * and which one that is must not depend on which of the two the reader thinks of.
 */
export function createIdentity(config: IdentityConfig, log: Logger, options: TokenCheckOptions = {}): Identity {
  const tokens = createTokenCheck(config.issuers, options);
  const failures = createFailures(options.now);
  const told = createBoundedLog(log);

  const byCertificate = (raw: Uint8Array): Caller => {
    const name = operatorName({ raw }, config.trustDomain);
    const grants = grantsOfCertificate(config.operators, name);
    return known({ name, by: 'certificate', grants, aliases: aliasesOf(config.operators, name) });
  };
  const byToken = async (authorization: string): Promise<Caller> => {
    // RFC 6750, 2.1; the scheme in any case, RFC 9110, 11.1.
    const token = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(authorization)?.[1];
    if (token === undefined) throw new ExhibitError('unauthenticated', 'authorization is no bearer token');
    const claims = await tokens.claims(token);
    const grants = grantsOfClaims(config.operators, claims);
    const name = nameOfToken(claims);
    return known({ name, by: 'oidc', grants, aliases: aliasesOf(config.operators, name) });
  };

  return {
    async authenticate({ certificate, authorization, peer }: Credentials) {
      // Only tokens cost something to look at; a certificate cost its owner a handshake.
      if (authorization !== undefined) failures.check(peer);
      try {
        if (certificate !== undefined && authorization !== undefined) throw both();
        if (certificate !== undefined) return byCertificate(certificate.raw);
        if (authorization !== undefined) return await byToken(authorization);
        throw new ExhibitError('unauthenticated', 'there is neither a certificate nor a token');
      } catch (error) {
        if (authorization !== undefined) failures.count(peer);
        told.warn({ peer, reason: explain(error) }, 'a caller is not known');
        if (!isExhibitError(error, 'unauthenticated')) throw error;
        throw error.message === BOTH ? error : new ExhibitError('unauthenticated', UNKNOWN);
      }
    },
  };
}

/** It tells of the call alone, and nothing of who is known. */
const BOTH = 'Show a client certificate or a token, not both: it must be plain who calls.';

function both(): ExhibitError {
  return new ExhibitError('unauthenticated', BOTH);
}

function known(caller: {
  readonly name: string;
  readonly by: 'certificate' | 'oidc';
  readonly grants: readonly Grant[];
  readonly aliases: readonly string[];
}): Caller {
  if (caller.grants.length > 0) return caller;
  throw new ExhibitError('unauthenticated', `no operator of the configuration is ${caller.name.slice(0, 300)}`);
}
