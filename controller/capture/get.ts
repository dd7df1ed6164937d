import { ExhibitError } from '../../evidence/error.ts';
import type { ListCapturesRequest__Output } from '../../proto/gen/exhibit/controller/v1/ListCapturesRequest.ts';
import type { ListCapturesResponse } from '../../proto/gen/exhibit/controller/v1/ListCapturesResponse.ts';
import type { CallContext } from '../api/api.ts';
import { type Domain, denyQuietly } from '../domain.ts';
import type { Caller } from '../identity/identity.ts';
import { may, visible } from '../identity/rights.ts';
import { boundedPage, pageSize } from '../page.ts';
import { type CaptureFilter, type CaptureRow, type CaptureState, END_STATES, OPEN_STATES } from '../store/store.ts';
import { readCaseId, readName } from '../text.ts';
import { wireCapture } from './wire.ts';

/** A UUID's length; what is shorter is a prefix. */
const ID_CHARS = 36;
/** A prefix that more captures have is too short to tell which of them the caller may see. */
const MOST_BY_PREFIX = 100;
/** Ids in a message. */
const SHOWN_IDS = 10;
const PAGE = { usual: 100, most: 1_000 };

/**
 * The one capture that an id or a prefix names, among those that the caller may see.
 * @throws ExhibitError `capture-not-found`, also for one that the caller may not see: that is written down
 */
export async function findCapture(domain: Domain, call: string, text: string, caller: Caller): Promise<CaptureRow> {
  const id = text.toLowerCase();
  if (!/^[0-9a-f-]{4,36}$/.test(id))
    throw new ExhibitError('usage', 'A capture id is a UUID, or at least its first 4 characters');
  const rows = await rowsOf(domain, id);
  const mine = rows.filter((row) => may(caller, 'see', row));
  const [only, other] = mine;
  if (other !== undefined) {
    const ids = mine.slice(0, SHOWN_IDS).map(({ captureId }) => captureId);
    const message = `${id} stands for ${mine.length} captures or more, give more of the id: ${ids.join(', ')}`;
    throw new ExhibitError('capture-not-found', message);
  }
  if (only !== undefined) return only;
  const [hidden] = rows;
  if (hidden !== undefined) {
    const { captureId, cluster, namespace } = hidden;
    const why = 'the capture is of a place where the caller may see nothing';
    denyQuietly(domain, { caller, call, captureId, place: { cluster, namespace }, why });
  }
  throw new ExhibitError('capture-not-found', `There is no capture ${id}; list them with: exhibit captures`);
}

async function rowsOf({ store }: Domain, id: string): Promise<readonly CaptureRow[]> {
  if (id.length < ID_CHARS) return await store.capturesByPrefix(id, MOST_BY_PREFIX);
  const row = await store.capture(id);
  return row === undefined ? [] : [row];
}

export async function listCaptures(
  { store }: Domain,
  request: ListCapturesRequest__Output,
  { caller }: CallContext,
): Promise<ListCapturesResponse> {
  const filter = readFilter(request, caller);
  const limit = pageSize(request.pageSize, PAGE);
  const token = request.pageToken === '' ? {} : { token: request.pageToken };
  const { rows, next } = await boundedPage((page) => store.captures(filter, page), { limit, ...token });
  return { captures: rows.map(wireCapture), nextPageToken: next ?? '' };
}

function readFilter(request: ListCapturesRequest__Output, caller: Caller): CaptureFilter {
  const places = visible(caller);
  const given = {
    cluster: readName('cluster', request.cluster),
    node: readName('node', request.node),
    namespace: readName('namespace', request.namespace),
    caseId: readCaseId(request.caseId),
    requestedBy: readName('name of who asked', request.requestedBy),
    requestId: readName('request id', request.requestId).toLowerCase(),
  };
  const states = [...new Set(request.states)].map(readState);
  const sinceMs = Number(request.sinceMs);
  const untilMs = Number(request.untilMs);
  return {
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== '')),
    ...(states.length === 0 ? {} : { states }),
    ...(sinceMs === 0 ? {} : { sinceMs }),
    // The store includes both ends.
    ...(untilMs === 0 ? {} : { untilMs: untilMs - 1 }),
    ...(places === undefined ? {} : { visible: places }),
  };
}

function readState(text: string): CaptureState {
  const states = [...OPEN_STATES, ...END_STATES];
  const known = states.find((state) => state === text);
  if (known === undefined)
    throw new ExhibitError('usage', `There is no such state of a capture; choose among ${states.join(', ')}`);
  return known;
}
