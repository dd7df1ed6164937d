import { describe, expect, test } from 'vitest';
import { Bandwidth } from '../../../agent/sink/bandwidth.ts';
import { isExhibitError } from '../../../evidence/error.ts';
import { eachWithFakeS3, headersOf, KEY, LARGE, never, SMALL, server, sinkWith, store } from './s3-sink-lab.ts';

eachWithFakeS3();

describe('the bandwidth cap of a sink', () => {
  /** A line whose waits end when the test says so. */
  function heldPace() {
    const waits: { ms: number; end: () => void }[] = [];
    let ms = 0;
    const { promise: firstWait, resolve: waiting } = Promise.withResolvers<void>();
    const pace = {
      now: () => ms,
      sleep: async (waitMs: number, signal: AbortSignal) => {
        const { promise, resolve, reject } = Promise.withResolvers<void>();
        signal.addEventListener('abort', () => reject(signal.reason));
        waits.push({
          ms: waitMs,
          end: () => {
            ms += waitMs;
            resolve();
          },
        });
        waiting();
        await promise;
      },
    };
    return { pace, waits, firstWait };
  }

  test('holds a part back until the line is free, and only one is on its way', async () => {
    const { pace, waits, firstWait } = heldPace();
    const sink = sinkWith({ maxBytesPerSecond: 2 ** 20 }, { pace });
    const stored = store(sink, LARGE);
    await firstWait;
    // 5 MiB at 1 MiB/s.
    expect(waits.map(({ ms }) => ms)).toEqual([5000]);
    expect(headersOf('UploadPart')).toHaveLength(1);
    waits[0]?.end();
    await stored;
    expect(server.objects.get(KEY)?.equals(LARGE)).toBe(true);
  });

  test('is shared by all objects of the sink', async () => {
    const { pace, waits, firstWait } = heldPace();
    const sink = sinkWith({ maxBytesPerSecond: 65_536 }, { pace });
    await store(sink, SMALL);
    const other = await sink.open('other', { contentType: 'a/b', signal: never });
    await other.write(SMALL);
    const stored = other.commit();
    await firstWait;
    expect(waits[0]?.ms).toBeCloseTo((1000 / 65_536) * 1000, 3);
    waits[0]?.end();
    expect(await stored).toBe('stored');
  });

  test('of the agent is shared by all of its sinks, each with its own besides', async () => {
    const { pace, waits, firstWait } = heldPace();
    const upload = new Bandwidth(65_536, pace);
    const [fast, slow] = [sinkWith({}, { pace, upload }), sinkWith({ maxBytesPerSecond: 131_072 }, { pace, upload })];
    await store(fast, SMALL);
    const other = await slow.open('other', { contentType: 'a/b', signal: never });
    await other.write(SMALL);
    const stored = other.commit();
    await firstWait;
    expect(waits[0]?.ms).toBeCloseTo((1000 / 65_536) * 1000, 3);
    expect(server.objects.has('other')).toBe(false);
    waits[0]?.end();
    expect(await stored).toBe('stored');
    expect(upload.waitedMs).toBeCloseTo((1000 / 65_536) * 1000, 3);
  });

  test.each([
    ['an abort', (end: AbortController) => end.abort(new Error('enough'))],
    ['a timeout', (end: AbortController) => end.abort(new DOMException('late', 'TimeoutError'))],
  ])('lets go at once after %s, and leaves nothing', async (_, finish) => {
    const { pace, firstWait } = heldPace();
    const end = new AbortController();
    const sink = sinkWith({ maxBytesPerSecond: 65_536 }, { pace });
    const object = await sink.open(KEY, { contentType: 'a/b', signal: end.signal });
    await object.write(LARGE);
    const commit = object.commit();
    commit.catch(() => {});
    await firstWait;
    finish(end);
    await expect(commit).rejects.toSatisfy((error) => isExhibitError(error, 'cancelled'));
    await object[Symbol.asyncDispose]();
    expect([server.objects.size, server.uploads.size, headersOf('UploadPart').length]).toEqual([0, 0, 1]);
  });
});
