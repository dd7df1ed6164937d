import { readFileSync } from 'node:fs';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AlertsConfig, alertsSchema } from '../../controller/alerts/config.ts';
import type { Api } from '../../controller/api/api.ts';
import type { NewAudit } from '../../controller/store/store.ts';
import { ExhibitError } from '../../evidence/error.ts';
import { type FakeApi, fakeApi } from '../lab/fake-api.ts';
import { type HttpLab, memoryStore, startHttpLab } from '../lab/http-controller.ts';

/** Webhooks over TLS, sent by curl: what counts is how many captures come of them. */

const SECRET = 'falco-secret-0123456789';
const sample = (name: string): Record<string, unknown> =>
  JSON.parse(readFileSync(path.join(import.meta.dirname, `../unit/fixtures/alerts/${name}.json`), 'utf8'));

let folder: string;
let secretFile: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'exhibit-alerts-'));
  secretFile = path.join(folder, 'secret');
  await writeFile(secretFile, `${SECRET}\n`);
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const grants = [{ clusters: ['prod'], namespaces: ['shop'] }];
/** The samples' time, so that none of them is old. */
const now = () => Date.parse('2026-11-20T10:00:30Z');

function config(more: object = {}, rule: object = { name: 'shells', do: { capture: {} } }): AlertsConfig {
  return alertsSchema.parse({
    sources: {
      falco: { kind: 'falco', cluster: 'prod', secret: { bearerFile: secretFile }, grants },
      prometheus: {
        kind: 'alertmanager',
        clusterFrom: 'cluster',
        secret: { basicUser: 'am', file: secretFile },
        grants,
      },
      aws: {
        kind: 'guardduty',
        clusterNames: { 'shop-eks': 'prod' },
        secret: { header: 'x-api-key', file: secretFile },
        grants,
      },
      sidecar: { kind: 'falco', cluster: 'prod', secret: { certificate: 'alice' }, grants },
    },
    rules: [rule],
    ...more,
  });
}

interface Told {
  readonly status: number;
  readonly headers: Headers;
  readonly body: {
    alerts?: { outcome: string; target?: string; captureIds?: string[]; note?: string }[];
    error?: { code: string; message: string };
  };
}

async function send(
  lab: HttpLab,
  source: string,
  body: unknown,
  headers: Record<string, string> = { authorization: `Bearer ${SECRET}` },
): Promise<Told> {
  const file = path.join(folder, `body-${Math.random().toString(36).slice(2)}`);
  await writeFile(file, typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body));
  const lines = Object.entries(headers).flatMap(([name, value]) => ['--header', `${name}: ${value}`]);
  const fixed = ['--include', '--header', 'content-type: application/json', '--header', 'expect:'];
  const { text } = await lab.curl(...fixed, ...lines, '--data-binary', `@${file}`, lab.url(`/v1/alerts/${source}`));
  const [head = '', content = ''] = text.split('\r\n\r\n');
  const [line = '', ...rest] = head.split('\r\n');
  const found = new Headers(
    rest.map((one): [string, string] => [one.split(': ')[0] ?? '', one.split(': ').slice(1).join(': ')]),
  );
  return { status: Number(line.split(' ')[1]), headers: found, body: content === '' ? {} : JSON.parse(content) };
}

async function withLab(
  alerts: AlertsConfig,
  use: (lab: HttpLab, fake: FakeApi, audit: NewAudit[]) => Promise<void>,
  api: Partial<Api> = {},
): Promise<NewAudit[]> {
  const audit: NewAudit[] = [];
  const fake = fakeApi(api);
  const lab = await startHttpLab({ api: fake.api, alerts, now, store: memoryStore(audit) });
  try {
    await use(lab, fake, audit);
  } finally {
    await lab[Symbol.asyncDispose]();
  }
  return audit;
}

/** How many alerts the audit log accounts for, by action. */
function counts(audit: readonly NewAudit[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const { action, details } of audit)
    sums[action] = (sums[action] ?? 0) + (typeof details.count === 'number' ? details.count : 1);
  return sums;
}

const event = (id: number, more: object = {}) => ({
  ...sample('falco-shell'),
  uuid: `uuid-${id}`,
  output_fields: { 'container.id': id.toString(16).padStart(12, '0'), 'k8s.ns.name': 'shop', 'k8s.pod.name': 'web-0' },
  ...more,
});

describe('a webhook', () => {
  test('of each kind captures what its alerts name', async () => {
    const audit = await withLab(config(), async (lab, fake) => {
      expect((await send(lab, 'falco', sample('falco-shell'))).body.alerts).toMatchObject([
        { outcome: 'captured', target: '3ad7b26ded6d' },
      ]);
      const basic = { authorization: `Basic ${Buffer.from(`am:${SECRET}`).toString('base64')}` };
      const group = await send(lab, 'prometheus', sample('alertmanager-group'), basic);
      expect(group.status).toBe(202);
      expect(group.body.alerts?.map(({ outcome, target }) => [outcome, target])).toEqual([
        ['captured', 'shop/web-0/app'],
        ['captured', 'shop/web-1'],
        ['ignored', undefined],
      ]);
      const aws = await send(lab, 'aws', [sample('guardduty-runtime'), sample('guardduty-audit')], {
        'x-api-key': SECRET,
      });
      expect(aws.body.alerts?.map(({ outcome }) => outcome)).toEqual(['captured', 'no-target']);
      expect(fake.created).toHaveLength(4);
      expect(fake.created[0]).toMatchObject({
        clusters: ['prod'],
        reason: 'falco: Terminal shell in container',
        maxTargets: 1,
        selector: { containerId: '3ad7b26ded6d' },
      });
      expect(fake.calls[0]?.context.caller).toEqual({
        name: 'alert:falco/shells',
        by: 'alert',
        grants: [{ role: 'responder', ...grants[0] }],
      });
    });
    expect(counts(audit)).toEqual({ 'alert.fired': 4, 'alert.ignored': 1, 'alert.no-target': 1 });
  });

  test('takes a client certificate for the secret, of the operator who is named and no other', async () => {
    await withLab(config(), async (lab, fake) => {
      const body = ['--header', 'content-type: application/json', '--data', JSON.stringify(sample('falco-shell'))];
      expect((await lab.curl(...lab.asAlice, ...body, lab.url('/v1/alerts/sidecar'))).text).toContain('"captured"');
      expect((await send(lab, 'sidecar', sample('falco-shell'))).status).toBe(401);
      expect((await lab.curl(...lab.asAlice, ...body, lab.url('/v1/alerts/falco'))).text).toContain(
        '"unauthenticated"',
      );
      expect(fake.created).toHaveLength(1);
    });
  });

  test('takes another secret as soon as its file has another', async () => {
    await withLab(config(), async (lab) => {
      expect((await send(lab, 'falco', event(1))).status).toBe(202);
      await writeFile(`${secretFile}.new`, 'another-secret-0123456789\n');
      await rename(`${secretFile}.new`, secretFile);
      expect((await send(lab, 'falco', event(2))).status).toBe(401);
      expect((await send(lab, 'falco', event(3), { authorization: 'Bearer another-secret-0123456789' })).status).toBe(
        202,
      );
      await rm(secretFile);
      const gone = await send(lab, 'falco', event(4), { authorization: 'Bearer another-secret-0123456789' });
      expect(gone.status).toBe(500);
      expect(JSON.stringify(gone.body)).not.toContain(folder);
    });
  });

  test('answers a wrong secret and a source that is not there alike, reads nothing of it, and writes few entries about many', async () => {
    const audit = await withLab(config(), async (lab, fake) => {
      const answers = [];
      for (const [source, headers] of [
        ['falco', {}],
        ['falco', { authorization: 'Bearer wrong' }],
        ['falco', { authorization: `Basic ${Buffer.from(`am:${SECRET}`).toString('base64')}` }],
        ['prometheus', { authorization: `Basic ${Buffer.from(`root:${SECRET}`).toString('base64')}` }],
        ['aws', { 'x-api-key': '' }],
        ['__proto__', {}],
        ['nobody', { authorization: `Bearer ${SECRET}` }],
        ...Array.from({ length: 20 }, (_, index) => ['falco', { authorization: `Bearer guess-${index}` }] as const),
      ] as const) {
        answers.push(await send(lab, source, '{broken', headers as Record<string, string>));
      }
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([401]));
      expect(new Set(answers.map(({ body }) => JSON.stringify(body))).size).toBe(1);
      expect(fake.calls).toEqual([]);
    });
    expect(counts(audit)).toEqual({ 'access.denied': 27 });
    expect(audit.length).toBeLessThan(27);
    expect(JSON.stringify(audit)).not.toMatch(/guess|wrong|0123456789/);
  });

  test.each([
    ['garbage', '{"rule": '],
    ['no UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d])],
    ['deep nesting', `{"output_fields":${'['.repeat(100_000)}${']'.repeat(100_000)}}`],
    ['a prototype', '{"__proto__": {"rule": "x"}}'],
    ['a number', '5'],
  ])('that holds %s is refused', async (_what, body) => {
    await withLab(config(), async (lab, fake) => {
      expect(await send(lab, 'falco', body)).toMatchObject({ status: 400, body: { error: { code: 'usage' } } });
      expect(fake.calls).toEqual([]);
    });
  });

  test('that holds 10,000 alerts is refused whole, and so is one of two megabytes', async () => {
    const audit = await withLab(config(), async (lab, fake) => {
      const many = { version: '4', alerts: Array.from({ length: 10_000 }, () => ({ status: 'firing' })) };
      const basic = { authorization: `Basic ${Buffer.from(`am:${SECRET}`).toString('base64')}` };
      expect((await send(lab, 'prometheus', many, basic)).status).toBe(413);
      expect(
        (
          await send(
            lab,
            'falco',
            Array.from({ length: 10_000 }, () => ({})),
          )
        ).status,
      ).toBe(413);
      expect((await send(lab, 'falco', { output: 'x'.repeat(2_000_000) })).status).toBe(413);
      expect(fake.calls).toEqual([]);
    });
    expect(counts(audit)).toEqual({ 'alert.flooded': 2 });
  });
});

describe('a flood of webhooks', () => {
  test('never captures more than the rule, the source and all of them may, and every alert is accounted for', async () => {
    for (const [limits, most] of [
      [{ rule: 3, source: 10, all: 10 }, 3],
      [{ rule: 50, source: 4, all: 10 }, 4],
      [{ rule: 50, source: 50, all: 5 }, 5],
    ] as const) {
      const alerts = config({ perHour: limits.all }, { name: 'shells', do: { capture: {} }, perHour: limits.rule });
      for (const source of Object.values(alerts.sources)) source.perHour = limits.source;
      const audit = await withLab(alerts, async (lab, fake) => {
        const batches = Array.from({ length: 6 }, (_, batch) =>
          Array.from({ length: 50 }, (_one, index) => event(batch * 50 + index)),
        );
        const answers = await Promise.all(batches.map((batch) => send(lab, 'falco', batch)));
        const outcomes = answers.flatMap(({ body }) => body.alerts ?? []).map(({ outcome }) => outcome);
        expect(outcomes).toHaveLength(300);
        expect(outcomes.filter((outcome) => outcome === 'captured')).toHaveLength(most);
        expect(fake.created).toHaveLength(most);
      });
      expect(counts(audit)).toEqual({ 'alert.fired': most, 'alert.over-budget': 300 - most });
    }
  });

  test('of one alert is one capture', async () => {
    const audit = await withLab(config(), async (lab, fake) => {
      await Promise.all(
        Array.from({ length: 10 }, () =>
          send(
            lab,
            'falco',
            Array.from({ length: 20 }, () => sample('falco-shell')),
          ),
        ),
      );
      expect(fake.created).toHaveLength(1);
    });
    expect(counts(audit)).toEqual({ 'alert.fired': 1, 'alert.duplicate': 199 });
    expect(audit.length).toBeLessThan(10);
  });

  test('that is too fast is asked to wait', async () => {
    await withLab(config(), async (lab, fake) => {
      // The clock of this test stands still, so the burst is all there is.
      const body = ['--header', 'content-type: application/json', '--data', JSON.stringify(sample('falco-host'))];
      const codes = ['--output', '/dev/null', '--write-out', '%{http_code} %header{retry-after}\n'];
      const authorization = ['--header', `authorization: Bearer ${SECRET}`];
      const { text } = await lab.curl(...authorization, ...body, ...codes, `${lab.url('/v1/alerts/falco')}?n=[1-210]`);
      const lines = text.trim().split('\n');
      expect(lines.filter((line) => line.trim() === '202')).toHaveLength(200);
      expect(lines.filter((line) => line === '429 1')).toHaveLength(10);
      expect(fake.created).toEqual([]);
    });
  });

  test('is answered before its captures are made, where agents are slow to say what they have', async () => {
    const { promise: open, resolve } = Promise.withResolvers<void>();
    let made = 0;
    const slow: Partial<Api> = {
      CreateCapture: async ({ requestId }) => {
        await open;
        made += 1;
        return { captures: [{ captureId: requestId }] };
      },
    };
    const audit = await withLab(
      config(),
      async (lab) => {
        const told = await send(lab, 'falco', event(1));
        expect(told).toMatchObject({ status: 202, body: { alerts: [{ outcome: 'pending' }] } });
        expect(made).toBe(0);
        resolve();
      },
      slow,
    );
    expect(made).toBe(1);
    expect(counts(audit)).toEqual({ 'alert.fired': 1 });
  });
});

describe('an alert', () => {
  test('with injections in every field does no more than any other, and is told in words that cannot act', async () => {
    const evil = '\'; DROP TABLE captures; --\r\n{"level":"fatal"}\u202e\u0000\u001b[2J$' + '{jndi:ldap://x}{{pod}}';
    const rule = {
      name: 'all',
      do: {
        capture: { reason: '{rule} {priority} {namespace} {field:proc.cmdline}', target: '{namespace}/web-0' },
        case: 'f-{rule}',
      },
    };
    const audit = await withLab(config({}, rule), async (lab) => {
      const body = event(1, {
        rule: evil,
        uuid: evil,
        tags: [evil],
        hostname: evil,
        priority: evil,
        output_fields: { 'k8s.ns.name': evil, 'proc.cmdline': evil, [evil]: evil },
      });
      expect((await send(lab, 'falco', body)).body.alerts).toMatchObject([{ outcome: 'no-target' }]);
    });
    expect(JSON.stringify(audit)).not.toMatch(/\\u202e|\\u0000|\\u001b|\\r|\\n/);
    const plain = { name: 'all', do: { capture: { reason: '{rule} {field:proc.cmdline}' }, case: 'f-{rule}' } };
    await withLab(config({}, plain), async (lab, fake) => {
      const body = event(1, { rule: evil, output_fields: { 'container.id': 'abcdefabcdef', 'proc.cmdline': evil } });
      expect((await send(lab, 'falco', body)).body.alerts).toMatchObject([{ outcome: 'captured' }]);
      expect(fake.created[0]?.reason).toMatch(/^[\x20-\x7e]+$/);
      expect(fake.created[0]?.caseId).toMatch(/^f-[A-Za-z0-9._-]+$/);
    });
  });

  test('opens its case once, and goes without one when it is closed', async () => {
    const rule = { name: 'shells', do: { capture: {}, case: 'falco-{namespace}' } };
    const audit = await withLab(config({}, rule), async (lab, fake) => {
      await send(lab, 'falco', [event(1), event(2)]);
      expect(fake.created.map(({ caseId }) => caseId)).toEqual(['falco-shop', 'falco-shop']);
      const context = {
        caller: { name: 'alice', by: 'certificate' as const, grants: [] },
        signal: new AbortController().signal,
      };
      await fake.api.CloseCase({ caseId: 'falco-shop', text: '' }, context);
      expect((await send(lab, 'falco', event(3))).body.alerts).toMatchObject([
        { outcome: 'captured', note: 'the case falco-shop is closed, so the capture belongs to none' },
      ]);
      expect(fake.created[2]?.caseId).toBe('');
    });
    expect(counts(audit)).toEqual({ 'alert.fired': 3 });
  });

  test('whose container is gone says so, or takes the pod where the rule says so', async () => {
    const gone: Partial<Api> = {
      CreateCapture: async ({ selector, requestId }) => {
        if (selector?.containerId) throw new ExhibitError('target-not-found', 'There is no such container');
        return { captures: [{ captureId: requestId }] };
      },
    };
    const audit = await withLab(
      config(),
      async (lab) => {
        const told = await send(lab, 'falco', event(1));
        expect(told).toMatchObject({
          status: 202,
          body: { alerts: [{ outcome: 'gone', note: 'There is no such container' }] },
        });
        expect((await send(lab, 'falco', event(1))).body.alerts).toMatchObject([{ outcome: 'duplicate' }]);
      },
      gone,
    );
    expect(counts(audit)).toEqual({ 'alert.gone': 1, 'alert.duplicate': 1 });
    const rule = { name: 'shells', do: { capture: { whenGone: 'pod' } } };
    await withLab(
      config({}, rule),
      async (lab, fake) => {
        expect((await send(lab, 'falco', event(1))).body.alerts).toMatchObject([{ outcome: 'captured' }]);
        expect(fake.calls.map(({ request }) => request)).toMatchObject([
          { selector: { by: 'containerId' } },
          { selector: { by: 'pod' }, scope: 'pod' },
        ]);
      },
      gone,
    );
  });

  test('that failed for a moment is asked for again, and captured then', async () => {
    let isAway = true;
    const flaky: Partial<Api> = {
      CreateCapture: async ({ requestId }) => {
        if (isAway) throw new ExhibitError('store-failed', 'The store is away');
        return { captures: [{ captureId: requestId }] };
      },
    };
    const audit = await withLab(
      config(),
      async (lab) => {
        expect(await send(lab, 'falco', event(1))).toMatchObject({
          status: 503,
          body: { alerts: [{ outcome: 'failed' }] },
        });
        isAway = false;
        expect((await send(lab, 'falco', event(1))).body.alerts).toMatchObject([{ outcome: 'captured' }]);
      },
      flaky,
    );
    expect(counts(audit)).toEqual({ 'alert.failed': 1, 'alert.fired': 1 });
  });

  test('beyond the grants of its source is not captured', async () => {
    const strict: Partial<Api> = {
      CreateCapture: async () => Promise.reject(new ExhibitError('forbidden', 'Not in this namespace')),
    };
    const audit = await withLab(
      config(),
      async (lab) => {
        expect(await send(lab, 'falco', event(1))).toMatchObject({
          status: 202,
          body: { alerts: [{ outcome: 'forbidden' }] },
        });
      },
      strict,
    );
    expect(counts(audit)).toEqual({ 'alert.forbidden': 1 });
  });
});
