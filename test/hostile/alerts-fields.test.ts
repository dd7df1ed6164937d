import { describe, expect, test } from 'vitest';
import type { Api } from '../../controller/api/api.ts';
import { ExhibitError } from '../../evidence/error.ts';
import { config, counts, eachWithSecret, event, send, withLab } from './alerts-lab.ts';

/** What stands in one alert, and what becomes of it. */

eachWithSecret();

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
