import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { commandOf, stepsFor } from '../../../../controller/link/commands.ts';
import { readHello } from '../../../../controller/link/hello.ts';
import { foldEvent, sameEnd } from '../../../../controller/link/told.ts';
import { createTurns } from '../../../../controller/link/turns.ts';
import { END_STATES, OPEN_STATES } from '../../../../controller/store/store.ts';
import type { CaptureEvent__Output } from '../../../../proto/gen/exhibit/v1/CaptureEvent.ts';
import { captureOf } from './lab.ts';

const greeting = {
  ...{
    protocol: 1,
    cluster: 'prod',
    node: 'n1',
    agentVersion: '1',
    bootId: 'b',
    runtimeName: 'r',
    runtimeVersion: '1',
  },
  ...{ artifacts: [], sinks: [], clockMs: '5000', pod: '' },
};
const identity = { cluster: 'prod', node: 'n1' };

describe('a greeting', () => {
  test('says how far the clock of the node is ahead', () => {
    expect(readHello(greeting, identity, 2_000)).toMatchObject({ kind: 'welcome', row: { clockAheadMs: 3_000 } });
    expect(readHello({ ...greeting, clockMs: '9'.repeat(19) }, identity, 2_000)).toMatchObject({
      row: { clockAheadMs: 0 },
    });
  });

  test('of another protocol is refused before anything else of it is looked at', () => {
    expect(readHello({ ...greeting, protocol: 0, node: 'x' }, identity, 0)).toMatchObject({ why: 'protocol' });
  });
});

describe('what a stream carries of a capture', () => {
  const row = captureOf('n1', { createdAtMs: 0, expiresAtMs: 1_000 });
  const fresh = undefined;

  test.each([
    ['queued', {}, 0, ['first']],
    ['queued and too late', {}, 1_000, ['expire']],
    ['queued and cancelled', { cancelRequested: true }, 0, ['withdraw']],
    ['sent', { state: 'sent' }, 0, ['again']],
    ['sent and too late', { state: 'sent' }, 1_000, ['resume']],
    ['sent and cancelled', { state: 'sent', cancelRequested: true }, 0, ['resume', 'cancel']],
    ['running', { state: 'running', acceptedAtMs: 1 }, 0, ['resume']],
    ['running and cancelled', { state: 'running', acceptedAtMs: 1, cancelRequested: true }, 0, ['resume', 'cancel']],
    ['complete and waiting for a sink', { state: 'complete', waits: true, cancelRequested: true }, 0, ['resume']],
    ['told by the node', { state: 'sent', acceptedAtMs: 1, command: null }, 0, ['resume']],
  ] as const)('of one that is %s', (_what, change, nowMs, steps) => {
    expect(stepsFor({ ...row, ...change }, fresh, nowMs)).toEqual(steps);
  });

  test('is said once on a stream', () => {
    const running = { ...row, state: 'running', acceptedAtMs: 1, cancelRequested: true } as const;
    expect(stepsFor(running, { commanded: true, cancelled: false }, 0)).toEqual(['cancel']);
    expect(stepsFor(running, { commanded: true, cancelled: true }, 0)).toEqual([]);
  });

  test('may begin a capture only while nobody has begun it, cancelled it, or run out of time', () => {
    const states = fc.constantFrom(...OPEN_STATES, ...END_STATES);
    fc.assert(
      fc.property(
        states,
        fc.boolean(),
        fc.nat(2_000),
        fc.nat(1),
        fc.boolean(),
        (state, cancelRequested, nowMs, acceptedAtMs, waits) => {
          const steps = stepsFor({ ...row, state, cancelRequested, acceptedAtMs, waits }, undefined, nowMs);
          if (!steps.includes('first') && !steps.includes('again')) return;
          expect(['queued', 'sent']).toContain(state);
          expect(nowMs).toBeLessThan(row.expiresAtMs);
          expect(cancelRequested).toBe(false);
          if (state === 'sent') expect(acceptedAtMs).toBe(0);
        },
      ),
    );
  });

  test('is the whole command with who asked and who approved', () => {
    const approvals = [{ by: 'bob', atMs: 1 }];
    expect(commandOf({ ...row, approvals }, false)).toMatchObject({
      request: { captureId: row.captureId, reason: 'alert' },
      requester: { trigger: 'api', identity: 'alice', approvedBy: ['bob'] },
      resume: false,
    });
  });
});

describe('what an agent tells', () => {
  const base = { captureId: 'A', atMs: '7' };
  const accepted: CaptureEvent__Output = {
    ...base,
    event: 'accepted',
    accepted: { target: 't', sinkUrl: 'u', stages: [], created: true },
  };
  const measures = { storedBytes: '3', wallMs: '1', pauseMs: 0.5, gapCount: 1 };
  const stage = (name: string): CaptureEvent__Output => ({
    ...base,
    event: 'stageEnded',
    stageEnded: { stage: name, status: 'captured', reason: '', ...measures },
  });

  test('is folded into one capture, whatever of it comes twice', () => {
    const first = foldEvent(null, accepted);
    const second = foldEvent(first ?? null, stage('memory'));
    const third = foldEvent(second ?? null, stage('logs'));
    expect(third).toMatchObject({
      target: 't',
      bundleUrl: 'u',
      storedBytes: '6',
      gapCount: 2,
      pauseMs: 1,
      startedAtMs: '7',
    });
    for (const again of [accepted, stage('memory'), stage('logs')])
      expect(foldEvent(third ?? null, again)).toBeUndefined();
  });

  test('of an end is no news while the same sinks wait', () => {
    const told = foldEvent(null, accepted);
    if (told === undefined) throw new Error('nothing was folded');
    const ended = { ...told, state: 'complete', waitingSinks: ['a', 'b'] };
    const row = captureOf('n1', { state: 'complete', waits: true, told: ended });
    expect(sameEnd(row, { ...ended, waitingProblems: ['away', ''] })).toBe(true);
    expect(sameEnd(row, { ...ended, waitingSinks: ['b'] })).toBe(false);
    expect(sameEnd(row, { ...ended, state: 'partial' })).toBe(false);
  });
});

describe('turns', () => {
  test('lets so many work at once, and the rest after them, also where some fail', async () => {
    const turns = createTurns(3);
    let at = 0;
    let most = 0;
    const work = async (index: number) => {
      at += 1;
      most = Math.max(most, at);
      await new Promise((resolve) => setImmediate(resolve));
      at -= 1;
      if (index % 4 === 0) throw new Error('no');
    };
    const done = await Promise.allSettled(Array.from({ length: 40 }, (_, index) => turns(() => work(index))));
    expect(done.filter(({ status }) => status === 'rejected').length).toBe(10);
    expect(most).toBe(3);
    expect(at).toBe(0);
  });
});
