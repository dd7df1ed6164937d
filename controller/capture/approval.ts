import { matchesAny } from '../../evidence/wildcard.ts';
import type { ApprovalRule } from '../domain.ts';
import type { Place } from '../identity/identity.ts';

/** The rule that makes captures of this place wait for a second person; undefined: none does. Pure. */
export function approvalFor(
  rules: readonly ApprovalRule[],
  place: Place,
  isProcess: boolean,
): ApprovalRule | undefined {
  return rules.find(
    ({ clusters, namespaces }) =>
      matchesAny(clusters, place.cluster) &&
      // A process may be of any namespace, so it is guarded as the best guarded one of its cluster.
      (isProcess || matchesAny(namespaces, place.namespace)),
  );
}
