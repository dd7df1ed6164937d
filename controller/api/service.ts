import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import { createCapture } from '../capture/create.ts';
import { approveCapture, cancelCapture, denyCapture } from '../capture/decide.ts';
import { findCapture, listCaptures } from '../capture/get.ts';
import { newsOfCaptures } from '../capture/inbox.ts';
import { watchCapture } from '../capture/watch.ts';
import { wireCapture } from '../capture/wire.ts';
import { closeCase, getCase, listCases, noteCase, openCase } from '../cases.ts';
import { listCustody } from '../custody/custody.ts';
import type { Domain } from '../domain.ts';
import type { Caller, RateLimit } from '../identity/identity.ts';
import { getLogLevel, setLogLevel } from '../log-level.ts';
import { listContainers, listNodes } from '../nodes.ts';
import type { Api, CallContext } from './api.ts';

export interface ApiParts extends Domain {
  readonly rateLimit: RateLimit;
}

/** Watches of one caller at a time in this process: each holds an inbox and looks into the store. */
const MOST_WATCHES = 100;

type Call<Request, Response> = (request: Request, context: CallContext) => Promise<Response>;

/** The calls as gRPC and HTTP serve them: the rate first, then the call, and errors that may be shown to a stranger. */
export function openApi(parts: ApiParts): Api {
  const { rateLimit } = parts;
  const news = newsOfCaptures(parts.store.bus);
  const watching = new Map<string, number>();

  const guarded =
    <Request, Response>(kind: 'read' | 'write', call: Call<Request, Response>): Call<Request, Response> =>
    async (request, context) => {
      try {
        rateLimit.take(context.caller, kind);
        context.signal.throwIfAborted();
        return await call(request, context);
      } catch (error) {
        throw outward(parts, error, context.signal);
      }
    };
  const read = <Request, Response>(
    call: (domain: Domain, ...given: Parameters<Call<Request, Response>>) => Promise<Response>,
  ) => guarded<Request, Response>('read', (request, context) => call(parts, request, context));
  const write = <Request, Response>(
    call: (domain: Domain, ...given: Parameters<Call<Request, Response>>) => Promise<Response>,
  ) => guarded<Request, Response>('write', (request, context) => call(parts, request, context));

  return {
    CreateCapture: write(createCapture),
    GetCapture: read(async (domain, { captureId }: { readonly captureId: string }, { caller }) =>
      wireCapture(await findCapture(domain, 'GetCapture', captureId, caller)),
    ),
    ListCaptures: read(listCaptures),
    async *WatchCapture(request, context) {
      const { caller, signal } = context;
      const key = JSON.stringify([caller.by, caller.name]);
      let isCounted = false;
      try {
        rateLimit.take(caller, 'read');
        countWatch(watching, key, caller);
        isCounted = true;
        yield* watchCapture(parts, news, request, context);
      } catch (error) {
        throw outward(parts, error, signal);
      } finally {
        if (isCounted) uncountWatch(watching, key);
      }
    },
    CancelCapture: write(cancelCapture),
    ApproveCapture: write(approveCapture),
    DenyCapture: write(denyCapture),
    ListNodes: read(listNodes),
    ListContainers: read(listContainers),
    OpenCase: write(openCase),
    GetCase: read(getCase),
    ListCases: read(listCases),
    NoteCase: write(noteCase),
    CloseCase: write(closeCase),
    ListCustody: read(listCustody),
    GetLogLevel: read(getLogLevel),
    SetLogLevel: write(setLogLevel),
    WhoAmI: read(async ({ version }, _request: unknown, { caller: { name, by, grants } }) => ({
      ...{ name, by },
      grants: grants.map(({ role, clusters, namespaces }) => ({
        role,
        clusters: [...clusters],
        namespaces: [...namespaces],
      })),
      controllerVersion: version,
    })),
  };
}

function countWatch(watching: Map<string, number>, key: string, { name }: Caller): void {
  const count = watching.get(key) ?? 0;
  if (count >= MOST_WATCHES)
    throw new ExhibitError('rate-limited', `${name} watches ${MOST_WATCHES} captures already; end one of them first`);
  watching.set(key, count + 1);
}

function uncountWatch(watching: Map<string, number>, key: string): void {
  const count = (watching.get(key) ?? 1) - 1;
  if (count === 0) watching.delete(key);
  else watching.set(key, count);
}

/** Without causes: what a database or a library says is for our log, not for those who call. */
function outward({ log }: Domain, error: unknown, signal: AbortSignal): ExhibitError {
  if (signal.aborted && !isExhibitError(error)) return new ExhibitError('cancelled', 'The caller hung up');
  if (isExhibitError(error) && error.code !== 'internal') {
    if (error.code === 'store-failed') log.error({ error: explain(error) }, 'store failed');
    return error.cause === undefined ? error : new ExhibitError(error.code, error.message);
  }
  log.error({ error: explain(error) }, 'call failed');
  return new ExhibitError(
    'internal',
    'The controller failed at this; its log says how. Nothing is known of what was done: look, then ask again',
  );
}
