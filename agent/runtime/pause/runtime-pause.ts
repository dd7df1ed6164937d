/** A runtime's own pause, held by the guard: the same course for containerd and for Docker. */
import { ExhibitError, isExhibitError } from '../../../evidence/error.ts';
import type { Pause, Paused, Thawed } from './pause.ts';
import { kernelState, type Parts, settle, thawParts } from './resume.ts';

/** One container, and the runtime that can pause it. */
export interface Pauser extends Disposable {
  /** For messages: `containerd`, `Docker`. */
  readonly name: string;
  /** Its first route is the runtime itself. */
  readonly parts: Parts;
  /** No deadline of its own. Fails with `runtime-failed` when the runtime refuses, else as every call. */
  pause(signal: AbortSignal): Promise<void>;
  /** Aborted when the connection to the runtime breaks: it is going down. Nobody listens after `until`. */
  watch(until: AbortSignal): AbortSignal;
}

export class RuntimePause implements Pause {
  readonly #pauser: Pauser;
  /** `unknown`: the pause was sent and its answer never came. */
  #state: 'untouched' | 'held' | 'unknown' = 'untouched';
  readonly #disposed = new AbortController();
  #thawed = new AbortController();

  constructor(pauser: Pauser) {
    this.#pauser = pauser;
  }

  async freeze(signal: AbortSignal): Promise<Paused> {
    const stands = kernelState(this.#pauser.parts.freezer) === 'frozen';
    const toldAt = performance.now();
    if (stands) return this.#found(toldAt);
    this.#state = 'unknown';
    try {
      await this.#pauser.pause(signal);
    } catch (error) {
      return this.#pauseFailed(error, toldAt);
    }
    this.#state = 'held';
    this.#thawed = new AbortController();
    return { by: 'held', toldAt, notes: [], broken: this.#pauser.watch(this.#thawed.signal) };
  }

  #found(toldAt: number): Paused {
    this.#state = 'untouched';
    return { by: 'found', toldAt, notes: ['the container was paused already, by somebody else, and is left so'] };
  }

  /** An error that the runtime answered is final; without an answer the pause may have happened or may still happen. */
  async #pauseFailed(error: unknown, toldAt: number): Promise<Paused> {
    const { name, parts } = this.#pauser;
    if (isExhibitError(error, 'runtime-failed') || isExhibitError(error, 'runtime-unsupported')) {
      const status = await parts.routes[0]?.status().catch(() => undefined);
      if (status === 'PAUSED') return this.#found(toldAt);
      if (status === 'RUNNING' || status === 'STOPPED') this.#state = 'untouched';
    }
    throw new ExhibitError('freeze-failed', `${name} did not pause the container`, { cause: error });
  }

  async thaw(): Promise<Thawed> {
    this.#thawed.abort();
    if (this.#state === 'untouched') return { outcome: 'left', notes: [] };
    const unknown = this.#state === 'unknown';
    const { parts } = this.#pauser;
    const thawed = await thawParts(parts);
    this.#state = 'untouched';
    if (!unknown || thawed.outcome === 'gone') return thawed;
    const before = thawed.settled ?? Promise.resolve();
    return { ...thawed, settled: before.then(() => settle(parts, this.#disposed.signal)) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#thawed.abort();
    this.#disposed.abort();
    this.#pauser[Symbol.dispose]();
  }
}
