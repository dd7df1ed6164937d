import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { ExhibitError } from '../../../evidence/error.ts';
import { container, createClock, eachWithFolder, endsAtOnce, folder, held, startLab } from './schedule-lab.ts';

eachWithFolder();

describe('a schedule', () => {
  test('captures every running container that it selects, lightly, and says for which time', async () => {
    const containers = [
      container('web-1'),
      container('web-0'),
      container('old-0', { state: 'exited' }),
      container('db-0', { labels: new Map() }),
      container('web-9', { pod: { namespace: 'test', name: 'web-9', uid: 'u', sandboxId: 's' } }),
    ];
    await using lab = await startLab({
      containers,
      schedules: [{ selector: { namespaces: ['prod'], labels: { app: 'web' } }, case: 'BASE', keepDays: 30 }],
    });
    await lab.clock.to('10:10:00');
    expect(lab.begun.map(({ selector }) => selector)).toEqual([containers[1]?.id, containers[0]?.id]);
    expect(lab.begun[0]).toMatchObject({
      ...{ artifacts: ['processes', 'network', 'node', 'rootfs'], consistency: 'live', caseId: 'BASE' },
      requester: { trigger: 'schedule', identity: 'base' },
      schedule: { name: 'base', tick: '2026-05-01T10:10:00.000Z', keepDays: 30 },
    });
    await lab.clock.to('10:29:59');
    expect(lab.begun).toHaveLength(4);
    expect(lab.schedules.status()).toMatchObject([
      { name: 'base', nextMs: Date.parse('2026-05-01T10:30:00Z'), isRunning: false, counts: { runs: 2, captures: 4 } },
    ]);
  });

  test('takes no more targets than it may, and says so', async () => {
    const containers = ['a', 'b', 'c'].map((name) => container(name));
    await using lab = await startLab({ containers, schedules: [{ maxTargets: 2 }] });
    await lab.clock.to('10:10:00');
    expect(lab.begun).toHaveLength(2);
    expect(lab.schedules.status()[0]?.trouble).toBe('1 more targets than maxTargets (2)');
  });

  test('asks for light artifacts where none are named, which the policy may then narrow, and for named ones as they are', async () => {
    await using lab = await startLab({ schedules: [{}, { name: 'named', artifacts: ['processes'] }] });
    await lab.clock.to('10:10:00');
    const light = lab.begun.find(({ requester }) => requester.identity === 'base');
    expect(light).toMatchObject({ artifacts: ['processes', 'network', 'node', 'rootfs'], artifactsByDefault: true });
    const named = lab.begun.find(({ requester }) => requester.identity === 'named');
    expect(named?.artifacts).toEqual(['processes']);
    expect(named).not.toHaveProperty('artifactsByDefault');
  });

  test('never runs twice at a time: what comes meanwhile is left out and counted', async () => {
    const { execute, release } = held();
    await using lab = await startLab({ execute, isHeld: true });
    await lab.clock.to('10:10:00');
    await expect.poll(() => lab.begun.length).toBe(1);
    await lab.clock.to('10:35:00');
    expect(lab.begun).toHaveLength(1);
    expect(lab.schedules.status()[0]).toMatchObject({ isRunning: true, counts: { overlapped: 2 } });
    release();
    await expect.poll(() => lab.schedules.status()[0]?.isRunning).toBe(false);
    await lab.clock.to('10:40:00');
    await expect.poll(() => lab.begun.length).toBe(2);
  });

  test('goes on after a runtime that did not answer, and a capture that did not begin', async () => {
    let calls = 0;
    await using lab = await startLab({
      execute: async (captureId, request, hooks) => {
        if (lab.begun.length === 1) throw new ExhibitError('target-not-running', 'gone');
        return await endsAtOnce(captureId, request, hooks);
      },
      more: {
        runtime: {
          list: async () => {
            calls += 1;
            if (calls === 1) throw new ExhibitError('runtime-unreachable', 'nobody answers');
            return [container('web-0')];
          },
        },
      },
    });
    await lab.clock.to('10:10:00');
    expect(lab.schedules.status()[0]).toMatchObject({
      trouble: 'nobody answers',
      counts: { failures: 1, captures: 0 },
    });
    await lab.clock.to('10:20:00');
    expect(lab.schedules.status()[0]).toMatchObject({ trouble: 'prod/web-0/web: gone', counts: { failures: 2 } });
    await lab.clock.to('10:30:00');
    expect(lab.schedules.status()[0]).toMatchObject({ trouble: undefined, counts: { captures: 1, failures: 2 } });
  });
});

describe('after a restart', () => {
  test('a run whose time came meanwhile is made up for, once', async () => {
    const clock = createClock();
    const first = await startLab({ clock });
    await clock.to('10:10:00');
    await first[Symbol.asyncDispose]();
    clock.jump(35 * 60_000);
    await using second = await startLab({ clock });
    await clock.rest();
    expect(second.begun.map(({ schedule }) => schedule?.tick)).toEqual(['2026-05-01T10:40:00.000Z']);
    expect(second.schedules.status()[0]?.counts.missed).toBe(2);
  });

  test('of which nothing is known, as after a reboot, no run was missed', async () => {
    const clock = createClock();
    const first = await startLab({ clock });
    await clock.to('10:10:00');
    await first[Symbol.asyncDispose]();
    rmSync(path.join(folder, 'schedules.json'));
    clock.jump(35 * 60_000);
    await using second = await startLab({ clock });
    await clock.rest();
    expect(second.begun).toEqual([]);
    await clock.to('10:50:00');
    expect(second.begun).toHaveLength(1);
  });

  test.each([
    ['nonsense', '{'],
    ['something else', '[]'],
    ['an endless list', `{"last":{},"spent":[${'{},'.repeat(9)}{}]}`],
  ])('that finds %s where it remembered begins anew', async (_what, content) => {
    writeFileSync(path.join(folder, 'schedules.json'), content);
    await using lab = await startLab();
    await lab.clock.to('10:10:00');
    expect(lab.begun).toHaveLength(1);
    expect(JSON.parse(readFileSync(path.join(folder, 'schedules.json'), 'utf8'))).toMatchObject({
      last: { base: Date.parse('2026-05-01T10:10:00Z') },
    });
  });

  test('a run in the middle of which the agent died is not begun again', async () => {
    const clock = createClock();
    const { execute } = held();
    const first = await startLab({ clock, execute, isHeld: true });
    await clock.to('10:10:00');
    await expect.poll(() => first.begun.length).toBe(1);
    await using second = await startLab({ clock });
    await clock.rest();
    expect(second.begun).toEqual([]);
    await first[Symbol.asyncDispose]();
  });
});
