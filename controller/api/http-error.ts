import { type ErrorCode, ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';

/** Our errors as HTTP carries them. The words and the code are those of gRPC, see proto/wire-error.ts. */

export interface ErrorBody {
  readonly error: { readonly code: ErrorCode; readonly message: string };
}

export interface ErrorAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: ErrorBody;
}

const STATUS: Readonly<Record<ErrorCode, number>> = {
  usage: 400,
  config: 409,
  'target-not-found': 404,
  'target-ambiguous': 400,
  'target-not-running': 409,
  'runtime-unreachable': 503,
  'runtime-failed': 500,
  'runtime-unsupported': 501,
  'freeze-failed': 500,
  'freeze-stuck': 500,
  'sink-failed': 503,
  'sink-exists': 409,
  'spool-full': 503,
  'capture-conflict': 409,
  'capture-not-found': 404,
  'capture-failed': 500,
  cancelled: 409,
  'bundle-not-found': 404,
  'bundle-corrupt': 500,
  'bundle-encrypted': 409,
  'agent-unreachable': 503,
  refused: 403,
  'controller-unreachable': 503,
  unauthenticated: 401,
  forbidden: 403,
  'rate-limited': 429,
  'case-not-found': 404,
  'node-not-found': 404,
  'store-failed': 503,
  internal: 500,
};

export const ERROR_CODES: readonly string[] = Object.keys(STATUS);

/** Where an error does not say how long to wait. */
const RETRY_AFTER_SECONDS = 1;

/**
 * An error that is not of our family is a fault of ours: its words may hold what is nobody's business, so they go to the log
 * alone.
 */
export function errorAnswer(error: unknown): ErrorAnswer {
  if (!isExhibitError(error)) {
    const message = "Something went wrong inside the controller; the controller's log says what";
    return { status: 500, headers: {}, body: { error: { code: 'internal', message } } };
  }
  const { code } = error;
  const message = explain(error);
  const headers: Record<string, string> = {};
  if (code === 'rate-limited') headers['retry-after'] = String(secondsIn(message));
  if (code === 'unauthenticated') headers['www-authenticate'] = 'Bearer realm="exhibit"';
  return { status: STATUS[code], headers, body: { error: { code, message } } };
}

/** The sentence of a rate limit names the seconds. */
function secondsIn(message: string): number {
  const found = /(\d+(?:\.\d+)?) ?s(?:ec|\b)/.exec(message)?.[1];
  return found === undefined ? RETRY_AFTER_SECONDS : Math.max(1, Math.ceil(Number(found)));
}

/** A request that is refused before a call sees it, with a status of HTTP's own. */
export class HttpRefusal extends ExhibitError {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, code: ErrorCode, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(code, message);
    this.status = status;
    this.headers = headers;
  }
}
