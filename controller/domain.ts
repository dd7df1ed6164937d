import type { Logger } from 'pino';
import { ExhibitError } from '../evidence/error.ts';
import type { Denials } from './custody/denials.ts';
import type { Caller, Place, Right } from './identity/identity.ts';
import { may } from './identity/rights.ts';
import type { AgentLinks } from './link/link.ts';
import type { CaptureFilter, Store } from './store/store.ts';

/** What every call of the API works with. */
export interface Domain {
  readonly store: Store;
  readonly links: AgentLinks;
  readonly denials: Denials;
  readonly rules: CaptureRules;
  readonly now: () => number;
  readonly version: string;
  readonly log: Logger;
}

export interface CaptureRules {
  /** The first that matches the target's place. */
  readonly approvals: readonly ApprovalRule[];
  /** A command that could not be sent for so long is sent no more. */
  readonly expiresMs: number;
}

/** Captures there wait for a second person. Patterns with `*`. */
export interface ApprovalRule {
  readonly clusters: readonly string[];
  readonly namespaces: readonly string[];
  /** Who does not approve for so long, does not want it. */
  readonly expiresMs: number;
}

/** The place that only grants over every namespace match: for what is not of one namespace. No namespace is named so. */
export const ANY_NAMESPACE = '*';
/** The same for clusters. */
const ANY_CLUSTER = '*';

/** Right over every cluster and namespace. */
export const mayEverywhere = (caller: Caller, right: Right): boolean =>
  may(caller, right, { cluster: ANY_CLUSTER, namespace: ANY_NAMESPACE });

/** Right over some namespace of the cluster; of any cluster, without one. */
export const maySomewhere = (caller: Caller, right: Right, cluster?: string): boolean =>
  caller.grants.some((grant) => {
    const widened = { ...grant, namespaces: ['*'], ...(cluster === undefined ? { clusters: ['*'] } : {}) };
    return may({ ...caller, grants: [widened] }, right, { cluster: cluster ?? '', namespace: '' });
  });

/** Every role may see where it holds. Undefined: everything. */
export function visibleTo(caller: Caller): CaptureFilter['visible'] {
  return mayEverywhere(caller, 'see') ? undefined : caller.grants;
}

/** The name in the audit log. */
export const actorOf = (caller: Caller): string => (caller.by === 'alert' ? `alert ${caller.name}` : caller.name);

export interface Denied {
  readonly caller: Caller;
  /** The call. */
  readonly call: string;
  readonly captureId?: string;
  readonly caseId?: string;
  readonly place?: Place;
  readonly why: string;
}

/** Writes the denial down and gives the error to throw. */
export function forbidden(domain: Domain, denied: Denied): ExhibitError {
  denyQuietly(domain, denied);
  return new ExhibitError('forbidden', denied.why);
}

/** For what is told to the caller as not being there. */
export function denyQuietly({ denials }: Domain, { caller, call, captureId, caseId, place, why }: Denied): void {
  denials.record({
    actor: actorOf(caller),
    ...(captureId === undefined ? {} : { captureId }),
    ...(caseId === undefined ? {} : { caseId }),
    details: { call, by: caller.by, why, ...place },
  });
}
