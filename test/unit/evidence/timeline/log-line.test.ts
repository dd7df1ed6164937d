import { describe, expect, test } from 'vitest';
import { createLogJoiner } from '../../../../evidence/timeline/log-line.ts';

const NS = 1_772_366_400_123_456_789n;
const AT = '2026-03-01T12:00:00.123456789Z';

function read(...lines: string[]) {
  const joiner = createLogJoiner();
  const found = lines.map((line, index) => joiner.push(line, index + 1));
  return { found, rest: joiner.end() };
}

describe('a line of CRI', () => {
  test('is its time, stream and text, spaces and all', () => {
    expect(read(`${AT} stderr F  two  spaces `).found).toEqual([
      { ns: NS, stream: 'stderr', text: ' two  spaces ', line: 1, format: 'cri' },
    ]);
  });

  test('has the node’s own offset', () => {
    expect(read('2026-03-01T13:00:00.123456789+01:00 stdout F x').found).toMatchObject([{ ns: NS }]);
  });

  test('that is partial goes on until the full one of its stream, with the first one’s time', () => {
    const { found } = read(
      `${AT} stdout P one `,
      '2026-03-01T12:00:01Z stderr F between',
      '2026-03-01T12:00:02Z stdout P two ',
      '2026-03-01T12:00:03Z stdout F three',
    );
    expect(found).toMatchObject([
      undefined,
      { text: 'between' },
      undefined,
      { ns: NS, text: 'one two three', line: 1 },
    ]);
  });

  test('that never ends is told as far as it got', () => {
    expect(read(`${AT} stdout P cut`).rest).toMatchObject([{ text: 'cut' }]);
  });

  test.each(['', 'text', `${AT} stdin F x`, `${AT} stdout`, '2026-99-01T12:00:00Z stdout F x'])('is not %j', (line) => {
    expect(read(line).found).toEqual(['bad']);
  });
});

describe('a line of Docker', () => {
  const line = (log: string, stream = 'stdout') => JSON.stringify({ log, stream, time: AT });

  test('is its time, stream and text without the newline', () => {
    expect(read(line('hello\n', 'stderr')).found).toEqual([
      { ns: NS, stream: 'stderr', text: 'hello', line: 1, format: 'docker' },
    ]);
  });

  test('without a newline goes on', () => {
    expect(read(line('one '), line('two\n')).found).toMatchObject([undefined, { text: 'one two' }]);
  });

  test.each(['{', '{}', '{"log":1,"time":"x"}', '{"log":"x","time":7}'])('is not %s', (text) => {
    expect(read(text).found).toEqual(['bad']);
  });
});

test('a line without an end is held up to a bound', () => {
  const joiner = createLogJoiner();
  for (let part = 0; part < 100; part += 1) joiner.push(`${AT} stdout P ${'x'.repeat(16_000)}`, part);
  expect(joiner.end()[0]?.text.length).toBeLessThan(20_000);
});
