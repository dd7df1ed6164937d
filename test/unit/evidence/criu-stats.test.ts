import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseDumpStats } from '../../../evidence/criu-stats.ts';

/** Of a dump by CRIU 4.2.1; `crit show` tells the same numbers. */
const RECORDED = Buffer.from('QFkQVQYzCVciAAAACiAIqgMQlPgHGPUCIEooGTAAOBFAAEgAUARYBGAAaABwAA==', 'base64');

describe('CRIU’s statistics', () => {
  test('are read as crit shows them', () => {
    expect(parseDumpStats(RECORDED)).toEqual({
      freezingTimeUs: 426,
      frozenTimeUs: 130068,
      memdumpTimeUs: 373,
      memwriteTimeUs: 74,
      pagesScanned: 25,
      pagesWritten: 17,
      sharedPagesWritten: 0,
    });
  });

  test('of anything else are none, and never an error', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => parseDumpStats(bytes) === undefined));
  });

  test('that are cut short are none', () => {
    for (let end = 0; end < RECORDED.length; end += 1)
      expect(parseDumpStats(RECORDED.subarray(0, end))).toBeUndefined();
  });
});
