import { readFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readAlertmanager } from '../../../../controller/alerts/alertmanager.ts';
import { alertsSchema, type SourceConfig } from '../../../../controller/alerts/config.ts';
import { readFalco } from '../../../../controller/alerts/falco.ts';
import { readGuardDuty } from '../../../../controller/alerts/guardduty.ts';
import { decide } from '../../../../controller/alerts/rules.ts';
import { fillCase, fillReason, fillTarget, shown } from '../../../../controller/alerts/template.ts';

const sample = (name: string): unknown =>
  JSON.parse(readFileSync(path.join(import.meta.dirname, `../../fixtures/alerts/${name}.json`), 'utf8'));
/** Half a minute after the samples. */
const NOW_MS = Date.parse('2026-11-20T10:00:30Z');
const ID = '3ad7b26ded6d8e7b23da7d48fe889434573036c27ae5a74837233de441c3601e';

const config = (rules: object[], more: object = {}) =>
  alertsSchema.parse({
    sources: {
      falco: {
        kind: 'falco',
        secret: { bearerFile: '/secret' },
        clusterFrom: 'cluster',
        nodeFrom: 'hostname',
        grants: [{ clusters: ['*'], namespaces: ['*'] }],
      },
      prometheus: {
        kind: 'alertmanager',
        secret: { bearerFile: '/secret' },
        clusterFrom: 'cluster',
        grants: [{ clusters: ['*'], namespaces: ['*'] }],
      },
      aws: {
        kind: 'guardduty',
        secret: { header: 'x-api-key', file: '/secret' },
        clusterNames: { 'shop-eks': 'prod' },
        grants: [{ clusters: ['*'], namespaces: ['*'] }],
      },
    },
    rules,
    ...more,
  });
const { sources } = config([]);
const source = (name: string): SourceConfig => {
  const found = sources[name];
  if (found === undefined) throw new Error(`no source ${name}`);
  return found;
};
const only = <One>(list: readonly One[]): One => {
  const [one] = list;
  if (one === undefined || list.length !== 1) throw new Error(`expected one, not ${list.length}`);
  return one;
};
const falco = () => only(readFalco(sample('falco-shell'), source('falco')));
const capture = { capture: {} };

describe('a payload', () => {
  test('of falcosidekick names its container, pod, node and cluster', () => {
    expect(falco()).toMatchObject({
      id: '5f0c9e0a-7c34-4c2b-9a55-6d1c5b6a9e01',
      rule: 'Terminal shell in container',
      priority: 5,
      atMs: Date.parse('2026-11-20T10:00:00.123Z'),
      cluster: 'prod',
      node: 'ip-10-0-1-23.eu-west-1.compute.internal',
      namespace: 'shop',
      pod: 'web-0',
      containerIds: ['3ad7b26ded6d'],
    });
    expect(falco().tags).toContain('mitre_execution');
  });

  test('of falcosidekick about the host names nothing that could be captured', () => {
    const host = only(readFalco(sample('falco-host'), source('falco')));
    expect(host).toMatchObject({ containerIds: [], namespace: '', pod: '', cluster: '' });
  });

  test('of Alertmanager has an alert for each of the group, and says which are over', () => {
    const alerts = readAlertmanager(sample('alertmanager-group'), source('prometheus'));
    expect(alerts.map(({ pod, container, over }) => [pod, container, over])).toEqual([
      ['web-0', 'app', undefined],
      ['web-1', '', undefined],
      ['web-2', '', 'it does not fire any more'],
    ]);
    expect(alerts[0]).toMatchObject({
      rule: 'CryptoMinerSuspected',
      priority: 2,
      namespace: 'shop',
      cluster: 'prod',
      id: 'c6eadffa33fcdf37 2026-11-20T09:59:12.345Z',
    });
  });

  test('of GuardDuty names the container of a runtime finding, by the name that agents give the cluster', () => {
    expect(only(readGuardDuty(sample('guardduty-runtime'), source('aws')))).toMatchObject({
      rule: 'Execution:Runtime/NewBinaryExecuted',
      severity: 5,
      cluster: 'prod',
      namespace: 'shop',
      pod: 'web-0',
      containerIds: [ID],
      workload: '',
    });
  });

  test('of GuardDuty names the workload of an audit log finding, and several come in a list', () => {
    const alerts = readGuardDuty([sample('guardduty-audit'), sample('guardduty-runtime')], source('aws'));
    expect(alerts).toHaveLength(2);
    expect(alerts[0]).toMatchObject({ workload: 'miner', pod: '', containerIds: [] });
    expect(alerts[0]?.fields.get('user')).toBe('deployer');
  });

  test.each([
    ['falco', readFalco],
    ['prometheus', readAlertmanager],
    ['aws', readGuardDuty],
  ])('for %s that is anything at all is read or refused in words', (name, read) => {
    fc.assert(
      fc.property(fc.jsonValue(), (body) => {
        try {
          for (const alert of read(body, source(name))) expect(typeof alert.rule).toBe('string');
        } catch (error) {
          expect(error).toMatchObject({ code: 'usage' });
        }
      }),
    );
  });

  test('for Falco with anything in its fields is read', () => {
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.constantFrom('rule', 'time', 'priority', 'tags', 'output_fields', 'uuid', 'hostname'),
          fc.jsonValue(),
        ),
        (body) => {
          const alert = only(readFalco(body, source('falco')));
          expect([...alert.fields.values(), ...alert.tags].every((value) => typeof value === 'string')).toBe(true);
        },
      ),
    );
  });
});

describe('a rule', () => {
  const decided = (match: object, doing: object = capture, alert = falco()) =>
    decide(alert, source('falco'), 'falco', config([{ name: 'one', match, do: doing }]).rules, NOW_MS);

  test.each([
    [{}, true],
    [{ source: 'falco' }, true],
    [{ source: 'aws*' }, false],
    [{ rule: 'Terminal shell*' }, true],
    [{ rule: 'terminal shell*' }, false],
    [{ priority: 'notice' }, true],
    [{ priority: 'debug' }, true],
    [{ priority: 'warning' }, false],
    [{ severity: 1 }, false],
    [{ clusters: ['dev', 'pro*'] }, true],
    [{ namespaces: ['kube-*'] }, false],
    [{ labels: { 'proc.exepath': '/usr/bin/*' } }, true],
    [{ labels: { 'proc.exepath': '/tmp/*' } }, false],
    [{ labels: { missing: '*' } }, false],
    [{ tags: ['mitre_*', 'shell'] }, true],
    [{ tags: ['mitre_*', 'network'] }, false],
  ])('with the match %j fits: %j', (match, fits) => {
    expect(decided(match).kind).toBe(fits ? 'capture' : 'ignore');
  });

  test('captures the container, on the node that the alert names', () => {
    expect(decided({})).toMatchObject({ kind: 'capture', targets: [{ target: '3ad7b26ded6d', maxTargets: 1 }] });
  });

  test('captures the pod where its scope says so, and knows the pod when the container is gone', () => {
    expect(decided({}, { capture: { scope: 'pod' } })).toMatchObject({ targets: [{ target: 'shop/web-0' }] });
    expect(decided({}, { capture: { whenGone: 'pod' } })).toMatchObject({
      targets: [{ target: '3ad7b26ded6d', pod: 'shop/web-0' }],
    });
  });

  test('finds a workload by a label where it is told how', () => {
    const audit = only(readGuardDuty(sample('guardduty-audit'), source('aws')));
    expect(decided({}, capture, audit)).toMatchObject({ kind: 'no-target' });
    expect(decided({}, { capture: { target: 'app={workload}', maxTargets: 5 } }, audit)).toMatchObject({
      targets: [{ target: 'app=miner', maxTargets: 5 }],
    });
    expect(decided({}, { capture: { target: 'app={workload}' } }, { ...audit, workload: 'a,tier=b' })).toMatchObject({
      kind: 'no-target',
    });
  });

  test('takes no more containers than it may', () => {
    const two = { ...falco(), containerIds: ['aaaaaaaaaaaa', 'bbbbbbbbbbbb'] };
    expect(decided({}, capture, two)).toMatchObject({ kind: 'no-target' });
    expect(decided({}, { capture: { maxTargets: 2 } }, two)).toMatchObject({
      targets: [{ target: 'aaaaaaaaaaaa' }, { target: 'bbbbbbbbbbbb' }],
    });
  });

  test.each([
    ['shop/web-1', 'a'],
    ['shop', 'web-0/app'],
    ['../shop', 'web-0'],
    ['shop', 'web=0'],
    ['shop', 'web-0\n'],
    ['ѕhop', 'web-0'],
    ['shop', "'; DROP TABLE captures; --"],
  ])('takes %j and %j for no pod', (namespace, pod) => {
    expect(decided({}, capture, { ...falco(), containerIds: [], namespace, pod })).toMatchObject({ kind: 'no-target' });
  });

  test('is the first that matches, and may say that nothing is done', () => {
    const { rules } = config([
      { name: 'quiet', match: { namespaces: ['shop'] }, do: { ignore: true } },
      { name: 'rest', do: capture },
    ]);
    expect(decide(falco(), source('falco'), 'falco', rules, NOW_MS)).toEqual({
      kind: 'ignore',
      rule: 'quiet',
      note: 'the rule says so',
    });
    expect(decide({ ...falco(), namespace: 'x' }, source('falco'), 'falco', rules, NOW_MS).kind).toBe('capture');
  });

  test.each([
    ['that is too old', NOW_MS - 3_700_000, 'it is too old'],
    ['from the future', NOW_MS + 3_700_000, 'its time is yet to come'],
    ['without a time', undefined, 'it has no time'],
  ])('does nothing with an alert %s', (_what, atMs, note) => {
    const { atMs: _, ...rest } = falco();
    expect(decided({}, capture, atMs === undefined ? rest : { ...rest, atMs })).toMatchObject({ kind: 'ignore', note });
  });
});

describe('a template', () => {
  test('is filled with words that cannot act', () => {
    const alert = { ...falco(), rule: 'a\nb\u202e\u0000\u001b[31m{pod}', pod: 'p'.repeat(500) };
    expect(fillReason('{rule}', alert, 'falco')).toBe('a\\u{a}b\\u{202e}\\u{0}\\u{1b}[31m{pod}');
    expect(fillReason('{pod}', alert, 'falco').length).toBeLessThan(130);
    expect(fillCase('f-{rule}-{field:user.name}', alert, 'falco')).toMatch(/^[A-Za-z0-9._-]+$/);
    expect(fillTarget('app={rule}', alert, 'falco')).toBeUndefined();
  });

  test('shows no character that a terminal or a page would obey', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(shown(text)).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
      }),
    );
  });
});

describe('the configuration', () => {
  test.each([
    [{ rules: [{ name: 'a', do: { capture: { reason: '{nonsense}' } } }] }, 'no alert has {nonsense}'],
    [
      {
        rules: [
          { name: 'a', do: capture },
          { name: 'a', do: capture },
        ],
      },
      'two rules have the name a',
    ],
    [{ rules: [{ name: 'a', do: { capture: { artifacts: ['everything'] } } }] }, 'artifacts'],
    [
      {
        sources: {
          f: { kind: 'falco', secret: { bearerFile: '/s' }, grants: [{ clusters: ['*'], namespaces: ['*'] }] },
        },
      },
      'set cluster or clusterFrom',
    ],
    [{ sources: { f: { kind: 'falco', cluster: 'a', secret: {}, grants: [] } } }, 'secret'],
  ])('%j is refused in words', (more, words) => {
    const result = alertsSchema.safeParse({ sources: {}, rules: [], ...more });
    expect(result.success).toBe(false);
    expect(String(result.error)).toContain(words);
  });
});
