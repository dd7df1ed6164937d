import { describe, expect, test } from 'vitest';
import { HeldFindings } from '../../../agent/collect/finding-held.ts';
import type { FindingLine } from '../../../agent/collect/finding-record.ts';
import { MANY_IN_A_BURST } from '../../../agent/collect/finding-times.ts';
import type { FindingKind } from '../../../evidence/file-finding.ts';

/** What only the end of a walk can judge. */

const line = (kind: FindingKind, path: string, sha256?: string) =>
  ({ kind, path, severity: 'medium', reasons: ['elf'], sha256 }) as FindingLine;
const suspect = (held: HeldFindings, sha256: string | undefined) =>
  held.suspect(line('executable-not-in-image', 'a', sha256), 3n, sha256);
const older = (held: HeldFindings, ctimeNs: bigint, mtimeNs = 1n) =>
  held.older(line('timestomped', 'a', 'a'), { ctimeNs, mtimeNs, sizeBytes: 3n });
const SEARCHED = { found: new Map([['there', 7n]]), incomplete: undefined };

describe('an executable', () => {
  test('is no finding when the image has its content, and one when all of the image was searched in vain', () => {
    const held = new HeldFindings();
    expect([suspect(held, 'there'), suspect(held, 'missing')]).toEqual([undefined, undefined]);
    expect(held.wanted).toEqual([
      { sizeBytes: 3n, sha256: 'there' },
      { sizeBytes: 3n, sha256: 'missing' },
    ]);
    expect([...held.resolve(SEARCHED)]).toMatchObject([
      { sha256: 'missing', severity: 'medium', reasons: ['elf', 'not-in-image'] },
    ]);
  });

  test('is only a suspicion when the search was broken off', () => {
    const held = new HeldFindings();
    suspect(held, 'missing');
    const [found] = held.resolve({ found: new Map(), incomplete: 'too large' });
    expect(found).toMatchObject({ severity: 'low', reasons: ['elf', 'image-not-searched'] });
  });

  test('that is too many to hold, or was not digested, is a suspicion at once', () => {
    const held = new HeldFindings(1);
    expect(suspect(held, undefined)).toMatchObject({ reasons: ['elf', 'image-not-searched'] });
    expect(suspect(held, 'first')).toBeUndefined();
    expect(suspect(held, 'second')).toMatchObject({ severity: 'low', reasons: ['elf', 'image-not-searched'] });
    expect(held.wanted).toHaveLength(1);
  });
});

describe('a file with an older time', () => {
  const inSpan = (span: number, index: number): bigint => BigInt(span) * 10_000_000_000n + BigInt(index);

  test('weighs little when many were dated in the same ten seconds, the first of them included', () => {
    const held = new HeldFindings();
    for (let index = 0; index < MANY_IN_A_BURST; index += 1) expect(older(held, inSpan(1, index))).toBeUndefined();
    expect(older(held, inSpan(1, MANY_IN_A_BURST))).toMatchObject({ severity: 'low' });
    older(held, inSpan(2, 0));
    const severities = [...held.resolve(SEARCHED)].map(({ severity }) => severity);
    expect(severities).toEqual([...Array<string>(MANY_IN_A_BURST).fill('low'), 'medium']);
    expect(held.wanted).toHaveLength(1);
  });

  test('is no finding when it is a copy of a file of the image, time included', () => {
    const held = new HeldFindings();
    older(held, inSpan(1, 0), 7n);
    older(held, inSpan(3, 0), 8n);
    const left = [...held.resolve({ found: new Map([['a', 7n]]), incomplete: undefined })];
    expect(left).toHaveLength(1);
  });
});
