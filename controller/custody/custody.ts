import type { AuditRow } from '../../evidence/audit-log.ts';
import type { ListCustodyRequest__Output } from '../../proto/gen/exhibit/controller/v1/ListCustodyRequest.ts';
import type { ListCustodyResponse } from '../../proto/gen/exhibit/controller/v1/ListCustodyResponse.ts';
import type { CallContext } from '../api/api.ts';
import { findCapture } from '../capture/get.ts';
import { findCase } from '../case/cases.ts';
import { type Domain, forbidden } from '../domain.ts';
import type { Caller } from '../identity/identity.ts';
import { may, mayEverywhere, visible } from '../identity/rights.ts';
import { pageSize } from '../page.ts';
import type { AuditFilter } from '../store/store.ts';
import { readCaseId } from '../text.ts';

const PAGE = { usual: 100, most: 1_000 };

/**
 * The audit log, oldest first: of a capture or a case that the caller may see, else all of it, for admins of everything. Of a case
 * those entries are left out that are about captures which the caller may not see.
 */
export async function listCustody(
  domain: Domain,
  request: ListCustodyRequest__Output,
  { caller, signal }: CallContext,
): Promise<ListCustodyResponse> {
  const filter = await readFilter(domain, request, caller);
  const limit = pageSize(request.pageSize, PAGE);
  const isVisible = visibilityOf(domain, caller);
  let afterSeq = Number(request.afterSeq);
  for (;;) {
    signal.throwIfAborted();
    // One more than asked for tells whether there is more.
    const rows = await domain.store.audit(filter, { afterSeq, limit: limit + 1 });
    const page = rows.slice(0, limit);
    const more = rows.length > limit;
    const entries: AuditRow[] = [];
    for (const row of page) if (await isVisible(row)) entries.push(row);
    if (entries.length > 0 || !more) return { entries, more };
    afterSeq = page.at(-1)?.seq ?? afterSeq;
  }
}

async function readFilter(domain: Domain, request: ListCustodyRequest__Output, caller: Caller): Promise<AuditFilter> {
  const call = 'ListCustody';
  const caseId = readCaseId(request.caseId);
  const ofCase = caseId === '' ? {} : { caseId: (await findCase(domain, call, caseId, caller)).caseId };
  if (request.captureId !== '') {
    const { captureId } = await findCapture(domain, call, request.captureId, caller);
    return { ...ofCase, captureId };
  }
  if (caseId !== '') return ofCase;
  if (mayEverywhere(caller, 'administer')) return {};
  const why = 'The whole audit log is for admins of every cluster and namespace; ask for that of a capture or a case';
  throw forbidden(domain, { caller, call, why });
}

function visibilityOf({ store }: Domain, caller: Caller): (row: AuditRow) => Promise<boolean> {
  if (visible(caller) === undefined) return async () => true;
  const known = new Map<string, boolean>();
  return async ({ captureId }) => {
    if (captureId === '') return true;
    const before = known.get(captureId);
    if (before !== undefined) return before;
    const row = await store.capture(captureId);
    const isVisible = row !== undefined && may(caller, 'see', row);
    known.set(captureId, isVisible);
    return isVisible;
  };
}
