import { describe, expect, test } from 'vitest';
import { asContainerId, type ContainerSummary } from '../../../../agent/runtime/runtime.ts';
import type { Answer } from '../../../../controller/link/link.ts';
import { controllerLab, fakeRuntime, heldCapture, ofSchedule, until } from './lab.ts';

describe('the stream between an agent and the controller', () => {
  test('carries a command to its end, with the audit entries of its way', async () => {
    await using lab = await controllerLab();
    const node = await lab.node('n1');
    const { captureId } = await lab.ask('n1');
    const row = await lab.settled(captureId);
    expect(row).toMatchObject({ state: 'complete', error: '', waits: false });
    expect(row.told).toMatchObject({ target: 'shop/web-0/web', storedBytes: '5', state: 'complete' });
    expect(row.sentAtMs).toBeGreaterThan(0);
    expect(row.acceptedAtMs).toBeGreaterThanOrEqual(row.sentAtMs);
    expect(row.endedAtMs).toBeGreaterThanOrEqual(row.acceptedAtMs);
    expect(node.begun).toEqual([captureId]);
    const audit = await lab.controller.store.audit({ captureId }, { afterSeq: 0, limit: 10 });
    expect(audit.map(({ action, actor }) => `${action} by ${actor}`)).toEqual([
      'capture.accepted by agent prod/n1',
      'capture.ended by agent prod/n1',
    ]);
    expect(node.journal.get(captureId)?.asked).toMatchObject({
      trigger: 'controller',
      identity: 'alice through controller localhost',
    });
  });

  test('shows the node with what its greeting said, and as gone once it is', async () => {
    await using lab = await controllerLab();
    const node = await lab.node('n1');
    await until(() => lab.controller.links.connected().length === 1);
    const name = { cluster: 'prod', node: 'n1' };
    expect(await lab.controller.store.node(name)).toMatchObject({
      ...{ agentVersion: 'test', runtimeName: 'containerd', runtimeVersion: '2.1', bootId: 'b' },
      replicaId: lab.controller.store.bus.replicaId,
    });
    await node.kill();
    await until(async () => (await lab.controller.store.node(name))?.replicaId === '');
    expect(lab.controller.links.connected()).toEqual([]);
  });

  test('tells what other triggers capture, and that it was delivered', async () => {
    await using lab = await controllerLab();
    const node = await lab.node('n1', {
      execute: async (_id, _request, { emit, waiting }) => {
        emit({ kind: 'accepted', target: 't', bundleUrl: 'file:///x', stages: [], namespace: 'shop' });
        await waiting(['s3']);
        return { state: 'complete' };
      },
    });
    await until(() => lab.controller.links.connected().length === 1);
    const { captureId } = await node.captures.start(ofSchedule());
    const row = await lab.settled(captureId);
    expect(row).toMatchObject({ trigger: 'schedule', requestedBy: 'baseline', selector: 'shop/web-0', waits: true });
    expect(row).toMatchObject({ namespace: 'shop', artifacts: ['processes'], command: null });
    await node.captures.delivered({ captureId, outcome: 'partial', waiting: [] });
    await until(async () => (await lab.controller.store.capture(captureId))?.waits === false);
    expect(await lab.controller.store.capture(captureId)).toMatchObject({ state: 'partial', waits: false });
    const audit = await lab.controller.store.audit({ captureId }, { afterSeq: 0, limit: 10 });
    expect(audit.map(({ action }) => action)).toEqual(['capture.accepted', 'capture.ended', 'capture.delivered']);
  });

  test('tells on connecting what was captured, and delivered, while the controller was away', async () => {
    await using lab = await controllerLab();
    const node = await lab.node('n1');
    await until(() => lab.controller.links.connected().length === 1);
    node.proxy.away(true);
    const { captureId } = await node.captures.start(ofSchedule());
    await until(() => node.journal.get(captureId)?.state === 'complete');
    expect(await lab.controller.store.capture(captureId)).toBeUndefined();
    node.proxy.away(false);
    expect(await lab.settled(captureId)).toMatchObject({ state: 'complete', trigger: 'schedule' });
  });

  test('tells after a restart of the agent what the one before could not', async () => {
    await using lab = await controllerLab();
    const node = await lab.node('n1');
    node.proxy.away(true);
    const { captureId } = await node.captures.start(ofSchedule());
    await until(() => node.journal.get(captureId)?.state === 'complete');
    await node.kill();
    node.proxy.away(false);
    await node.start();
    expect(await lab.settled(captureId)).toMatchObject({ state: 'complete' });
  });

  test('cancels a capture that runs, and withdraws one that was never sent', async () => {
    await using lab = await controllerLab();
    const held = heldCapture();
    await lab.node('n1', { execute: held.execute });
    const runs = await lab.ask('n1');
    await held.begun;
    await lab.settled(runs.captureId, ['running']);
    const queued = await lab.ask('n2', { cancelRequested: true });
    await lab.controller.store.changeCapture(runs.captureId, ['running'], { cancelRequested: true });
    await lab.controller.store.bus.publish('commands', 'prod/n1');
    expect(await lab.settled(runs.captureId)).toMatchObject({ state: 'cancelled' });
    const second = await lab.node('n2');
    expect(await lab.settled(queued.captureId)).toMatchObject({ state: 'cancelled', sentAtMs: 0 });
    expect(second.begun).toEqual([]);
  });

  test('tells why the agent refused', async () => {
    await using lab = await controllerLab();
    const node = await lab.node('n1', {
      execute: async () => {
        throw Object.assign(new Error('policy'), {});
      },
    });
    const { captureId } = await lab.ask('n1');
    expect(await lab.settled(captureId)).toMatchObject({ state: 'refused', error: 'policy', acceptedAtMs: 0 });
    expect(node.begun).toEqual([]);
    const audit = await lab.controller.store.audit({ captureId }, { afterSeq: 0, limit: 10 });
    expect(audit.map(({ action }) => action)).toEqual(['capture.refused']);
    expect(JSON.parse(audit[0]?.details ?? '')).toEqual({ code: 'internal', reason: 'policy' });
  });

  test('expires what waits for a node that never comes', async () => {
    await using lab = await controllerLab();
    const { captureId } = await lab.ask('n9', { expiresAtMs: Date.now() + 50 });
    const row = await lab.settled(captureId);
    expect(row).toMatchObject({ state: 'expired', sentAtMs: 0 });
    const audit = await lab.controller.store.audit({ captureId }, { afterSeq: 0, limit: 10 });
    expect(audit.map(({ action }) => action)).toEqual(['capture.expired']);
  });

  test('publishes progress once a second at most, and every other event', async () => {
    await using lab = await controllerLab();
    const kinds: string[] = [];
    lab.controller.store.bus.subscribe('captures', (message) => {
      const { event } = JSON.parse(message);
      kinds.push(event?.event ?? 'row');
    });
    await lab.node('n1', {
      execute: async (_id, _request, { emit }) => {
        emit({ kind: 'accepted', target: 't', bundleUrl: 'file:///x', stages: ['memory'] });
        emit({ kind: 'stage-started', stage: 'memory' });
        for (let doneBytes = 0; doneBytes < 5_000; doneBytes += 1) {
          emit({ kind: 'stage-progress', stage: 'memory', doneBytes, totalBytes: 5_000 });
          if (doneBytes % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
        }
        return { state: 'complete' };
      },
    });
    const { captureId } = await lab.ask('n1');
    await lab.settled(captureId);
    await until(() => kinds.includes('ended'));
    expect(kinds.filter((kind) => kind !== 'stageProgress')).toEqual(['row', 'accepted', 'stageStarted', 'ended']);
    expect(kinds.filter((kind) => kind === 'stageProgress').length).toBeLessThanOrEqual(3);
  });

  test('finds containers by every kind of selector, over several agents', async () => {
    await using lab = await controllerLab();
    const container = (id: string, pod: string, labels: Record<string, string>): ContainerSummary => ({
      ...{ id: asContainerId(id), name: 'web', image: 'i', state: 'running', createdAt: '2026-01-01T00:00:00Z' },
      pod: { namespace: pod.split('/')[0] ?? '', name: pod.split('/')[1] ?? '', uid: 'u', sandboxId: 's' },
      labels: new Map(Object.entries(labels)),
    });
    await lab.node('n1', { runtime: fakeRuntime([container('aaaa1', 'shop/web-0', { app: 'web' })]) });
    await lab.node('n2', {
      runtime: fakeRuntime([container('bbbb1', 'shop/web-1', { app: 'web' }), container('bbbb2', 'bank/db-0', {})]),
    });
    await lab.node('n3', {
      runtime: { ...fakeRuntime(), list: () => Promise.reject(new Error('containerd hangs')) },
    });
    await until(() => lab.controller.links.connected().length === 3);
    const ask = async (selector: object | undefined, namespace = '') => {
      const answers: Answer[] = [];
      const question = { namespace, ...(selector === undefined ? {} : { selector: selector as never }) };
      const signal = AbortSignal.timeout(5_000);
      for await (const one of lab.controller.links.lookup(() => true, question, signal)) answers.push(one);
      return answers
        .flatMap((one) =>
          one.kind === 'found' ? one.containers.map(({ id }) => id) : [`${one.node.node}: ${one.reason}`],
        )
        .sort();
    };
    const silent = 'n3: containerd hangs';
    expect(await ask({ labels: { labels: { app: 'web' }, container: '' } })).toEqual(['aaaa1', 'bbbb1', silent]);
    expect(await ask({ pod: { namespace: 'bank', pod: 'db-0', container: '' } })).toEqual(['bbbb2', silent]);
    expect(await ask({ containerId: 'bbbb' })).toEqual(['bbbb1', 'bbbb2', silent]);
    expect(await ask({ containerName: 'web' }, 'bank')).toEqual(['bbbb2', silent]);
    expect(await ask(undefined)).toEqual(['aaaa1', 'bbbb1', 'bbbb2', silent]);
  });

  test('names the agents that did not answer a lookup in time', async () => {
    await using lab = await controllerLab({ link: { lookupTimeoutMs: 100 } });
    await lab.node('n1', { runtime: { ...fakeRuntime(), list: () => new Promise(() => undefined) } });
    await until(() => lab.controller.links.connected().length === 1);
    const answers: Answer[] = [];
    const signal = AbortSignal.timeout(5_000);
    for await (const one of lab.controller.links.lookup(() => true, { namespace: '' }, signal)) answers.push(one);
    expect(answers).toEqual([
      { kind: 'unreached', node: { cluster: 'prod', node: 'n1' }, reason: 'did not answer within 100 ms' },
    ]);
  });

  test('is let go by the agent when the controller falls silent, and by the controller when the agent does', async () => {
    await using lab = await controllerLab({ link: { heartbeatMs: 100 } });
    const node = await lab.node('n1');
    await until(() => lab.controller.links.connected().length === 1);
    const name = { cluster: 'prod', node: 'n1' };
    const first = (await lab.controller.store.node(name))?.lastSeenMs ?? 0;
    await until(async () => ((await lab.controller.store.node(name))?.lastSeenMs ?? 0) > first);
    const before = node.proxy.connections;
    const session = (await lab.controller.store.node(name))?.sessionId;
    node.proxy.mute(true);
    await until(() => node.proxy.connections > before);
    expect(lab.controller.links.connected().length).toBe(1);
    await until(() => lab.controller.links.connected().length === 0);
    node.proxy.mute(false);
    node.proxy.cutNow();
    await until(() => lab.controller.links.connected().length === 1);
    expect((await lab.controller.store.node(name))?.sessionId).not.toBe(session);
  });
});
