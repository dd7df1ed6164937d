import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { type Answer, holder } from '../../../agent/capture/guard.ts';
import type { Reading } from '../../../agent/capture/guard-registers.ts';
import type { Pause, Thawed } from '../../../agent/runtime/pause/pause.ts';

/** The guard's own logic, on a pause that does whatever a test needs. */

const DONE: Thawed = { outcome: 'thawed', notes: [] };

function pauseOf(parts: Partial<Pause>): Pause {
  return {
    freeze: async () => ({ by: 'held', toldAt: performance.now(), notes: [] }),
    thaw: async () => DONE,
    [Symbol.asyncDispose]: async () => {},
    ...parts,
  };
}

function guard(parts: Partial<Pause>) {
  const answers: Answer[] = [];
  const holding = holder({ pause: pauseOf(parts), stuckHint: 'turn the crank', stuckMs: 50 }, (answer) =>
    answers.push(answer),
  );
  return { answers, holding, types: () => answers.map(({ type }) => type) };
}

const never = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))));

describe('a guard that holds', () => {
  test('freezes, waits for the agent, thaws', async () => {
    const { answers, holding, types } = guard({});
    const held = holding.hold(60_000);
    await sleep(20);
    expect(types()).toEqual(['frozen']);
    holding.release({ by: 'agent', why: '' });
    await held;
    expect(answers[1]).toMatchObject({ type: 'thawed', by: 'agent', outcome: 'thawed', notes: [] });
  });

  test('thaws a pause that never answers when the deadline passes', async () => {
    let thawed = 0;
    const { answers, holding } = guard({
      freeze: never,
      thaw: async () => {
        thawed += 1;
        return DONE;
      },
    });
    await holding.hold(50);
    expect(thawed).toBe(1);
    expect(answers).toEqual([
      { type: 'failed', reason: 'the freeze was given up because the deadline passed: aborted' },
    ]);
  });

  test('the deadline runs from before the pause, not from its answer', async () => {
    const { answers, holding } = guard({
      freeze: async () => {
        const toldAt = performance.now();
        await sleep(150);
        return { by: 'held', toldAt, notes: [] };
      },
    });
    const began = performance.now();
    await holding.hold(200);
    expect(performance.now() - began).toBeLessThan(300);
    expect(answers.at(-1)).toMatchObject({ type: 'thawed', by: 'guard' });
  });

  test('thaws when the runtime goes down under the pause', async () => {
    const broken = AbortSignal.timeout(30);
    const { answers, holding } = guard({
      freeze: async () => ({ by: 'held', toldAt: performance.now(), notes: [], broken }),
    });
    await holding.hold(60_000);
    expect(answers.at(-1)).toMatchObject({ type: 'thawed', by: 'guard' });
  });

  test('a pause that fails is thawed all the same before it is told', async () => {
    const order: string[] = [];
    const { answers, holding } = guard({
      freeze: async () => {
        throw new Error('no');
      },
      thaw: async () => {
        order.push('thaw');
        return DONE;
      },
    });
    await holding.hold(1_000);
    expect(order).toEqual(['thaw']);
    expect(answers).toEqual([{ type: 'failed', reason: 'no' }]);
  });

  test('a thaw that cannot be done says what to do by hand', async () => {
    const { answers, holding } = guard({
      thaw: async () => {
        throw new Error('everything failed');
      },
    });
    const held = holding.hold(20);
    await held;
    expect(answers.at(-1)).toEqual({ type: 'stuck', reason: 'everything failed. By hand: turn the crank' });
  });

  test('a thaw that does not work says what to do by hand before it has been given up, and goes on', async () => {
    const { answers, holding, types } = guard({
      thaw: async () => {
        await sleep(150);
        return DONE;
      },
    });
    await holding.hold(5);
    expect(types()).toEqual(['frozen', 'stuck', 'thawed']);
    expect(answers[1]).toMatchObject({ reason: expect.stringContaining('By hand: turn the crank') });
  });

  test('what reads the target is stopped before the thaw, and heard out before the end is told', async () => {
    const order: string[] = [];
    const told = Promise.withResolvers<void>();
    const read = (): Reading => ({
      stop: () => {
        order.push('stop');
        setTimeout(told.resolve, 30);
      },
      told: told.promise.then(() => void order.push('told')),
      settle: async () => {},
    });
    const pause = pauseOf({
      thaw: async () => {
        order.push('thaw');
        return DONE;
      },
    });
    const holding = holder({ pause, stuckHint: '', read }, ({ type }) => order.push(type));
    await holding.hold(20);
    expect(order).toEqual(['frozen', 'stop', 'thaw', 'told', 'thawed']);
  });

  test('what was frozen already has not been paused by us', async () => {
    const { answers, holding } = guard({
      freeze: async () => ({ by: 'found', toldAt: performance.now(), notes: ['somebody else'] }),
      thaw: async () => ({ outcome: 'left', notes: [] }),
    });
    await holding.hold(20);
    expect(answers.at(-1)).toMatchObject({ type: 'thawed', outcome: 'left', pauseMs: 0 });
  });

  test('work left over by a thaw is waited for', async () => {
    let over = false;
    const settled = sleep(50).then(() => {
      over = true;
    });
    const { holding } = guard({ thaw: async () => ({ ...DONE, settled }) });
    await holding.hold(5);
    expect(over).toBe(false);
    await holding.settled();
    expect(over).toBe(true);
  });

  test('a second freeze is as good as the first', async () => {
    const { holding, types } = guard({});
    await holding.hold(5);
    await holding.hold(5);
    expect(types()).toEqual(['frozen', 'thawed', 'frozen', 'thawed']);
  });
});
