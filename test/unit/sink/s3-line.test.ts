import { describe, expect, test } from 'vitest';
import { S3Line } from '../../../agent/sink/s3-line.ts';

const never = new AbortController().signal;
const refused = () => Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
const denied = () =>
  Object.assign(new Error('AccessDenied'), { name: 'AccessDenied', $metadata: { httpStatusCode: 403 } });
const failing = (error: Error) => async () => {
  throw error;
};

function lineWith(probe: () => Promise<unknown>) {
  const events: string[] = [];
  const back = Promise.withResolvers<void>();
  const line = new S3Line({
    breaks: true,
    probe,
    firstProbeMs: 5,
    patienceMs: 50,
    log: { warn: (_, event) => events.push(event) },
    onBack: () => back.resolve(),
  });
  return { line, events, back: back.promise };
}

describe('the way to S3', () => {
  test('is closed by a request that found nobody, and others fail at once without a request', async () => {
    await using stack = new AsyncDisposableStack();
    const { line, events } = lineWith(() => new Promise(() => {}));
    stack.defer(() => void line[Symbol.asyncDispose]());
    await expect(line.send(failing(refused()), never)).rejects.toThrow('ECONNREFUSED');
    let asked = 0;
    const again = line.send(async () => {
      asked += 1;
    }, never);
    await expect(again).rejects.toMatchObject({ code: 'sink-failed' });
    expect([asked, line.away, events]).toEqual([0, true, ['S3 is away']]);
  });

  test('is open again once a probe was answered, be it by a refusal, and one probe asks at a time', async () => {
    let probes = 0;
    let under = 0;
    const { line, events, back } = lineWith(async () => {
      probes += 1;
      under += 1;
      expect(under).toBe(1);
      await Promise.resolve();
      under -= 1;
      throw probes < 3 ? refused() : denied();
    });
    await Promise.allSettled([line.send(failing(refused()), never), line.send(failing(refused()), never)]);
    await back;
    expect(probes).toBe(3);
    expect(line.away).toBe(false);
    expect(await line.send(async () => 'sent', never)).toBe('sent');
    expect(events).toEqual(['S3 is away', 'S3 answers again']);
    await line[Symbol.asyncDispose]();
  });

  test('stays open where S3 refuses, and where the caller has given up', async () => {
    const { line } = lineWith(async () => undefined);
    await expect(line.send(failing(denied()), never)).rejects.toThrow('AccessDenied');
    const end = new AbortController();
    const waiting = line.send(
      (signal) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
      end.signal,
    );
    end.abort(new Error('cancelled by the responder'));
    await expect(waiting).rejects.toThrow('cancelled by the responder');
    expect(line.away).toBe(false);
    await line[Symbol.asyncDispose]();
  });

  test('is closed by a request that takes too long, which is ended', async () => {
    const { line } = lineWith(() => new Promise(() => {}));
    let ended = false;
    const stalled = line.send(
      (signal) =>
        new Promise((_, reject) =>
          signal.addEventListener('abort', () => {
            ended = true;
            reject(new Error('aborted'));
          }),
        ),
      never,
    );
    await expect(stalled).rejects.toThrow('S3 took longer than');
    expect([ended, line.away]).toEqual([true, true]);
    void line[Symbol.asyncDispose]();
  });

  test('closes without waiting for S3', async () => {
    const { line } = lineWith(() => new Promise((_, reject) => setTimeout(() => reject(refused()), 1)));
    await expect(line.send(failing(refused()), never)).rejects.toThrow();
    await line[Symbol.asyncDispose]();
    expect(line.away).toBe(true);
  });
});
