import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { asPid, type Selector } from '../../../agent/runtime/runtime.ts';
import { parseSelector, selectorFromProto, selectorText, selectorToProto } from '../../../agent/runtime/select.ts';
import { isExhibitError } from '../../../evidence/error.ts';
import type { Selector__Output } from '../../../proto/gen/exhibit/v1/Selector.ts';
import { loadExhibit } from '../../../proto/load.ts';

const labels = (pairs: Record<string, string>) => new Map(Object.entries(pairs));

const FORMS: [string, Selector][] = [
  ['prod/web-0', { kind: 'pod', namespace: 'prod', pod: 'web-0' }],
  ['prod/web-0/app', { kind: 'pod', namespace: 'prod', pod: 'web-0', container: 'app' }],
  ['kube-system/kube-proxy-x2x.y', { kind: 'pod', namespace: 'kube-system', pod: 'kube-proxy-x2x.y' }],
  [' prod/web ', { kind: 'pod', namespace: 'prod', pod: 'web' }],
  ['3f1c', { kind: 'container', id: '3f1c' }],
  ['a'.repeat(64), { kind: 'container', id: 'a'.repeat(64) }],
  ['containerd://3f1c', { kind: 'container', id: '3f1c' }],
  ['containerd://redis-1', { kind: 'container', id: 'redis-1' }],
  ['name:shop-web-1', { kind: 'name', name: 'shop-web-1' }],
  ['name:k8s_app.x_', { kind: 'name', name: 'k8s_app.x_' }],
  ['name:cafe', { kind: 'name', name: 'cafe' }],
  ['com.docker.compose.service=web', { kind: 'labels', labels: labels({ 'com.docker.compose.service': 'web' }) }],
  ['app=web', { kind: 'labels', labels: labels({ app: 'web' }) }],
  ['app=web,tier=api', { kind: 'labels', labels: labels({ app: 'web', tier: 'api' }) }],
  ['-l app=web', { kind: 'labels', labels: labels({ app: 'web' }) }],
  ['app==web', { kind: 'labels', labels: labels({ app: 'web' }) }],
  ['canary=', { kind: 'labels', labels: labels({ canary: '' }) }],
  ['app.kubernetes.io/name=web', { kind: 'labels', labels: labels({ 'app.kubernetes.io/name': 'web' }) }],
  ['app=web:side', { kind: 'labels', labels: labels({ app: 'web' }), container: 'side' }],
  ['pid:4711', { kind: 'pid', pid: asPid(4711) }],
  ['cgroup:/system.slice', { kind: 'cgroup', path: '/system.slice' }],
  ['cgroup:/system.slice//x.service/', { kind: 'cgroup', path: '/system.slice/x.service' }],
  ['cgroup:/a=b', { kind: 'cgroup', path: '/a=b' }],
  ['unit:nginx.service', { kind: 'unit', unit: 'nginx.service' }],
  ['unit:nginx', { kind: 'unit', unit: 'nginx.service' }],
  ['unit:user@1000.service', { kind: 'unit', unit: 'user@1000.service' }],
];

test.each(FORMS)('%j is understood', (text, selector) => {
  expect(parseSelector(text)).toEqual(selector);
});

const NONSENSE = [
  '',
  'web-0',
  'f00',
  'a/b/c/d',
  'prod/',
  '/web',
  'prod//app',
  '../etc/passwd',
  'name:',
  'name:-x',
  'name:a/b',
  'name:a b',
  'name:é',
  'name:\u001b[31m',
  'pid:0',
  'pid:-1',
  'pid:1e3',
  'pid:99999999',
  'pid:',
  'cgroup:/',
  'cgroup:relative',
  'cgroup:/a/../b',
  'cgroup:/a\0b',
  'unit:',
  'unit:a/b',
  '=web',
  'app=a=b',
  'app=web,',
  'app=web,app=other',
  'app=web:a:b',
  'app=web:',
  'containerd://',
  'containerd://../x',
  'prod/web\u001b[31m',
];

test.each(NONSENSE)('%j is refused as wrong usage, without control characters in the message', (text) => {
  const error = fault(() => parseSelector(text));
  expect(isExhibitError(error, 'usage'), String(error)).toBe(true);
  expect(String(error)).not.toMatch(/[\u0000-\u0008\u000b-\u001f]/);
});

test('a name alone is told which forms there are', () => {
  expect(String(fault(() => parseSelector('web-0')))).toContain('NAMESPACE/POD');
  expect(String(fault(() => parseSelector('web-0')))).toContain('name:web-0');
});

function fault(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return undefined;
}

const name = fc.stringMatching(/^[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?$/);
const container = fc.option(name, { nil: undefined }).map((one) => (one === undefined ? {} : { container: one }));
const selectors: fc.Arbitrary<Selector> = fc.oneof(
  fc.tuple(name, name, container).map(([namespace, pod, rest]): Selector => ({ kind: 'pod', namespace, pod, ...rest })),
  fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/).map((id): Selector => ({ kind: 'container', id })),
  fc
    .tuple(fc.dictionary(name, fc.oneof(name, fc.constant('')), { minKeys: 1, maxKeys: 4 }), container)
    .map(([pairs, rest]): Selector => ({ kind: 'labels', labels: labels(pairs), ...rest })),
  fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/).map((one): Selector => ({ kind: 'name', name: one })),
  fc.integer({ min: 1, max: 2 ** 22 }).map((pid): Selector => ({ kind: 'pid', pid: asPid(pid) })),
  fc
    .array(name, { minLength: 1, maxLength: 4 })
    .map((parts): Selector => ({ kind: 'cgroup', path: `/${parts.join('/')}` })),
  name.map((one): Selector => ({ kind: 'unit', unit: `${one}.service` })),
);

describe('every selector survives', () => {
  test('being written as text and read again', () => {
    fc.assert(
      fc.property(selectors, (selector) => {
        expect(parseSelector(selectorText(selector))).toEqual(selector);
      }),
    );
  });

  test('the way over the wire', () => {
    const { requestSerialize, requestDeserialize } = loadExhibit().Agent.service.Capture;
    const travel = (selector: Selector): Selector__Output => {
      const sent = requestSerialize({ selector: selectorToProto(selector) });
      return requestDeserialize(sent).selector ?? {};
    };
    fc.assert(
      fc.property(selectors, (selector) => {
        expect(selectorFromProto(travel(selector))).toEqual(selector);
      }),
    );
  });
});

test('a message without a target, or with a hostile one, is wrong usage', () => {
  for (const message of [
    {},
    { pod: { namespace: 'a/b', pod: 'x', container: '' } },
    { cgroup: '/../..' },
    { containerName: 'a/b' },
    { containerName: '\u001b[31mred' },
    { pid: 2 ** 31 },
  ]) {
    expect(
      isExhibitError(
        fault(() => selectorFromProto(message)),
        'usage',
      ),
    ).toBe(true);
  }
});
