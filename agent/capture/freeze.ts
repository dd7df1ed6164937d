import { ExhibitError } from '../../evidence/error.ts';
import type { FreezeRecord } from '../../evidence/manifest.ts';
import { STUCK_MS, thawIfFrozen } from '../runtime/pause/pause.ts';
import type { FreezeSpec } from '../runtime/runtime.ts';
import type { Answer } from './guard.ts';
import { type Guard, type GuardOptions, type Heard, spawnGuard } from './guard-link.ts';
import { decodeThread, type RegisterSet } from './register-wire.ts';

export type { RegisterSet } from './register-wire.ts';

/**
 * A target that stands still. Disposal thaws. The guard process, not the agent, holds the freeze: it thaws by itself when
 * the agent dies, when the deadline passes, or when it gets a signal.
 */
export interface Frozen extends AsyncDisposable {
  /** performance.now() by which the guard thaws, whatever the agent does. */
  readonly deadline: number;
  /** True once the guard has thawed by itself, or must have; what was read after that is not of one moment. */
  readonly expired: boolean;
  /**
   * Registers of the target's threads, by thread id as `procRoot` shows it; read by the guard on another core while the
   * agent copies, so waiting for them before the thaw costs next to nothing. Never rejects; resolves at the latest at the thaw.
   */
  readonly registers: Promise<Registers>;
  /** Idempotent. Fails with `freeze-stuck` when the target could not be thawed; the message says what to do by hand. */
  thaw(): Promise<FreezeRecord>;
}

/** The same freeze, with more to do at its end. */
export function thawedBy(frozen: Frozen, thaw: Frozen['thaw']): Frozen {
  return {
    get deadline() {
      return frozen.deadline;
    },
    get expired() {
      return frozen.expired;
    },
    registers: frozen.registers,
    thaw,
    [Symbol.asyncDispose]: async () => void (await thaw()),
  };
}

/** What ptrace(2) told; `note` says why there is nothing, or not of every thread. */
export interface Registers {
  readonly threads: ReadonlyMap<number, RegisterSet>;
  readonly note?: string;
}

/** One guard process, started before the freeze so that its start-up costs the target nothing. */
export interface Freezer extends AsyncDisposable {
  /**
   * Resolves when every process of the target stands still. Fails with `freeze-failed`, or `cancelled` by the signal; the
   * target then runs. Fails with `freeze-stuck` when that is not known. One freeze at a time, any number one after the other.
   */
  freeze(options: { deadlineMs: number; signal: AbortSignal }): Promise<Frozen>;
}

/** A guard is ready in a third of a second; a loaded node gets the benefit of the doubt. */
const START_MS = 20_000;

export interface FreezerOptions extends GuardOptions {
  /** The /proc whose pids the agent uses. Registers are read where it is of the guard's own pid namespace. */
  readonly procRoot?: string;
  /** One that is up already, see openGuardReserve; a new one unless told. */
  readonly guard?: () => Guard;
  /** For tests; OVERDUE_MS unless told. */
  readonly overdueMs?: number;
}

/** A guard that lives has thawed, or said that it cannot, STUCK_MS after it was told to; one that says nothing hangs. */
const OVERDUE_MS = STUCK_MS + 5_000;

/** An agent that was stopped itself hears what was said meanwhile within this. */
const LISTEN_MS = 500;

/** Starts the guard for `spec` and waits until it is ready to freeze. Fails with `freeze-failed` or `cancelled`. */
export async function startFreezer(
  spec: FreezeSpec,
  signal: AbortSignal,
  { procRoot = '/proc', overdueMs = OVERDUE_MS, guard: take, ...options }: FreezerOptions = {},
): Promise<Freezer> {
  if (signal.aborted) throw cancelledBefore(signal);
  const guard = take?.() ?? spawnGuard(options);
  const [done, late] = [new AbortController(), AbortSignal.timeout(START_MS)];
  const given = AbortSignal.any([signal, late, done.signal]);
  const stopped = new Promise<Heard>((resolve) => {
    given.addEventListener('abort', () =>
      resolve({ type: 'failed', reason: late.aborted ? 'the guard did not start' : 'cancelled' }),
    );
  });
  guard.send({ type: 'hold', spec, procRoot });
  const heard = await Promise.race([guard.hear(), stopped]);
  done.abort();
  if (heard.type === 'ready') return freezerOf(guard, spec, overdueMs);
  await guard.dismiss();
  if (signal.aborted) throw cancelledBefore(signal);
  throw new ExhibitError('freeze-failed', `The target cannot be frozen: ${reasonOf(heard)}`);
}

const cancelledBefore = (signal: AbortSignal): ExhibitError =>
  new ExhibitError('cancelled', 'The freeze was cancelled before it began', { cause: signal.reason });

const reasonOf = (heard: Heard): string => ('reason' in heard ? heard.reason : `the guard answered ${heard.type}`);

function freezerOf(guard: Guard, spec: FreezeSpec, overdueMs: number): Freezer {
  return {
    async freeze({ deadlineMs, signal }) {
      if (signal.aborted) throw cancelledBefore(signal);
      const toldAt = performance.now();
      guard.send({ type: 'freeze', deadlineMs });
      // The guard gives up what it began, thaws, and then says so.
      const giveUp = () => guard.send({ type: 'thaw' });
      signal.addEventListener('abort', giveUp, { once: true });
      let heard: Heard;
      try {
        heard = await guard.hear();
      } finally {
        signal.removeEventListener('abort', giveUp);
      }
      if (heard.type === 'frozen') {
        const frozen = new HeldTarget({ guard, spec, toldAt, deadlineMs, overdueMs, answer: heard });
        if (!signal.aborted) return frozen;
        await frozen.thaw();
      }
      if (heard.type === 'ended') await rescue(spec, heard.reason);
      if (heard.type === 'stuck') {
        throw new ExhibitError('freeze-stuck', `The target may still be frozen: ${heard.reason}`);
      }
      if (signal.aborted) throw new ExhibitError('cancelled', 'The freeze was cancelled', { cause: signal.reason });
      throw new ExhibitError('freeze-failed', `The target did not freeze and runs on: ${reasonOf(heard)}`);
    },
    [Symbol.asyncDispose]: () => guard.dismiss(),
  };
}

/** The guard was killed while it held the target: the agent does what it would have done. */
async function rescue(spec: FreezeSpec, reason: string): Promise<string> {
  try {
    return `${reason}; the agent thawed in its place (${await thawNow(spec)})`;
  } catch (error) {
    throw new ExhibitError('freeze-stuck', `${reason}, and the target may still be frozen`, { cause: error });
  }
}

interface Hold {
  readonly guard: Guard;
  readonly spec: FreezeSpec;
  /** performance.now() before the guard was told. */
  readonly toldAt: number;
  readonly deadlineMs: number;
  readonly overdueMs: number;
  readonly answer: Extract<Answer, { type: 'frozen' }>;
}

class HeldTarget implements Frozen {
  readonly deadline: number;
  readonly #hold: Hold;
  readonly #ended: Promise<FreezeRecord>;
  readonly #registers = Promise.withResolvers<Registers>();
  #asked = false;
  #over: 'no' | 'thawed' | 'expired' = 'no';
  #overdue: NodeJS.Timeout;

  constructor(hold: Hold) {
    this.#hold = hold;
    this.deadline = hold.toldAt + hold.deadlineMs;
    this.#overdue = this.#endGuardAfter(hold.deadlineMs + hold.overdueMs);
    this.#ended = this.#listen().finally(() => clearTimeout(this.#overdue));
    // Whoever thaws sees the failure; until then it is not unhandled.
    this.#ended.catch(() => undefined);
  }

  get expired(): boolean {
    if (this.#over !== 'no') return this.#over === 'expired';
    // An agent that was stopped itself may not have heard of it yet.
    return performance.now() >= this.deadline;
  }

  get registers(): Promise<Registers> {
    return this.#registers.promise;
  }

  thaw(): Promise<FreezeRecord> {
    if (!this.#asked && this.#over === 'no') {
      this.#hold.guard.send({ type: 'thaw' });
      clearTimeout(this.#overdue);
      this.#overdue = this.#endGuardAfter(this.#hold.overdueMs);
    }
    this.#asked = true;
    return this.#ended;
  }

  /** A guard that hangs, or is stopped, is no guard: without it the agent hears of its end, and thaws in its place. */
  #endGuardAfter(ms: number): NodeJS.Timeout {
    return setTimeout(() => {
      this.#overdue = setTimeout(() => this.#hold.guard.kill(), LISTEN_MS);
    }, ms);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.thaw();
  }

  /** Takes the registers as they come; returns the first thing heard that is something else. */
  async #hearRegisters(): Promise<Heard> {
    const threads = new Map<number, RegisterSet>();
    for (;;) {
      const heard = await this.#hold.guard.hear();
      if (heard.type !== 'registers') {
        // Has no effect where the last of them came.
        this.#registers.resolve({ threads, note: 'the guard did not say whether it read all registers' });
        return heard;
      }
      for (const thread of heard.threads) {
        const set = decodeThread(thread);
        if (set !== undefined) threads.set(thread.tid, set);
      }
      if (heard.last) this.#registers.resolve({ threads, ...(heard.note === undefined ? {} : { note: heard.note }) });
    }
  }

  async #listen(): Promise<FreezeRecord> {
    const { spec, answer, toldAt } = this.#hold;
    const heard = await this.#hearRegisters();
    if (heard.type === 'thawed') {
      this.#over = heard.by === 'guard' ? 'expired' : 'thawed';
      return recordOf(spec, heard, answer.by);
    }
    this.#over = 'expired';
    if (heard.type !== 'ended')
      throw new ExhibitError('freeze-stuck', `The target may still be frozen: ${reasonOf(heard)}`);
    // What somebody else had frozen is theirs.
    const note = answer.by === 'held' ? await rescue(spec, heard.reason) : heard.reason;
    const { frozenAtMs, notes } = answer;
    const times = { frozenAtMs, thawedAtMs: Date.now(), pauseMs: performance.now() - toldAt };
    return recordOf(spec, { by: 'agent', outcome: 'thawed', ...times, notes: [...notes, note] }, answer.by);
  }
}

/** Pure. What stood already was not stopped by us, and stands on. */
function recordOf(
  spec: FreezeSpec,
  thawed: Omit<Extract<Answer, { type: 'thawed' }>, 'type'>,
  by: 'held' | 'found',
): FreezeRecord {
  const ours = by === 'held';
  return {
    consistency: 'frozen',
    method: spec.kind,
    frozenAt: new Date(thawed.frozenAtMs).toISOString(),
    ...(ours ? { thawedAt: new Date(thawed.thawedAtMs).toISOString(), thawedBy: thawed.by } : {}),
    pauseMs: thawed.pauseMs,
    notes: [...thawed.notes],
  };
}

/**
 * For the journal's recovery at the agent's start: lets the target go if it is frozen, and says what it found. Fails with
 * `freeze-failed` when nobody can say whether it is.
 */
export async function thawNow(spec: FreezeSpec): Promise<'thawed' | 'gone' | 'was-thawed' | 'left'> {
  return (await thawIfFrozen(spec)).outcome;
}
