import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Api, CallContext } from '../../../controller/api/api.ts';
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
  nodeRow,
  podRequest,
} from './lab-domain.ts';

/** Every call of the API, by somebody who has every role, elsewhere: what is hidden is as what is not there. */

const eve = caller('eve', grant('admin', ['west'], ['*']), grant('admin', ['*'], ['dev']));
const GONE = { captureId: '0198c0de-3c4f-7a10-8000-5f2c0a7e9b11', caseId: 'NOTHING-1' };

let lab: LabDomain;
let there: typeof GONE;
beforeEach(async () => {
  lab = await labDomain({ rules: { approvals: [{ clusters: ['*'], namespaces: ['prod'], expiresMs: 60_000 }] } });
  lab.agents.set({ cluster: 'east', node: 'n1' }, [container('prod', 'web-0', 'app')]);
  await lab.domain.store.putNode(nodeRow('east', 'n1'));
  await lab.domain.store.putNode(nodeRow('west', 'w1'));
  await lab.api.OpenCase({ caseId: 'SECRET-1', title: 'a title' }, context(admin));
  const made = await lab.api.CreateCapture(podRequest('prod', 'web-0', { caseId: 'SECRET-1' }), context(admin));
  there = { captureId: made.captures?.[0]?.captureId ?? '', caseId: 'SECRET-1' };
});
afterEach(() => lab[Symbol.asyncDispose]());

type Named = typeof GONE;
const first = async (updates: AsyncIterable<unknown>) => await updates[Symbol.asyncIterator]().next();
const custody = { captureId: '', caseId: '', afterSeq: '0', pageSize: 0 };

const CALLS: Record<string, (api: Api, named: Named, who: CallContext) => Promise<unknown>> = {
  GetCapture: (api, { captureId }, who) => api.GetCapture({ captureId }, who),
  'GetCapture by the beginning of its id': (api, { captureId }, who) =>
    api.GetCapture({ captureId: captureId.slice(0, 35) }, who),
  WatchCapture: (api, { captureId }, who) => first(api.WatchCapture({ captureId }, who)),
  CancelCapture: (api, { captureId }, who) => api.CancelCapture({ captureId }, who),
  ApproveCapture: (api, { captureId }, who) => api.ApproveCapture({ captureId }, who),
  DenyCapture: (api, { captureId }, who) => api.DenyCapture({ captureId, reason: '' }, who),
  GetCase: (api, { caseId }, who) => api.GetCase({ caseId }, who),
  NoteCase: (api, { caseId }, who) => api.NoteCase({ caseId, text: 'a note' }, who),
  CloseCase: (api, { caseId }, who) => api.CloseCase({ caseId, text: '' }, who),
  'CreateCapture into a case': (api, { caseId }, who) => api.CreateCapture(podRequest('dev', 'x', { caseId }), who),
  'ListCustody of a capture': (api, { captureId }, who) => api.ListCustody({ ...custody, captureId }, who),
  'ListCustody of a case': (api, { caseId }, who) => api.ListCustody({ ...custody, caseId }, who),
};

describe('what a caller may not see', () => {
  test.each(Object.keys(CALLS))(
    'is not there for %s, in the same words, and the attempt is written down',
    async (name) => {
      const call = CALLS[name];
      const ask = (named: Named) => failure(call?.(lab.api, named, context(eve)) ?? Promise.resolve());
      const [hidden, missing] = [await ask(there), await ask(GONE)];
      const same = (text: string, { captureId, caseId }: Named) =>
        text.replaceAll(captureId, 'ID').replaceAll(captureId.slice(0, 35), 'ID').replaceAll(caseId, 'CASE');
      expect(hidden.code).toMatch(/^(capture|case)-not-found$/);
      expect({ code: hidden.code, message: same(hidden.message, there) }).toEqual({
        code: missing.code,
        message: same(missing.message, GONE),
      });
      await lab.domain.denials[Symbol.asyncDispose]();
      const denied = (await lab.domain.store.audit({}, { afterSeq: 0, limit: 100 })).filter(
        ({ action, actor }) => action === 'access.denied' && actor === 'eve',
      );
      expect(denied).toHaveLength(1);
      const state = await lab.api.GetCapture({ captureId: there.captureId }, context(admin));
      expect(state).toMatchObject({ state: 'awaiting-approval', cancelRequested: false });
      expect(await lab.api.GetCase({ caseId: 'SECRET-1' }, context(admin))).toMatchObject({ state: 'open', notes: [] });
    },
  );

  test('is in no list, and no agent is asked for it', async () => {
    const who = context(eve);
    const page = { pageSize: 0, pageToken: '' };
    const filter = { states: [], cluster: '', node: '', namespace: '', caseId: '', requestedBy: '', requestId: '' };
    const captures = await lab.api.ListCaptures({ ...filter, ...page, sinceMs: '0', untilMs: '0' }, who);
    expect(captures).toEqual({ captures: [], nextPageToken: '' });
    expect(await lab.api.ListCases({ state: '', ...page }, who)).toEqual({ cases: [], nextPageToken: '' });
    const asked = { clusters: [], node: '', namespace: '', labels: {}, limit: 0 };
    expect((await lab.api.ListContainers(asked, who)).containers).toEqual([]);
    lab.agents.asked.length = 0;
    await lab.api.ListContainers({ ...asked, namespace: 'prod' }, who);
    expect((await failure(lab.api.ListCustody(custody, who))).code).toBe('forbidden');
  });

  test('is not captured, by its name, its id or its process', async () => {
    const { id } = container('prod', 'web-0', 'app');
    const asks = [
      podRequest('prod', 'web-0'),
      createRequest({ selector: { containerId: id } }),
      createRequest({ selector: { containerName: 'app' } }),
    ];
    for (const request of asks)
      expect((await failure(lab.api.CreateCapture(request, context(eve)))).message).not.toMatch(/east|n1/);
    const process = createRequest({ selector: { pid: 7 }, node: 'n1' });
    expect((await failure(lab.api.CreateCapture(process, context(eve)))).code).toBe('forbidden');
    const rows = await lab.domain.store.captures({}, { limit: 10 });
    expect(rows.rows).toHaveLength(1);
  });
});
