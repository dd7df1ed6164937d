import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { CaptureRules } from '../../../../controller/domain.ts';
import {
  admin,
  caller,
  container,
  context,
  createRequest,
  failure,
  grant,
  type LabDomain,
  labDomain,
  labelRequest,
  nodeRow,
  podRequest,
  T0,
} from '../lab-domain.ts';

let lab: LabDomain;
beforeEach(async () => {
  lab = await labDomain();
  lab.agents.set({ cluster: 'east', node: 'n1' }, [container('prod', 'web-0', 'app')]);
  lab.agents.set({ cluster: 'east', node: 'n2' }, [
    container('prod', 'web-1', 'app'),
    container('prod', 'api-0', 'app'),
    container('prod', 'api-0', 'proxy'),
    container('dev', 'web-9', 'app'),
  ]);
});
afterEach(() => lab[Symbol.asyncDispose]());

const responder = caller('rob', grant('responder', ['*'], ['prod']));
const selectors = (answer: { captures?: { selector?: string }[] }) =>
  (answer.captures ?? []).map(({ selector }) => selector).sort();
const stored = async () => (await lab.domain.store.captures({}, { limit: 1_000 })).rows;

describe('a capture that is created', () => {
  test('is one command for the node that has the pod, stored before the node is told', async () => {
    const answer = await lab.api.CreateCapture(
      podRequest('prod', 'web-0', { reason: 'odd traffic', acquirer: 'R. Doe', exhibitNumber: 'A/7', sinks: ['west'] }),
      context(responder),
    );
    expect(answer.captures).toMatchObject([
      {
        cluster: 'east',
        node: 'n1',
        namespace: 'prod',
        selector: 'prod/web-0/app',
        state: 'queued',
        requestedBy: 'rob',
      },
    ]);
    const [row] = await stored();
    expect(row).toMatchObject({ state: 'queued', trigger: 'api', createdAtMs: T0, expiresAtMs: T0 + 600_000 });
    expect(row?.command).toEqual({
      captureId: row?.captureId,
      selector: { pod: { namespace: 'prod', pod: 'web-0', container: 'app' } },
      artifacts: [],
      caseId: '',
      reason: 'odd traffic',
      consistency: '',
      scope: '',
      sinks: ['west'],
      exhibitNumber: 'A/7',
      acquirer: 'R. Doe',
      force: false,
    });
    await vi.waitFor(() => expect(lab.woken).toEqual(['east/n1']));
    const [entry] = await lab.domain.store.audit({}, { afterSeq: 0, limit: 10 });
    expect(entry).toMatchObject({ actor: 'rob', action: 'capture.created', captureId: row?.captureId });
    expect(JSON.parse(entry?.details ?? '')).toMatchObject({ reason: 'odd traffic', selector: 'prod/web-0/app' });
  });

  test('takes the first answer of the one cluster that has the name, and waits for nobody else', async () => {
    lab.agents.set({ cluster: 'east', node: 'n3' }, 'silent');
    await lab.api.CreateCapture(podRequest('prod', 'web-0'), context(responder));
    expect(lab.agents.asked).toEqual(['east/n1']);
  });

  test('is one for each pod that has the labels, of the namespaces where the caller may capture', async () => {
    const answer = await lab.api.CreateCapture(labelRequest({ app: 'web' }), context(responder));
    expect(selectors(answer)).toEqual(['prod/web-0/app', 'prod/web-1/app']);
    await vi.waitFor(() => expect([...lab.woken].sort()).toEqual(['east/n1', 'east/n2']));
    expect(new Set((await stored()).map(({ requestId }) => requestId)).size).toBe(1);
  });

  test('names agents that could not be asked, and those that are known and away', async () => {
    lab.agents.set({ cluster: 'east', node: 'n4' }, { reason: 'containerd does not answer' });
    await lab.domain.store.putNode(nodeRow('east', 'n5', { replicaId: '', lastSeenMs: T0 - 60_000 }));
    await lab.domain.store.putNode(nodeRow('east', 'n6', { replicaId: '', lastSeenMs: T0 - 24 * 3_600_000 }));
    const { replicaId } = lab.domain.store.bus;
    await lab.domain.store.putNode(nodeRow('east', 'n7', { replicaId, lastSeenMs: T0 - 1_000 }));
    await lab.domain.store.putNode(nodeRow('east', 'n2', { replicaId }));
    const answer = await lab.api.CreateCapture(labelRequest({ app: 'web' }), context(responder));
    expect(answer.captures).toHaveLength(2);
    expect(answer.unreached).toEqual([
      { cluster: 'east', node: 'n4', reason: 'containerd does not answer' },
      { cluster: 'east', node: 'n5', reason: 'not connected since 2026-11-28T11:59:00.000Z' },
      { cluster: 'east', node: 'n7', reason: 'not connected since 2026-11-28T11:59:59.000Z' },
    ]);
  });

  test('of a container outside Kubernetes is named by its id', async () => {
    const id = 'ab'.repeat(32);
    lab.agents.set({ cluster: 'west', node: 'w1' }, [container('', '', 'shop', { id, labels: {} })]);
    const answer = await lab.api.CreateCapture(createRequest({ selector: { containerName: 'shop' } }), context(admin));
    expect(answer.captures).toMatchObject([{ namespace: '', selector: id, node: 'w1' }]);
  });

  test('of a whole pod leaves it to the agent which container comes first', async () => {
    const answer = await lab.api.CreateCapture(podRequest('prod', 'api-0', { scope: 'pod' }), context(responder));
    expect(selectors(answer)).toEqual(['prod/api-0']);
    expect((await stored())[0]?.command?.scope).toBe('pod');
  });

  test('of a process goes to the node that is named, unasked', async () => {
    await lab.domain.store.putNode(nodeRow('east', 'n1'));
    const answer = await lab.api.CreateCapture(createRequest({ selector: { pid: 4242 }, node: 'n1' }), context(admin));
    expect(answer.captures).toMatchObject([{ cluster: 'east', node: 'n1', namespace: '', selector: 'pid:4242' }]);
    expect(lab.agents.asked).toEqual([]);
  });

  test('in spite of a limit is for who is admin of the place, is in the audit log, and another request than one without', async () => {
    const requestId = '0198c0de-3c4f-7a10-8000-5f2c0a7e9b77';
    const forced = podRequest('prod', 'web-0', { requestId, force: true });
    const mixed = caller('rob', grant('responder', ['*'], ['prod']), grant('admin', ['*'], ['dev']));
    expect(await failure(lab.api.CreateCapture(forced, context(mixed)))).toMatchObject({
      code: 'forbidden',
      message: expect.stringContaining('nobody gave you the role admin there'),
    });
    expect(await stored()).toEqual([]);

    const answer = await lab.api.CreateCapture(forced, context(admin));
    expect(answer.captures).toMatchObject([{ force: true }]);
    expect((await stored())[0]?.command?.force).toBe(true);
    const entries = await lab.domain.store.audit({}, { afterSeq: 0, limit: 10 });
    const created = entries.find(({ action }) => action === 'capture.created');
    expect(JSON.parse(created?.details ?? '')).toMatchObject({ force: true });
    expect(await lab.api.CreateCapture(forced, context(admin))).toMatchObject({ captures: answer.captures ?? [] });
    const unforced = podRequest('prod', 'web-0', { requestId });
    expect(await failure(lab.api.CreateCapture(unforced, context(admin)))).toMatchObject({ code: 'capture-conflict' });
  });

  test('in spite of a limit of a process takes the role admin for every namespace', async () => {
    await lab.domain.store.putNode(nodeRow('east', 'n1'));
    const some = caller('rob', grant('responder'), grant('admin', ['*'], ['prod']));
    const request = createRequest({ selector: { pid: 4242 }, node: 'n1', force: true });
    expect(await failure(lab.api.CreateCapture(request, context(some)))).toMatchObject({ code: 'forbidden' });
    expect((await lab.api.CreateCapture(request, context(admin))).captures).toMatchObject([{ force: true }]);
  });

  test('is only shown by a dry run', async () => {
    const answer = await lab.api.CreateCapture(labelRequest({ app: 'web' }, { dryRun: true }), context(responder));
    expect(selectors(answer)).toEqual(['prod/web-0/app', 'prod/web-1/app']);
    expect(answer.captures?.every(({ captureId }) => captureId === '')).toBe(true);
    expect(await stored()).toEqual([]);
    expect(await lab.domain.store.audit({}, { afterSeq: 0, limit: 10 })).toEqual([]);
    expect(lab.woken).toEqual([]);
  });
});

describe('a container that has ended', () => {
  const at = (id: string, createdAt: string, more = {}) =>
    container('prod', 'job-0', 'app', { id: id.repeat(64), state: 'exited', createdAt, ...more });
  const old = at('a', '2026-11-28T10:00:00Z');
  const last = at('b', '2026-11-28T11:00:00Z');
  const n3 = { cluster: 'east', node: 'n3' };
  const commandOf = async () => (await stored())[0]?.command?.selector;

  test('is a target by its name, which is that of the last one', async () => {
    lab.agents.set(n3, [old, last]);
    const answer = await lab.api.CreateCapture(podRequest('prod', 'job-0'), context(responder));
    expect(answer.captures).toMatchObject([{ node: 'n3', selector: 'prod/job-0/app', state: 'queued' }]);
    expect(await commandOf()).toEqual({ pod: { namespace: 'prod', pod: 'job-0', container: 'app' } });
  });

  test('is a target by its id, an earlier one as well, and keeps the name that people know', async () => {
    lab.agents.set(n3, [old, last]);
    const answer = await lab.api.CreateCapture(
      createRequest({ selector: { containerId: old.id } }),
      context(responder),
    );
    expect(answer.captures).toMatchObject([{ node: 'n3', selector: 'prod/job-0/app' }]);
    expect(await commandOf()).toEqual({ containerId: old.id });
  });

  test('is passed over for one of its name that runs', async () => {
    const running = at('c', '2026-11-28T12:00:00Z', { state: 'running' });
    lab.agents.set(n3, [last]);
    lab.agents.set({ cluster: 'east', node: 'n4' }, [running]);
    const answer = await lab.api.CreateCapture(podRequest('prod', 'job-0'), context(responder));
    expect(answer.captures).toMatchObject([{ node: 'n4' }]);
  });

  test('is captured, and the agents are named that may have its successor', async () => {
    lab.agents.set(n3, [last]);
    lab.agents.set({ cluster: 'east', node: 'n4' }, { reason: 'it did not answer' });
    await lab.domain.store.putNode(nodeRow('east', 'n5', { replicaId: '', lastSeenMs: T0 - 60_000 }));
    const answer = await lab.api.CreateCapture(podRequest('prod', 'job-0'), context(responder));
    expect(answer.captures).toHaveLength(1);
    expect(answer.unreached).toMatchObject([{ node: 'n4' }, { node: 'n5' }]);
  });

  test('with another of its pod is ambiguous, and so are two of one name on two nodes', async () => {
    const proxy = container('prod', 'job-0', 'proxy', { state: 'exited' });
    lab.agents.set(n3, [last, proxy]);
    const two = await failure(lab.api.CreateCapture(podRequest('prod', 'job-0'), context(responder)));
    expect(two).toMatchObject({ code: 'target-ambiguous', message: expect.stringContaining('prod/job-0/proxy') });
    lab.agents.set(n3, [last]);
    lab.agents.set({ cluster: 'east', node: 'n4' }, [old]);
    const places = await failure(lab.api.CreateCapture(podRequest('prod', 'job-0'), context(responder)));
    expect(places.message).toMatch(/job-0\/app on east\/n3, prod\/job-0\/app on east\/n4; name the node$/);
  });
});

describe('the same request again', () => {
  const requestId = '0197a0a0-0000-7000-8000-000000000001';

  test('answers what it made, though the pod is gone', async () => {
    const first = await lab.api.CreateCapture(podRequest('prod', 'web-0', { requestId }), context(responder));
    lab.agents.set({ cluster: 'east', node: 'n1' }, []);
    const again = await lab.api.CreateCapture(podRequest('prod', 'web-0', { requestId }), context(responder));
    expect(again.captures).toEqual(first.captures);
    expect(await stored()).toHaveLength(1);
  });

  test('ten times at once makes one capture', async () => {
    const asked = Array.from({ length: 10 }, () =>
      lab.api.CreateCapture(podRequest('prod', 'web-0', { requestId }), context(responder)),
    );
    const ids = (await Promise.all(asked)).map(({ captures }) => captures?.[0]?.captureId);
    expect(new Set(ids).size).toBe(1);
    expect(await stored()).toHaveLength(1);
    expect(await lab.domain.store.audit({}, { afterSeq: 0, limit: 10 })).toHaveLength(1);
  });

  test.each([
    ['for something else', podRequest('prod', 'web-1', { requestId }), responder],
    ['with another reason', podRequest('prod', 'web-0', { requestId, reason: 'another' }), responder],
    ['by somebody else', podRequest('prod', 'web-0', { requestId }), caller('eve', grant('responder'))],
  ])('%s is a conflict', async (_what, request, who) => {
    await lab.api.CreateCapture(podRequest('prod', 'web-0', { requestId }), context(responder));
    expect((await failure(lab.api.CreateCapture(request, context(who)))).code).toBe('capture-conflict');
    expect(await stored()).toHaveLength(1);
  });
});

describe('a request that is refused', () => {
  const viewer = caller('vic', grant('viewer'));
  const longest = 'x'.repeat(1_001);

  test.each([
    ['no target', createRequest({}), 'usage', 'names no target'],
    [
      'a pod that nobody has',
      podRequest('prod', 'gone-0'),
      'target-not-found',
      'No agent that you may ask knows prod/gone-0',
    ],
    [
      'two containers and no name',
      podRequest('prod', 'api-0'),
      'target-ambiguous',
      'prod/api-0/app on east/n2, prod/api-0/proxy on east/n2',
    ],
    ['labels of a pod with two containers', labelRequest({ app: 'api' }), 'target-ambiguous', 'prod/api-0/proxy'],
    ['a process and no node', createRequest({ selector: { pid: 1 } }), 'usage', 'say on which'],
    ['another namespace than the pod is in', podRequest('prod', 'web-0', { namespace: 'dev' }), 'usage', 'not in dev'],
    ['a request id that is none', podRequest('prod', 'web-0', { requestId: "1' OR 1=1" }), 'usage', 'not a UUID'],
    [
      'an artifact that is none',
      podRequest('prod', 'web-0', { artifacts: ['everything'] }),
      'usage',
      'no artifact everything',
    ],
    [
      'more targets than meant',
      labelRequest({ app: 'web' }, { maxTargets: 1 }),
      'usage',
      '3 targets match, more than 1',
    ],
    [
      'more targets than one request has',
      labelRequest({ app: 'web' }, { maxTargets: 1_001 }),
      'usage',
      '1000 targets at most',
    ],
    ['a case that is not there', podRequest('prod', 'web-0', { caseId: 'INC-1' }), 'case-not-found', 'no case INC-1'],
    ['a reason of two lines', podRequest('prod', 'web-0', { reason: 'a\nb' }), 'usage', 'U+000A'],
    ['a reason that is turned around', podRequest('prod', 'web-0', { reason: 'a\u202eb' }), 'usage', 'U+202E'],
    ['a reason of a page', podRequest('prod', 'web-0', { reason: longest }), 'usage', '1000 is the most'],
    ['a case id with a NUL', podRequest('prod', 'web-0', { caseId: 'a\0b' }), 'usage', 'U+0000'],
    ['a name of a node with a line end', podRequest('prod', 'web-0', { node: 'n1\n{"level":50}' }), 'usage', 'U+000A'],
    ['an empty name of a cluster', podRequest('prod', 'web-0', { clusters: [''] }), 'usage', 'is empty'],
    ['a pattern in the place of a cluster', podRequest('prod', 'web-0', { clusters: ['ea*'] }), 'usage', 'a pattern'],
  ])('for %s says so and stores nothing', async (_what, request, code, words) => {
    const failed = await failure(lab.api.CreateCapture(request, context(admin)));
    expect(failed).toMatchObject({ code, message: expect.stringContaining(words) });
    expect(await stored()).toEqual([]);
  });

  test.each([
    ['a viewer', viewer, podRequest('prod', 'web-0'), 'forbidden'],
    ['nobody', caller('nil'), podRequest('prod', 'web-0'), 'forbidden'],
    [
      'a responder of another namespace',
      caller('dee', grant('responder', ['*'], ['dev'])),
      podRequest('prod', 'web-0'),
      'forbidden',
    ],
    [
      'a responder of another cluster',
      caller('wes', grant('responder', ['west'])),
      podRequest('prod', 'web-0', { clusters: ['east'] }),
      'forbidden',
    ],
    [
      'a responder of one namespace who gives a container id of another one',
      caller('dee', grant('responder', ['*'], ['dev'])),
      createRequest({ selector: { containerId: container('prod', 'web-0', 'app').id } }),
      'target-not-found',
    ],
    [
      'who may see it and not capture it',
      caller('vi', grant('viewer'), grant('responder', ['*'], ['dev'])),
      createRequest({ selector: { containerId: container('prod', 'web-0', 'app').id } }),
      'forbidden',
    ],
    [
      'a responder of all but a pattern who names a process',
      caller('pat', grant('responder', ['*'], ['p*'])),
      createRequest({ selector: { pid: 1 }, node: 'n1' }),
      'forbidden',
    ],
  ])('to %s is written down', async (_who, who, request, code) => {
    await lab.domain.store.putNode(nodeRow('east', 'n1'));
    expect((await failure(lab.api.CreateCapture(request, context(who)))).code).toBe(code);
    await lab.domain.denials[Symbol.asyncDispose]();
    const entries = await lab.domain.store.audit({}, { afterSeq: 0, limit: 10 });
    expect(entries).toMatchObject([{ actor: who.name, action: 'access.denied' }]);
    expect(await stored()).toEqual([]);
  });

  test.each([
    ['has not begun', podRequest('prod', 'web-0'), 'created'],
    ['ended, where the whole pod is meant', podRequest('prod', 'web-0', { scope: 'pod' }), 'exited'],
    ['ended, where labels mean what runs', labelRequest({ app: 'gone' }), 'exited'],
  ])('says that what it names %s', async (_what, request, state) => {
    const only = container('prod', 'web-0', 'app', { state, labels: { app: 'gone' } });
    lab.agents.set({ cluster: 'east', node: 'n1' }, [only]);
    const failed = await failure(lab.api.CreateCapture(request, context(responder)));
    expect(failed).toMatchObject({ code: 'target-not-running', message: expect.stringContaining('prod/web-0/app') });
    expect(await stored()).toEqual([]);
  });

  test('says which agents might have had the pod', async () => {
    lab.agents.set({ cluster: 'east', node: 'n1' }, { reason: 'it did not answer' });
    const failed = await failure(lab.api.CreateCapture(podRequest('prod', 'web-0'), context(responder)));
    expect(failed.message).toContain('east/n1 (it did not answer)');
  });

  test('says in which clusters a pod of that name is', async () => {
    lab.agents.set({ cluster: 'west', node: 'w1' }, [container('prod', 'web-0', 'app')]);
    const failed = await failure(lab.api.CreateCapture(podRequest('prod', 'web-0'), context(responder)));
    expect(failed.code).toBe('target-ambiguous');
    expect(failed.message).toContain('prod/web-0/app on east/n1, prod/web-0/app on west/w1; name the cluster');
    const narrowed = podRequest('prod', 'web-0', { clusters: ['west'] });
    expect((await lab.api.CreateCapture(narrowed, context(responder))).captures).toMatchObject([{ node: 'w1' }]);
  });

  test('does not believe an agent that answers with something else', async () => {
    lab.agents.set({ cluster: 'east', node: 'n1' }, [container('kube-system', 'etcd-0', 'etcd')]);
    const failed = await failure(lab.api.CreateCapture(podRequest('prod', 'web-0'), context(admin)));
    expect(failed.code).toBe('target-not-found');
  });
});

describe('a place where a second person has to approve', () => {
  const rules: Partial<CaptureRules> = {
    approvals: [{ clusters: ['east'], namespaces: ['prod*'], expiresMs: 120_000 }],
  };
  beforeEach(async () => {
    await lab[Symbol.asyncDispose]();
    lab = await labDomain({ rules });
    lab.agents.set({ cluster: 'east', node: 'n1' }, [
      container('prod', 'web-0', 'app'),
      container('dev', 'web-0', 'app'),
    ]);
    lab.agents.set({ cluster: 'west', node: 'w1' }, [container('prod', 'job-0', 'app')]);
    await lab.domain.store.putNode(nodeRow('east', 'n1'));
  });

  test.each([
    ['there', podRequest('prod', 'web-0'), 'awaiting-approval', 120_000],
    ['in another namespace', podRequest('dev', 'web-0'), 'queued', 600_000],
    ['in another cluster', podRequest('prod', 'job-0'), 'queued', 600_000],
    [
      'of a process, which may be of that namespace',
      createRequest({ selector: { pid: 7 }, node: 'n1' }),
      'awaiting-approval',
      120_000,
    ],
  ])('holds a capture %s for its own time', async (_where, request, state, expiresMs) => {
    const { captures } = await lab.api.CreateCapture(request, context(admin));
    expect(captures).toMatchObject([{ state, expiresAtMs: T0 + expiresMs }]);
    await vi.waitFor(() => expect(lab.woken).toHaveLength(state === 'queued' ? 1 : 0));
  });
});
