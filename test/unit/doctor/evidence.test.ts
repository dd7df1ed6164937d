import { describe, expect, test } from 'vitest';
import {
  checkAppendOnly,
  checkClock,
  checkSigning,
  checkSink,
  checkTimestamp,
} from '../../../agent/doctor/evidence.ts';
import { isAtLeast, versionOf } from '../../../agent/doctor/version.ts';
import type { SinkRights } from '../../../agent/sink/sink.ts';

describe('where evidence goes', () => {
  test('is well when it takes it, and a failure when it does not', () => {
    expect(checkSink('s3://evidence', undefined).status).toBe('ok');
    expect(checkSink('s3://evidence', 'there is no bucket evidence')).toMatchObject({
      status: 'failure',
      found: 'there is no bucket evidence',
    });
  });

  const minimal: SinkRights = { list: 'refused', read: 'refused', overwrites: false, retention: 'unknown' };
  test.each([
    ['an identity that may only write', minimal, 'ok', ''],
    ['one that has stored nothing yet', { ...minimal, read: 'unknown' }, 'ok', ''],
    ['a lock that it may see', { ...minimal, retention: 'locked' }, 'ok', ''],
    ['one that may list', { ...minimal, list: 'allowed' }, 'warning', 's3:PutObject'],
    ['one that may read', { ...minimal, read: 'allowed' }, 'warning', 's3:PutObject'],
    ['no versions', { ...minimal, retention: 'none' }, 'warning', 'Object Lock'],
    ['versions without a lock', { ...minimal, retention: 'versioned' }, 'warning', 'Object Lock'],
    [
      'a lock that is configured and not there',
      { ...minimal, retention: 'versioned', lockMissing: true },
      'failure',
      'enable Object Lock on the bucket',
    ],
    ['keys that can be written again', { ...minimal, overwrites: true }, 'warning', 'set it to true'],
  ] as const)('%s', (_what, rights, status, mend) => {
    const check = checkAppendOnly('s3://evidence/cases', rights);
    expect(check.status).toBe(status);
    expect(check.mend).toContain(mend);
  });

  test('never says that deleting was tried', () => {
    expect(checkAppendOnly('s3://evidence', minimal).found).toContain('delete not tried');
  });

  test('a folder is never append-only', () => {
    const rights = { list: 'allowed', read: 'allowed', overwrites: false, retention: 'none' } as const;
    expect(checkAppendOnly('file:///evidence', rights).status).toBe('warning');
  });
});

describe('who signs, and when it was', () => {
  test('a key of one’s own is better than one made at start', () => {
    expect([checkSigning([{ name: '/etc/exhibit/key.pem' }]).status, checkSigning([]).status]).toEqual([
      'ok',
      'warning',
    ]);
  });

  test('warns of keys that do not sign, and fails when none does', () => {
    const good = { name: '/k.pem' };
    const bad = { name: 'alias/seal', why: 'KMS did not sign with alias/seal: AccessDenied' };
    expect(checkSigning([good, bad])).toMatchObject({
      status: 'warning',
      found: expect.stringContaining('AccessDenied'),
    });
    expect(checkSigning([bad]).status).toBe('failure');
  });

  test('warns when no authority says when, whether none is asked or none answers', () => {
    const good = { name: 'https://tsa.example/' };
    const bad = { name: 'http://tsa.test/', why: 'http://tsa.test/: fetch failed' };
    expect(checkTimestamp([])).toMatchObject({ status: 'warning', found: 'no authority is asked' });
    expect(checkTimestamp([good])).toMatchObject({ status: 'ok', found: good.name });
    expect(checkTimestamp([good, bad])).toMatchObject({ status: 'warning', found: bad.why });
    expect(checkTimestamp([bad])).toMatchObject({ meaning: expect.stringContaining('without a timestamp') });
  });

  test.each([
    [true, 1500, 'ok', 'within 1.5 ms'],
    [true, undefined, 'ok', 'synchronised, '],
    [false, 16_000_000, 'warning', 'not synchronised'],
    [undefined, undefined, 'warning', 'cannot be asked'],
  ])('synchronised %s: %s', (synchronised, estimatedErrorUs, status, found) => {
    const given = Object.fromEntries(
      Object.entries({ synchronised, estimatedErrorUs }).filter(([, value]) => value !== undefined),
    );
    const check = checkClock({ wall: '2026-03-01T12:00:00.000Z', timezone: 'UTC', ...given });
    expect(check.status).toBe(status);
    expect(check.found).toContain(found);
  });

  const wall = { wall: '2026-03-01T12:00:00.000Z', timezone: 'UTC', synchronised: true };
  const s3 = (offsetMs: number, uncertaintyMs = 1_100) => ({ source: 'Amazon S3', offsetMs, uncertaintyMs });
  test.each([
    ['as S3 has it', [s3(900)], 'ok', 'as Amazon S3 has it'],
    ['as far off as a Date header cannot tell', [s3(6_000)], 'ok', 'as Amazon S3 has it'],
    ['20 minutes behind', [s3(1_203_000)], 'warning', 'the clock is 20 min 3 s behind that of Amazon S3'],
    ['a year ahead', [s3(-31_536_000_000)], 'warning', 'the clock is 525600 min 0 s ahead of that of Amazon S3'],
    [
      'right by one and wrong by another',
      [s3(0), { ...s3(9_000, 10), source: 'https://tsa/' }],
      'warning',
      '9 s behind that of https://tsa/',
    ],
  ])('a clock that is %s', (_what, others, status, found) => {
    const check = checkClock(wall, others);
    expect(check).toMatchObject({ status, found: expect.stringContaining(found) });
  });

  test('a clock by which S3 refuses everything says so, and what to do', () => {
    expect(checkClock(wall, [s3(1_203_000)])).toMatchObject({
      meaning: expect.stringContaining('S3 refuses what is signed by this clock'),
      mend: expect.stringContaining('chronyc tracking'),
    });
    expect(checkClock(wall, [s3(60_000)]).meaning).not.toContain('refuses');
    expect(checkClock({ ...wall, synchronised: false }, [s3(0)]).meaning).toContain(
      'right now, and nobody keeps them so',
    );
  });
});

describe('versions', () => {
  test.each([
    ['2.1.9+unknown', [2, 1, 9]],
    ['v1.7.27', [1, 7, 27]],
    ['1.6.20~ds1', [1, 6, 20]],
    ['4.2', [4, 2, 0]],
    ['6.12.40-63.114.amzn2023.x86_64', [6, 12, 40]],
    ['unknown', undefined],
    ['', undefined],
  ])('%s', (text, expected) => {
    expect(versionOf(text)).toEqual(expected);
  });

  test.each([
    [[2, 1, 0], [2, 1], true],
    [[2, 0, 9], [2, 1], false],
    [[2, 2, 7], [2, 2, 7], true],
    [[2, 2, 6], [2, 2, 7], false],
    [[3, 0, 0], [2, 2, 7], true],
  ] as const)('%s is at least %s: %s', (version, wanted, expected) => {
    expect(isAtLeast(version, wanted)).toBe(expected);
  });
});
