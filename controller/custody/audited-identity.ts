import { ExhibitError, isExhibitError } from '../../evidence/error.ts';
import type { Identity } from '../identity/identity.ts';
import type { Denials } from './denials.ts';

/** Whom nobody knows, in the audit log. */
const STRANGER = 'unauthenticated';

/** Writes down who was not let in. The caller hears the sentence alone: causes are what a library found wrong with a token. */
export function auditedIdentity(identity: Identity, denials: Denials): Identity {
  return {
    async authenticate(credentials) {
      try {
        return await identity.authenticate(credentials);
      } catch (error) {
        if (!isExhibitError(error, 'unauthenticated')) throw error;
        denials.record({ actor: STRANGER, details: { peer: withoutPort(credentials.peer), why: error.message } });
        throw new ExhibitError('unauthenticated', error.message);
      }
    },
  };
}

/** Each connection has another port: one address is one kind of denial. */
const withoutPort = (peer: string): string => peer.replace(/:\d+$/, '');
