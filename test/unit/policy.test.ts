import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Asked,
  HISTORY_ENTRIES,
  HISTORY_MS,
  judge,
  matchesPattern,
  type PastCapture,
  type Policy,
  policySchema,
  type Rules,
  TRIGGERS,
  type Verdict,
} from '../../agent/policy.ts';
import { ARTIFACTS } from '../../evidence/layout.ts';

const NOW = 1_800_000_000_000;
const asked: Asked = {
  trigger: 'controller',
  target: { namespaces: ['prod'] },
  artifacts: ['processes', 'memory', 'checkpoint'],
  artifactsByDefault: false,
  sinks: ['vault', 'mirror'],
  sinksByDefault: true,
  freezing: ['memory', 'checkpoint'],
  freezeDeadlineMs: 10_000,
};
const past = (over: Partial<PastCapture> = {}): PastCapture => ({
  trigger: 'socket',
  startedAtMs: NOW - 60_000,
  endedAtMs: NOW - 50_000,
  pausedMs: 100,
  ...over,
});
const ruling = (policy: Policy, over: Partial<Asked> = {}, history: PastCapture[] = []): string => {
  const verdict = judge(policySchema.parse(policy), { ...asked, ...over }, history, NOW);
  return verdict.kind === 'refused' ? `${verdict.rule}: ${verdict.why}` : 'admitted';
};

describe('a pattern of namespaces', () => {
  test.each([
    ['prod', 'prod', true],
    ['prod', 'prod-eu', false],
    ['*', 'kube-system', true],
    ['kube-*', 'kube-system', true],
    ['kube-*', 'kub', false],
    ['*-eu', 'prod-eu', true],
    ['a*b*c', 'a1b2c', true],
    ['a*b*c', 'acb', false],
    ['ab*ba', 'aba', false],
    ['*a*', 'bbb', false],
    ['kube.system', 'kube-system', false],
  ])('%s over %s is %s', (pattern, name, fits) => {
    expect(matchesPattern(name, pattern)).toBe(fits);
  });

  test('is as slow as its text is long, however many stars it has', () => {
    expect(matchesPattern('a'.repeat(100_000), `${'*a'.repeat(31)}b`)).toBe(false);
  });
});

describe('the policy', () => {
  test('admits everything where it says nothing', () => {
    expect(judge({}, asked, [past()], NOW)).toEqual({
      kind: 'admitted',
      artifacts: asked.artifacts,
      left: new Map(),
      sinks: ['vault', 'mirror'],
      freezeDeadlineMs: 10_000,
    });
  });

  const denied: Policy = { namespaces: { deny: ['kube-*'] } };
  const only: Policy = { namespaces: { allow: ['prod', 'shop-*'] } };
  test.each<[string, Policy, Partial<Asked>, string]>([
    [
      'a denied namespace',
      denied,
      { target: { namespaces: ['kube-system'] } },
      'policy.namespaces.deny: it has kube-*',
    ],
    ['what is allowed and denied', { namespaces: { allow: ['*'], deny: ['prod'] } }, {}, 'policy.namespaces.deny'],
    ['what is not allowed', only, { target: { namespaces: ['dev'] } }, 'policy.namespaces.allow'],
    ['an empty list', { namespaces: { allow: [] } }, {}, 'policy.namespaces.allow'],
    [
      'a process tree with a denied pod in it',
      denied,
      { target: { namespaces: ['prod', 'kube-system'], outside: 'a process-tree' } },
      'policy.namespaces.deny',
    ],
    [
      'what nobody can say anything about',
      denied,
      { target: { namespaces: [], outside: 'a cgroup', unknown: 'cannot be learned' } },
      'policy.namespaces: ',
    ],
    [
      'a process where only pods are allowed',
      { outsideKubernetes: 'refuse' },
      { target: { namespaces: [], outside: 'a process-tree' } },
      'policy.outsideKubernetes',
    ],
    [
      'a named artifact',
      { artifacts: ['processes'] },
      {},
      'policy.artifacts: it does not allow the artifact memory, checkpoint',
    ],
    [
      'a named sink',
      { sinks: ['vault'] },
      { sinksByDefault: false },
      'policy.sinks: it does not allow the sink mirror',
    ],
    ['every default sink', { sinks: [] }, {}, 'policy.sinks'],
    ['every default artifact', { artifacts: ['image'] }, { artifactsByDefault: true }, 'policy.artifacts'],
    [
      "a trigger's own rule",
      { triggers: { controller: { namespaces: { deny: ['prod'] } } } },
      {},
      'policy.triggers.controller.namespaces.deny',
    ],
  ])('refuses %s', (_, policy, over, rule) => {
    expect(ruling(policy, over)).toContain(rule);
  });

  test.each<[string, Policy, Partial<Asked>]>([
    ['an allowed namespace', only, { target: { namespaces: ['shop-eu'] } }],
    ['a process outside every pod', denied, { target: { namespaces: [], outside: 'a process-tree' } }],
    ['what is unknown where it does not matter', {}, { target: { namespaces: [], unknown: 'gone' } }],
    ["another trigger's narrowing", { triggers: { socket: { artifacts: [] } } }, {}],
  ])('admits %s', (_, policy, over) => {
    expect(ruling(policy, over)).toBe('admitted');
  });

  test('narrows what the request left open, and says what it left out', () => {
    const policy: Policy = { artifacts: ['processes', 'memory'], sinks: ['mirror'] };
    expect(judge(policy, { ...asked, artifactsByDefault: true }, [], NOW)).toMatchObject({
      artifacts: ['processes', 'memory'],
      left: new Map([['checkpoint', 'policy.artifacts does not allow it']]),
      sinks: ['mirror'],
    });
  });
});

describe('the budget of freezes', () => {
  const budget = (perHourMs: number, whenSpent?: 'refuse' | 'live'): Policy => ({
    freeze: { perHourMs, ...(whenSpent && { whenSpent }) },
  });

  test('shortens the deadline to what one capture may take, and to what is left of the hour', () => {
    const deadline = (policy: Policy, history: PastCapture[] = []) => {
      const verdict = judge(policy, asked, history, NOW);
      return verdict.kind === 'admitted' ? verdict.freezeDeadlineMs : verdict.rule;
    };
    expect(deadline({ freeze: { perCaptureMs: 300 } })).toBe(300);
    expect(deadline({ freeze: { perCaptureMs: 60_000 } })).toBe(10_000);
    expect(deadline(budget(5000), [past({ pausedMs: 4500 })])).toBe(500);
    expect(deadline(budget(5000), [past({ pausedMs: 4990 })])).toBe(10);
    expect(deadline(budget(5000), [past({ pausedMs: 4990.5 })])).toBe('policy.freeze.perHourMs');
  });

  test('counts the hour alone, and what may still be spent by those that run', () => {
    const old = past({ startedAtMs: NOW - 2 * HISTORY_MS, endedAtMs: NOW - HISTORY_MS, pausedMs: 9000 });
    expect(ruling(budget(1000), {}, [old])).toBe('admitted');
    expect(ruling(budget(1000), {}, [{ ...old, endedAtMs: NOW - HISTORY_MS + 1 }])).toContain('took 9000');
    expect(ruling(budget(1000), {}, [{ ...old, endedAtMs: undefined }])).toContain('took 9000');
    // A clock that was set back makes nothing free.
    expect(
      ruling(budget(1000), {}, [past({ startedAtMs: NOW + 1e6, endedAtMs: NOW + 1e6, pausedMs: 9000 })]),
    ).toContain('took 9000');
  });

  test('lets be what stops nothing', () => {
    expect(ruling(budget(0), { freezing: [] })).toBe('admitted');
    expect(ruling(budget(0), { artifacts: ['processes'] })).toBe('admitted');
  });

  test('goes live where the policy says so, without a checkpoint', () => {
    expect(judge(budget(0, 'live'), asked, [], NOW)).toMatchObject({
      artifacts: ['processes', 'memory'],
      left: new Map([['checkpoint', expect.stringContaining('it cannot be made live')]]),
      live: expect.stringContaining('policy.freeze.perHourMs is 0'),
    });
    expect(ruling(budget(0, 'live'), { artifacts: ['checkpoint'], freezing: ['checkpoint'] })).toContain('perHourMs');
  });

  test('is of all triggers, and a trigger has one of its own', () => {
    const policy: Policy = { triggers: { controller: { freeze: { perHourMs: 1000 } } } };
    expect(ruling(policy, {}, [past({ pausedMs: 5000 })])).toBe('admitted');
    expect(ruling(policy, {}, [past({ trigger: 'controller', pausedMs: 5000 })])).toContain(
      'policy.triggers.controller.freeze.perHourMs',
    );
    expect(ruling(budget(1000), {}, [past({ pausedMs: 5000 })])).toContain('policy.freeze.perHourMs');
  });
});

describe('the rate', () => {
  test('counts what began, and what runs', () => {
    const policy: Policy = { rate: { captures: 2, perMs: 120_000, concurrent: 1 } };
    expect(ruling(policy, {}, [past()])).toBe('admitted');
    expect(ruling(policy, {}, [past(), past()])).toContain('policy.rate: it allows 2 in 120 s');
    expect(ruling(policy, {}, [past(), past({ startedAtMs: NOW - 120_000 })])).toBe('admitted');
    expect(ruling(policy, {}, [past({ endedAtMs: undefined })])).toContain('policy.rate.concurrent: it is 1');
  });

  test('ends where the journal cannot account for more', () => {
    const many = Array.from({ length: HISTORY_ENTRIES }, () => past());
    expect(ruling({}, {}, many)).toContain('more than the journal can account for');
    expect(ruling({}, {}, many.slice(1))).toBe('admitted');
  });
});

describe('a policy with one more rule', () => {
  const namespaces = ['prod', 'dev', 'kube-system'];
  const sinks = ['vault', 'mirror'];
  const optional = <T>(one: fc.Arbitrary<T>) => fc.option(one, { nil: undefined });
  const rules = fc.record({
    namespaces: optional(
      fc.record(
        { allow: fc.subarray([...namespaces, '*', '*-*']), deny: fc.subarray([...namespaces, 'kube-*']) },
        { requiredKeys: [] },
      ),
    ),
    outsideKubernetes: optional(fc.constantFrom('allow' as const, 'refuse' as const)),
    artifacts: optional(fc.subarray([...ARTIFACTS])),
    sinks: optional(fc.subarray(sinks)),
    freeze: optional(
      fc.record(
        { perCaptureMs: fc.integer({ min: 10, max: 60_000 }), perHourMs: fc.nat(60_000) },
        { requiredKeys: [] },
      ),
    ),
    rate: optional(
      fc.record({ captures: fc.integer({ min: 1, max: 5 }), perMs: fc.integer({ min: 1000, max: HISTORY_MS }) }),
    ),
  }) as fc.Arbitrary<Rules>;
  const request: fc.Arbitrary<Asked> = fc.record({
    trigger: fc.constantFrom(...TRIGGERS),
    target: fc.record(
      { namespaces: fc.subarray(namespaces), outside: fc.constant('a cgroup'), unknown: fc.constant('is not known') },
      { requiredKeys: ['namespaces'] },
    ) as fc.Arbitrary<Asked['target']>,
    artifacts: fc.subarray([...ARTIFACTS], { minLength: 1 }),
    artifactsByDefault: fc.boolean(),
    sinks: fc.subarray(sinks, { minLength: 1 }),
    sinksByDefault: fc.boolean(),
    freezing: fc.subarray(['memory' as const, 'checkpoint' as const]),
    freezeDeadlineMs: fc.integer({ min: 10, max: 60_000 }),
  });
  const history = fc.array(
    fc.record({
      trigger: optional(fc.constantFrom(...TRIGGERS)),
      startedAtMs: fc.integer({ min: NOW - HISTORY_MS, max: NOW }),
      endedAtMs: optional(fc.integer({ min: NOW - 2 * HISTORY_MS, max: NOW })),
      pausedMs: fc.nat(20_000),
    }),
    { maxLength: 5 },
  );
  const isWithin = (inner: readonly string[], outer: readonly string[]) => inner.every((one) => outer.includes(one));

  function allowsNoMore(narrow: Verdict, wide: Verdict): boolean {
    if (narrow.kind === 'refused') return true;
    return (
      wide.kind === 'admitted' &&
      isWithin(narrow.artifacts, wide.artifacts) &&
      isWithin(narrow.sinks, wide.sinks) &&
      narrow.freezeDeadlineMs <= wide.freezeDeadlineMs
    );
  }

  test('never allows more than without it', () => {
    fc.assert(
      fc.property(rules, rules, fc.constantFrom(...TRIGGERS), request, history, (common, own, trigger, one, before) => {
        const wide = judge(common, one, before, NOW);
        const narrow = judge({ ...common, triggers: { [trigger]: own } }, one, before, NOW);
        return allowsNoMore(narrow, wide);
      }),
      { numRuns: 2000 },
    );
  });

  test('admits nothing that was not asked for', () => {
    fc.assert(
      fc.property(rules, request, history, (common, one, before) => {
        const verdict = judge(common, one, before, NOW);
        if (verdict.kind === 'refused') return true;
        const all = [...verdict.artifacts, ...verdict.left.keys()];
        return (
          isWithin(verdict.sinks, one.sinks) && all.length === one.artifacts.length && isWithin(all, one.artifacts)
        );
      }),
      { numRuns: 1000 },
    );
  });
});
