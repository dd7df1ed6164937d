import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { CaptureState } from '../../../../controller/store/store.ts';
import {
  admin,
  caller,
  container,
  context,
  failure,
  grant,
  type LabDomain,
  labDomain,
  podRequest,
  T0,
} from '../lab-domain.ts';

let lab: LabDomain;
beforeEach(async () => {
  lab = await labDomain({ rules: { approvals: [{ clusters: ['*'], namespaces: ['prod'], expiresMs: 60_000 }] } });
  lab.agents.set({ cluster: 'east', node: 'n1' }, [
    container('prod', 'web-0', 'app'),
    container('dev', 'web-0', 'app'),
  ]);
});
afterEach(() => lab[Symbol.asyncDispose]());

const rob = caller('rob', grant('responder', ['*'], ['prod', 'dev']));
const sue = caller('sue', grant('responder', ['*'], ['prod']));
const vic = caller('vic', grant('viewer'));

async function created(namespace: string, who = rob): Promise<string> {
  const { captures } = await lab.api.CreateCapture(podRequest(namespace, 'web-0'), context(who));
  return captures?.[0]?.captureId ?? '';
}

const actions = async (captureId: string) => {
  await lab.domain.denials[Symbol.asyncDispose]();
  const entries = await lab.domain.store.audit({ captureId }, { afterSeq: 0, limit: 100 });
  return entries.map(({ action, actor }) => `${action} by ${actor}`);
};

describe('an approval', () => {
  test('lets the capture go, with the time that a command has', async () => {
    const captureId = await created('prod');
    lab.clock.nowMs = T0 + 30_000;
    const approved = await lab.api.ApproveCapture({ captureId }, context(sue));
    expect(approved).toMatchObject({
      state: 'queued',
      approvals: [{ by: 'sue', atMs: T0 + 30_000 }],
      expiresAtMs: T0 + 30_000 + 600_000,
    });
    await vi.waitFor(() => expect(lab.woken).toEqual(['east/n1']));
    expect(await actions(captureId)).toEqual(['capture.created by rob', 'capture.approved by sue']);
  });

  test.each([
    ['of the one who asked', rob, 'forbidden', 'another person'],
    ['of the one who asked by another name', { ...sue, aliases: ['rob'] }, 'forbidden', 'another person'],
    ['of a viewer', vic, 'forbidden', 'role responder'],
    ['of an alert', { ...admin, name: 'alert:falco/shell', by: 'alert' as const }, 'forbidden', 'An alert approves'],
    ['of who may see nothing there', caller('dee', grant('admin', ['*'], ['dev'])), 'capture-not-found', 'no capture'],
  ])('%s is refused and written down', async (_of, who, code, words) => {
    const captureId = await created('prod');
    const failed = await failure(lab.api.ApproveCapture({ captureId }, context(who)));
    expect(failed).toMatchObject({ code, message: expect.stringContaining(words) });
    expect(await actions(captureId)).toEqual(['capture.created by rob', `access.denied by ${who.name}`]);
    expect((await lab.domain.store.capture(captureId))?.state).toBe('awaiting-approval');
  });

  test('that comes when the time is over is refused', async () => {
    const captureId = await created('prod');
    lab.clock.nowMs = T0 + 60_000;
    expect(await failure(lab.api.ApproveCapture({ captureId }, context(sue)))).toMatchObject({
      code: 'capture-conflict',
      message: expect.stringContaining('time to approve'),
    });
    expect((await lab.domain.store.capture(captureId))?.approvals).toEqual([]);
  });

  test('of a capture that waits for none is a conflict', async () => {
    const captureId = await created('dev');
    const failed = await failure(lab.api.ApproveCapture({ captureId }, context(admin)));
    expect(failed).toMatchObject({ code: 'capture-conflict', message: expect.stringContaining('it is queued') });
  });

  test('and a denial and a cancellation at once leave one outcome and one entry that says so', async () => {
    const ada = caller('ada', grant('admin'));
    for (let round = 0; round < 10; round += 1) {
      const captureId = await created('prod');
      await Promise.allSettled([
        lab.api.ApproveCapture({ captureId }, context(sue)),
        lab.api.DenyCapture({ captureId, reason: '' }, context(ada)),
        lab.api.ApproveCapture({ captureId }, context(ada)),
      ]);
      const row = await lab.domain.store.capture(captureId);
      const entries = (await actions(captureId)).slice(1);
      expect(entries).toHaveLength(1);
      expect(entries[0]).toBe(
        row?.state === 'denied' ? 'capture.denied by ada' : `capture.approved by ${row?.approvals[0]?.by}`,
      );
    }
  });
});

describe('a denial', () => {
  test('ends the capture, and says by whom and why', async () => {
    const captureId = await created('prod');
    expect(await lab.api.DenyCapture({ captureId, reason: 'a false alarm' }, context(sue))).toMatchObject({
      state: 'denied',
      endedAtMs: T0,
      error: 'Denied by sue: a false alarm',
    });
    expect(lab.woken).toEqual([]);
  });

  test('of the one who asked is refused: they may cancel', async () => {
    const captureId = await created('prod');
    expect((await failure(lab.api.DenyCapture({ captureId, reason: '' }, context(rob)))).code).toBe('forbidden');
    expect(await lab.api.CancelCapture({ captureId }, context(rob))).toMatchObject({ state: 'cancelled' });
  });
});

describe('a cancellation', () => {
  test.each<[CaptureState, CaptureState, number]>([
    ['awaiting-approval', 'cancelled', 0],
    ['queued', 'cancelled', 0],
    ['sent', 'sent', 1],
    ['running', 'running', 1],
    ['complete', 'complete', 0],
    ['denied', 'denied', 0],
  ])('of a capture that is %s leaves it %s', async (before, after, told) => {
    const captureId = await created('prod');
    await lab.domain.store.changeCapture(captureId, ['awaiting-approval'], { state: before });
    const answer = await lab.api.CancelCapture({ captureId }, context(sue));
    expect(answer.state).toBe(after);
    expect(answer.cancelRequested).toBe(before !== 'complete' && before !== 'denied');
    await vi.waitFor(() => expect(lab.woken).toHaveLength(told));
  });

  test('twice is once', async () => {
    const captureId = await created('dev');
    await lab.domain.store.changeCapture(captureId, ['queued'], { state: 'running' });
    await Promise.all([1, 2].map(() => lab.api.CancelCapture({ captureId }, context(rob))));
    await lab.api.CancelCapture({ captureId }, context(rob));
    const cancels = (await actions(captureId)).filter((one) => one.startsWith('capture.cancelled'));
    expect(cancels.length).toBeLessThanOrEqual(2);
    expect((await lab.domain.store.capture(captureId))?.cancelRequested).toBe(true);
  });

  test('needs the role responder there', async () => {
    const captureId = await created('dev');
    expect((await failure(lab.api.CancelCapture({ captureId }, context(vic)))).code).toBe('forbidden');
    expect((await failure(lab.api.CancelCapture({ captureId }, context(sue)))).code).toBe('capture-not-found');
  });
});
