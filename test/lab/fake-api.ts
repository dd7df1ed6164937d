import type { Api, CallContext } from '../../controller/api/api.ts';
import { ExhibitError } from '../../evidence/error.ts';
import type { CreateCaptureRequest__Output } from '../../proto/gen/exhibit/controller/v1/CreateCaptureRequest.ts';
import { idOf } from './http-controller.ts';

/** An `Api` that answers one example of everything, and keeps what it was asked: for tests of what stands in front of it. */
export interface FakeApi {
  readonly api: Api;
  /** Tests empty them. */
  readonly calls: { readonly call: string; readonly request: unknown; readonly context: CallContext }[];
  readonly created: CreateCaptureRequest__Output[];
}

export function fakeApi(overrides: Partial<Api> = {}): FakeApi {
  const calls: FakeApi['calls'] = [];
  const created: CreateCaptureRequest__Output[] = [];
  const cases = new Map<
    string,
    { caseId: string; title: string; state: string; openedBy: string; openedAtMs: number }
  >();
  const capture = {
    captureId: idOf('one'),
    cluster: 'prod',
    node: 'n1',
    namespace: 'shop',
    selector: 'shop/web-0',
    state: 'running',
    createdAtMs: 1_700_000_000_000,
  };
  const found = (caseId: string) => {
    const one = cases.get(caseId);
    if (one === undefined) throw new ExhibitError('case-not-found', `There is no case ${caseId}`);
    return one;
  };
  const plain: Api = {
    CreateCapture: async (request) => {
      created.push(request);
      const captureId = idOf(request.requestId || JSON.stringify(request.selector));
      return {
        requestId: request.requestId,
        captures: [{ ...capture, captureId, state: 'queued', caseId: request.caseId, reason: request.reason }],
      };
    },
    GetCapture: async () => capture,
    ListCaptures: async () => ({ captures: [capture], nextPageToken: 'more' }),
    WatchCapture: async function* () {
      yield { capture, bytesPerSecond: 1024, remainingMs: '5000' };
      yield { capture: { ...capture, state: 'complete' } };
    },
    CancelCapture: async () => ({ ...capture, cancelRequested: true }),
    ApproveCapture: async (_request, { caller }) => ({ ...capture, approvals: [{ by: caller.name, atMs: 1 }] }),
    DenyCapture: async ({ reason }) => ({ ...capture, state: 'denied', error: reason }),
    ListNodes: async () => ({ nodes: [{ cluster: 'prod', node: 'n1', connected: true, lastSeenMs: '1700000000000' }] }),
    ListContainers: async () => ({
      containers: [{ cluster: 'prod', node: 'n1', container: { id: 'abcd', name: 'app', labels: { app: 'web' } } }],
    }),
    OpenCase: async ({ caseId, title }, { caller }) => {
      if (cases.has(caseId)) throw new ExhibitError('usage', `The case ${caseId} is there already`);
      cases.set(caseId, { caseId, title, state: 'open', openedBy: caller.name, openedAtMs: 1 });
      return found(caseId);
    },
    GetCase: async ({ caseId }) => found(caseId),
    ListCases: async () => ({ cases: [...cases.values()] }),
    NoteCase: async ({ caseId, text }) => ({ ...found(caseId), notes: [{ by: 'alice', atMs: 1, text }] }),
    CloseCase: async ({ caseId }) => {
      const closed = { ...found(caseId), state: 'closed' };
      cases.set(caseId, closed);
      return closed;
    },
    ListCustody: async () => ({ entries: [{ seq: 1, atMs: 1, actor: 'alice', action: 'case.opened', details: '{}' }] }),
    GetLogLevel: async () => ({ level: 'info', usual: 'info', untilMs: '0' }),
    SetLogLevel: async ({ level }) => ({ level, usual: 'info', untilMs: '1' }),
    WhoAmI: async (_request, { caller }) => ({ name: caller.name, by: caller.by, controllerVersion: '0' }),
  };
  const api = Object.fromEntries(
    Object.entries({ ...plain, ...overrides }).map(([call, handle]) => [
      call,
      (request: never, context: CallContext) => {
        calls.push({ call, request, context });
        return (handle as (request: never, context: CallContext) => unknown)(request, context);
      },
    ]),
  ) as unknown as Api;
  return { api, calls, created };
}
