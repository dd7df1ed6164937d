import { isExhibitError } from '../../evidence/error.ts';
import type { Api, CallContext } from '../api/api.ts';
import type { Identity } from '../identity/identity.ts';

/** `code`: `ok`, or that of the error which the caller got. */
export type OnCall = (call: string, code: string, seconds: number) => void;

const codeOf = (error: unknown): string => (isExhibitError(error) ? error.code : 'internal');

/** The same calls, watched; both transports serve these. */
export function watchedApi(api: Api, onCall: OnCall): Api {
  const watched = { ...api };
  for (const [name, call] of Object.entries(api)) {
    // The one cast of a wrapper: each call gets its own arguments.
    if (name !== 'WatchCapture') Object.assign(watched, { [name]: watchedCall(name, call as AnyCall, onCall) });
  }
  return {
    ...watched,
    async *WatchCapture(request, context) {
      const startedMs = performance.now();
      let code = 'ok';
      try {
        yield* api.WatchCapture(request, context);
      } catch (error) {
        code = codeOf(error);
        throw error;
      } finally {
        onCall('WatchCapture', code, (performance.now() - startedMs) / 1000);
      }
    },
  };
}

type AnyCall = (request: unknown, context: CallContext) => Promise<unknown>;

function watchedCall(name: string, call: AnyCall, onCall: OnCall): AnyCall {
  return async (request, context) => {
    const startedMs = performance.now();
    let code = 'ok';
    try {
      return await call(request, context);
    } catch (error) {
      code = codeOf(error);
      throw error;
    } finally {
      onCall(name, code, (performance.now() - startedMs) / 1000);
    }
  };
}

/** The same, telling with which code callers were not let in. */
export function watchedIdentity(identity: Identity, onRefused: (code: string) => void): Identity {
  return {
    async authenticate(credentials) {
      try {
        return await identity.authenticate(credentials);
      } catch (error) {
        onRefused(codeOf(error));
        throw error;
      }
    },
  };
}
