import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { createTally, jsonBatches, lineBatches } from '../../../../evidence/timeline/lines.ts';
import type { TimelineBundle, TimelineProblem } from '../../../../evidence/timeline/timeline.ts';

const OBJECT = { name: 'some.jsonl.zst', artifact: 'logs' };

async function lines(chunks: readonly Buffer[], limitBytes = 1000) {
  const tally = createTally();
  const found: [line: number, text: string][] = [];
  for await (const { first, lines } of lineBatches(chunks, limitBytes, tally)) {
    for (const [index, text] of lines.entries()) found.push([first + index, text]);
  }
  return { found, problems: toldBy(tally) };
}

function toldBy(tally: ReturnType<typeof createTally>): TimelineProblem[] {
  const problems: TimelineProblem[] = [];
  const bundle: Pick<TimelineBundle, 'problem'> = { problem: (problem) => void problems.push(problem) };
  tally.tell(bundle as TimelineBundle, OBJECT, undefined);
  return problems;
}

describe('lineBatches', () => {
  test('cuts at newlines, however the bytes are cut into chunks', async () => {
    const text = fc.array(
      fc.string({ maxLength: 20 }).map((line) => line.replaceAll('\n', '')),
      { minLength: 1, maxLength: 20 },
    );
    await fc.assert(
      fc.asyncProperty(text, fc.integer({ min: 1, max: 30 }), async (input, size) => {
        const bytes = Buffer.from(`${input.join('\n')}\n`);
        const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, at) =>
          bytes.subarray(at * size, (at + 1) * size),
        );
        const { found } = await lines(chunks);
        expect(found).toEqual(input.map((line, index) => [index + 1, line]));
      }),
    );
  });

  test('takes a last line that has no newline', async () => {
    expect((await lines([Buffer.from('a\nb')])).found).toEqual([
      [1, 'a'],
      [2, 'b'],
    ]);
  });

  test('drops a line that is too long, says so, and goes on with the next', async () => {
    const { found, problems } = await lines([Buffer.alloc(700, 'x'), Buffer.alloc(700, 'x'), Buffer.from('x\nnext\n')]);
    expect(found).toEqual([
      [1, ''],
      [2, 'next'],
    ]);
    expect(problems).toEqual([{ object: OBJECT.name, why: 'line 1 is longer than 1000 bytes' }]);
  });

  test('shows what is not UTF-8 as U+FFFD', async () => {
    expect((await lines([Buffer.from([0x61, 0xff, 0x0a])])).found).toEqual([[1, 'a\ufffd']]);
  });
});

test('jsonBatches counts what is not of the shape and tells it once', async () => {
  const tally = createTally();
  const text = '{"a":1}\n\nnot json\n{"a":"x"}\n{"a":2,"more":true}\n';
  const found: unknown[] = [];
  for await (const batch of jsonBatches([Buffer.from(text)], z.looseObject({ a: z.number() }), 1000, tally))
    found.push(...batch);
  expect(found).toEqual([
    { line: 1, value: { a: 1 } },
    { line: 5, value: { a: 2, more: true } },
  ]);
  expect(toldBy(tally)).toEqual([
    { object: OBJECT.name, why: '2 lines are left out, the first: line 3 is not JSON of the shape that is expected' },
  ]);
});
