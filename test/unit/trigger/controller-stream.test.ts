import { EventEmitter } from 'node:events';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Commands } from '../../../agent/trigger/controller-commands.ts';
import { Debts } from '../../../agent/trigger/controller-debts.ts';
import { type Call, holdStream } from '../../../agent/trigger/controller-stream.ts';
import type { AgentMessage } from '../../../proto/gen/exhibit/controller/v1/AgentMessage.ts';
import { quiet } from '../controller/link/lab.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const MINUTE_MS = 60_000;

/** A controller that says welcome, or nothing, and answers heartbeats. */
class FakeCall extends EventEmitter {
  readonly heard: AgentMessage[] = [];

  readonly #welcomes: boolean;

  constructor(welcomes: boolean) {
    super();
    this.#welcomes = welcomes;
  }

  write(message: AgentMessage): boolean {
    this.heard.push(message);
    const welcome = { welcome: { protocol: 1, controllerVersion: 't', heartbeatMs: 15_000 } };
    if (message.hello && this.#welcomes) queueMicrotask(() => this.emit('data', welcome));
    if (message.heartbeat) queueMicrotask(() => this.emit('data', { heartbeat: message.heartbeat }));
    return true;
  }

  cancel(): void {}
}

function held(call: FakeCall, signal: AbortSignal, pods: () => readonly number[] = () => []): Promise<string> {
  const commands = new Commands({
    captures: {} as never,
    read: () => {
      throw new Error('nothing is commanded');
    },
    controllerName: 'c',
    say: () => undefined,
    retell: async () => undefined,
    log: quiet,
  });
  const parts = {
    ...{ hello: {}, commands, debts: new Debts(), log: quiet, now: Date.now, onWelcome: () => undefined },
    answerLookup: async () => ({}),
    load: () => ({ running: 0, waiting: 0 }),
    pods: async () => pods(),
  };
  return holdStream(call as unknown as Call, parts, signal);
}

describe('a stream to the controller', () => {
  test('holds for as long as heartbeats are answered', async () => {
    const stop = new AbortController();
    const call = new FakeCall(true);
    const why = held(call, stop.signal);
    await vi.advanceTimersByTimeAsync(10 * MINUTE_MS);
    stop.abort();
    expect(await why).toBe('the agent is stopping');
    // One with the welcome, and one every 15 s.
    expect(call.heard.filter(({ heartbeat }) => heartbeat).length).toBe(41);
  });

  test('tells the pods of the node at once, and again only when they are others', async () => {
    const stop = new AbortController();
    const call = new FakeCall(true);
    let pods = [1, 2];
    const why = held(call, stop.signal, () => pods);
    const told = () => call.heard.flatMap(({ heartbeat }) => (heartbeat?.pods ? [heartbeat.pods.digests] : []));
    await vi.advanceTimersByTimeAsync(100);
    expect(told()).toEqual([[1, 2]]);
    await vi.advanceTimersByTimeAsync(MINUTE_MS);
    pods = [2, 3];
    await vi.advanceTimersByTimeAsync(MINUTE_MS);
    expect(told()).toEqual([
      [1, 2],
      [2, 3],
    ]);
    stop.abort();
    await why;
  });

  test('holds through what a newer controller says, and not through a flood of it', async () => {
    const call = new FakeCall(true);
    let ended: string | undefined;
    const why = held(call, new AbortController().signal);
    void why.then((words) => {
      ended = words;
    });
    await vi.advanceTimersByTimeAsync(100);
    for (let minute = 0; minute < 5; minute += 1) {
      for (let count = 0; count < 500; count += 1) call.emit('data', {});
      await vi.advanceTimersByTimeAsync(MINUTE_MS);
    }
    expect(ended).toBeUndefined();
    for (let count = 0; count < 601; count += 1) call.emit('data', {});
    expect(await why).toBe('the controller sends more than makes sense');
  });

  test('ends with a welcome of another protocol, and says whom to update', async () => {
    const call = new FakeCall(false);
    const why = held(call, new AbortController().signal);
    call.emit('data', { welcome: { protocol: 2, controllerVersion: '0.9.0', heartbeatMs: 15_000 } });
    expect(await why).toBe('the controller speaks protocol 2, this agent 1: update the older of the two');
  });

  test('ends with a version that is none: it would stand in the log and in what the doctor says', async () => {
    const call = new FakeCall(false);
    const why = held(call, new AbortController().signal);
    call.emit('data', { welcome: { protocol: 1, controllerVersion: '9'.repeat(257), heartbeatMs: 15_000 } });
    await vi.advanceTimersByTimeAsync(100);
    expect(await why).toBe('the greeting of the controller holds more than a greeting holds');
  });

  test('is let go where no welcome comes', async () => {
    const why = held(new FakeCall(false), new AbortController().signal);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(await why).toBe('the controller did not say welcome');
  });
});
