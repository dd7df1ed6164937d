import { expect, test } from 'vitest';
import { describeAccepted, describeProgress, describeStage, describeStart } from '../../../cli/progress.ts';

const stage = {
  stage: 'memory',
  status: 'captured',
  reason: null,
  storedBytes: 0,
  wallMs: 3400,
  pauseMs: 0,
  gapCount: 0,
};

test('a stage that ended says what was stored, how long the target stood still, and what is missing', () => {
  expect(describeStage({ ...stage, storedBytes: 1_288_490_189, pauseMs: 120 })).toBe(
    'memory: captured, 1.2 GiB stored in 3.4 s, paused 120 ms',
  );
  expect(describeStage({ ...stage, status: 'partial', storedBytes: 1024, gapCount: 1, reason: 'EIO' })).toBe(
    'memory: partial, 1 KiB stored in 3.4 s, 1 gap: EIO',
  );
  expect(describeStage({ ...stage, status: 'skipped', reason: 'not asked for' })).toBe(
    'memory: skipped: not asked for',
  );
});

test('a reason cannot move the cursor or fill the screen', () => {
  const line = describeStage({ ...stage, status: 'failed', reason: `\x1b[2J${'x'.repeat(9999)}` });
  expect(line).toMatch(/^memory: failed: \\x1b\[2Jx+…$/);
  expect(line.length).toBeLessThan(230);
});

test("progress shows bytes, the total where it is known, and a rate by the agent's own clock", () => {
  const at = {
    stage: 'memory',
    startedAtMs: 1000,
    atMs: 3000,
    doneBytes: 4 * 1024 * 1024,
    totalBytes: 8 * 1024 * 1024,
  };
  expect(describeProgress(at)).toBe('memory: 4 MiB of 8 MiB, 2 MiB/s');
  expect(describeProgress({ ...at, totalBytes: null })).toBe('memory: 4 MiB, 2 MiB/s');
  expect(describeProgress({ ...at, totalBytes: 1 })).toBe('memory: 4 MiB of 4 MiB, 2 MiB/s');
  expect(describeProgress({ ...at, atMs: 1000 })).toBe('memory: 4 MiB of 8 MiB');
  expect(describeProgress({ ...at, atMs: 0 })).toBe('memory: 4 MiB of 8 MiB');
  expect(describeProgress({ ...at, doneBytes: 0 })).toBe('memory');
});

test("progress shows the controller's rate and estimate where it has them", () => {
  const at = { stage: 'memory', startedAtMs: 0, atMs: 10_000, doneBytes: 1024, totalBytes: 4096 };
  const speed = { bytesPerSecond: 512.4, remainingMs: 6_000 };
  expect(describeProgress({ ...at, ...speed })).toBe('memory: 1 KiB of 4 KiB, 512 B/s, 6.0 s left');
  expect(describeProgress({ ...at, bytesPerSecond: null, remainingMs: null })).toBe('memory: 1 KiB of 4 KiB, 102 B/s');
});

test('joining a capture that was there is said', () => {
  const event = {
    captureId: 'x',
    at: null,
    event: 'accepted',
    target: 'a/b/c',
    sinkUrl: 's3://e',
    stages: [],
  } as const;
  expect(describeAccepted({ ...event, created: true })).toBe('capturing a/b/c into s3://e');
  expect(describeAccepted({ ...event, created: false })).toBe('joined the capture of a/b/c into s3://e');
});

test('a capture that waits says how many are before it, and how long it was', () => {
  expect(describeStart({ stage: 'queue', before: 2 })).toBe('queue: waiting, 2 before it');
  expect(describeStart({ stage: 'memory' })).toBe('memory: started');
  expect(describeStage({ ...stage, stage: 'queue', wallMs: 12_000 })).toBe('queue: waited 12.0 s');
  expect(describeStage({ ...stage, stage: 'n1 prod/web-0 queue', wallMs: 12_000 })).toBe(
    'n1 prod/web-0 queue: waited 12.0 s',
  );
});
