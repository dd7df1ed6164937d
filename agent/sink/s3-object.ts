import { ExhibitError } from '../../evidence/error.ts';
import { type S3Place, s3Error } from './s3-errors.ts';
import { PartBuffer } from './s3-part-buffer.ts';
import { MAX_PARTS, nextPartBytes, partsInFlight } from './s3-parts.ts';
import {
  abortUpload,
  completeUpload,
  createUpload,
  type ObjectTarget,
  putObject,
  type UploadedPart,
  uploadPart,
} from './s3-upload.ts';
import type { Committed, SinkObject } from './sink.ts';

/** How long giving up may take: a refused connection, some retries, an answer. What then remains is reported. */
export const ABORT_TIMEOUT_MS = 30_000;

export interface ObjectOptions {
  readonly place: S3Place;
  readonly estimatedBytes: number;
  readonly minimumPartBytes: number;
  readonly maxPartsInFlight: number;
  readonly signal: AbortSignal;
  /** An upload that could not be aborted: it costs money until a lifecycle rule takes it. */
  readonly onOrphan: (orphan: { key: string; uploadId: string; error: ExhibitError }) => void;
  /** A commit that was concluded from what S3 said later, not answered. */
  readonly onConcluded: (concluded: { key: string; note: string }) => void;
}

/**
 * One object on its way to S3. Bytes gather in one part; only when more come than a part holds does a multipart upload
 * begin, so a small object is one PutObject. Memory: the parts in flight and the one being filled.
 */
export class S3Object implements SinkObject {
  readonly #target: ObjectTarget;
  readonly #options: ObjectOptions;
  readonly #end = new AbortController();
  readonly #signal: AbortSignal;
  readonly #inFlight = new Set<Promise<void>>();
  readonly #parts: UploadedPart[] = [];
  #filling: PartBuffer;
  #spare: Buffer[] = [];
  /** Its own end, not that of our signal: an upload whose id never arrived could not be aborted. */
  readonly #creationEnd = new AbortController();
  #creation: Promise<string> | undefined;
  #cutParts = 0;
  #cutBytes = 0;
  #failure: ExhibitError | undefined;
  #state: 'open' | 'ended' = 'open';

  constructor(target: ObjectTarget, options: ObjectOptions) {
    this.#target = target;
    this.#options = options;
    this.#signal = AbortSignal.any([options.signal, this.#end.signal]);
    this.#filling = new PartBuffer(this.#nextPartBytes());
  }

  async write(chunk: Uint8Array): Promise<void> {
    await this.#attempt('write', async () => {
      for (let rest = chunk; rest.length > 0; rest = this.#filling.take(rest)) {
        if (this.#filling.full) await this.#cut();
      }
    });
  }

  async commit(): Promise<Committed> {
    await this.#attempt('finish', async () => {
      const { kind, ...answer } = this.#cutParts === 0 ? await this.#put() : await this.#complete();
      if (kind !== 'stored')
        throw new ExhibitError('sink-exists', `${this.#url} exists already and evidence is never overwritten`);
      if ('note' in answer) this.#options.onConcluded({ key: this.#target.key, note: answer.note ?? '' });
      this.#creation = undefined;
      this.#state = 'ended';
      this.#spare = [];
    });
    return 'stored';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#state = 'ended';
    this.#spare = [];
    this.#end.abort(new Error('the object was dropped'));
    // A part that lands after the abort would stay behind, so each request must have ended first.
    await Promise.allSettled(this.#inFlight);
    const creation = this.#creation;
    this.#creation = undefined;
    if (creation === undefined) return;
    const timer = setTimeout(() => this.#creationEnd.abort(new Error('S3 did not answer in time')), ABORT_TIMEOUT_MS);
    const uploadId = await creation.catch(() => undefined); // Never begun; whoever wrote was told why.
    clearTimeout(timer);
    if (uploadId === undefined) return;
    try {
      await abortUpload(this.#target, uploadId, AbortSignal.timeout(ABORT_TIMEOUT_MS));
    } catch (cause) {
      const error = s3Error(cause, `abort the unfinished upload of ${this.#url}`, this.#options.place);
      this.#options.onOrphan({ key: this.#target.key, uploadId, error });
    }
  }

  async #put() {
    return await putObject(this.#target, this.#filling.bytes, this.#signal);
  }

  async #complete() {
    await this.#cut();
    await Promise.all(this.#inFlight);
    if (this.#failure !== undefined) throw this.#failure;
    const uploadId = await this.#upload();
    const parts = this.#parts.toSorted((one, other) => one.number - other.number);
    return await completeUpload(this.#target, uploadId, parts, this.#cutBytes, this.#signal);
  }

  /** Sends the part that is full, or the last one, on its way and begins the next. */
  async #cut(): Promise<void> {
    if (this.#cutParts === MAX_PARTS) {
      throw new ExhibitError(
        'sink-failed',
        `${this.#url} is larger than ${MAX_PARTS} parts can hold; give a better estimate of its size`,
      );
    }
    const uploadId = await this.#upload();
    const part = this.#filling;
    await this.#freeSlot(partsInFlight(part.limitBytes, this.#options.maxPartsInFlight));
    this.#cutParts += 1;
    this.#cutBytes += part.length;
    this.#send(part, uploadId, this.#cutParts);
    const limitBytes = this.#nextPartBytes();
    const spare = this.#spare.pop();
    this.#filling = new PartBuffer(limitBytes, spare?.length === limitBytes ? spare : undefined);
  }

  async #upload(): Promise<string> {
    this.#creation ??= createUpload(this.#target, this.#creationEnd.signal);
    return await untilAborted(this.#creation, this.#signal);
  }

  #send(part: PartBuffer, uploadId: string, number: number): void {
    const sent = uploadPart(this.#target, uploadId, number, part.bytes, this.#signal).then(
      (uploaded) => {
        this.#parts.push(uploaded);
        if (part.full && this.#state === 'open') this.#spare.push(part.release());
      },
      (error: unknown) => {
        this.#failure ??= this.#explained(error, `write part ${number} of`);
        this.#end.abort(this.#failure);
      },
    );
    this.#inFlight.add(sent);
    void sent.finally(() => this.#inFlight.delete(sent));
  }

  async #freeSlot(limit: number): Promise<void> {
    while (this.#failure === undefined && this.#inFlight.size >= limit) await Promise.race(this.#inFlight);
    if (this.#failure !== undefined) throw this.#failure;
  }

  #nextPartBytes(): number {
    return nextPartBytes(this.#cutBytes, this.#options.estimatedBytes, this.#options.minimumPartBytes);
  }

  /** Runs one step; any failure ends the object. */
  async #attempt(action: string, step: () => Promise<void>): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#state === 'ended') throw new ExhibitError('sink-failed', `${this.#url} has already ended`);
    try {
      this.#signal.throwIfAborted();
      await step();
    } catch (error) {
      this.#failure ??= this.#explained(error, action);
      throw this.#failure;
    }
  }

  #explained(error: unknown, action: string): ExhibitError {
    const { signal, place } = this.#options;
    if (!signal.aborted) return s3Error(error, `${action} ${this.#url}`, place);
    return new ExhibitError('cancelled', `writing ${this.#url} was cancelled`, { cause: signal.reason });
  }

  get #url(): string {
    return `s3://${this.#target.bucket}/${this.#target.key}`;
  }
}

/** As `work`, but rejects as soon as the signal does; `work` goes on by itself. */
export async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise, reject } = Promise.withResolvers<never>();
  const stop = () => reject(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', stop);
    promise.catch(() => {});
    work.catch(() => {}); // Told to whoever asks for it next.
  }
}
