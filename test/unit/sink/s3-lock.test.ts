import { describe, expect, test } from 'vitest';
import { openSink, sinkSchema } from '../../../agent/sink/open.ts';
import { attributesOf, probeAttributes } from '../../../agent/sink/s3-attributes.ts';
import { lockOfCase, type ObjectLockConfig } from '../../../agent/sink/s3-lock.ts';

const DAY_MS = 86_400_000;
const NOW_MS = Date.UTC(2026, 10, 27);

const lock: ObjectLockConfig = {
  mode: 'GOVERNANCE',
  retainDays: 30,
  cases: [
    { match: 'IR-*-urgent', mode: 'COMPLIANCE', retainDays: 3650 },
    { match: 'IR-*', legalHold: true },
  ],
};

describe('the lock of a case', () => {
  test.each([
    ['IR-7-urgent', { retention: { mode: 'COMPLIANCE', retainDays: 3650 }, legalHold: false }],
    ['IR-7', { retention: { mode: 'GOVERNANCE', retainDays: 30 }, legalHold: true }],
    ['other', { retention: { mode: 'GOVERNANCE', retainDays: 30 }, legalHold: false }],
    ['', { retention: { mode: 'GOVERNANCE', retainDays: 30 }, legalHold: false }],
  ])('%s is that of the first pattern that matches, over the default', (caseId, expected) => {
    expect(lockOfCase(lock, caseId)).toEqual(expected);
  });

  test('that ended while the object waited in the spool becomes one day', () => {
    const about = { captureId: 'id', caseId: '', startedAtMs: NOW_MS - 40 * DAY_MS, volatility: 1 };
    expect(attributesOf({ objectLock: lock }, about, NOW_MS).ObjectLockRetainUntilDate?.getTime()).toBe(
      NOW_MS + DAY_MS,
    );
  });

  test('is proved with all that any case asks for', () => {
    const { retainDays, mode, ...onlyCases } = lock;
    expect(probeAttributes({ objectLock: onlyCases }, NOW_MS)).toMatchObject({
      ObjectLockMode: 'COMPLIANCE',
      ObjectLockRetainUntilDate: new Date(NOW_MS + 3650 * DAY_MS),
      ObjectLockLegalHoldStatus: 'ON',
    });
  });
});

describe('a sink’s configuration', () => {
  const faults = (over: object) => {
    const parsed = sinkSchema.safeParse({ url: 's3://evidence', ...over });
    return parsed.success ? [] : parsed.error.issues.map(({ path }) => path.join('.'));
  };

  test.each([
    { checksum: 'crc64nvme' },
    { serverSideEncryption: { kind: 'aws:kms', keyId: 'alias/x', bucketKey: true } },
    { objectLock: { legalHold: true } },
    { objectLock: { mode: 'COMPLIANCE', retainDays: 1 } },
    { objectLock: { cases: [{ match: 'IR-*', mode: 'COMPLIANCE', retainDays: 1 }] } },
    { objectLock: { mode: 'GOVERNANCE', retainDays: 1, cases: [{ match: '*', mode: 'COMPLIANCE' }] } },
    { tags: true, metadata: false, maxBytesPerSecond: 65_536 },
    { maxBytesPerSecond: '50MiB', partBytes: '16 MiB' },
    { tags: { 'cost centre': 'a+b=c:d/e@f_g.h' } },
    { retry: { attempts: 1, firstWaitMs: 10, longestWaitMs: 10 } },
  ])('may say %j', (over) => {
    expect(faults(over)).toEqual([]);
    expect(openSink(sinkSchema.parse({ url: 's3://evidence', region: 'eu-central-1', ...over })).url).toBe(
      's3://evidence',
    );
  });

  test.each<[object, string]>([
    [{ checksum: 'md5' }, 'checksum'],
    [{ serverSideEncryption: { kind: 'AES256', keyId: 'x' } }, 'serverSideEncryption.keyId'],
    [{ serverSideEncryption: { kind: 'aws:kms:dsse', bucketKey: true } }, 'serverSideEncryption.bucketKey'],
    [{ objectLock: {} }, 'objectLock'],
    [{ objectLock: { mode: 'COMPLIANCE' } }, 'objectLock.retainDays'],
    [{ objectLock: { retainDays: 5 } }, 'objectLock.mode'],
    [{ objectLock: { mode: 'COMPLIANCE', retainDays: 36_501 } }, 'objectLock.retainDays'],
    [{ objectLock: { cases: [{ match: 'x', mode: 'COMPLIANCE' }] } }, 'objectLock.cases.0.retainDays'],
    [{ tags: { 'aws:x': 'y' } }, 'tags'],
    [{ tags: { 'exhibit-case': 'y' } }, 'tags'],
    [{ tags: { x: 'a&b' } }, 'tags.x'],
    [{ tags: Object.fromEntries(Array.from({ length: 9 }, (_, at) => [`t${at}`, 'v'])) }, 'tags'],
    [{ maxBytesPerSecond: 1 }, 'maxBytesPerSecond'],
    [{ maxBytesPerSecond: 'fast' }, 'maxBytesPerSecond'],
    [{ partBytes: '4MiB' }, 'partBytes'],
    [{ partBytes: '6GiB' }, 'partBytes'],
    [{ retry: { attempts: 0 } }, 'retry.attempts'],
    [{ retry: { attempts: 21 } }, 'retry.attempts'],
    [{ retry: { firstWaitMs: 30_000 } }, 'retry.firstWaitMs'],
    [{ url: 'file:///evidence', objectLock: { legalHold: true } }, 'objectLock'],
  ])('may not say %j', (over, path) => {
    expect(faults(over)).toEqual([path]);
  });
});
