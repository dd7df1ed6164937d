import { nameInMessage, nameOfCode } from './errno.ts';

/** What went wrong, in words a program can switch on. The list is closed: add a code here before you throw it. */
export type ErrorCode =
  | 'usage'
  | 'config'
  | 'target-not-found'
  | 'target-ambiguous'
  | 'target-not-running'
  | 'runtime-unreachable'
  | 'runtime-failed'
  | 'runtime-unsupported'
  | 'freeze-failed'
  /** The target may still be frozen. */
  | 'freeze-stuck'
  | 'sink-failed'
  | 'sink-exists'
  /** The sink is away and the spool has no room for less volatile evidence: what could not be kept is a gap. */
  | 'spool-full'
  | 'capture-conflict'
  | 'capture-not-found'
  | 'capture-failed'
  | 'cancelled'
  | 'bundle-not-found'
  | 'bundle-corrupt'
  /** Encrypted to recipients, and no identity of theirs was given. */
  | 'bundle-encrypted'
  | 'agent-unreachable'
  /** The agent's own policy forbids it. */
  | 'refused'
  | 'controller-unreachable'
  /** Nobody whom the controller knows. */
  | 'unauthenticated'
  /** Known, and not allowed to. */
  | 'forbidden'
  | 'rate-limited'
  | 'case-not-found'
  | 'node-not-found'
  /** The controller's store could not take it: nothing was done. */
  | 'store-failed'
  | 'internal';

/**
 * The one error family. `message` is a sentence for the person at the keyboard: what happened and what to do.
 * `cause` keeps the original; wraps add context, they never replace it.
 */
export class ExhibitError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'ExhibitError';
    this.code = code;
  }
}

export function isExhibitError(error: unknown, code?: ErrorCode): error is ExhibitError {
  return error instanceof ExhibitError && (code === undefined || error.code === code);
}

/** True for a system error with this errno name (`isErrno(e, 'ESRCH')`). */
export function isErrno(error: unknown, ...names: string[]): error is NodeJS.ErrnoException {
  const name = errnoOf(error);
  return name !== undefined && names.includes(name);
}

/** The errno name of a system error, or undefined when the error is of another kind. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return undefined;
  return nameOfCode(error.code);
}

/** One line for a person: the error's message and those of its causes, outermost first, each said once. */
export function explain(error: unknown): string {
  const words: string[] = [];
  for (let at: unknown = error, depth = 0; at !== undefined && depth < 8; depth += 1) {
    const text = at instanceof Error ? nameInMessage(at.message) : String(at);
    if (text !== '' && !words.some((earlier) => earlier.includes(text))) words.push(text);
    at = at instanceof Error ? at.cause : undefined;
  }
  return words.join(': ') || 'unknown error';
}
