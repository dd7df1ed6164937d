/** As many as the journal keeps: whoever is not there any more cannot be told of. */
const MAX_DEBTS = 1_000;

/**
 * Captures of other triggers on this node of which the controller has not confirmed that it stored the latest. It confirms by
 * answering a heartbeat: it does so after it has dealt with everything that came before. Ids only, so that a controller
 * that is away for days costs nothing.
 */
export class Debts {
  /** 0: not told on the present stream. Otherwise the number of the telling. */
  readonly #told = new Map<string, number>();
  #tellings = 0;

  /** Something new is known of it. */
  owe(captureId: string): void {
    this.#told.delete(captureId);
    this.#told.set(captureId, 0);
    if (this.#told.size <= MAX_DEBTS) return;
    for (const oldest of this.#told.keys()) {
      this.#told.delete(oldest);
      return;
    }
  }

  told(captureId: string): void {
    this.#tellings += 1;
    if (this.#told.has(captureId)) this.#told.set(captureId, this.#tellings);
  }

  /** A heartbeat is sent now; its answer confirms up to here. */
  mark(): number {
    return this.#tellings;
  }

  confirm(mark: number): void {
    for (const [captureId, telling] of this.#told) if (telling > 0 && telling <= mark) this.#told.delete(captureId);
  }

  /** For a new stream: what was told on the one before may never have arrived. Oldest first. */
  renew(): string[] {
    for (const captureId of this.#told.keys()) this.#told.set(captureId, 0);
    return [...this.#told.keys()];
  }
}
