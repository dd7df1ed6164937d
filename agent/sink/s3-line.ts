import { setTimeout as sleep } from 'node:timers/promises';
import { ExhibitError, explain } from '../../evidence/error.ts';
import { isAway } from './s3-away.ts';
import { REQUEST_TIMEOUT_MS } from './s3-client.ts';

/** The first question whether S3 is back; each next one waits twice as long. */
const FIRST_PROBE_MS = 1000;
/** At most so long is an S3 that is back not noticed. */
const MOST_PROBE_MS = 30_000;
/** How long one request may try, its repetitions included, before the spool takes over. */
const PATIENCE_MS = 15_000;
/** A large body takes longer than that on a slow line that still moves. */
const SLOWEST_BYTES_PER_SECOND = 2 ** 20;

export interface LineOptions {
  /** False where nothing can be kept meanwhile: then every request tries by itself, as long as it takes. */
  readonly breaks: boolean;
  /** Any request that changes nothing; what it throws tells whether there was an answer. */
  readonly probe: (signal: AbortSignal) => Promise<unknown>;
  /** S3 has answered again. */
  readonly onBack?: (() => void) | undefined;
  readonly log?: { warn(fields: object, event: string): void } | undefined;
  readonly firstProbeMs?: number | undefined;
  readonly patienceMs?: number | undefined;
  /** A body may take so much longer; 1 MiB/s at most. */
  readonly slowestBytesPerSecond?: number | undefined;
  /** 0 to 1. */
  readonly random?: (() => number) | undefined;
}

/**
 * The way to one S3. Once a request found it away, others fail at once and nobody waits; one probe at a time finds out when it
 * is back.
 */
export class S3Line implements AsyncDisposable {
  readonly #options: LineOptions;
  readonly #end = new AbortController();
  #away: { readonly error: unknown; readonly back: Promise<void> } | undefined;
  #delayMs: number;

  constructor(options: LineOptions) {
    this.#options = options;
    this.#delayMs = options.firstProbeMs ?? FIRST_PROBE_MS;
  }

  get away(): boolean {
    return this.#away !== undefined;
  }

  /**
   * Throws `sink-failed` at once while S3 is away, and otherwise what `request` throws; a request that takes too long is ended
   * and counts as one that found S3 away.
   */
  async send<Result>(
    request: (signal: AbortSignal) => Promise<Result>,
    signal: AbortSignal,
    bodyBytes = 0,
  ): Promise<Result> {
    signal.throwIfAborted();
    if (!this.#options.breaks) return await request(signal);
    if (this.#away !== undefined) {
      throw new ExhibitError('sink-failed', 'S3 was found away and has not answered since', {
        cause: this.#away.error,
      });
    }
    const patienceMs = this.#patienceMs(bodyBytes);
    const patience = AbortSignal.timeout(patienceMs);
    try {
      const result = await request(AbortSignal.any([signal, patience]));
      this.#delayMs = this.#options.firstProbeMs ?? FIRST_PROBE_MS;
      return result;
    } catch (error) {
      if (signal.aborted) throw error;
      // The reason of the signal is a TimeoutError, which the SDK's AbortError does not tell.
      const found = patience.aborted
        ? new ExhibitError('sink-failed', `S3 took longer than ${Math.round(patienceMs / 1000)} s`, {
            cause: patience.reason,
          })
        : error;
      if (isAway(found)) this.#lost(found);
      throw found;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort(new Error('the sink was closed'));
    await this.#away?.back;
  }

  #patienceMs(bodyBytes: number): number {
    const { patienceMs = PATIENCE_MS, slowestBytesPerSecond = SLOWEST_BYTES_PER_SECOND } = this.#options;
    const bytesPerSecond = Math.min(slowestBytesPerSecond, SLOWEST_BYTES_PER_SECOND);
    return Math.min(Math.ceil(patienceMs + (bodyBytes / bytesPerSecond) * 1000), REQUEST_TIMEOUT_MS);
  }

  #lost(error: unknown): void {
    if (this.#away !== undefined) return;
    this.#options.log?.warn({ error: explain(error) }, 'S3 is away');
    this.#away = { error, back: this.#probeUntilBack() };
  }

  async #probeUntilBack(): Promise<void> {
    const { probe, log, onBack, random = Math.random } = this.#options;
    const end = this.#end.signal;
    while (!end.aborted) {
      const delayMs = this.#delayMs * (0.5 + random() / 2);
      this.#delayMs = Math.min(this.#delayMs * 2, MOST_PROBE_MS);
      await sleep(delayMs, undefined, { signal: end, ref: false }).catch(() => undefined);
      if (end.aborted) return;
      if (await isAnswered(probe, AbortSignal.any([end, AbortSignal.timeout(PATIENCE_MS)]))) break;
    }
    if (end.aborted) return;
    this.#away = undefined;
    log?.warn({}, 'S3 answers again');
    onBack?.();
  }
}

/** A refusal is an answer too. */
async function isAnswered(probe: LineOptions['probe'], signal: AbortSignal): Promise<boolean> {
  try {
    await probe(signal);
    return true;
  } catch (error) {
    return !signal.aborted && !isAway(error);
  }
}
