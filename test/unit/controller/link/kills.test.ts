import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Execute } from '../../../../agent/capture/captures.ts';
import { accepted, controllerLab, memoryStage } from './lab.ts';

type Fault =
  | {
      readonly kind: 'cut-message';
      readonly direction: 'to-controller' | 'to-agent';
      readonly within: number;
      readonly when: 'before' | 'after';
    }
  | {
      readonly kind: 'cut' | 'kill-controller' | 'kill-agent' | 'reboot' | 'ask' | 'wake' | 'cancel';
      readonly afterMs: number;
    };

const fault: fc.Arbitrary<Fault> = fc.oneof(
  fc.record({
    kind: fc.constant('cut-message' as const),
    direction: fc.constantFrom('to-controller' as const, 'to-agent' as const),
    within: fc.integer({ min: 1, max: 6 }),
    when: fc.constantFrom('before' as const, 'after' as const),
  }),
  fc.record({
    kind: fc.constantFrom('cut', 'kill-controller', 'kill-agent', 'reboot', 'ask', 'ask', 'wake', 'cancel' as const),
    afterMs: fc.integer({ min: 0, max: 40 }),
  }) as fc.Arbitrary<Fault>,
);

/** A capture of some milliseconds, that can be cancelled. */
const shortCapture: Execute = async (captureId, _request, { emit, signal }) => {
  emit(accepted);
  emit({ kind: 'stage-started', stage: 'memory' });
  await new Promise((resolve) => setTimeout(resolve, Number.parseInt(captureId.slice(-2), 16) / 8));
  signal.throwIfAborted();
  emit({ kind: 'stage-ended', result: memoryStage });
  return { state: 'complete' };
};

describe('cuts and kills in any order', () => {
  test('leave every command with one end, and captured once at most', { timeout: 180_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fault, { minLength: 2, maxLength: 10 }), async (faults) => {
        await using lab = await controllerLab();
        const node = await lab.node('n1', { execute: shortCapture });
        const asked = [(await lab.ask('n1')).captureId];
        for (const one of faults) {
          if (one.kind === 'cut-message') {
            const message = node.proxy.counts[one.direction] + one.within;
            node.proxy.cutAt({ direction: one.direction, message, when: one.when });
            continue;
          }
          await new Promise((resolve) => setTimeout(resolve, one.afterMs));
          if (one.kind === 'cut') node.proxy.cutNow();
          else if (one.kind === 'kill-controller') await lab.restart();
          else if (one.kind === 'reboot') await node.reboot();
          else if (one.kind === 'ask') asked.push((await lab.ask('n1')).captureId);
          else if (one.kind === 'wake') await lab.controller.store.bus.publish('commands', 'prod/n1');
          else if (one.kind === 'kill-agent') {
            await node.kill();
            await node.start();
          } else {
            const change = { cancelRequested: true };
            await lab.controller.store.changeCapture(asked.at(-1) ?? '', ['queued', 'sent', 'running'], change);
            await lab.controller.store.bus.publish('commands', 'prod/n1');
          }
        }
        node.proxy.cutAt(undefined);
        const rebooted = faults.some(({ kind }) => kind === 'reboot');
        if (!rebooted) expect(node.doubled).toEqual([]);
        for (const captureId of asked) {
          const { state, endedAtMs, acceptedAtMs } = await lab.settled(captureId);
          const begun = node.begun.filter((id) => id === captureId).length;
          expect(begun).toBeLessThanOrEqual(1);
          // Refused by the sink, where the node forgot before the controller learned that it had begun.
          const ends = ['complete', 'cancelled', 'interrupted', 'lost', 'expired', ...(rebooted ? ['refused'] : [])];
          expect(ends).toContain(state);
          if (state === 'complete' || state === 'interrupted' || state === 'lost') expect(begun).toBe(1);
          if (state === 'expired') expect(begun).toBe(0);
          expect(endedAtMs).toBeGreaterThan(0);
          if (begun === 0) expect(acceptedAtMs).toBe(0);
          const audit = await lab.controller.store.audit({ captureId }, { afterSeq: 0, limit: 100 });
          expect(audit.filter(({ action }) => action !== 'capture.accepted').length).toBe(1);
        }
      }),
      { numRuns: Number(process.env.EXHIBIT_LINK_RUNS ?? 25) },
    );
  });
});
