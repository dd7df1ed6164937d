import { describe, expect, test } from 'vitest';
import { followCaptures } from '../../../cli/controller/capture.ts';
import type { ControllerClient } from '../../../cli/controller/client.ts';
import { controlledView } from '../../../cli/controller/view.ts';
import type { EventView } from '../../../cli/view.ts';
import { type ErrorCode, ExhibitError } from '../../../evidence/error.ts';
import type { CaptureUpdate__Output } from '../../../proto/gen/exhibit/controller/v1/CaptureUpdate.ts';
import type { ControlledCapture__Output } from '../../../proto/gen/exhibit/controller/v1/ControlledCapture.ts';

const captureId = '0198c0de-3c4f-7a10-8000-5f2c0a7e9b11';
const capture = (state: string): ControlledCapture__Output => ({
  ...{ captureId, requestId: captureId, cluster: 'east', node: 'n1', namespace: 'prod', selector: 'prod/web-0/app' },
  ...{ state, caseId: '', reason: '', artifacts: [], requestedBy: 'ada', trigger: 'api', error: '', approvals: [] },
  ...{ createdAtMs: '1', sentAtMs: '0', acceptedAtMs: '0', endedAtMs: '0', expiresAtMs: '0' },
  ...{ capture: null, cancelRequested: false, force: false },
});
const update = (state: string, more: Partial<CaptureUpdate__Output> = {}): CaptureUpdate__Output => ({
  ...{ capture: capture(state), event: null, bytesPerSecond: '0', remainingMs: '0', ...more },
});
const moved = update('running', {
  event: { captureId, atMs: '5', stageProgress: { stage: 'memory', doneBytes: '4', totalBytes: '8' } },
  bytesPerSecond: '2',
  remainingMs: '2000',
});

/** Each connection gives its updates, and breaks with the error in their place. */
function clientOf(...connections: (CaptureUpdate__Output | ErrorCode)[][]): ControllerClient & { watched: number } {
  const client = {
    address: 'controller:8443',
    watched: 0,
    call: () => Promise.reject(new Error('nothing but a watch is asked for')),
    async *watch() {
      client.watched += 1;
      for (const one of connections.shift() ?? []) {
        if (typeof one === 'string') throw new ExhibitError(one, `it broke (${one})`);
        yield one;
      }
    },
    [Symbol.dispose]: () => undefined,
  };
  return client;
}

async function follow(client: ControllerClient, until: 'approval' | 'end') {
  const shown: EventView[] = [];
  const progress = { show: async (event: EventView) => void shown.push(event), stop: () => undefined };
  const { signal } = new AbortController();
  const [last] = await followCaptures(client, [controlledView(capture('queued'))], progress, { signal, until });
  return { last, shown };
}

describe('following a capture through a controller', () => {
  test('shows the rate and the estimate of the controller', async () => {
    const { shown } = await follow(clientOf([update('queued'), moved, update('complete')]), 'end');
    expect(shown).toEqual([
      expect.objectContaining({ event: 'stage-progress', doneBytes: 4, bytesPerSecond: 2, remainingMs: 2_000 }),
    ]);
  });

  test('goes on over connections that break', async () => {
    const client = clientOf([update('queued'), 'controller-unreachable'], [moved, update('complete')]);
    const { last, shown } = await follow(client, 'end');
    expect(last?.state).toBe('complete');
    expect(shown).toHaveLength(1);
    expect(client.watched).toBe(2);
  });

  test('does not ask again where the controller said no', async () => {
    const client = clientOf([update('queued'), 'capture-not-found'], [update('complete')]);
    await expect(follow(client, 'end')).rejects.toMatchObject({ code: 'capture-not-found' });
    expect(client.watched).toBe(1);
  });

  test.each([
    ['leaves one that waits for a second person to them, where it was just asked for', 'approval', 'awaiting-approval'],
    ['waits for the second person, where it is watched', 'end', 'complete'],
  ] as const)('%s', async (_what, until, state) => {
    const client = clientOf([update('awaiting-approval'), update('queued'), update('complete')]);
    expect((await follow(client, until)).last?.state).toBe(state);
  });
});
