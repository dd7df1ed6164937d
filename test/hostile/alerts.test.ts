import { rename, rm, writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import type { Api } from '../../controller/api/api.ts';
import {
  config,
  counts,
  eachWithSecret,
  event,
  folder,
  grants,
  SECRET,
  sample,
  secretFile,
  send,
  withLab,
} from './alerts-lab.ts';

/** Webhooks over TLS, sent by curl: what counts is how many captures come of them. */

eachWithSecret();

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
