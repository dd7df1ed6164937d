import type { Logger } from 'pino';
import type { LogLevels } from '../agent/log-level.ts';
import { ExhibitError } from '../evidence/error.ts';
import { matchesAny } from '../evidence/wildcard.ts';
import type { Denials } from './custody/denials.ts';
import type { Caller, Place, Right } from './identity/identity.ts';
import { maySomewhere } from './identity/rights.ts';
import type { AgentLinks } from './link/link.ts';
import type { Lookups } from './link/lookups.ts';
import type { Store } from './store/store.ts';

/** What every call of the API works with. */
export interface Domain {
  readonly store: Store;
  /** Agents of this replica. */
  readonly links: Pick<AgentLinks, 'connected'>;
  /** Questions to the agents of all replicas. */
  readonly lookups: Pick<Lookups, 'lookup'>;
  readonly denials: Denials;
  readonly rules: CaptureRules;
  readonly now: () => number;
  readonly version: string;
  /** Absent where nobody may change them. */
  readonly levels?: LogLevels;
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

/** As a target's namespace: any of them, so that only a right over every namespace is enough. No namespace is named so. */
export const ANY_NAMESPACE = '*';

/** Whether it is worth asking the agents of this cluster: the right over some namespace there. */
export const mayIn = (caller: Caller, right: Right, cluster: string): boolean =>
  maySomewhere({ ...caller, grants: caller.grants.filter((grant) => matchesAny(grant.clusters, cluster)) }, right);

/** Patterns of the clusters where that may be so. */
export const clustersOf = (caller: Caller, right: Right): string[] => [
  ...new Set(
    caller.grants
      .filter((grant) => maySomewhere({ ...caller, grants: [grant] }, right))
      .flatMap(({ clusters }) => clusters),
  ),
];

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
    actor: caller.name,
    ...(captureId === undefined ? {} : { captureId }),
    ...(caseId === undefined ? {} : { caseId }),
    details: { call, by: caller.by, why, ...place },
  });
}
