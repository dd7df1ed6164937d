import { Buffer } from 'node:buffer';
import type { Writable } from 'node:stream';
import { ExhibitError, isErrno } from '../evidence/error.ts';

/** One run of the program: where words go, what ends it, and the exit code so far. Built in main.ts only. */
export interface Session {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Everything behind the program's name. */
  readonly argv: readonly string[];
  readonly stdout: Output;
  readonly stderr: Output;
  /** Aborted with an `Interruption` by the first SIGINT or SIGTERM; the second ends the process at once. */
  readonly signal: AbortSignal;
  /** Leaves SIGINT and SIGTERM to somebody else: the agent ends its captures itself. */
  releaseSignals(): void;
  exitCode: number;
}

/** What the person did to end the program early; `words` say what that means for the work they started. */
export class Interruption extends Error {
  readonly signalName: 'SIGINT' | 'SIGTERM';
  /** As a shell reports a process that a signal ended: 128 and the signal's number. */
  readonly exitCode: number;

  constructor(signalName: 'SIGINT' | 'SIGTERM', words?: string) {
    super(words ?? `Stopped by ${signalName}.`);
    this.name = 'Interruption';
    this.signalName = signalName;
    this.exitCode = signalName === 'SIGINT' ? 130 : 143;
  }
}

/** A stream of the process. `write` waits until it has room again; after the reader hung up it drops everything. */
export interface Output {
  readonly isTerminal: boolean;
  /** Of the terminal; 0 for a pipe, and for a terminal that nobody told its size (a bare `kubectl exec -t`). */
  readonly columns: number;
  /** Aborted when the reader of a pipe hung up (`| head`): work that only feeds the pipe can end. */
  readonly hungUp: AbortSignal;
  readonly stream: Writable;
  write(chunk: string | Uint8Array): Promise<void>;
}

export function openOutput(stream: Writable & { isTTY?: boolean; columns?: number }): Output {
  const hangUp = new AbortController();
  let failure: Error | undefined;
  stream.on('error', (error) => {
    // A reader that has what it wants is no failure of ours; anything else (ENOSPC behind a redirection) is.
    if (!isErrno(error, 'EPIPE')) failure = error;
    hangUp.abort(error);
  });
  return {
    isTerminal: stream.isTTY === true,
    columns: stream.columns ?? 0,
    hungUp: hangUp.signal,
    stream,
    async write(chunk) {
      if (chunk.length > 0 && !hangUp.signal.aborted) {
        const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
        await new Promise<void>((resolve) => {
          stream.write(bytes, () => resolve());
        });
      }
      if (failure !== undefined) throw new ExhibitError('internal', 'The output cannot be written', { cause: failure });
    },
  };
}
