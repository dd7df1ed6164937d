import { describe, expect, test } from 'vitest';
import { checkExits, checkRequestFolder, checkSchedules } from '../../../agent/doctor/triggers.ts';
import { folderFault } from '../../../agent/host/trusted-folder.ts';
import type { ScheduleStatus } from '../../../agent/trigger/schedule.ts';

describe('the line of the request folder', () => {
  test('is ok, or a failure with what to do', () => {
    expect(checkRequestFolder('/r', { kind: 'trusted' })).toMatchObject({ status: 'ok', name: 'request-folder' });
    expect(checkRequestFolder('/r', { kind: 'missing' })).toMatchObject({
      status: 'failure',
      mend: 'mkdir -m 0700 /r',
    });
    const trust = { kind: 'distrusted', why: '/r is a link', mend: 'name the folder' } as const;
    expect(checkRequestFolder('/r', trust)).toMatchObject({ status: 'failure', found: '/r is a link' });
  });
});

describe('a folder of the way', () => {
  test.each([
    ['of root, for root alone', 0, 0o040700, true, undefined],
    ['of an owner', 1000, 0o040755, true, undefined],
    ['of somebody else', 1001, 0o040755, false, /uid 1001/],
    ['that the group can write', 0, 0o040775, false, /mode 0775/],
    ['that others can write, with the sticky bit', 0, 0o041777, false, undefined],
    ['that others can write, with the sticky bit, and that is the last one', 0, 0o041777, true, /mode 1777/],
    ['that is a link', 0, 0o120777, false, /symbolic link/],
    ['that is a file', 0, 0o100600, true, /not a folder/],
  ])('%s', (_what, uid, mode, last, why) => {
    const fault = folderFault({ path: '/r', uid, mode, last }, [1000]);
    if (why === undefined) expect(fault).toBeUndefined();
    else expect(fault?.why).toMatch(why);
  });
});

describe('the line of the schedules', () => {
  const counts = { runs: 3, captures: 3, failures: 0, missed: 1, overlapped: 1, overBudget: 0 };
  const status = (over: Partial<ScheduleStatus> = {}): ScheduleStatus => ({
    ...{ name: 'base', nextMs: Date.parse('2026-05-01T10:00:00Z'), lastMs: undefined, isRunning: false },
    ...{ counts, trouble: undefined },
    ...over,
  });

  test('says when each is due and what it took and left out', () => {
    expect(checkSchedules(1, [status()], [])).toMatchObject({
      ...{ status: 'ok', found: 'base next at 2026-05-01T10:00:00.000Z (3 captures, 2 left out)' },
    });
    expect(checkSchedules(2, undefined, [])).toMatchObject({ status: 'ok', found: '2 schedules' });
    expect(checkSchedules(1, [status({ isRunning: true })], []).found).toMatch(/^base runs/);
  });

  test('warns of one whose last run went wrong, and of days that no bucket gets to know', () => {
    expect(checkSchedules(1, [status({ trouble: 'nobody answers' })], ['base'])).toMatchObject({
      ...{ status: 'warning', meaning: 'base: nobody answers; keepDays of base reaches no bucket' },
      mend: expect.stringContaining('set tags: true'),
    });
  });
});

describe('the line of containers that end', () => {
  const counts = { matched: 5, captured: 4, known: 1, dropped: 0, failed: 0 };

  test('says what became of those that a rule fitted', () => {
    expect(checkExits(2, 'cri', { counts, trouble: undefined })).toMatchObject({
      status: 'ok',
      found: '2 rules; 5 ended, 4 captured, 1 known before, 0 dropped, 0 failed',
    });
    expect(checkExits(1, 'cri', undefined)).toMatchObject({ status: 'ok', found: '1 rule' });
  });

  test('warns where some were not captured, where nobody listens, and where there are none', () => {
    const some = checkExits(1, 'cri', { counts: { ...counts, dropped: 3, failed: 1 }, trouble: 'no such socket' });
    expect(some).toMatchObject({
      status: 'warning',
      meaning:
        "the runtime's events are not followed: no such socket; 3 ended while too many waited; 1 could not be captured",
    });
    expect(checkExits(1, 'host', undefined)).toMatchObject({ status: 'warning' });
  });
});
