import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ListContainersRequest__Output } from '../../../proto/gen/exhibit/controller/v1/ListContainersRequest.ts';
import {
  admin,
  caller,
  container,
  context,
  failure,
  grant,
  type LabDomain,
  labDomain,
  nodeRow,
  podRequest,
  T0,
} from './lab-domain.ts';

let lab: LabDomain;
beforeEach(async () => {
  lab = await labDomain();
  await lab.domain.store.putNode(nodeRow('east', 'n1'));
  await lab.domain.store.putNode(nodeRow('east', 'n2', { replicaId: '', lastSeenMs: T0 - 5_000 }));
  await lab.domain.store.putNode(nodeRow('west', 'w1'));
  lab.agents.set({ cluster: 'east', node: 'n1' }, [
    container('prod', 'web-1', 'app', { state: 'exited' }),
    container('prod', 'web-0', 'app'),
    container('dev', 'web-0', 'app'),
  ]);
  lab.agents.set({ cluster: 'west', node: 'w1' }, [container('prod', 'job-0', 'app')]);
});
afterEach(() => lab[Symbol.asyncDispose]());

const everywhere = caller('vic', grant('viewer'));
const eastProd = caller('eva', grant('viewer', ['east'], ['prod']));

describe('the nodes', () => {
  const nodes = async (who = everywhere, more = {}) =>
    (await lab.api.ListNodes({ cluster: '', connectedOnly: false, pageSize: 0, pageToken: '', ...more }, context(who)))
      .nodes;

  test('are those of clusters where the caller may see something', async () => {
    expect((await nodes())?.map(({ node }) => node)).toEqual(['n1', 'n2', 'w1']);
    expect((await nodes(eastProd))?.map(({ node }) => node)).toEqual(['n1', 'n2']);
    expect(await nodes(caller('nil'))).toEqual([]);
  });

  test('say who is connected, and nothing of our own streams', async () => {
    const [first, second] = (await nodes()) ?? [];
    expect(first).toMatchObject({ cluster: 'east', node: 'n1', connected: true, runtimeName: 'containerd' });
    expect(second).toMatchObject({ node: 'n2', connected: false, lastSeenMs: T0 - 5_000 });
    expect(Object.keys(first ?? {})).not.toEqual(expect.arrayContaining(['sessionId']));
    expect((await nodes(everywhere, { connectedOnly: true }))?.map(({ node }) => node)).toEqual(['n1', 'w1']);
  });
});

describe('the containers', () => {
  const containers = async (who = everywhere, more: Partial<ListContainersRequest__Output> = {}) =>
    await lab.api.ListContainers(
      { clusters: [], node: '', namespace: '', labels: {}, limit: 0, ...more },
      context(who),
    );
  const names = async (...args: Parameters<typeof containers>) =>
    ((await containers(...args)).containers ?? []).map(
      ({ cluster, container: one }) => `${cluster} ${one?.namespace}/${one?.pod}/${one?.name}`,
    );

  test('are all that the agents know, in order, with who could not be asked', async () => {
    const answer = await containers();
    expect(answer.containers?.map(({ container: one }) => one?.pod)).toEqual(['web-0', 'web-0', 'web-1', 'job-0']);
    expect(answer.unreached).toMatchObject([{ node: 'n2', reason: expect.stringContaining('not connected since') }]);
    expect(answer.cut).toBe(false);
  });

  test('are narrowed by cluster, node, namespace and labels', async () => {
    expect(await names(everywhere, { clusters: ['west'] })).toEqual(['west prod/job-0/app']);
    expect(await names(everywhere, { node: 'w1' })).toEqual(['west prod/job-0/app']);
    expect(await names(everywhere, { namespace: 'dev' })).toEqual(['east dev/web-0/app']);
    expect(await names(everywhere, { labels: { app: 'job' } })).toEqual(['west prod/job-0/app']);
    expect(await names(everywhere, { labels: { app: 'none' } })).toEqual([]);
  });

  test('are those that the caller may see', async () => {
    expect(await names(eastProd)).toEqual(['east prod/web-0/app', 'east prod/web-1/app']);
    expect(await names(eastProd, { namespace: 'dev' })).toEqual([]);
    expect(await names(caller('nil'))).toEqual([]);
  });

  test('are cut where there are more than asked for', async () => {
    const answer = await containers(everywhere, { limit: 2 });
    expect(answer.containers).toHaveLength(2);
    expect(answer.cut).toBe(true);
  });

  test('of labels that are none are not asked for', async () => {
    for (const labels of [{ 'a b': 'c' }, { a: 'x\ny' }, { "'; DROP TABLE nodes": '1' }] as Record<string, string>[])
      expect((await failure(containers(everywhere, { labels }))).code).toBe('usage');
    expect(lab.agents.asked).toEqual([]);
  });
});

describe('the list of captures', () => {
  const request = (more = {}) => ({
    ...{ states: [], cluster: '', node: '', namespace: '', caseId: '', requestedBy: '', requestId: '' },
    ...{ sinceMs: '0', untilMs: '0', pageSize: 0, pageToken: '', ...more },
  });
  beforeEach(async () => {
    for (let count = 0; count < 12; count += 1) {
      lab.clock.nowMs = T0 + count;
      await lab.api.CreateCapture(podRequest(count % 3 === 0 ? 'dev' : 'prod', 'web-0'), context(admin));
    }
  });

  test('has what the caller may see, newest first, each once over its pages', async () => {
    const seen: (number | undefined)[] = [];
    let pageToken = '';
    do {
      const page = await lab.api.ListCaptures(request({ pageSize: 3, pageToken }), context(eastProd));
      seen.push(...(page.captures ?? []).map(({ createdAtMs }) => Number(createdAtMs) - T0));
      pageToken = page.nextPageToken ?? '';
    } while (pageToken !== '');
    expect(seen).toEqual([11, 10, 8, 7, 5, 4, 2, 1]);
  });

  test.each([
    ['namespace', { namespace: 'dev' }, 4],
    ['state', { states: ['queued'] }, 12],
    ['another state', { states: ['running', 'complete'] }, 0],
    ['who asked', { requestedBy: 'ada' }, 12],
    ['somebody else', { requestedBy: "ada' OR '1'='1" }, 0],
    ['time', { sinceMs: String(T0 + 2), untilMs: String(T0 + 5) }, 3],
    ['node', { cluster: 'east', node: 'n1' }, 12],
  ])('is narrowed by %s', async (_by, filter, count) => {
    expect((await lab.api.ListCaptures(request(filter), context(admin))).captures).toHaveLength(count);
  });

  test('is of no state that there is not', async () => {
    expect((await failure(lab.api.ListCaptures(request({ states: ['gone'] }), context(admin)))).code).toBe('usage');
    expect((await failure(lab.api.ListCaptures(request({ pageToken: 'x' }), context(admin)))).code).toBe('usage');
  });

  test('gives ids of which a prefix names one, or says that it names more', async () => {
    const { captures = [] } = await lab.api.ListCaptures(request(), context(admin));
    const id = captures[0]?.captureId ?? '';
    expect(await lab.api.GetCapture({ captureId: id.toUpperCase() }, context(admin))).toMatchObject({ captureId: id });
    const many = await failure(lab.api.GetCapture({ captureId: id.slice(0, 6) }, context(admin)));
    expect(many).toMatchObject({ code: 'capture-not-found', message: expect.stringContaining('give more of the id') });
    for (const captureId of ['', '%', '0%', `${id}0`, "0' OR 1=1"])
      expect((await failure(lab.api.GetCapture({ captureId }, context(admin)))).code).toBe('usage');
  });
});
