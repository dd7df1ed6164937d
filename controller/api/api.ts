import type grpc from '@grpc/grpc-js';
import type { CaptureUpdate } from '../../proto/gen/exhibit/controller/v1/CaptureUpdate.ts';
import type { ControllerHandlers } from '../../proto/gen/exhibit/controller/v1/Controller.ts';
import type { WatchCaptureRequest__Output } from '../../proto/gen/exhibit/controller/v1/WatchCaptureRequest.ts';
import type { Caller } from '../identity/identity.ts';

/**
 * The calls of `exhibit.controller.v1.Controller` without their transport: grpc.ts and http.ts both serve these, so that the
 * two cannot differ. Every call checks the caller's rights and rate, and fails with an `ExhibitError`.
 */
export type Api = UnaryCalls & {
  /** Ends after the update that shows the capture ended. A reader who is too slow misses progress, never a change of state. */
  WatchCapture(request: WatchCaptureRequest__Output, context: CallContext): AsyncIterable<CaptureUpdate>;
};

export interface CallContext {
  readonly caller: Caller;
  /** Aborted when the caller hung up. */
  readonly signal: AbortSignal;
}

type Handlers = { [Name in keyof ControllerHandlers as string extends Name ? never : Name]: ControllerHandlers[Name] };
type Unary<Handler> =
  Handler extends grpc.handleUnaryCall<infer Request, infer Response>
    ? (request: Request, context: CallContext) => Promise<Response>
    : never;
export type UnaryCalls = { [Name in Exclude<keyof Handlers, 'WatchCapture'>]: Unary<Handlers[Name]> };
