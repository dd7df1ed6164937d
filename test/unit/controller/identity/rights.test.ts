import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Caller, Grant, Place, Right, Role } from '../../../../controller/identity/identity.ts';
import { may, mayEverywhere, maySomewhere, PATTERN, visible } from '../../../../controller/identity/rights.ts';
import { matchesAny } from '../../../../evidence/wildcard.ts';

const caller = (...grants: Grant[]): Caller => ({ name: 'alice', by: 'certificate', grants });
const grant = (role: Role, clusters: string, namespaces: string): Grant => ({
  role,
  clusters: clusters.split(' '),
  namespaces: namespaces.split(' '),
});

describe('what a caller may do', () => {
  const cases: [Role, string, string, Right, string, string, boolean][] = [
    ['viewer', '*', '*', 'see', 'prod', 'web', true],
    ['viewer', '*', '*', 'capture', 'prod', 'web', false],
    ['viewer', '*', '*', 'administer', 'prod', 'web', false],
    ['responder', '*', '*', 'see', 'prod', 'web', true],
    ['responder', '*', '*', 'capture', 'prod', 'web', true],
    ['responder', '*', '*', 'administer', 'prod', 'web', false],
    ['admin', '*', '*', 'administer', 'prod', 'web', true],
    ['admin', '*', '*', 'capture', 'prod', '', true],
    ['responder', 'prod', 'web', 'capture', 'prod', 'web', true],
    ['responder', 'prod', 'web', 'capture', 'prod', 'web2', false],
    ['responder', 'prod', 'web', 'capture', 'Prod', 'web', false],
    ['responder', 'prod', 'web', 'capture', 'prod-eu', 'web', false],
    ['responder', 'prod-*', 'team-*', 'capture', 'prod-eu', 'team-a', true],
    ['responder', 'prod-*', 'team-*', 'capture', 'prod-', 'team-', true],
    ['responder', 'prod-*', 'team-*', 'capture', 'prod', 'team-a', false],
    ['responder', '*-eu dev', 'a b', 'capture', 'dev', 'b', true],
    ['responder', 'prod', 'w*', 'capture', 'prod', '', false],
    ['responder', 'prod', 'a b c', 'capture', 'prod', '', false],
    ['responder', 'prod', '*', 'capture', 'prod', '', true],
  ];
  test.each(cases)(
    '%s in %s, %s: %s at %s/%s is %s',
    (role, clusters, namespaces, right, cluster, namespace, answer) => {
      expect(may(caller(grant(role, clusters, namespaces)), right, { cluster, namespace })).toBe(answer);
    },
  );

  test('comes from one grant: cluster of one and namespace of another are not enough', () => {
    const both = caller(grant('responder', 'prod', 'web'), grant('responder', 'dev', '*'));
    expect(may(both, 'capture', { cluster: 'prod', namespace: 'db' })).toBe(false);
    expect(may(both, 'capture', { cluster: 'dev', namespace: 'db' })).toBe(true);
  });

  test('is nothing without a grant', () => {
    expect(may(caller(), 'see', { cluster: 'prod', namespace: 'web' })).toBe(false);
    expect(maySomewhere(caller(), 'see')).toBe(false);
    expect(visible(caller())).toEqual([]);
  });

  test('is everywhere only for stars in both', () => {
    expect(mayEverywhere(caller(grant('admin', '*', '*')), 'administer')).toBe(true);
    expect(mayEverywhere(caller(grant('admin', 'prod', '*'), grant('viewer', '*', '*')), 'administer')).toBe(false);
    expect(mayEverywhere(caller(grant('responder', '*', '*')), 'administer')).toBe(false);
    expect(maySomewhere(caller(grant('responder', 'prod', 'web')), 'capture')).toBe(true);
    expect(maySomewhere(caller(grant('viewer', 'prod', 'web')), 'capture')).toBe(false);
  });
});

const word = fc.stringMatching(/^[ab.-]{0,6}$/);
const pattern = fc.stringMatching(/^[ab.*-]{1,8}$/).filter((one) => PATTERN.test(one));
const anyGrant = fc.record({
  role: fc.constantFrom<Role>('viewer', 'responder', 'admin'),
  clusters: fc.array(pattern, { minLength: 1, maxLength: 3 }),
  namespaces: fc.array(pattern, { minLength: 1, maxLength: 3 }),
});
const anyCaller = fc.array(anyGrant, { maxLength: 4 }).map((grants) => caller(...grants));
const anyPlace = fc.record({ cluster: word.filter((one) => one !== ''), namespace: word });

describe('a pattern', () => {
  test.each(['', '**', 'a**b', 'a/b', 'a b', 'a?', '[a]', 'a'.repeat(254), 'ä', 'a\n'])('%j is none', (text) => {
    expect(PATTERN.test(text)).toBe(false);
  });
});

describe('what is visible', () => {
  const isVisible = (who: Caller, { cluster, namespace }: Place) =>
    visible(who)?.some(
      ({ clusters, namespaces }) => matchesAny(clusters, cluster) && matchesAny(namespaces, namespace),
    ) ?? true;

  test('is what may be seen, place by place', () => {
    fc.assert(
      fc.property(anyCaller, anyPlace, (who, place) => {
        expect(isVisible(who, place)).toBe(may(who, 'see', place));
      }),
      { numRuns: 2_000 },
    );
  });

  test('is wider than what may be captured, and that than what may be administered', () => {
    fc.assert(
      fc.property(anyCaller, anyPlace, (who, place) => {
        if (may(who, 'administer', place)) expect(may(who, 'capture', place)).toBe(true);
        if (may(who, 'capture', place)) expect(may(who, 'see', place)).toBe(true);
        expect(mayEverywhere(who, 'see') && !may(who, 'see', place)).toBe(false);
      }),
    );
  });

  test('grows with every grant', () => {
    fc.assert(
      fc.property(anyCaller, anyGrant, anyPlace, (who, more, place) => {
        const wider = caller(...who.grants, more);
        if (may(who, 'see', place)) expect(may(wider, 'see', place)).toBe(true);
      }),
    );
  });
});
