import { matchesAny } from '../../evidence/wildcard.ts';
import type { CaptureFilter } from '../store/store.ts';
import type { Caller, Grant, Place, Right, Role } from './identity.ts';

/** Who may do what, where. Pure: the same for the API, its lists and its webhooks. */

/** Each role includes the one before. */
const RIGHTS: Readonly<Record<Role, readonly Right[]>> = {
  viewer: ['see'],
  responder: ['see', 'capture'],
  admin: ['see', 'capture', 'administer'],
};

const EVERYTHING = '*';

/**
 * What a grant's lists may hold: characters of names, and `*` for any run of characters. Two stars side by side say no more than one, and
 * `**` would have to be told from the `*` that names outside Kubernetes need.
 */
export const PATTERN = /^(?!.*\*\*)[A-Za-z0-9._*-]{1,253}$/;

/** May this be done at this place? A target outside Kubernetes (namespace '') needs the namespace pattern `*`. */
export function may(caller: Caller, right: Right, place: Place): boolean {
  return caller.grants.some(
    (grant) =>
      RIGHTS[grant.role].includes(right) &&
      matchesAny(grant.clusters, place.cluster) &&
      matchesAny(grant.namespaces, place.namespace),
  );
}

/** In every cluster and namespace, those to come too: what belongs to no place (the whole audit log, cases without captures). */
export function mayEverywhere(caller: Caller, right: Right): boolean {
  return caller.grants.some((grant) => RIGHTS[grant.role].includes(right) && isEverywhere(grant));
}

/** At one place at least: whether a question is worth asking. */
export function maySomewhere(caller: Caller, right: Right): boolean {
  return caller.grants.some(
    ({ role, clusters, namespaces }) => RIGHTS[role].includes(right) && clusters.length > 0 && namespaces.length > 0,
  );
}

/** For `CaptureFilter.visible`: undefined is everything, an empty list nothing. */
export function visible(caller: Caller): NonNullable<CaptureFilter['visible']> | undefined {
  if (mayEverywhere(caller, 'see')) return undefined;
  return caller.grants
    .filter(({ role }) => RIGHTS[role].includes('see'))
    .map(({ clusters, namespaces }) => ({ clusters, namespaces }));
}

function isEverywhere({ clusters, namespaces }: Grant): boolean {
  return clusters.includes(EVERYTHING) && namespaces.includes(EVERYTHING);
}
