import { describe, expect, test } from 'vitest';
import { container, createClock, eachWithFolder, endsAtOnce, held, incident, startLab } from './schedule-lab.ts';

eachWithFolder();

describe('the budget of the node', () => {
  test('is never more captures at a time than it says, over all schedules', async () => {
    let running = 0;
    let most = 0;
    await using lab = await startLab({
      schedules: ['a', 'b', 'c'].map((name) => ({ name })),
      containers: ['x', 'y'].map((name) => container(name)),
      budget: { concurrent: 2, waitMs: 60_000 },
      execute: async (captureId, request, hooks) => {
        running += 1;
        most = Math.max(most, running);
        await new Promise((resolve) => setTimeout(resolve, 5));
        running -= 1;
        return await endsAtOnce(captureId, request, hooks);
      },
    });
    await lab.clock.to('10:10:00');
    await expect.poll(() => lab.begun.length).toBe(6);
    await expect.poll(() => lab.schedules.status().every(({ isRunning }) => !isRunning)).toBe(true);
    expect(most).toBeLessThanOrEqual(2);
  });

  test('is never more captures an hour, a restart does not change that, and what is left out is counted', async () => {
    const clock = createClock();
    const containers = ['x', 'y'].map((name) => container(name));
    const first = await startLab({ clock, containers, budget: { capturesPerHour: 5 } });
    await clock.to('10:20:00');
    expect(first.begun).toHaveLength(4);
    await first[Symbol.asyncDispose]();
    await using second = await startLab({ clock, containers, budget: { capturesPerHour: 5 } });
    await clock.to('10:50:00');
    expect(second.begun).toHaveLength(1);
    expect(second.schedules.status()[0]?.counts.overBudget).toBe(5);
    expect(second.schedules.status()[0]?.trouble).toMatch(/5 scheduled captures in the last hour/);
    await clock.to('11:10:00');
    expect(second.begun.length).toBeGreaterThan(1);
  });

  test('is never more bytes an hour than what was begun with less', async () => {
    await using lab = await startLab({ budget: { bytesPerHour: 2000 } });
    await lab.clock.to('10:50:00');
    expect(lab.begun).toHaveLength(2);
    expect(lab.schedules.status()[0]?.counts.overBudget).toBe(3);
  });

  test('is nothing while an incident is captured: a scheduled capture waits', async () => {
    const { execute, release } = held();
    await using lab = await startLab({ execute, isHeld: true, budget: { waitMs: 60_000 } });
    await lab.captures.start(incident);
    await lab.clock.to('10:10:00');
    expect(lab.begun).toEqual([]);
    expect(lab.schedules.status()[0]?.isRunning).toBe(true);
    release();
    await expect.poll(() => lab.begun.length).toBe(1);
  });

  test('is nothing while an incident is captured: one that waited for too long is left out', async () => {
    const { execute } = held();
    await using lab = await startLab({ execute, isHeld: true, budget: { waitMs: 50 } });
    await lab.captures.start(incident);
    await lab.clock.to('10:10:00');
    await expect.poll(() => lab.schedules.status()[0]?.counts.overBudget).toBe(1);
    expect(lab.begun).toEqual([]);
    expect(lab.schedules.status()[0]?.trouble).toMatch(/an incident capture runs, for longer than waitMs/);
  });
});
