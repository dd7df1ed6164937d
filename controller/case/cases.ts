import { ExhibitError } from '../../evidence/error.ts';
import type { Case } from '../../proto/gen/exhibit/controller/v1/Case.ts';
import type { ListCasesRequest__Output } from '../../proto/gen/exhibit/controller/v1/ListCasesRequest.ts';
import type { ListCasesResponse } from '../../proto/gen/exhibit/controller/v1/ListCasesResponse.ts';
import type { CallContext } from '../api/api.ts';
import { type Domain, denyQuietly, forbidden } from '../domain.ts';
import type { Caller } from '../identity/identity.ts';
import { maySomewhere, visible } from '../identity/rights.ts';
import { pageSize, visiblePage } from '../page.ts';
import type { CaseRow } from '../store/store.ts';
import { readCaseId, readNote, readTitle } from '../text.ts';

/**
 * Cases, and who may what. Open one: a responder of anywhere. See one: who opened it, who may see one of its captures, and who may
 * see everything. Write into one, close it, or put captures into it: a responder of anywhere who sees it. A rule of an alert may use
 * the case that its configuration names, whoever opened it.
 */

const PAGE = { usual: 100, most: 1_000 };

export async function openCase(
  domain: Domain,
  request: { readonly caseId: string; readonly title: string },
  { caller }: CallContext,
): Promise<Case> {
  const caseId = namedCase(request.caseId);
  const title = readTitle(request.title);
  checkResponder(domain, 'OpenCase', caseId, caller);
  const openedAtMs = domain.now();
  const openedBy = caller.name;
  const audit = auditOf(caller, 'case.opened', caseId, openedAtMs, { title });
  return wireCase(await domain.store.openCase({ caseId, title, openedBy, openedAtMs }, audit));
}

export async function getCase(
  domain: Domain,
  request: { readonly caseId: string },
  { caller }: CallContext,
): Promise<Case> {
  return wireCase(await findCase(domain, 'GetCase', namedCase(request.caseId), caller));
}

export async function listCases(
  domain: Domain,
  request: ListCasesRequest__Output,
  { caller }: CallContext,
): Promise<ListCasesResponse> {
  const state = readState(request.state);
  const filter = state === undefined ? {} : { state };
  const token = request.pageToken === '' ? {} : { token: request.pageToken };
  const { rows, next } = await visiblePage(
    (page) => domain.store.cases(filter, page),
    (row) => seesCase(domain, row, caller),
    { limit: pageSize(request.pageSize, PAGE), ...token },
  );
  return { cases: rows.map((row) => wireCase({ ...row, notes: [] })), nextPageToken: next ?? '' };
}

export async function noteCase(
  domain: Domain,
  request: { readonly caseId: string; readonly text: string },
  { caller }: CallContext,
): Promise<Case> {
  const text = readNote(request.text);
  const caseId = await writable(domain, 'NoteCase', request, caller);
  const atMs = domain.now();
  const audit = auditOf(caller, 'case.noted', caseId, atMs, { text });
  return wireCase(await domain.store.noteCase(caseId, { by: caller.name, atMs, text }, audit));
}

export async function closeCase(
  domain: Domain,
  request: { readonly caseId: string; readonly text: string },
  { caller }: CallContext,
): Promise<Case> {
  // The last note, which nobody has to write.
  const text = request.text === '' ? '' : readNote(request.text);
  const caseId = await writable(domain, 'CloseCase', request, caller);
  const atMs = domain.now();
  const audit = auditOf(caller, 'case.closed', caseId, atMs, { text });
  return wireCase(await domain.store.closeCase(caseId, { by: caller.name, atMs, text }, audit));
}

/** Before captures are put into it; that it is still open, the store checks with them. */
export async function checkCaseFor(domain: Domain, caseId: string, caller: Caller): Promise<void> {
  const row = await findCase(domain, 'CreateCapture', caseId, caller);
  if (row.state !== 'open')
    throw new ExhibitError('case-not-found', `The case ${caseId} is closed; open another one for new captures`);
}

/** @throws ExhibitError `case-not-found`, also for one that the caller may not see: that is written down */
export async function findCase(domain: Domain, call: string, caseId: string, caller: Caller): Promise<CaseRow> {
  const row = await domain.store.case(caseId);
  if (row !== undefined && (await seesCase(domain, row, caller))) return row;
  if (row !== undefined) denyQuietly(domain, { caller, call, caseId, why: 'the caller may see nothing of the case' });
  throw new ExhibitError('case-not-found', `There is no case ${caseId}; list them with: exhibit cases`);
}

async function seesCase(
  { store }: Domain,
  row: Pick<CaseRow, 'caseId' | 'openedBy'>,
  caller: Caller,
): Promise<boolean> {
  const places = visible(caller);
  if (places === undefined || row.openedBy === caller.name || caller.by === 'alert') return true;
  return (await store.captures({ caseId: row.caseId, visible: places }, { limit: 1 })).rows.length > 0;
}

/** The case's id, where the caller may write into it. */
async function writable(
  domain: Domain,
  call: string,
  request: { readonly caseId: string },
  caller: Caller,
): Promise<string> {
  const caseId = namedCase(request.caseId);
  await findCase(domain, call, caseId, caller);
  checkResponder(domain, call, caseId, caller);
  return caseId;
}

function checkResponder(domain: Domain, call: string, caseId: string, caller: Caller): void {
  if (maySomewhere(caller, 'capture')) return;
  throw forbidden(domain, { caller, call, caseId, why: 'Cases are of responders: nobody gave you that role anywhere' });
}

function namedCase(text: string): string {
  const caseId = readCaseId(text);
  if (caseId === '') throw new ExhibitError('usage', 'Say which case: its id is empty');
  return caseId;
}

function readState(text: string): 'open' | 'closed' | undefined {
  if (text === '' || text === 'open' || text === 'closed') return text === '' ? undefined : text;
  throw new ExhibitError('usage', 'A case is open or closed');
}

const wireCase = ({ notes, ...row }: CaseRow): Case => ({ ...row, notes: [...notes] });

const auditOf = (caller: Caller, action: string, caseId: string, atMs: number, details: Record<string, string>) => ({
  ...{ atMs, action, caseId },
  actor: caller.name,
  details: { by: caller.by, ...details },
});
