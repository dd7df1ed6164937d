import { setTimeout as sleepMs } from 'node:timers/promises';
import type { Logger } from 'pino';
import { explain } from '../../evidence/error.ts';
import type { Manifest } from '../../evidence/manifest.ts';
import type { NamedSink } from '../sink/several.ts';
import { agentName, sinkFailed } from './custody-events.ts';
import { waitingSinks } from './draft.ts';
import type { Draft } from './drafts.ts';
import { type SealParts, sealInSink } from './seal-sink.ts';

/**
 * Brings what captures left to its end: each sink by itself, at once where it answers, otherwise again and again until it
 * does, in this agent or the next. A draft that is sealed in all of its sinks is removed.
 */
export interface Delivery extends AsyncDisposable {
  /**
   * The end of a capture, within the time that `signal` gives: seals it in every sink where nothing waits. What is not done
   * then goes on in the background. Resolves with the sinks that it still waits for.
   */
  conclude(draft: Draft, signal: AbortSignal): Promise<Delivered>;
  /** Takes on drafts that have ended, and returns at once. */
  resume(drafts: readonly Draft[]): void;
  /** What a sink failed with when it was last tried; undefined when it did not fail, or was not tried. */
  problemOf(sink: string): string | undefined;
}

export interface Delivered {
  readonly captureId: string;
  /** The worst that was sealed so far, or what the capture ended with. */
  readonly outcome: Manifest['outcome'];
  readonly waiting: readonly string[];
}

export interface DeliveryParts extends SealParts {
  readonly sinks: readonly NamedSink[];
  /** After the capture's own end: every time that a sink is done with. */
  readonly onDelivered: (delivered: Delivered) => Promise<void>;
  readonly log: Logger;
  /** The pause after so many failures in a row, in ms; jittered by default. */
  readonly backoffMs?: (failures: number) => number;
}

const FIRST_BACKOFF_MS = 1_000;
/** Soon enough after an outage for whoever waits, rare enough for a sink that only a person can mend. */
const MAX_BACKOFF_MS = 60_000;

function jittered(failures: number): number {
  const most = Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** (failures - 1));
  return most / 2 + Math.random() * (most / 2);
}

export function openDelivery(parts: DeliveryParts): Delivery {
  const stop = new AbortController();
  const workers = new Map(parts.sinks.map((sink) => [sink.name, new SinkWorker(sink, parts, stop.signal)]));

  const takeOn = (draft: Draft) => {
    for (const name of waitingSinks(draft.state)) {
      const worker = workers.get(name);
      if (worker !== undefined) worker.add(draft);
      else {
        const { captureId } = draft.state;
        parts.log.error({ captureId, sink: name }, 'capture waits for a sink that is not configured any more');
      }
    }
  };

  return {
    async conclude(draft, signal) {
      const done = waitingSinks(draft.state).map(async (name) => {
        const worker = workers.get(name);
        const spooled = [...draft.state.objects.values()].some(({ ends }) => ends.get(name)?.kind === 'waiting');
        if (worker !== undefined && !spooled) await worker.attempt(draft, signal);
      });
      await Promise.all(done);
      takeOn(draft);
      return delivered(draft);
    },
    resume: (drafts) => {
      for (const draft of drafts) takeOn(draft);
    },
    problemOf: (sink) => workers.get(sink)?.problem || undefined,
    async [Symbol.asyncDispose]() {
      stop.abort(new Error('the agent is stopping'));
      await Promise.all([...workers.values()].map((worker) => worker.ended()));
    },
  };
}

function delivered({ state }: Draft): Delivered {
  const outcomes = [...state.sealing.values()].map(({ outcome }) => outcome);
  const outcome = outcomes.find((one) => one !== 'complete') ?? outcomes[0] ?? state.ended?.outcome ?? 'truncated';
  return { captureId: state.captureId, outcome, waiting: waitingSinks(state) };
}

/** All that waits for one sink, in the order in which it came. Works only while there is something. */
class SinkWorker {
  readonly #sink: NamedSink;
  readonly #parts: DeliveryParts;
  readonly #stop: AbortSignal;
  readonly #drafts = new Set<Draft>();
  #isWorking = false;
  #work = Promise.resolve();
  /** The last thing that was logged of it. */
  #problem = '';
  /** Drafts that say already that this sink failed: an outage of a week is one event. */
  readonly #noted = new WeakSet<Draft>();

  constructor(sink: NamedSink, parts: DeliveryParts, stop: AbortSignal) {
    this.#sink = sink;
    this.#parts = parts;
    this.#stop = stop;
  }

  add(draft: Draft): void {
    this.#drafts.add(draft);
    if (this.#isWorking) return;
    this.#isWorking = true;
    this.#work = this.#attemptAll();
  }

  get problem(): string {
    return this.#problem;
  }

  async ended(): Promise<void> {
    await this.#work;
  }

  async #attemptAll(): Promise<void> {
    for (let failures = 0; this.#drafts.size > 0 && !this.#stop.aborted; ) {
      failures = (await this.#attemptEach()) ? 0 : failures + 1;
      if (failures > 0) await this.#pause(failures);
    }
    // In the same turn as the last look at the drafts: one that came in between would wait for ever.
    this.#isWorking = false;
  }

  /** False when one of them is to be tried again. */
  async #attemptEach(): Promise<boolean> {
    let done = true;
    for (const draft of [...this.#drafts]) {
      if (this.#stop.aborted) break;
      if (!(await this.attempt(draft, this.#stop))) done = false;
      else {
        this.#drafts.delete(draft);
        await this.#tell(draft);
      }
    }
    return done;
  }

  async #pause(failures: number): Promise<void> {
    const backoffMs = (this.#parts.backoffMs ?? jittered)(failures);
    await sleepMs(backoffMs, undefined, { signal: this.#stop }).catch(() => undefined);
  }

  async #tell(draft: Draft): Promise<void> {
    const told = delivered(draft);
    this.#parts.log.info({ ...told, sink: this.#sink.name }, 'capture delivered');
    await this.#parts.onDelivered(told).catch((error: unknown) => {
      this.#parts.log.error({ captureId: told.captureId, error: explain(error) }, 'journal not written');
    });
  }

  /** False when it is to be tried again. */
  async attempt(draft: Draft, signal: AbortSignal): Promise<boolean> {
    try {
      await sealInSink(draft, this.#sink, this.#parts, signal);
      this.#problem = '';
      if (waitingSinks(draft.state).length === 0) await draft.remove();
      return true;
    } catch (error) {
      if (!this.#stop.aborted) await this.#complain(draft, explain(error));
      return false;
    }
  }

  /** Once a problem: it is tried again until it works, or until a person changed something. */
  async #complain(draft: Draft, problem: string): Promise<void> {
    const { captureId, sealing } = draft.state;
    const sink = this.#sink.name;
    if (problem !== this.#problem)
      this.#parts.log.warn({ captureId, sink, error: problem }, 'capture waits for a sink');
    this.#problem = problem;
    if (this.#noted.has(draft) || sealing.has(sink)) return;
    this.#noted.add(draft);
    const by = agentName({ version: this.#parts.version, pid: process.pid });
    await draft.note({ kind: 'event' }, sinkFailed(by, sink, problem));
  }
}
