import grpc from '@grpc/grpc-js';
import { type ErrorCode, explain, isExhibitError } from '../evidence/error.ts';

/** Our errors as gRPC carries them, for every server and client of ours. */

/** The status of gRPC that says most nearly the same. */
const STATUS: Readonly<Record<ErrorCode, grpc.status>> = {
  usage: grpc.status.INVALID_ARGUMENT,
  config: grpc.status.FAILED_PRECONDITION,
  'target-not-found': grpc.status.NOT_FOUND,
  'target-ambiguous': grpc.status.INVALID_ARGUMENT,
  'target-not-running': grpc.status.FAILED_PRECONDITION,
  'runtime-unreachable': grpc.status.UNAVAILABLE,
  'runtime-failed': grpc.status.INTERNAL,
  'runtime-unsupported': grpc.status.UNIMPLEMENTED,
  'freeze-failed': grpc.status.INTERNAL,
  'freeze-stuck': grpc.status.INTERNAL,
  'sink-failed': grpc.status.UNAVAILABLE,
  'sink-exists': grpc.status.ALREADY_EXISTS,
  'spool-full': grpc.status.UNAVAILABLE,
  'capture-conflict': grpc.status.ALREADY_EXISTS,
  'capture-not-found': grpc.status.NOT_FOUND,
  'capture-failed': grpc.status.INTERNAL,
  cancelled: grpc.status.CANCELLED,
  'bundle-not-found': grpc.status.NOT_FOUND,
  'bundle-corrupt': grpc.status.DATA_LOSS,
  'bundle-encrypted': grpc.status.DATA_LOSS,
  'agent-unreachable': grpc.status.UNAVAILABLE,
  refused: grpc.status.PERMISSION_DENIED,
  'controller-unreachable': grpc.status.UNAVAILABLE,
  unauthenticated: grpc.status.UNAUTHENTICATED,
  forbidden: grpc.status.PERMISSION_DENIED,
  'rate-limited': grpc.status.RESOURCE_EXHAUSTED,
  'case-not-found': grpc.status.NOT_FOUND,
  'node-not-found': grpc.status.NOT_FOUND,
  'store-failed': grpc.status.UNAVAILABLE,
  internal: grpc.status.INTERNAL,
};

/** The sentence goes into `details`, our own code into the trailing metadata `exhibit-code`. */
export function wireError(error: unknown): Partial<grpc.StatusObject> & { message: string } {
  const code: ErrorCode = isExhibitError(error) ? error.code : 'internal';
  const metadata = new grpc.Metadata();
  metadata.set('exhibit-code', code);
  const details = explain(error);
  return { code: STATUS[code], details, message: details, metadata };
}

/** What goes over the wire as a word and came from one of ours is one of these. */
export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(STATUS, code);
}
