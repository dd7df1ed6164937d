import * as prom from 'prom-client';
import { describe, expect, test } from 'vitest';
import type { CaptureEvent, CaptureHooks, CaptureRequest, Told } from '../../../agent/capture/captures.ts';
import type { JournalEntry } from '../../../agent/capture/journal.ts';
import { CaptureMetrics } from '../../../agent/metrics/captures.ts';
import { gapCounts } from '../../../agent/metrics/gap-reason.ts';
import { ExhibitError } from '../../../evidence/error.ts';

const SECRET = 'prod/db-0 password=hunter2';

function entry(captureId: string, trigger: string, state: JournalEntry['state'] = 'running'): JournalEntry {
  return {
    ...{ captureId, requestKey: 'k', trigger, state, target: SECRET, caseId: SECRET, reason: SECRET },
    ...{ bundleUrl: `s3://${SECRET}`, startedAtMs: 1, finishedAtMs: 0, error: SECRET, stages: [] },
  };
}

const accepted: CaptureEvent = { kind: 'accepted', target: SECRET, bundleUrl: SECRET, stages: ['memory'] };
const ended = (capture: JournalEntry): Told => ({ entry: capture, event: { kind: 'ended', capture } });

function stage(name: string, more: Partial<Extract<CaptureEvent, { kind: 'stage-ended' }>> = {}): CaptureEvent {
  const result = {
    stage: name,
    status: 'partial',
    reason: SECRET,
    storedBytes: 100,
    wallMs: 1500,
    pauseMs: 42,
    gapCount: 2,
  };
  return { kind: 'stage-ended', result, ...more };
}

function metrics() {
  const registry = new prom.Registry();
  const captures = new CaptureMetrics(prom, registry);
  const value = async (name: string, labels: Record<string, string> = {}) => {
    const { values } = (await registry.getSingleMetric(name)?.get()) ?? { values: [] };
    return values.find((one) => Object.entries(labels).every(([key, wanted]) => String(one.labels[key]) === wanted))
      ?.value;
  };
  return { captures, value, text: () => registry.metrics() };
}

const hooks: CaptureHooks = {
  signal: new AbortController().signal,
  emit: () => undefined,
  frozen: async () => undefined,
  dumping: async () => undefined,
  waiting: async () => undefined,
};
const request = (trigger: string): CaptureRequest => ({
  ...{ captureId: '', selector: SECRET, artifacts: [], caseId: SECRET, reason: SECRET },
  ...{ consistency: 'live', scope: 'container', requester: { trigger, identity: SECRET } },
});

describe('the metrics of captures', () => {
  test('count an end once, though it is told again with each sink that took what waited', async () => {
    const { captures, value } = metrics();
    captures.onTold({ entry: entry('a', 'socket'), event: accepted });
    captures.onTold({ entry: entry('b', 'schedule'), event: accepted });
    expect(await value('exhibit_captures_running')).toBe(2);
    for (const state of ['complete', 'partial'] as const) captures.onTold(ended(entry('a', 'socket', state)));
    expect(await value('exhibit_captures_running')).toBe(1);
    expect(await value('exhibit_captures_total', { trigger: 'socket', outcome: 'complete' })).toBe(1);
    expect(await value('exhibit_captures_total', { trigger: 'socket', outcome: 'partial' })).toBe(0);
  });

  test('have what a stage took, read, stored and left out', async () => {
    const { captures, value } = metrics();
    const gaps = new Map([
      ['gone', 3],
      ['denied', 1],
    ]);
    captures.onTold({ entry: entry('a', 'socket'), event: accepted });
    captures.onTold({ entry: entry('a', 'socket'), event: stage('memory', { bytesRead: 5000, gaps }) });
    const artifact = 'memory';
    expect(await value('exhibit_stages_total', { artifact, status: 'partial' })).toBe(1);
    expect(await value('exhibit_read_bytes_total', { artifact })).toBe(5000);
    expect(await value('exhibit_stored_bytes_total', { artifact })).toBe(100);
    expect(await value('exhibit_gaps_total', { artifact, reason: 'gone' })).toBe(3);
    expect(await value('exhibit_stage_seconds', { artifact, le: '1' })).toBe(0);
    expect(await value('exhibit_stage_seconds', { artifact, le: '2.5' })).toBe(1);
    expect(await value('exhibit_stall_seconds', { artifact, le: '0.025' })).toBe(0);
    expect(await value('exhibit_stall_seconds', { artifact, le: '0.05' })).toBe(1);
  });

  test('have no stall of what stopped nothing, and all of those that stop a target from the start', async () => {
    const { captures, value, text } = metrics();
    captures.onTold({ entry: entry('a', 'socket'), event: accepted });
    const told = stage('network');
    if (told.kind !== 'stage-ended') throw new Error('no stage');
    captures.onTold({ entry: entry('a', 'socket'), event: { ...told, result: { ...told.result, pauseMs: 0 } } });
    expect(await value('exhibit_stall_seconds', { artifact: 'network', le: '+Inf' })).toBeUndefined();
    for (const artifact of ['memory', 'checkpoint'])
      expect(await text()).toContain(`exhibit_stall_seconds_count{artifact="${artifact}"} 0\n`);
  });

  test('know the time in the line as a stage of its own', async () => {
    const { captures, value } = metrics();
    for (const name of ['queue', 'seal', SECRET]) captures.onTold({ entry: entry('a', 'socket'), event: stage(name) });
    for (const artifact of ['queue', 'seal', 'other'])
      expect([artifact, await value('exhibit_stages_total', { artifact })]).toEqual([artifact, 1]);
  });

  test('count what was not begun by the code of its error, and nothing twice', async () => {
    const { captures, value } = metrics();
    const refused = captures.around(async () => {
      throw new ExhibitError('refused', SECRET);
    });
    await expect(refused('a', request('exit'), hooks)).rejects.toThrow(SECRET);
    const failing = captures.around(async (_id, _request, { emit }) => {
      emit(accepted as Exclude<CaptureEvent, { kind: 'ended' }>);
      throw new TypeError(SECRET);
    });
    await expect(failing('b', request('exit'), hooks)).rejects.toThrow(TypeError);
    const strange = captures.around(async () => {
      throw new TypeError(SECRET);
    });
    await expect(strange('c', request('exit'), hooks)).rejects.toThrow(TypeError);
    expect(await value('exhibit_captures_not_begun_total', { trigger: 'exit', reason: 'refused' })).toBe(1);
    expect(await value('exhibit_captures_not_begun_total', { trigger: 'exit', reason: 'internal' })).toBe(1);
  });

  test('have the rule of a refusal without the trigger', async () => {
    const { captures, value } = metrics();
    captures.onRefused('exit', 'policy.triggers.exit.namespaces.deny');
    captures.onRefused('exit', 'policy.namespaces.deny');
    expect(await value('exhibit_policy_refusals_total', { trigger: 'exit', rule: 'namespaces.deny' })).toBe(2);
  });

  test('hold nothing of a target or a person, and no label that somebody else could make', async () => {
    const { captures, text } = metrics();
    const before = (await text()).split('\n').length;
    for (let round = 0; round < 200; round += 1) {
      const id = `${SECRET}-${round}`;
      const gaps = new Map([[`${SECRET}-${round}`, 1]]);
      captures.onTold({ entry: entry(id, id), event: accepted });
      captures.onTold({ entry: entry(id, id), event: stage(id, { gaps }) });
      captures.onTold(ended({ ...entry(id, id), state: 'complete' }));
      await captures
        .around(async () => {
          throw new ExhibitError('refused', SECRET);
        })(id, request(id), hooks)
        .catch(() => undefined);
    }
    expect(await text()).not.toMatch(/hunter2|db-0/);
    expect((await text()).split('\n').length - before).toBeLessThan(60);
  });
});

describe('the reason of a gap', () => {
  const gap = (errno?: string) => ({ what: SECRET, why: SECRET, at: '', ...(errno === undefined ? {} : { errno }) });

  test('is one of few, by its errno', () => {
    const gaps = [
      gap('ESRCH'),
      gap('ENOENT'),
      gap('EPERM'),
      gap('EIO'),
      gap('ENOSPC'),
      gap('EPIPE'),
      gap('constructor'),
      gap(),
    ];
    expect([...gapCounts({ gaps, gapCount: 11 })]).toEqual([
      ['gone', 2],
      ['denied', 1],
      ['unreadable', 1],
      ['no-room', 1],
      ['other-errno', 2],
      ['no-errno', 1],
      ['not-listed', 3],
    ]);
  });
});
