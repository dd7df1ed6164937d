import { expect, test } from 'vitest';
import { createLock } from '../../../agent/capture/lock.ts';

const never = new AbortController().signal;

test('one at a time, in the order of asking', async () => {
  const lock = createLock();
  const order: string[] = [];
  const first = await lock.acquire(never);
  const others = ['second', 'third'].map(async (name) => {
    const release = await lock.acquire(never);
    order.push(name);
    release();
  });
  await Promise.resolve();
  expect(order).toEqual([]);
  first();
  await Promise.all(others);
  expect(order).toEqual(['second', 'third']);
});

test('who gives up waiting leaves the queue to the next', async () => {
  const lock = createLock();
  const first = await lock.acquire(never);
  const controller = new AbortController();
  const second = lock.acquire(controller.signal);
  const third = lock.acquire(never);
  controller.abort(new Error('enough'));
  await expect(second).rejects.toThrow('enough');
  first();
  expect(await third).toBeTypeOf('function');
});
