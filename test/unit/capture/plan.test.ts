import { describe, expect, test } from 'vitest';
import { type PlanInput, planCapture } from '../../../agent/capture/plan.ts';
import { VOLATILITY } from '../../../agent/capture/volatility.ts';
import { asHostPath } from '../../../agent/runtime/runtime.ts';
import type { CheckpointPlan, PlannedRung } from '../../../evidence/dump.ts';
import { ARTIFACTS } from '../../../evidence/layout.ts';

const OPTIONS = { openTcp: false, fileLocks: false, externalUnixSockets: false };
const CHECKPOINT: CheckpointPlan = {
  preflight: { processes: 1, obstacles: [], obstacleCount: 0, dumpBytes: 0, notes: [], wallMs: 1 },
  tmpfsBytes: 1024,
  hugePages: false,
  ladder: [{ rung: 'tasks', expected: 'works', reasons: [], askAnyway: true, options: OPTIONS }],
};

const input: PlanInput = {
  artifacts: [...ARTIFACTS],
  consistency: 'frozen',
  scope: 'container',
  target: {
    record: { runtime: 'cri', kind: 'container', id: 'c1', name: 'prod/web-0/web', labels: {}, initPid: 7, pids: [7] },
    rootfs: { kind: 'overlay', upper: asHostPath('/u'), lowers: [asHostPath('/l')], userXattr: false },
    freeze: { kind: 'containerd', socket: '/s', namespace: 'k8s.io', containerId: 'c1' },
  },
  checkpoint: CHECKPOINT,
  bufferBytes: 1024,
  freezeDeadlineMs: 1000,
};

describe('the plan', () => {
  test('takes what vanishes first, first, whatever the order of asking', () => {
    const steps = planCapture({ ...input, artifacts: [...ARTIFACTS].reverse() }).steps;
    expect(steps.map((step) => step.artifact)).toEqual([
      'processes',
      'network',
      'node',
      'memory',
      'checkpoint',
      'volumes',
      'rootfs',
      'logs',
      'spec',
      'image',
    ]);
    const ranks = steps.map((step) => step.volatility);
    expect(ranks).toEqual(ranks.toSorted((a, b) => a - b));
  });

  test('knows every artifact of the format', () => {
    expect(VOLATILITY.map((row) => row.artifact).toSorted()).toEqual([...ARTIFACTS].toSorted());
  });

  test('freezes for memory only', () => {
    expect(
      planCapture(input)
        .steps.filter((step) => step.frozen)
        .map((step) => step.artifact),
    ).toEqual(['memory']);
  });

  test('says what is taken together', () => {
    expect(planCapture(input).scope).toBe('container');
    expect(planCapture({ ...input, scope: 'pod' }).scope).toBe('pod');
  });

  test('goes live where the target cannot be stopped or where live was asked for', () => {
    expect(planCapture({ ...input, target: { ...input.target, freeze: undefined } }).consistency).toBe('live');
    expect(planCapture({ ...input, consistency: 'live' }).steps.some((step) => step.frozen)).toBe(false);
  });

  test('skips with a reason what the target or the runtime does not have', () => {
    const { steps } = planCapture({ ...input, target: { ...input.target, rootfs: undefined }, checkpoint: undefined });
    const skipped = steps.filter((step) => step.action === 'skip');
    expect(skipped.map((step) => step.artifact)).toEqual(['checkpoint', 'rootfs', 'image']);
    expect(skipped[0]?.reason).toContain('offers no CRIU checkpoint');
    expect(skipped[1]?.reason).toContain('no writable layer');
  });

  test('leaves the checkpoint out where policy would rather skip it than hear CRIU refuse', () => {
    const refused: PlannedRung = {
      rung: 'tasks',
      expected: 'fails',
      reasons: ['pid 7 uses io_uring'],
      askAnyway: true,
      options: OPTIONS,
    };
    const stepOf = (checkpoint: CheckpointPlan) =>
      planCapture({ ...input, checkpoint }).steps.find(({ artifact }) => artifact === 'checkpoint');
    expect(stepOf({ ...CHECKPOINT, ladder: [refused] })).toMatchObject({ action: 'collect' });
    expect(stepOf({ ...CHECKPOINT, ladder: [{ ...refused, askAnyway: false }] })).toMatchObject({
      action: 'skip',
      reason: 'it is expected to fail, and nobody is asked for it: pid 7 uses io_uring',
    });
    expect(stepOf({ ...CHECKPOINT, ladder: [] })).toMatchObject({
      action: 'skip',
      reason: expect.stringContaining('checkpoint.rungs'),
    });
  });

  test('takes of a container that has ended what there is without a process, and says why not the rest', () => {
    const record = { ...input.target.record, initPid: 0, pids: [], ended: { exitCode: 3 } };
    const { steps, consistency } = planCapture({ ...input, target: { ...input.target, record, freeze: undefined } });
    const skipped = steps.filter(({ action }) => action === 'skip');
    expect(skipped.map(({ artifact }) => artifact)).toEqual([
      'processes',
      'network',
      'memory',
      'checkpoint',
      'volumes',
    ]);
    expect(new Set(skipped.map(({ reason }) => reason))).toEqual(
      new Set(['the container has ended: it has no process any more']),
    );
    expect(consistency).toBe('live');
  });
});
