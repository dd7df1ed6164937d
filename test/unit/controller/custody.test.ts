import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { KINDS_AN_ACTOR, openDenials } from '../../../controller/custody/denials.ts';
import type { NewAudit } from '../../../controller/store/store.ts';
import {
  admin,
  caller,
  container,
  context,
  failure,
  grant,
  type LabDomain,
  labDomain,
  podRequest,
  T0,
} from './lab-domain.ts';

const rob = caller('rob', grant('responder', ['*'], ['prod']));
const dee = caller('dee', grant('responder', ['*'], ['dev']));
const both = caller('bo', grant('viewer', ['*'], ['prod', 'dev']));

let lab: LabDomain;
beforeEach(async () => {
  lab = await labDomain();
  lab.agents.set({ cluster: 'east', node: 'n1' }, [
    container('prod', 'web-0', 'app'),
    container('dev', 'web-0', 'app'),
  ]);
});
afterEach(() => lab[Symbol.asyncDispose]());

const custody = (
  request: Partial<{ captureId: string; caseId: string; afterSeq: string; pageSize: number }>,
  who = admin,
) => lab.api.ListCustody({ captureId: '', caseId: '', afterSeq: '0', pageSize: 0, ...request }, context(who));
const actions = async (...args: Parameters<typeof custody>) =>
  ((await custody(...args)).entries ?? []).map(({ action, actor }) => `${action} by ${actor}`);
const created = async (namespace: string, who: typeof rob, caseId = '') =>
  (await lab.api.CreateCapture(podRequest(namespace, 'web-0', { caseId }), context(who))).captures?.[0]?.captureId ??
  '';

describe('the audit log', () => {
  test('is whole for an admin of everything, in pages that say whether more follows', async () => {
    for (let count = 0; count < 5; count += 1) await created('prod', rob);
    const first = await custody({ pageSize: 3 });
    expect(first.more).toBe(true);
    const last = first.entries?.at(-1)?.seq;
    const second = await custody({ pageSize: 3, afterSeq: String(last) });
    expect(second.more).toBe(false);
    const all = [...(first.entries ?? []), ...(second.entries ?? [])];
    expect(all).toHaveLength(5);
    for (const [index, entry] of all.entries()) expect(entry.previous).toBe(all[index - 1]?.digest ?? '0'.repeat(64));
  });

  test.each([
    ['a responder', rob],
    ['an admin of one cluster', caller('al', grant('admin', ['east']))],
    ['an admin of one namespace', caller('al', grant('admin', ['*'], ['prod']))],
    ['an admin of every namespace that a pattern of names has', caller('al', grant('admin', ['*'], ['p*']))],
    ['an admin here who is a viewer of everything', caller('al', grant('admin', ['east']), grant('viewer'))],
  ])('is not whole for %s, and the attempt is in it', async (_who, who) => {
    expect((await failure(custody({}, who))).code).toBe('forbidden');
    await lab.domain.denials[Symbol.asyncDispose]();
    expect(await actions({})).toEqual([`access.denied by ${who.name}`]);
  });

  test('of a capture is for those who may see the capture', async () => {
    const captureId = await created('prod', rob);
    expect(await actions({ captureId: captureId.slice(0, 20) }, rob)).toEqual(['capture.created by rob']);
    expect((await failure(custody({ captureId }, dee))).code).toBe('capture-not-found');
  });

  test('of a case leaves out what the reader may not see', async () => {
    await lab.api.OpenCase({ caseId: 'INC-1', title: '' }, context(admin));
    await created('prod', admin, 'INC-1');
    await created('dev', admin, 'INC-1');
    const opened = 'case.opened by ada';
    const capture = 'capture.created by ada';
    expect(await actions({ caseId: 'INC-1' }, rob)).toEqual([opened, capture]);
    expect(await actions({ caseId: 'INC-1' }, both)).toEqual([opened, capture, capture]);
    expect((await failure(custody({ caseId: 'INC-1' }, caller('nil', grant('viewer', ['west']))))).code).toBe(
      'case-not-found',
    );
  });

  test('goes on to the next page where a whole one may not be seen', async () => {
    await lab.api.OpenCase({ caseId: 'INC-1', title: '' }, context(admin));
    for (let count = 0; count < 7; count += 1) await created('dev', admin, 'INC-1');
    await created('prod', admin, 'INC-1');
    const answer = await custody({ caseId: 'INC-1', pageSize: 2, afterSeq: '1' }, rob);
    expect(answer.entries).toHaveLength(1);
    expect(answer.more).toBe(false);
  });
});

describe('denied accesses', () => {
  const written: NewAudit[] = [];
  let clockMs = T0;
  const open = () =>
    openDenials({
      store: { appendAudit: async (entries) => void written.push(...entries) },
      now: () => clockMs,
      log: pino({ level: 'silent' }),
    });
  beforeEach(() => {
    written.length = 0;
    clockMs = T0;
    vi.useFakeTimers();
  });
  afterEach(() => void vi.useRealTimers());

  test('of one kind are two entries a minute, however many there are', async () => {
    await using denials = open();
    for (let count = 0; count < 10_000; count += 1) {
      clockMs = T0 + count;
      denials.record({ actor: 'eve', details: { call: 'GetCapture', why: 'no' } });
    }
    expect(written).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(written).toMatchObject([
      { actor: 'eve', action: 'access.denied', atMs: T0, details: { call: 'GetCapture', why: 'no' } },
      { actor: 'eve', atMs: T0 + 9_999, details: { repeated: 9_999, sinceMs: T0 } },
    ]);
    denials.record({ actor: 'eve', details: { call: 'GetCapture', why: 'no' } });
    expect(written).toHaveLength(3);
  });

  test('of ever other ids are told apart for some, and then counted', async () => {
    const denials = open();
    for (let count = 0; count < 1_000; count += 1)
      denials.record({ actor: 'eve', captureId: `id-${count}`, details: { call: 'GetCapture' } });
    denials.record({ actor: 'vic', captureId: 'id-0', details: { call: 'GetCapture' } });
    await denials[Symbol.asyncDispose]();
    const eve = written.filter(({ actor }) => actor === 'eve');
    expect(eve.length).toBeLessThanOrEqual(KINDS_AN_ACTOR + 2);
    const counted = eve.reduce((sum, { details }) => sum + Number(details.repeated ?? 1), 0);
    expect(counted).toBe(1_000);
    expect(written.filter(({ actor }) => actor === 'vic')).toHaveLength(1);
  });

  test('of ever other actors are bounded too, and none is lost', async () => {
    const denials = open();
    for (let count = 0; count < 5_000; count += 1)
      denials.record({ actor: `stranger-${count}`, details: { call: 'WhoAmI' } });
    await denials[Symbol.asyncDispose]();
    expect(written.length).toBeLessThan(600);
    const counted = written.reduce((sum, { details }) => sum + Number(details.repeated ?? 1), 0);
    expect(counted).toBe(5_000);
  });

  test('that the store does not take are lost, and nothing else with them', async () => {
    const denials = openDenials({
      store: { appendAudit: () => Promise.reject(new Error('disk full')) },
      now: () => clockMs,
      log: pino({ level: 'silent' }),
    });
    denials.record({ actor: 'eve', details: { call: 'GetCapture' } });
    await expect(denials[Symbol.asyncDispose]()).resolves.toBeUndefined();
  });
});
