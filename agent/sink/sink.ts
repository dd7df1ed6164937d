/**
 * Where evidence goes. The life of an object: `open` -> any number of `write` -> `commit` or disposal.
 *
 * - Nothing is visible under the object's key before `commit` returned; after it the object is durable (fsync, or S3's
 *   answer) and complete.
 * - Disposal without `commit` aborts: no object, no half upload, no temporary file left. Disposal after `commit` does nothing.
 * - Nothing is ever overwritten: a key that exists makes `open` or `commit` fail with `sink-exists`.
 * - `write` resolves when the sink can take more: that is the backpressure which reaches /proc. One write at a time.
 * - A failed `write` or `commit` ends the object; the error is an `ExhibitError` with code `sink-failed` or `sink-exists`.
 */
export interface Sink extends AsyncDisposable {
  /** For people and the manifest: `file:///evidence`, `s3://bucket/prefix`. Never holds credentials. */
  readonly url: string;
  /** Fails with a sentence that says what to do when nothing could be written here. Leaves nothing behind. */
  check(signal: AbortSignal): Promise<void>;
  /**
   * What else the agent could do to the evidence, with the rights that it writes with. Nothing is read, changed or left
   * behind; a server's log may show refused requests. `knownKey`: an object that this agent stored, to ask about reading.
   * What cannot be found out is `unknown`, never an error but `cancelled`.
   */
  rights(knownKey: string | undefined, signal: AbortSignal): Promise<SinkRights>;
  open(key: string, options: OpenOptions): Promise<SinkObject>;
}

export type Permission = 'refused' | 'allowed' | 'unknown';

/** Whether evidence is out of reach for whoever takes over the agent. Deleting is not among it: trying could leave a trace. */
export interface SinkRights {
  readonly list: Permission;
  readonly read: Permission;
  /** Whether a key that exists can be written again, as far as the sink itself is asked to prevent it. */
  readonly overwrites: boolean;
  /** What the store does against removal: a default retention under lock, versions of everything, or nothing. */
  readonly retention: 'locked' | 'versioned' | 'none' | 'unknown';
}

export interface OpenOptions {
  readonly contentType: string;
  /** The writer's best guess of the size, to choose part sizes; more or less may come. */
  readonly estimatedBytes?: number;
  readonly signal: AbortSignal;
}

export interface SinkObject extends AsyncDisposable {
  /** `chunk` is the caller's again when it resolves. */
  write(chunk: Uint8Array): Promise<void>;
  commit(): Promise<void>;
}
