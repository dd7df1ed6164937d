import { createHash, type Hash } from 'node:crypto';
import type { StreamDigest } from '../../evidence/byte-sink.ts';
import { ExhibitError, isExhibitError } from '../../evidence/error.ts';
import { isAway } from './s3-away.ts';
import { s3Error } from './s3-errors.ts';
import type { Opened } from './s3-ledger.ts';
import { beginState } from './s3-ledger.ts';
import { PartBuffer } from './s3-part-buffer.ts';
import { MAX_PARTS, nextPartBytes, partsInFlight } from './s3-parts.ts';
import { begin, noteSafely, putBytes, type SettleContext, sendKept, sendPart, settleObject } from './s3-settle.ts';
import { abortUpload } from './s3-upload.ts';
import type { Committed, SinkObject } from './sink.ts';
import { Ledger, type Spool } from './spool.ts';

/** How long giving up may take: a refused connection, some retries, an answer. What then remains is reported. */
export const ABORT_TIMEOUT_MS = 30_000;

export interface ObjectOptions {
  readonly opened: Opened;
  readonly context: SettleContext;
  /** Where parts wait that S3 does not take; without one a failure ends the object. */
  readonly spool?: { readonly spool: Spool; readonly sinkName: string; readonly writeAhead: boolean } | undefined;
  readonly estimatedBytes: number;
  readonly minimumPartBytes: number;
  readonly maxPartsInFlight: number;
  readonly refusable: boolean;
  readonly signal: AbortSignal;
}

/**
 * One object on its way to S3. Bytes gather in one part; only when more come than a part holds does a multipart upload
 * begin, so a small object is one PutObject. Memory: the parts in flight and the one being filled.
 *
 * With a spool, each step is noted in a ledger (s3-ledger.ts), and a part that S3 does not take waits in the vault while the
 * writer goes on; what waits is sent once S3 takes parts again, at the latest by the commit or by `settle`.
 */
export class S3Object implements SinkObject {
  readonly #options: ObjectOptions;
  readonly #end = new AbortController();
  readonly #signal: AbortSignal;
  readonly #inFlight = new Set<Promise<void>>();
  /** Only where there is a ledger, which notes the SHA-256 up to the end of each part. */
  readonly writeDigested: SinkObject['writeDigested'];
  /** The writer's own digest of all bytes so far, where it lends it. */
  #lent: StreamDigest | undefined;
  /** Where it does not: of all parts so far. */
  #running: Hash | undefined;
  #filling: PartBuffer;
  #spare: Buffer[] = [];
  #ledger: Ledger | undefined;
  /** Its own end, not that of our signal: an upload whose id never arrived could not be aborted. */
  readonly #creationEnd = new AbortController();
  #creation: Promise<string> | undefined;
  #draining: Promise<void> | undefined;
  #failure: ExhibitError | undefined;
  #state: 'open' | 'ended' = 'open';

  constructor(options: ObjectOptions) {
    this.#options = options;
    this.#signal = AbortSignal.any([options.signal, this.#end.signal]);
    this.writeDigested = options.spool && ((chunk, digest) => this.#writeDigested(chunk, digest));
    this.#filling = new PartBuffer(this.#nextPartBytes());
  }

  async write(chunk: Uint8Array): Promise<void> {
    await this.#attempt('write', async () => {
      for (let rest = chunk; rest.length > 0; rest = this.#filling.take(rest)) {
        if (this.#filling.full) await this.#cutAndSend();
      }
    });
  }

  async #writeDigested(chunk: Uint8Array, digest: StreamDigest): Promise<void> {
    this.#lent = digest;
    await this.#attempt('write', async () => {
      for (let rest = chunk; rest.length > 0; ) {
        if (this.#filling.full) await this.#cutAndSend();
        const hashed = digest.update(rest.subarray(0, this.#filling.leftBytes));
        rest = this.#filling.take(rest);
        await hashed;
      }
    });
  }

  async commit(): Promise<Committed> {
    return await this.#attempt('finish', async () => {
      const isSmall = this.#ledger === undefined;
      const committed = isSmall ? await this.#commitSmall() : await this.#commitLarge();
      this.#state = 'ended';
      this.#spare = [];
      if (this.#ledger !== undefined) this.#ledger.active = false;
      return committed;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#spare = [];
    const isCut = isExhibitError(this.#failure, 'spool-full');
    if (!isCut) this.#end.abort(new Error('the object was dropped'));
    // A part that lands after the abort would stay behind, so each request must have ended first.
    await Promise.allSettled([...this.#inFlight, this.#draining]);
    if (this.#ledger === undefined) return;
    if (isCut) await Promise.allSettled([this.#creation]);
    else await this.#leaveNothing(this.#ledger);
    this.#ledger.active = false;
  }

  /** One PutObject; its body is in the vault before the request. */
  async #commitSmall(): Promise<Committed> {
    const part = this.#filling;
    const ledger = await this.#begun();
    await this.#cut(ledger, part, true);
    await this.#noteCommitted(ledger);
    try {
      await putBytes(this.#options.context, ledger, part.bytes, this.#signal);
      await ledger.discardAll();
      return 'stored';
    } catch (error) {
      await this.#keep(ledger, part, 1, error);
      return 'waiting';
    } finally {
      ledger.underWay.delete(1);
    }
  }

  async #commitLarge(): Promise<Committed> {
    await this.#cutAndSend();
    await Promise.all(this.#inFlight);
    await this.#draining;
    if (this.#failure !== undefined) throw this.#failure;
    const ledger = await this.#begun();
    await this.#noteCommitted(ledger);
    const settled = await settleObject(this.#options.context, ledger, this.#signal).catch((error: unknown) => {
      if (!this.#isKept(ledger, error)) throw error;
      return undefined;
    });
    if (settled === undefined) return 'waiting';
    if (settled.kind === 'stored') return 'stored';
    throw this.#full(settled.why);
  }

  async #noteCommitted(ledger: Ledger): Promise<void> {
    const last = ledger.state.parts.at(-1);
    if (last !== undefined)
      await noteSafely(ledger, { kind: 'committed', sizeBytes: last.endBytes, sha256: last.through });
  }

  /** Whether a failure may be ridden over by what is in the vault. */
  #isKept(ledger: Ledger, error: unknown): boolean {
    if (!ledger.lasting || this.#signal.aborted || isExhibitError(error, 'sink-exists')) return false;
    if (ledger.state.settled !== undefined) return false;
    return !this.#options.refusable || isAway(error);
  }

  /** Sends the part that is full, or the last one, on its way and begins the next. */
  async #cutAndSend(): Promise<void> {
    const ledger = await this.#begun();
    const part = this.#filling;
    if (ledger.state.parts.length === MAX_PARTS) {
      throw new ExhibitError(
        'sink-failed',
        `${this.#url} is larger than ${MAX_PARTS} parts can hold; give a better estimate of its size`,
      );
    }
    await this.#freeSlot(partsInFlight(part.limitBytes, this.#options.maxPartsInFlight));
    const number = await this.#cut(ledger, part, this.#options.spool?.writeAhead === true);
    this.#deliver(ledger, part, number);
    this.#drain(ledger);
    const limitBytes = this.#nextPartBytes();
    const spare = this.#spare.pop();
    this.#filling = new PartBuffer(limitBytes, spare?.length === limitBytes ? spare : undefined);
  }

  /** The first part, and nothing else, makes a ledger: an object that is dropped before leaves no trace. */
  async #begun(): Promise<Ledger> {
    if (this.#ledger !== undefined) return this.#ledger;
    const { opened, spool } = this.#options;
    const ledger =
      spool === undefined
        ? new Ledger('', beginState(opened), undefined)
        : await spool.spool.begin(spool.sinkName, opened);
    ledger.active = true;
    this.#ledger = ledger;
    return ledger;
  }

  /** Notes the part, and where that is asked for puts its bytes into the vault ahead of any request. */
  async #cut(ledger: Ledger, part: PartBuffer, ahead: boolean): Promise<number> {
    if (ledger.state.droppedParts > 0) throw this.#full('what waited of it was dropped for more volatile evidence');
    const number = ledger.state.parts.length + 1;
    const through = this.#through(part);
    await noteSafely(ledger, { kind: 'cut', number, sizeBytes: part.length, through });
    ledger.underWay.add(number);
    if (ahead) await this.#options.spool?.spool.keep(ledger, number, part.bytes, { ahead });
    return number;
  }

  #through({ bytes }: PartBuffer): string {
    if (this.#options.spool === undefined) return '';
    if (this.#lent !== undefined) return this.#lent.soFar();
    this.#running ??= createHash('sha256');
    return this.#running.update(bytes).copy().digest('hex');
  }

  #deliver(ledger: Ledger, part: PartBuffer, number: number): void {
    const delivered = this.#sendOrKeep(ledger, part, number)
      .then(() => {
        if (part.full && this.#state === 'open') this.#spare.push(part.release());
      })
      .catch((error: unknown) => {
        this.#failure ??= this.#explained(error, `write part ${number} of`);
        // What was cut short for want of room keeps its beginning, and whatever of it is still on its way.
        if (!isExhibitError(this.#failure, 'spool-full')) this.#end.abort(this.#failure);
      })
      .finally(() => ledger.underWay.delete(number));
    this.#inFlight.add(delivered);
    void delivered.finally(() => this.#inFlight.delete(delivered));
  }

  async #sendOrKeep(ledger: Ledger, part: PartBuffer, number: number): Promise<void> {
    try {
      const uploadId = await this.#upload(ledger);
      await sendPart(this.#options.context, ledger, { uploadId, number, bytes: part.bytes }, this.#signal);
    } catch (error) {
      await this.#keep(ledger, part, number, error);
    }
  }

  /** Throws `error` where nothing is kept of what failed so, and `spool-full` where there is no room. */
  async #keep(ledger: Ledger, part: PartBuffer, number: number, error: unknown): Promise<void> {
    const { spool } = this.#options;
    if (spool === undefined || !this.#isKept(ledger, error)) throw error;
    if (await spool.spool.keep(ledger, number, part.bytes, { ahead: false })) return;
    throw this.#full('the spool has no room for it', error);
  }

  /** What waits goes back on its way, one part at a time beside the new ones, as long as S3 takes parts. */
  #drain(ledger: Ledger): void {
    if (this.#draining !== undefined) return;
    this.#draining = this.#sendWaiting(ledger)
      .catch(() => undefined) // It waits on: the next part, the commit or `settle` tries again.
      .finally(() => {
        this.#draining = undefined;
      });
  }

  async #sendWaiting(ledger: Ledger): Promise<void> {
    const { context } = this.#options;
    for (;;) {
      const number = [...ledger.kept].find((one) => !ledger.underWay.has(one));
      if (number === undefined || context.line.away || this.#signal.aborted) return;
      ledger.underWay.add(number);
      try {
        await this.#upload(ledger);
        if (!(await sendKept(context, ledger, number, this.#signal))) return;
      } finally {
        ledger.underWay.delete(number);
      }
    }
  }

  async #upload(ledger: Ledger): Promise<string> {
    if (ledger.state.upload !== undefined) return ledger.state.upload.id;
    this.#creation ??= begin(this.#options.context, ledger, this.#creationEnd.signal).finally(() => {
      this.#creation = undefined;
    });
    return await untilAborted(this.#creation, this.#signal);
  }

  async #leaveNothing(ledger: Ledger): Promise<void> {
    const timer = setTimeout(() => this.#creationEnd.abort(new Error('S3 did not answer in time')), ABORT_TIMEOUT_MS);
    await this.#creation?.catch(() => undefined); // Never begun; whoever wrote was told why.
    clearTimeout(timer);
    const { context, spool } = this.#options;
    const { upload } = ledger.state;
    try {
      if (upload !== undefined && ledger.state.settled === undefined) await this.#abort(upload.id);
      await spool?.spool.remove(ledger);
    } catch (cause) {
      const error = s3Error(cause, `abort the unfinished upload of ${this.#url}`, context.place);
      context.onOrphan({ key: context.target.key, uploadId: upload?.id ?? '', error });
      await ledger.discardAll().catch(() => undefined);
      await noteSafely(ledger, { kind: 'given-up' });
    }
  }

  /** With a ledger it can wait until S3 is back. */
  async #abort(uploadId: string): Promise<void> {
    const { context, spool } = this.#options;
    const abort = (signal: AbortSignal) => abortUpload(context.target, uploadId, signal);
    const inTime = AbortSignal.timeout(ABORT_TIMEOUT_MS);
    if (spool === undefined) await abort(inTime);
    else await context.line.send(abort, inTime);
  }

  async #freeSlot(limit: number): Promise<void> {
    while (this.#failure === undefined && this.#inFlight.size >= limit) await Promise.race(this.#inFlight);
    if (this.#failure !== undefined) throw this.#failure;
  }

  #nextPartBytes(): number {
    const cutBytes = this.#ledger?.state.parts.at(-1)?.endBytes ?? 0;
    return nextPartBytes(cutBytes, this.#options.estimatedBytes, this.#options.minimumPartBytes);
  }

  /** Runs one step; any failure ends the object. */
  async #attempt<Result>(action: string, step: () => Promise<Result>): Promise<Result> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#state === 'ended') throw new ExhibitError('sink-failed', `${this.#url} has already ended`);
    try {
      this.#signal.throwIfAborted();
      return await step();
    } catch (error) {
      this.#failure ??= this.#explained(error, action);
      throw this.#failure;
    }
  }

  #full(why: string, cause?: unknown): ExhibitError {
    return new ExhibitError('spool-full', `${this.#url} was cut short while S3 was away: ${why}`, { cause });
  }

  #explained(error: unknown, action: string): ExhibitError {
    const { signal, context } = this.#options;
    if (!signal.aborted) return s3Error(error, `${action} ${this.#url}`, context.place);
    return new ExhibitError('cancelled', `writing ${this.#url} was cancelled`, { cause: signal.reason });
  }

  get #url(): string {
    const { bucket, key } = this.#options.context.target;
    return `s3://${bucket}/${key}`;
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
