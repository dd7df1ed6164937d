import { describe, expect, test } from 'vitest';
import type { Execute } from '../../../../agent/capture/captures.ts';
import { END_STATES, type Store } from '../../../../controller/store/store.ts';
import { ExhibitError } from '../../../../evidence/error.ts';
import { type ControllerLab, controllerLab, heldCapture, type LabNode, quickCapture, until } from './lab.ts';
import type { Cut, Direction } from './message-proxy.ts';

/** One capture, its one state and its one execution; and no second entry of its end in the audit log. */
async function expectOnce(lab: ControllerLab, captureId: string, node: LabNode, state = 'complete') {
  const row = await lab.settled(captureId);
  expect(row.state).toBe(state);
  expect(node.doubled).toEqual([]);
  const audit = await lab.controller.store.audit({ captureId }, { afterSeq: 0, limit: 100 });
  const ends = audit.filter(({ action }) => /ended|refused|lost|expired|cancelled/.test(action));
  expect(ends.length).toBe(1);
  expect(audit.filter(({ action }) => action === 'capture.accepted').length).toBeLessThanOrEqual(1);
}

const FEW = 6;

describe('a stream that is cut', () => {
  const cuts: Cut[] = (['to-controller', 'to-agent'] satisfies Direction[]).flatMap((direction) =>
    Array.from({ length: direction === 'to-controller' ? FEW : 3 }, (_, index) => index + 1).flatMap((message) =>
      (['before', 'after'] as const).map((when) => ({ direction, message, when })),
    ),
  );

  test.each(cuts)('$when message $message $direction loses and doubles nothing', async (cut) => {
    await using lab = await controllerLab();
    const node = await lab.node('n1', { execute: quickCapture });
    node.proxy.cutAt(cut);
    const { captureId } = await lab.ask('n1');
    await expectOnce(lab, captureId, node);
    expect(node.begun).toEqual([captureId]);
  });

  test('has as many messages as the table above cuts at', async () => {
    await using lab = await controllerLab();
    const node = await lab.node('n1');
    const { captureId } = await lab.ask('n1');
    await lab.settled(captureId);
    // hello, heartbeat, received, accepted, stage started, stage ended, ended; welcome, heartbeat, command
    expect(node.proxy.counts['to-controller']).toBe(FEW + 1);
    expect(node.proxy.counts['to-agent']).toBe(3);
  });
});

describe('a controller that is killed', () => {
  test('between storing a command and sending it sends it when it is back', async () => {
    const sent = Promise.withResolvers<void>();
    let armed = true;
    await using lab = await controllerLab({
      decorate: (store) =>
        decorated(store, {
          async changeCapture(...args) {
            const row = await store.changeCapture(...args);
            if (armed && args[2].state === 'sent') {
              armed = false;
              sent.resolve();
              // What would follow is never reached by a process that is gone.
              return await new Promise(() => undefined);
            }
            return row;
          },
        }),
    });
    const node = await lab.node('n1');
    const { captureId } = await lab.ask('n1');
    await sent.promise;
    expect(await lab.controller.store.capture(captureId)).toMatchObject({ state: 'sent', acceptedAtMs: 0 });
    expect(node.begun).toEqual([]);
    await lab.restart();
    await expectOnce(lab, captureId, node);
    expect(node.begun).toEqual([captureId]);
  });

  test('while a capture runs learns its end when it is back', async () => {
    await using lab = await controllerLab();
    const held = heldCapture();
    const node = await lab.node('n1', { execute: held.execute });
    const { captureId } = await lab.ask('n1');
    await lab.settled(captureId, ['running']);
    await lab.controller.kill();
    held.release();
    await until(() => node.journal.get(captureId)?.state === 'complete');
    await lab.restart();
    await expectOnce(lab, captureId, node);
  });

  test('shows no node of the process that was killed as connected', async () => {
    await using lab = await controllerLab();
    const node = await lab.node('n1');
    await until(() => lab.controller.links.connected().length === 1);
    node.proxy.away(true);
    await until(() => lab.controller.links.connected().length === 0);
    node.proxy.away(false);
    await until(() => lab.controller.links.connected().length === 1);
    await lab.controller.kill();
    node.proxy.away(true);
    await lab.restart();
    await until(async () => (await lab.controller.store.node({ cluster: 'prod', node: 'n1' }))?.replicaId === '');
  });
});

describe('an agent that is killed', () => {
  test('between receiving a command and accepting it gets it again', async () => {
    await using lab = await controllerLab();
    const { execute, reached } = unbegun();
    let first = true;
    const node = await lab.node('n1', {
      execute: (...args) => {
        if (!first) return quickCapture(...args);
        first = false;
        return execute(...args);
      },
    });
    const { captureId } = await lab.ask('n1');
    await reached;
    await node.kill();
    await node.start();
    await expectOnce(lab, captureId, node);
    expect(node.begun).toEqual([captureId]);
  });

  test('while it captures tells that the capture was interrupted', async () => {
    await using lab = await controllerLab();
    const held = heldCapture();
    const node = await lab.node('n1', { execute: held.execute });
    const { captureId } = await lab.ask('n1');
    await lab.settled(captureId, ['running']);
    await node.kill();
    await node.start();
    await expectOnce(lab, captureId, node, 'interrupted');
  });

  test('after the end that it could not tell tells it at its next start', async () => {
    await using lab = await controllerLab();
    const held = heldCapture();
    const node = await lab.node('n1', { execute: held.execute });
    const { captureId } = await lab.ask('n1');
    await lab.settled(captureId, ['running']);
    node.proxy.away(true);
    held.release();
    await until(() => node.journal.get(captureId)?.state === 'complete');
    await node.kill();
    node.proxy.away(false);
    await node.start();
    await expectOnce(lab, captureId, node);
  });

  test('with its journal, as the node is restarted, loses what it had begun and no more', async () => {
    await using lab = await controllerLab();
    const held = heldCapture();
    const node = await lab.node('n1', { execute: held.execute });
    const { captureId } = await lab.ask('n1');
    await lab.settled(captureId, ['running']);
    await node.reboot();
    await expectOnce(lab, captureId, node, 'lost');
    expect(node.begun).toEqual([captureId]);
  });

  test('with its journal before the controller learned that it had begun is kept from a second capture by the sink', async () => {
    await using lab = await controllerLab();
    const held = heldCapture();
    const node = await lab.node('n1', { execute: held.execute });
    // hello, heartbeat, received, accepted
    node.proxy.cutAt({ direction: 'to-controller', message: 4, when: 'before' });
    const { captureId } = await lab.ask('n1');
    await held.begun;
    await node.reboot();
    expect(await lab.settled(captureId)).toMatchObject({ state: 'refused', error: 'the sink has a bundle of this id' });
    expect(node.begun).toEqual([captureId]);
  });

  test('until the time of a command that it never began is over does not begin it', async () => {
    let aheadMs = 0;
    await using lab = await controllerLab({ link: { now: () => Date.now() + aheadMs } });
    const { execute, reached } = unbegun();
    const node = await lab.node('n1', { execute });
    const { captureId } = await lab.ask('n1', { expiresAtMs: Date.now() + 3_600_000 });
    await reached;
    await node.kill();
    aheadMs = 3_600_001;
    await node.start();
    await expectOnce(lab, captureId, node, 'expired');
    expect(node.begun).toEqual([]);
  });
});

describe('a command that is cancelled', () => {
  test('before its agent began it is never begun', async () => {
    await using lab = await controllerLab();
    const { execute, reached } = unbegun();
    const node = await lab.node('n1', { execute });
    const { captureId } = await lab.ask('n1');
    await reached;
    await node.kill();
    await lab.controller.store.changeCapture(captureId, ['sent'], { cancelRequested: true });
    await node.start();
    await expectOnce(lab, captureId, node, 'cancelled');
    expect(node.begun).toEqual([]);
  });

  test('while its agent looks for the target is cancelled once it runs', async () => {
    await using lab = await controllerLab();
    const gate = Promise.withResolvers<void>();
    const reached = Promise.withResolvers<void>();
    const held = heldCapture();
    const node = await lab.node('n1', {
      execute: async (...args) => {
        reached.resolve();
        await gate.promise;
        return await held.execute(...args);
      },
    });
    const { captureId } = await lab.ask('n1');
    await reached.promise;
    const before = node.proxy.counts['to-agent'];
    await lab.controller.store.changeCapture(captureId, ['sent'], { cancelRequested: true });
    await lab.controller.store.bus.publish('commands', 'prod/n1');
    await until(() => node.proxy.counts['to-agent'] > before);
    gate.resolve();
    await expectOnce(lab, captureId, node, 'cancelled');
    expect(node.begun).toEqual([captureId]);
  });
});

describe('a command that comes again', () => {
  test('is answered with what became of it', async () => {
    await using lab = await controllerLab();
    const node = await lab.node('n1');
    const { captureId } = await lab.ask('n1');
    await lab.settled(captureId);
    for (let again = 0; again < 5; again += 1) await lab.controller.store.bus.publish('commands', 'prod/n1');
    node.proxy.cutNow();
    await until(() => lab.controller.links.connected().length === 1);
    await expectOnce(lab, captureId, node);
  });

  test('while its node is woken over and over is sent once on a stream', async () => {
    await using lab = await controllerLab();
    const held = heldCapture();
    const node = await lab.node('n1', { execute: held.execute });
    // The welcome, and the answer to the first heartbeat.
    await until(() => node.proxy.counts['to-agent'] === 2);
    const before = node.proxy.counts['to-agent'];
    const { captureId } = await lab.ask('n1');
    for (let again = 0; again < 50; again += 1) lab.controller.links.wake({ cluster: 'prod', node: 'n1' });
    await lab.settled(captureId, ['running']);
    for (let again = 0; again < 50; again += 1) await lab.controller.store.bus.publish('commands', 'prod/n1');
    held.release();
    await expectOnce(lab, captureId, node);
    expect(node.proxy.counts['to-agent'] - before).toBe(1);
  });
});

describe('a store that fails once', () => {
  type Call = 'putNode' | 'openCaptures' | 'changeCapture' | 'capture' | 'nodeGone' | 'touchNodes';
  const CALLS: readonly Call[] = ['putNode', 'openCaptures', 'changeCapture', 'capture', 'nodeGone', 'touchNodes'];
  const steps = CALLS.flatMap((call) =>
    (call === 'changeCapture' ? [1, 2, 3, 4] : [1]).flatMap((nth) =>
      (['before', 'after'] as const).map((when) => ({ call, nth, when })),
    ),
  );

  test.each(steps)('$when call $nth of $call loses and doubles nothing', async ({ call, nth, when }) => {
    let calls = 0;
    await using lab = await controllerLab({
      decorate: (store) => {
        const inner = Reflect.get(store, call) as (...args: unknown[]) => Promise<unknown>;
        return decorated(store, {
          [call]: async (...args: unknown[]) => {
            calls += 1;
            const failure = new ExhibitError('store-failed', 'disk full');
            if (calls === nth && when === 'before') throw failure;
            const result = await inner(...args);
            if (calls === nth) throw failure;
            return result;
          },
        });
      },
    });
    const node = await lab.node('n1');
    const { captureId } = await lab.ask('n1');
    await until(async () => {
      const row = await lab.controller.store.capture(captureId).catch(() => undefined);
      return row !== undefined && END_STATES.some((state) => state === row.state);
    });
    await expectOnce(lab, captureId, node);
    expect(node.begun).toEqual([captureId]);
  });
});

describe('two streams of one node', () => {
  test('are one: the newer takes the place of the older, and a command goes to one of them', async () => {
    await using lab = await controllerLab();
    const first = await lab.node('n1');
    await until(() => lab.controller.links.connected().length === 1);
    const session = (await lab.controller.store.node({ cluster: 'prod', node: 'n1' }))?.sessionId;
    const second = await lab.node('n1', { stateDir: `${first.options.stateDir}-twin` });
    await until(async () => (await lab.controller.store.node({ cluster: 'prod', node: 'n1' }))?.sessionId !== session);
    await first.kill();
    await until(() => lab.controller.links.connected().length === 1);
    const { captureId } = await lab.ask('n1');
    await expectOnce(lab, captureId, second);
    expect([...first.begun, ...second.begun]).toEqual([captureId]);
  });
});

function decorated(store: Store, over: Partial<Store>): Store {
  return new Proxy(store, {
    get: (target, name) => Reflect.get(over, name) ?? Reflect.get(target, name),
  });
}

/** A capture whose target is still looked for; it ends with its process. */
function unbegun(): { readonly execute: Execute; readonly reached: Promise<void> } {
  const reached = Promise.withResolvers<void>();
  const execute: Execute = (_id, _request, { signal }) => {
    reached.resolve();
    return new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  };
  return { execute, reached: reached.promise };
}
