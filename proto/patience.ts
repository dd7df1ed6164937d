/** A newer peer with something new to say of every stage of every capture stays below it; who floods does not. */
const MOST_A_MINUTE = 600;
const MINUTE_MS = 60_000;

/**
 * How many messages a stream may bring that this end does not know. A newer peer sends such, and they are passed over (unknown
 * members of a oneof, proto3); but each costs a little, and nobody needs hundreds a minute of what is not understood.
 */
export class Patience {
  #count = 0;
  #sinceMs = Number.NEGATIVE_INFINITY;

  /** Notes one more; false when it was one too many. */
  bears(nowMs: number): boolean {
    // A clock that was set back must not hold an old count for long.
    if (nowMs < this.#sinceMs || nowMs - this.#sinceMs >= MINUTE_MS) {
      this.#sinceMs = nowMs;
      this.#count = 0;
    }
    this.#count += 1;
    return this.#count <= MOST_A_MINUTE;
  }
}
