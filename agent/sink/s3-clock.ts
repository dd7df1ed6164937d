import type { ClockOffset } from '../../evidence/custody.ts';

/** HTTP's Date is cut to whole seconds (RFC 9110, section 5.6.7): on average it is half of one behind. */
const DATE_RESOLUTION_MS = 1000;
/** A clock that drifts by 100 ppm, ten times what quartz does, is off by 60 ms after this long: then a newer sample counts. */
const SAMPLE_AGE_MS = 10 * 60_000;
/** S3 refuses a signature that is older or newer than this (API reference, RequestTimeTooSkewed). */
export const S3_SKEW_LIMIT_MS = 15 * 60_000;

/** One answer: when it was asked for and when it came, by the node's clock, and what it said the time is. */
export interface DatedAnswer {
  readonly sentAtMs: number;
  readonly receivedAtMs: number;
  /** The header's text. */
  readonly date: unknown;
  /** Present where a cache answered in the server's place. */
  readonly age: unknown;
}

/** Undefined when the answer tells nothing. Pure. */
export function offsetOf(source: string, answer: DatedAnswer): ClockOffset | undefined {
  const { sentAtMs, receivedAtMs, date, age } = answer;
  if (typeof date !== 'string' || age !== undefined) return undefined;
  const saidMs = Date.parse(date);
  const roundTripMs = receivedAtMs - sentAtMs;
  // A node's clock that was set back meanwhile tells nothing either.
  if (Number.isNaN(saidMs) || roundTripMs < 0) return undefined;
  const nodeMs = sentAtMs + roundTripMs / 2;
  return {
    source,
    offsetMs: Math.round(saidMs + DATE_RESOLUTION_MS / 2 - nodeMs),
    uncertaintyMs: Math.round(DATE_RESOLUTION_MS + roundTripMs / 2),
  };
}

/** Keeps the sharpest answer of the last minutes. */
export class S3Clock {
  readonly #source: string;
  readonly #onSkew: (offset: ClockOffset) => void;
  #best: { readonly offset: ClockOffset; readonly atMs: number } | undefined;
  #skewTold = false;

  /** `onSkew` is called once, when S3 would refuse what is signed with the node's clock. */
  constructor(source: string, onSkew: (offset: ClockOffset) => void) {
    this.#source = source;
    this.#onSkew = onSkew;
  }

  get offset(): ClockOffset | undefined {
    return this.#best?.offset;
  }

  see(answer: DatedAnswer): void {
    const offset = offsetOf(this.#source, answer);
    if (offset === undefined) return;
    const best = this.#best;
    const agrees =
      best !== undefined &&
      Math.abs(offset.offsetMs - best.offset.offsetMs) <= offset.uncertaintyMs + best.offset.uncertaintyMs;
    const fresh = best !== undefined && answer.receivedAtMs - best.atMs <= SAMPLE_AGE_MS;
    // One that contradicts the best means that a clock was set.
    if (!agrees || !fresh || offset.uncertaintyMs < best.offset.uncertaintyMs) {
      this.#best = { offset, atMs: answer.receivedAtMs };
    }
    if (this.#skewTold || Math.abs(offset.offsetMs) - offset.uncertaintyMs <= S3_SKEW_LIMIT_MS) return;
    this.#skewTold = true;
    this.#onSkew(offset);
  }
}

/** `20 min 3 s behind`, as the node's clock stands to S3's. Pure. */
export function skewWords({ offsetMs }: ClockOffset): string {
  const seconds = Math.round(Math.abs(offsetMs) / 1000);
  const minutes = Math.floor(seconds / 60);
  const size = minutes === 0 ? `${seconds} s` : `${minutes} min ${seconds % 60} s`;
  return `${size} ${offsetMs >= 0 ? 'behind' : 'ahead of'}`;
}
