import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../agent/config.ts';
import { chooseTargets } from '../../../agent/trigger/schedule-targets.ts';

describe('a selector', () => {
  test('of one target asks for no list', () => {
    expect(chooseTargets({ target: 'unit:kubelet.service' }, [], 1)).toEqual({
      ...{ targets: [{ selector: 'unit:kubelet.service', name: 'unit:kubelet.service' }], leftOut: 0 },
    });
  });
});

describe('the configuration', () => {
  const config = (schedules: string, more = "sink: { url: 'file:///e' }") =>
    parseConfig(`${more}\nschedules:\n${schedules}`, 'f', {});
  const good = "  - { name: base, cron: '*/5 * * * *', selector: { namespaces: ['*'] } }";

  test('has light defaults', () => {
    const read = config(good);
    expect(read.schedules).toMatchObject([
      {
        ...{ timeZone: 'UTC', jitterMs: 60_000, consistency: 'live', missed: 'once', maxTargets: 50 },
      },
    ]);
    expect(read.scheduleBudget).toMatchObject({ concurrent: 1, capturesPerHour: 120 });
  });

  test.each([
    [
      "  - { name: base, cron: 'x', selector: { pods: [a] } }",
      /schedules\.0\.cron: expected a cron expression of five/,
    ],
    ["  - { name: base, cron: '0 0 31 2 *', selector: { pods: [a] } }", /fires some time/],
    ["  - { name: base, cron: '* * * * * * *', selector: { pods: [a] } }", /five fields/],
    [
      "  - { name: base, cron: '* * * * *', timeZone: Mars, selector: { pods: [a] } }",
      /timeZone: expected a time zone/,
    ],
    ["  - { name: base, cron: '* * * * *', timeZone: '+02:00', selector: { pods: [a] } }", /a time zone/],
    ["  - { name: base, cron: '* * * * *', selector: {} }", /one of namespaces/],
    ["  - { name: base, cron: '* * * * *', selector: { target: 'a/b', pods: [a] } }", /or target alone/],
    ["  - { name: 'Bad Name', cron: '* * * * *', selector: { pods: [a] } }", /a-z, 0-9/],
    [`${good}\n${good}`, /each name once/],
    [
      "  - { name: base, cron: '* * * * *', selector: { pods: [a] }, sinks: [thief] }",
      /schedules\.0\.sinks\.0: expected one of default, found "thief"/,
    ],
  ])('%s is a fault', (schedules, words) => {
    expect(() => config(schedules)).toThrow(words);
  });

  test('leaves room for the tags that schedules set', () => {
    const tags = (count: number) =>
      `sink: { url: 's3://b', tags: { ${Array.from({ length: count }, (_, index) => `t${index}: x`).join(', ')} } }`;
    expect(() => config(good, tags(7))).toThrow(/at most 6 tags/);
    expect(config(good, tags(6)).schedules).toHaveLength(1);
  });
});
