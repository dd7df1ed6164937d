import { afterEach, beforeEach, describe, expect, test } from 'vitest';
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
const sue = caller('sue', grant('responder', ['*'], ['prod']));
const dee = caller('dee', grant('responder', ['*'], ['dev']));
const vic = caller('vic', grant('viewer', ['*'], ['prod']));
const alert = { ...caller('alert:falco/shell', grant('responder', ['*'], ['dev'])), by: 'alert' as const };

let lab: LabDomain;
beforeEach(async () => {
  lab = await labDomain();
  lab.agents.set({ cluster: 'east', node: 'n1' }, [
    container('prod', 'web-0', 'app'),
    container('dev', 'web-0', 'app'),
  ]);
});
afterEach(() => lab[Symbol.asyncDispose]());

const open = (caseId: string, who = rob) => lab.api.OpenCase({ caseId, title: 'odd traffic' }, context(who));
const get = (caseId: string, who = rob) => lab.api.GetCase({ caseId }, context(who));
const list = async (who = rob, state = '') =>
  (await lab.api.ListCases({ state, pageSize: 0, pageToken: '' }, context(who))).cases?.map(({ caseId }) => caseId);
const capture = (caseId: string, who = rob, namespace = 'prod') =>
  lab.api.CreateCapture(podRequest(namespace, 'web-0', { caseId }), context(who));

describe('a case', () => {
  test('is opened, noted and closed, each with its entry in the audit log', async () => {
    expect(await open('INC-1')).toMatchObject({ state: 'open', openedBy: 'rob', openedAtMs: T0, title: 'odd traffic' });
    lab.clock.nowMs += 1_000;
    await lab.api.NoteCase({ caseId: 'INC-1', text: 'called the owner:\n\tno answer' }, context(rob));
    const closed = await lab.api.CloseCase({ caseId: 'INC-1', text: 'a test' }, context(rob));
    expect(closed).toMatchObject({ state: 'closed', closedBy: 'rob', closedAtMs: T0 + 1_000 });
    expect(closed.notes?.map(({ text }) => text)).toEqual(['called the owner:\n\tno answer', 'a test']);
    const entries = await lab.domain.store.audit({ caseId: 'INC-1' }, { afterSeq: 0, limit: 10 });
    expect(entries.map(({ action }) => action)).toEqual(['case.opened', 'case.noted', 'case.closed']);
  });

  test('is closed without a last note, while its captures go on', async () => {
    await open('INC-1');
    const { captures } = await capture('INC-1');
    const closed = await lab.api.CloseCase({ caseId: 'INC-1', text: '' }, context(rob));
    expect(closed).toMatchObject({ state: 'closed', notes: [], captureCount: 1 });
    const captureId = captures?.[0]?.captureId ?? '';
    expect(await lab.api.GetCapture({ captureId }, context(rob))).toMatchObject({ state: 'queued', caseId: 'INC-1' });
    await lab.api.CancelCapture({ captureId }, context(rob));
    const { entries } = await lab.api.ListCustody(
      { captureId: '', caseId: 'INC-1', afterSeq: '0', pageSize: 0 },
      context(rob),
    );
    const told = ['case.opened', 'capture.created', 'case.closed', 'capture.cancelled'];
    expect(entries?.map(({ action }) => action)).toEqual(told);
  });

  test('takes captures while it is open, and none after', async () => {
    await open('INC-1');
    await capture('INC-1');
    expect(await get('INC-1')).toMatchObject({ captureCount: 1 });
    await lab.api.CloseCase({ caseId: 'INC-1', text: 'done' }, context(rob));
    expect((await failure(capture('INC-1'))).code).toBe('case-not-found');
    expect((await failure(lab.api.CloseCase({ caseId: 'INC-1', text: 'again' }, context(rob)))).code).toBe(
      'case-not-found',
    );
    expect(await lab.api.NoteCase({ caseId: 'INC-1', text: 'late' }, context(rob))).toMatchObject({ state: 'closed' });
  });

  test('is seen by who opened it, who may see a capture of it, and who may see everything', async () => {
    await open('INC-1');
    expect(await list(rob)).toEqual(['INC-1']);
    expect(await list(admin)).toEqual(['INC-1']);
    for (const who of [sue, dee, vic]) {
      expect(await list(who)).toEqual([]);
      expect((await failure(get('INC-1', who))).code).toBe('case-not-found');
    }
    await capture('INC-1');
    for (const who of [sue, vic]) expect(await get('INC-1', who)).toMatchObject({ caseId: 'INC-1' });
    expect((await failure(get('INC-1', dee))).code).toBe('case-not-found');
    expect((await failure(capture('INC-1', dee, 'dev'))).code).toBe('case-not-found');
  });

  test('may be used by the rule of an alert that names it', async () => {
    await open('INC-1');
    expect(await get('INC-1', alert)).toMatchObject({ state: 'open' });
    await capture('INC-1', alert, 'dev');
    expect(await get('INC-1', dee)).toMatchObject({ captureCount: 1 });
  });

  test('is not written by a viewer', async () => {
    expect((await failure(open('INC-9', vic))).code).toBe('forbidden');
    await open('INC-1');
    await capture('INC-1');
    expect((await failure(lab.api.NoteCase({ caseId: 'INC-1', text: 'x' }, context(vic)))).code).toBe('forbidden');
    expect((await failure(lab.api.CloseCase({ caseId: 'INC-1', text: 'x' }, context(vic)))).code).toBe('forbidden');
  });

  test('of an id that is taken is refused', async () => {
    await open('INC-1');
    expect((await failure(open('INC-1', dee))).code).toBe('usage');
  });

  test.each([
    ['', 'its id is empty'],
    [' INC', 'begins or ends with a space'],
    ['a\nb', 'U+000A'],
    ['x'.repeat(101), '100 is the most'],
  ])('has no id like %j', async (caseId, words) => {
    expect(await failure(open(caseId))).toMatchObject({ code: 'usage', message: expect.stringContaining(words) });
  });

  test.each([
    ['empty', ' \n ', 'is empty'],
    ['too long', 'x'.repeat(10_001), '10000 is the most'],
    ['with a NUL', 'a\0b', 'U+0000'],
    ['with a bare carriage return', 'good\rbad', 'U+000D'],
    ['turned around', 'abc\u202edef', 'U+202E'],
    ['with an escape sequence', '\x1b[2J', 'U+001B'],
  ])('takes no note that is %s', async (_what, text, words) => {
    await open('INC-1');
    const failed = await failure(lab.api.NoteCase({ caseId: 'INC-1', text }, context(rob)));
    expect(failed).toMatchObject({ code: 'usage', message: expect.stringContaining(words) });
  });
});

describe('the list of cases', () => {
  test('has every visible one on its pages, once', async () => {
    for (let count = 0; count < 25; count += 1)
      await open(`INC-${String(count).padStart(2, '0')}`, count % 5 === 0 ? rob : dee);
    const seen: string[] = [];
    let pageToken = '';
    do {
      const page = await lab.api.ListCases({ state: 'open', pageSize: 2, pageToken }, context(rob));
      seen.push(...(page.cases ?? []).map(({ caseId }) => caseId ?? ''));
      pageToken = page.nextPageToken ?? '';
    } while (pageToken !== '');
    expect(seen.sort()).toEqual(['INC-00', 'INC-05', 'INC-10', 'INC-15', 'INC-20']);
    expect(await list(admin)).toHaveLength(25);
    expect(await list(admin, 'closed')).toEqual([]);
  });
});
