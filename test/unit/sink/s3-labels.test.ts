import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { metadataOf, taggingOf } from '../../../agent/sink/s3-labels.ts';

const subject = (caseId: string) => ({ captureId: 'id', caseId, startedAtMs: 0, volatility: 1 });
const anyText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 2000 }),
  fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 600 }).map((units) => String.fromCharCode(...units)),
);

describe('the metadata of an object', () => {
  test('keeps a plain case id as it is', () => {
    expect(metadataOf(subject('IR-2026/7:a'))).toEqual({ 'exhibit-capture': 'id', 'exhibit-case': 'IR-2026/7:a' });
  });

  test('has no case where there is none', () => {
    expect(metadataOf(subject(''))).toEqual({ 'exhibit-capture': 'id' });
  });

  test('has no case of what is encrypted, and neither have the tags', () => {
    const about = { ...subject('IR-2026/7'), unlabelled: true };
    expect(metadataOf(about)).toEqual({ 'exhibit-capture': 'id' });
    expect(taggingOf({ team: 'ir' }, about)).toBe('team=ir&exhibit-capture=id');
  });

  test('is visible ASCII without spaces, and says the case again when decoded, whatever it is', () => {
    fc.assert(
      fc.property(anyText, (caseId) => {
        const value = metadataOf(subject(caseId))['exhibit-case'] ?? '';
        expect(value).toMatch(/^[\x21-\x7e]*$/);
        expect(value.length).toBeLessThanOrEqual(1027);
        if (value.length < 1024) expect(decodeURIComponent(value)).toBe(caseId.toWellFormed());
      }),
    );
  });

  test('is cut where it would be too long, never within an escape', () => {
    for (let before = 0; before < 9; before += 1) {
      const value = metadataOf(subject('x'.repeat(before) + '案'.repeat(500)))['exhibit-case'] ?? '';
      expect(value).toMatch(/^x*(%[0-9A-F]{2})+\.\.\.$/);
    }
  });
});

describe('the tags of an object', () => {
  test('hold only what S3 takes, in one header of bounded size, whatever the case is', () => {
    fc.assert(
      fc.property(anyText, (caseId) => {
        const header = taggingOf(true, subject(caseId)) ?? '';
        expect(header).toMatch(/^[A-Za-z0-9%&=._~!*'()-]*$/);
        expect(header.length).toBeLessThanOrEqual(1100);
        const value = new URLSearchParams(header).get('exhibit-case') ?? '';
        expect(value).toMatch(/^[\p{L}\p{N} +\-=._:/@]*$/u);
        expect(value.length).toBeLessThanOrEqual(256);
      }),
    );
  });

  test('of a scheduled capture say which schedule and for how many days, and of an encrypted one the days alone', () => {
    const about = { ...subject(''), schedule: { name: 'baseline', keepDays: 30 } };
    const days = 'exhibit-capture=id&exhibit-keep-days=30';
    expect(taggingOf(true, about)).toBe('exhibit-capture=id&exhibit-schedule=baseline&exhibit-keep-days=30');
    expect(taggingOf(true, { ...about, unlabelled: true })).toBe(days);
    expect(taggingOf(true, { ...about, schedule: { name: 'x' } })).toBe('exhibit-capture=id&exhibit-schedule=x');
    expect(taggingOf(false, about)).toBeUndefined();
  });

  test('are none where none are wanted, and ours beside those that are', () => {
    expect(taggingOf(false, subject('c'))).toBeUndefined();
    expect(taggingOf({ team: 'a b' }, subject('c'))).toBe('team=a%20b&exhibit-capture=id&exhibit-case=c');
  });
});
