import type { ByteSink } from '../../evidence/byte-sink.ts';
import type { ClockOffset } from '../../evidence/custody.ts';
import type { SinkRecord } from '../../evidence/manifest.ts';

/**
 * Where evidence goes. The life of an object: `open` -> any number of `write` -> `commit` or disposal.
 *
 * - Nothing is visible under the object's key before `commit` returned; after it the object is durable (fsync, or S3's
 *   answer) and complete.
 * - Disposal without `commit` aborts: no object, no half upload, no temporary file left. Disposal after `commit` does nothing.
 * - Nothing is ever overwritten: a key that exists makes `open` or `commit` fail with `sink-exists`.
 * - `write` resolves when the sink can take more: that is the backpressure which reaches /proc. One write at a time.
 * - A failed `write` or `commit` ends the object; the error is an `ExhibitError` with code `sink-failed`, `sink-exists` or
 *   `spool-full`.
 *
 * A sink may have a spool (vault.ts) that keeps what it cannot send. Its objects then end in two more ways: `commit` answers
 * `waiting`, or a write fails with `spool-full`, and disposal then keeps what was there before. `settle` brings both to their
 * end, in this process or, when the agent died, in the next one.
 */
export interface Sink extends AsyncDisposable {
  /** For people and the manifest: `file:///evidence`, `s3://bucket/prefix`. Never holds credentials. */
  readonly url: string;
  /** Fails with a sentence that says what to do when nothing could be written here. Leaves nothing behind. */
  check(signal: AbortSignal): Promise<void>;
  /**
   * Throws `sink-failed` where the store says that it lacks what the configuration wants of it, such as an Object Lock. One
   * question, which changes nothing; silent where the store does not say. Absent where there is nothing to ask.
   */
  ready?(signal: AbortSignal): Promise<void>;
  /**
   * Ahead of the first object: finds credentials and opens a connection. Changes nothing. Throws what is wrong; absent where
   * there is nothing to prepare.
   */
  connect?(signal: AbortSignal): Promise<void>;
  /**
   * What else the agent could do to the evidence, with the rights that it writes with. Nothing is read, changed or left
   * behind; a server's log may show refused requests. `knownKey`: an object that this agent stored, to ask about reading.
   * What cannot be found out is `unknown`, never an error but `cancelled`.
   */
  rights(knownKey: string | undefined, signal: AbortSignal): Promise<SinkRights>;
  open(key: string, options: OpenOptions): Promise<SinkObject>;
  /**
   * Ends what is known of an object that was opened and of which the caller does not know that it was stored: because its
   * `commit` answered `waiting`, because it was cut for want of room, or because the agent that wrote it is dead. Sends what
   * waits, completes what was half sent, and says what is now in the sink. May be asked again, with the same answer, until
   * `forget`. Throws `sink-failed` when the sink does not take it now; nothing is lost by that.
   */
  settle(key: string, signal: AbortSignal): Promise<Settled>;
  /** The caller has noted what became of this object: what the sink keeps about it may go. */
  forget(key: string): Promise<void>;
  /** What the manifest says of the store for a capture. */
  describe(about: ObjectSubject): Omit<SinkRecord, 'name'>;
  /** How the node's clock stands to the store's, where the store has told; a folder has no clock of its own. */
  clock?(): ClockOffset | undefined;
}

export type Settled =
  /** All that was written is in the sink, under its key. */
  | { readonly kind: 'stored' }
  /** The first `sizeBytes` of what was written are in the sink, under its key, and have this SHA-256. */
  | { readonly kind: 'cut'; readonly sizeBytes: number; readonly sha256: string; readonly why: string }
  /** Nothing of it is in the sink, and nothing unfinished either. */
  | { readonly kind: 'lost'; readonly why: string };

export type Permission = 'refused' | 'allowed' | 'unknown';

/** Whether evidence is out of reach for whoever takes over the agent. Deleting is not among it: trying could leave a trace. */
export interface SinkRights {
  readonly list: Permission;
  readonly read: Permission;
  /** Whether a key that exists can be written again, as far as the sink itself is asked to prevent it. */
  readonly overwrites: boolean;
  /** What the store does against removal: a default retention under lock, versions of everything, or nothing. */
  readonly retention: 'locked' | 'versioned' | 'none' | 'unknown';
  /** The sink is configured to lock each object, and the store is known to have no lock. */
  readonly lockMissing?: boolean;
}

/** What an object is part of: for metadata, tags, retention, and for what is kept longest when room is short. */
export interface ObjectSubject {
  readonly captureId: string;
  /** Empty: none. */
  readonly caseId: string;
  /** Of a scheduled capture; for tags. */
  readonly schedule?: { readonly name: string; readonly keepDays?: number | undefined } | undefined;
  /** The object is encrypted: the case decides on retention, and is not written beside the object. */
  readonly unlabelled?: boolean | undefined;
  readonly startedAtMs: number;
  /** The row of RFC 3227 that it belongs to: lower is gone sooner on the node, and kept longer here. */
  readonly volatility: number;
}

export interface OpenOptions {
  readonly contentType: string;
  /** The writer's best guess of the size, to choose part sizes; more or less may come. */
  readonly estimatedBytes?: number;
  /** Absent for what is of no capture. */
  readonly about?: ObjectSubject;
  /**
   * Nothing was read for it yet, as for the plan of a capture: where the sink refuses it for a reason that only a person can
   * mend, it fails at once. Anything else is kept in the spool then, for evidence cannot be read again.
   */
  readonly refusable?: boolean;
  /**
   * All or nothing, for what can be written again: without its `commit` it never gets its key. `settle` answers `stored` or `lost`
   * and never `cut`, and after `forget` the key is free.
   */
  readonly whole?: boolean;
  readonly signal: AbortSignal;
}

/** `stored`: in the sink. `waiting`: complete and safe in the spool, to be settled. */
export type Committed = 'stored' | 'waiting';

export interface SinkObject extends AsyncDisposable {
  /** `chunk` is the caller's again when it resolves. */
  write(chunk: Uint8Array): Promise<void>;
  /** See ByteSink (evidence/byte-sink.ts). */
  readonly writeDigested?: ByteSink['writeDigested'];
  commit(): Promise<Committed>;
}
