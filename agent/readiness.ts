import { ExhibitError, explain } from '../evidence/error.ts';
import { type Check, reasonOf } from './doctor/check.ts';

/** Whether a capture would work now, from looks that are taken again and again in the background. */
export interface Readiness extends AsyncDisposable {
  /** What the last looks saw; costs nothing. `reasons` are sentences for people, none where a capture would work. */
  now(): { ready: boolean; reasons: readonly string[] };
  /** What a capture has just met: undefined when it worked, else what it failed with. Never throws. */
  saw(failure: unknown): void;
}

/** One thing that a capture needs, and how often it is looked at. */
export interface Look {
  /** For people, in "... was not looked at yet". */
  readonly name: string;
  /** From the end of one look to the next one, as long as nothing fails, and while something does. */
  readonly everyMs: number;
  readonly failingMs: number;
  readonly timeoutMs: number;
  /** Failures among these are reasons. What it throws is a reason too. */
  ask(signal: AbortSignal): Promise<readonly Check[]>;
  /** A sentence when what a capture failed with is what this looks at; it counts beside what the looks say. */
  concerns?(failure: unknown): string | undefined;
}

/**
 * What a capture met counts for so long, unless a later one works: a look asks less than a capture does, and a node that takes one
 * capture a year must not be called unfit for a year.
 */
export const CAPTURE_COUNTS_MS = 10 * 60_000;
/** Agents that began together do not ask together: each pause is this much longer or shorter. */
const JITTER = 0.2;
/** After its time, for a look that has better words than "no answer". */
const GRACE_MS = 500;
/** After a capture failed. */
const SOON_MS = 1_000;

export interface ReadinessParts {
  readonly now?: () => number;
  readonly random?: () => number;
  /** Told of each change, with the reasons; for the log. */
  readonly onChange?: (state: { ready: boolean; reasons: readonly string[] }) => void;
}

/** Begins to look at once. Disposal calls off the looks that run, and waits for none of them. */
export function openReadiness(looks: readonly Look[], parts: ReadinessParts = {}): Readiness {
  const { now = Date.now, random = Math.random, onChange } = parts;
  const end = new AbortController();
  const watched = looks.map((look) => new Watched(look, { now, random, end: end.signal, onLooked: () => tell() }));
  let told: string | undefined;
  const state = () => {
    const reasons = watched.flatMap((one) => one.reasons());
    return { ready: reasons.length === 0, reasons };
  };
  const tell = () => {
    const { ready, reasons } = state();
    if (watched.some((one) => !one.wasLookedAt) || end.signal.aborted) return;
    // Numbers in them change from look to look, and are no news.
    const text = reasons.join('\n').replaceAll(/[\d.]+/g, '#');
    if (text === told) return;
    told = text;
    onChange?.({ ready, reasons });
  };
  const running = watched.map((one) => one.run());
  return {
    now: state,
    saw(failure) {
      for (const one of watched) one.saw(failure);
      tell();
    },
    async [Symbol.asyncDispose]() {
      end.abort(new Error('the agent is stopping'));
      await Promise.all(running);
    },
  };
}

interface Surroundings {
  readonly now: () => number;
  readonly random: () => number;
  readonly end: AbortSignal;
  readonly onLooked: () => void;
}

class Watched {
  readonly #look: Look;
  readonly #around: Surroundings;
  /** Of the last look; undefined before there was one. */
  #found: readonly string[] | undefined;
  #met: { readonly why: string; readonly atMs: number } | undefined;
  /** What has not answered yet: it is waited for again and not asked once more, or what hangs would pile up. */
  #asked: Promise<readonly Check[]> | undefined;
  /** Ends the pause before the next look. */
  #wake = Promise.withResolvers<void>();

  constructor(look: Look, around: Surroundings) {
    this.#look = look;
    this.#around = around;
  }

  get wasLookedAt(): boolean {
    return this.#found !== undefined;
  }

  reasons(): string[] {
    const found = this.#found ?? [`${this.#look.name} was not looked at yet: the agent is starting`];
    const met = this.#met;
    if (met === undefined || this.#around.now() - met.atMs > CAPTURE_COUNTS_MS) return [...found];
    return [...found, ...(found.includes(met.why) ? [] : [`the last capture met this: ${met.why}`])];
  }

  saw(failure: unknown): void {
    const why = failure === undefined ? undefined : this.#look.concerns?.(failure);
    if (failure === undefined) this.#met = undefined;
    if (why === undefined) return;
    this.#met = { why, atMs: this.#around.now() };
    this.#wake.resolve();
  }

  async run(): Promise<void> {
    const { end, random, onLooked } = this.#around;
    while (!end.aborted) {
      this.#found = await this.#once();
      onLooked();
      const pauseMs = this.#found.length === 0 ? this.#look.everyMs : this.#look.failingMs;
      await pause(pauseMs * (1 + JITTER * (2 * random() - 1)), this.#wake.promise, end);
      this.#wake = Promise.withResolvers();
    }
  }

  async #once(): Promise<readonly string[]> {
    const { end } = this.#around;
    const { timeoutMs, name } = this.#look;
    const given = new AbortController();
    const over = Promise.withResolvers<never>();
    const why = new ExhibitError('cancelled', 'there was no answer in time');
    const timers = [
      setTimeout(() => given.abort(why), timeoutMs),
      setTimeout(() => over.reject(why), timeoutMs + GRACE_MS),
    ];
    const onEnd = () => {
      given.abort(end.reason);
      over.reject(end.reason);
    };
    end.addEventListener('abort', onEnd, { once: true });
    try {
      this.#asked ??= this.#ask(given.signal).finally(() => {
        this.#asked = undefined;
      });
      const checks = await Promise.race([this.#asked, over.promise]);
      return checks.filter(({ status }) => status === 'failure').map(reasonOf);
    } catch (error) {
      return [`${name}: ${explain(error)}`];
    } finally {
      for (const timer of timers) clearTimeout(timer);
      end.removeEventListener('abort', onEnd);
    }
  }

  /** Also what throws before it promises anything is a rejection: it is asked again like any other. */
  async #ask(signal: AbortSignal): Promise<readonly Check[]> {
    return await this.#look.ask(signal);
  }
}

/** Until `delayMs` have passed, a second after `wake`, or the end. Keeps no process alive. */
async function pause(delayMs: number, wake: Promise<void>, end: AbortSignal): Promise<void> {
  if (end.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const timers = [setTimeout(resolve, delayMs).unref()];
  void wake.then(() => timers.push(setTimeout(resolve, Math.min(SOON_MS, delayMs)).unref()));
  const onEnd = () => resolve();
  end.addEventListener('abort', onEnd, { once: true });
  try {
    await promise;
  } finally {
    end.removeEventListener('abort', onEnd);
    for (const timer of timers) clearTimeout(timer);
  }
}
