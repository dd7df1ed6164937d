import { readFileSync } from 'node:fs';
import path from 'node:path';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import type { Alert } from '../../../../controller/alerts/alert.ts';
import { alertsSchema } from '../../../../controller/alerts/config.ts';
import { readFalco } from '../../../../controller/alerts/falco.ts';
import { createIntake } from '../../../../controller/alerts/intake.ts';
import { createLedger } from '../../../../controller/alerts/ledger.ts';
import { admin, caller, container, context, grant, type LabDomain, labDomain, nodeRow, T0 } from '../lab-domain.ts';

/** Alerts on the real API and the real store; only the agents are played. */

const { id } = container('shop', 'web-0', 'app');
const at = (atMs: number): string => new Date(atMs).toISOString();
const sample = JSON.parse(
  readFileSync(path.join(import.meta.dirname, '../../fixtures/alerts/falco-shell.json'), 'utf8'),
);

function config(rule: object = {}, source: object = {}) {
  return alertsSchema.parse({
    sources: {
      falco: {
        kind: 'falco',
        cluster: 'prod',
        secret: { bearerFile: '/secret' },
        grants: [{ clusters: ['prod'], namespaces: ['shop'] }],
        ...source,
      },
    },
    rules: [{ name: 'shells', do: { capture: { artifacts: ['processes'] } }, ...rule }],
  });
}

async function intakeOf(lab: LabDomain, alerts: ReturnType<typeof config>) {
  const { store, now } = lab.domain;
  const log = pino({ level: 'silent' });
  const ledger = createLedger(store, log, now);
  const { signal } = new AbortController();
  const intake = createIntake({ api: lab.api, store, alerts, ledger, log, now });
  const source = alerts.sources.falco;
  if (source === undefined) throw new Error('no source');
  return {
    ledger,
    handle: async (more: object = {}) => {
      const fields = { 'container.id': id.slice(0, 12), 'k8s.ns.name': 'shop', 'k8s.pod.name': 'web-0' };
      const [alert] = readFalco({ ...sample, time: at(now()), output_fields: fields, ...more }, source) as [Alert];
      return (await intake.handle(alert, 'falco', signal))[0];
    },
  };
}

async function withPod(lab: LabDomain): Promise<void> {
  await lab.domain.store.putNode(nodeRow('prod', 'n1'));
  lab.agents.set({ cluster: 'prod', node: 'n1' }, [
    container('shop', 'web-0', 'app'),
    container('pay', 'till-0', 'app'),
  ]);
}

describe('an alert', () => {
  test('is a stored capture, of its rule, in its case, and in the audit log', async () => {
    await using lab = await labDomain();
    await withPod(lab);
    await using both = await disposable(
      lab,
      config({ do: { capture: { artifacts: ['processes'] }, case: 'falco-{namespace}' } }),
    );
    expect(await both.handle()).toMatchObject({ outcome: 'captured', rule: 'shells' });
    const { rows } = await lab.domain.store.captures({}, { limit: 10 });
    expect(rows).toMatchObject([
      {
        requestedBy: 'alert:falco/shells',
        trigger: 'alert',
        caseId: 'falco-shop',
        state: 'queued',
        namespace: 'shop',
        reason: 'falco: Terminal shell in container',
        artifacts: ['processes'],
      },
    ]);
    await expect.poll(() => lab.woken).toEqual(['prod/n1']);
    await both.ledger.flush();
    const log = await lab.domain.store.audit({}, { afterSeq: 0, limit: 100 });
    expect(log.map(({ actor, action }) => `${actor} ${action}`)).toEqual([
      'alert:falco/shells case.opened',
      'alert:falco/shells capture.created',
      'alert:falco/shells alert.fired',
    ]);
    expect(log[2]?.captureId).toBe(rows[0]?.captureId);
  });

  test('is one capture however often it comes, and another one when the window is over', async () => {
    await using lab = await labDomain();
    await withPod(lab);
    await using both = await disposable(lab, config());
    const outcomes = [await both.handle(), await both.handle({ uuid: 'other' })];
    lab.clock.nowMs = T0 + 3_600_001;
    outcomes.push(await both.handle({ uuid: 'third' }));
    expect(outcomes.map((one) => one?.outcome)).toEqual(['captured', 'duplicate', 'captured']);
    expect((await lab.domain.store.captures({}, { limit: 10 })).rows).toHaveLength(2);
  });

  test('never captures more in an hour than its rule may, and does again in the next', async () => {
    await using lab = await labDomain();
    const pods = Array.from({ length: 10 }, (_, index) => container('shop', `web-${index}`, 'app'));
    await lab.domain.store.putNode(nodeRow('prod', 'n1'));
    lab.agents.set({ cluster: 'prod', node: 'n1' }, pods);
    await using both = await disposable(lab, config({ perHour: 3 }));
    const one = (index: number) =>
      both.handle({ uuid: `u${index}`, output_fields: { 'k8s.ns.name': 'shop', 'k8s.pod.name': `web-${index}` } });
    const outcomes = await Promise.all(pods.map((_, index) => one(index)));
    expect(outcomes.filter((told) => told?.outcome === 'captured')).toHaveLength(3);
    expect(outcomes.filter((told) => told?.outcome === 'over-budget')).toHaveLength(7);
    const made = async () => (await lab.domain.store.captures({}, { limit: 100 })).rows.length;
    expect(await made()).toBe(3);
    lab.clock.nowMs = T0 + 3_600_001;
    expect(await one(9)).toMatchObject({ outcome: 'captured' });
    expect(await made()).toBe(4);
  });

  test('reaches no namespace that its source has no grant for, whatever it says about itself', async () => {
    await using lab = await labDomain();
    await withPod(lab);
    await using both = await disposable(lab, config());
    const till = container('pay', 'till-0', 'app').id.slice(0, 12);
    const outcomes = [
      await both.handle({ output_fields: { 'k8s.ns.name': 'pay', 'k8s.pod.name': 'till-0' } }),
      await both.handle({ output_fields: { 'container.id': till, 'k8s.ns.name': 'shop', 'k8s.pod.name': 'web-0' } }),
    ];
    expect(outcomes.map((one) => one?.outcome)).toEqual(['forbidden', expect.stringMatching(/^(forbidden|gone)$/)]);
    expect((await lab.domain.store.captures({}, { limit: 10 })).rows).toEqual([]);
  });

  test('waits for a second person where one is needed', async () => {
    const approvals = [{ clusters: ['*'], namespaces: ['shop'], expiresMs: 60_000 }];
    await using lab = await labDomain({ rules: { approvals } });
    await withPod(lab);
    await using both = await disposable(lab, config());
    const told = await both.handle();
    expect(told?.outcome).toBe('captured');
    const captureId = told?.captureIds?.[0] ?? '';
    expect(await lab.api.GetCapture({ captureId }, context(admin))).toMatchObject({ state: 'awaiting-approval' });
    const approver = caller('bea', grant('responder'));
    expect(await lab.api.ApproveCapture({ captureId }, context(approver))).toMatchObject({
      state: 'queued',
      approvals: [{ by: 'bea' }],
    });
  });

  test('whose container is gone takes the rest of the pod where its rule says so', async () => {
    await using lab = await labDomain();
    await withPod(lab);
    const gone = { output_fields: { 'container.id': 'feedfeedfeed', 'k8s.ns.name': 'shop', 'k8s.pod.name': 'web-0' } };
    await using plain = await disposable(lab, config());
    expect(await plain.handle(gone)).toMatchObject({ outcome: 'gone' });
    await using pod = await disposable(lab, config({ name: 'pods', do: { capture: { whenGone: 'pod' } } }));
    expect(await pod.handle(gone)).toMatchObject({
      outcome: 'captured',
      note: 'the container is gone; its pod shop/web-0 was captured instead',
    });
    expect((await lab.domain.store.captures({}, { limit: 10 })).rows).toMatchObject([{ command: { scope: 'pod' } }]);
  });
});

async function disposable(lab: LabDomain, alerts: ReturnType<typeof config>) {
  const made = await intakeOf(lab, alerts);
  return { ...made, [Symbol.asyncDispose]: () => made.ledger[Symbol.asyncDispose]() };
}
