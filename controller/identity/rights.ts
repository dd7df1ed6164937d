import type { Caller, Place, Right, Role } from './identity.ts';

const NEEDS: Readonly<Record<Right, readonly Role[]>> = {
  see: ['viewer', 'responder', 'admin'],
  capture: ['responder', 'admin'],
  administer: ['admin'],
};

export function may(caller: Caller, right: Right, place: Place): boolean {
  return caller.grants.some(
    ({ role, clusters, namespaces }) =>
      NEEDS[right].includes(role) && matchesAny(clusters, place.cluster) && matchesAny(namespaces, place.namespace),
  );
}

export const matchesAny = (patterns: readonly string[], text: string): boolean =>
  patterns.some((pattern) => {
    const parts = pattern.split('*').map((part) => part.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&'));
    return new RegExp(`^${parts.join('.*')}$`, 's').test(text);
  });
