import type { LogLevelState } from '../agent/log-level.ts';
import { ExhibitError } from '../evidence/error.ts';
import type { SetLogLevelRequest__Output } from '../proto/gen/exhibit/v1/SetLogLevelRequest.ts';
import type { CallContext } from './api/api.ts';
import { type Domain, forbidden } from './domain.ts';
import type { Caller } from './identity/identity.ts';
import { mayEverywhere } from './identity/rights.ts';

/** How much this replica logs; for admins of everything, since a log tells of every cluster. */

export async function getLogLevel(domain: Domain, _request: unknown, { caller }: CallContext): Promise<LogLevelState> {
  return levelsFor(domain, 'GetLogLevel', caller).now();
}

/** In the audit log first: what cannot be written down there is not done. */
export async function setLogLevel(
  domain: Domain,
  { level, forMs }: SetLogLevelRequest__Output,
  { caller }: CallContext,
): Promise<LogLevelState> {
  const levels = levelsFor(domain, 'SetLogLevel', caller);
  levels.check(level, forMs);
  const details = { from: levels.now().level, level, forMs };
  await domain.store.appendAudit([{ atMs: domain.now(), actor: caller.name, action: 'log-level.set', details }]);
  return levels.set(level, forMs, caller.name);
}

function levelsFor(domain: Domain, call: string, caller: Caller) {
  if (!mayEverywhere(caller, 'administer')) {
    const why = 'The log level is for admins of every cluster and namespace';
    throw forbidden(domain, { caller, call, why });
  }
  if (domain.levels === undefined)
    throw new ExhibitError('internal', 'This controller was started without a way to change its log level');
  return domain.levels;
}
