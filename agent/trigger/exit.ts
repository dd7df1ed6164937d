import { createHash } from 'node:crypto';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import type { Logger } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import type { CaptureRequest, Captures } from '../capture/captures.ts';
import { settledEnd } from '../runtime/ended.ts';
import type { ExitEvents } from '../runtime/exits.ts';
import type { ContainerSummary, Runtime } from '../runtime/runtime.ts';
import { selectorText } from '../runtime/select.ts';
import { Burst } from './exit-burst.ts';
import { DEFAULT_KEPT, type ExitRule, type ExitsConfig, ruleFor } from './exit-rules.ts';

/**
 * The trigger by which containers that end are captured, before kubelet removes them: the runtime's event stream, the rules of
 * the configuration, a bound for bursts. docs/exits.md.
 */
export interface ExitTrigger extends AsyncDisposable {
  readonly counts: Readonly<ExitCounts>;
  status(): ExitStatus;
  /** Resolves when nothing that was heard of waits or is being captured. */
  idle(): Promise<void>;
}

export interface ExitStatus {
  readonly counts: Readonly<ExitCounts>;
  /** Why the runtime's events cannot be followed; undefined while they are, as far as is known. */
  readonly trouble: string | undefined;
}

export interface ExitCounts {
  /** Ends of containers that a rule fits. */
  matched: number;
  /** Those that were not captured because too many ended at once. */
  dropped: number;
  captured: number;
  /** Captured already, by an agent before this one. */
  known: number;
  failed: number;
}

export interface ExitOptions {
  readonly config: ExitsConfig;
  readonly events: ExitEvents;
  readonly runtime: Runtime;
  readonly captures: Pick<Captures, 'start'>;
  readonly now: () => number;
  readonly log: Logger;
  /** For tests; the constants below unless told. */
  readonly times?: Partial<typeof TIMES>;
}

const TIMES = {
  /** A restarted containerd answers within a second. */
  backoffMs: 100,
  backoffMostMs: 10_000,
  /** Nobody says when a subscription has begun: what ended before that is on the list by then. */
  sweepAfterMs: 1_000,
  /** The kernel's word that memory ran out comes by another way than the end, sometimes after it. */
  oomGraceMs: 300,
};

/** Ended containers of which the last is remembered: many times what a node runs. */
const REMEMBERED = 10_000;
/** Heard of and not yet looked up. */
const INTAKE = 10_000;
/** Ended containers that kubelet keeps are a few a pod; of more, the youngest are asked. */
const SWEPT = 500;
/** SIGKILL, which is how the kernel ends whom memory ran out for. */
const KILLED = 137;
const LIST_TIMEOUT_MS = 15_000;

interface Heard {
  readonly containerId: string;
  readonly exitCode: number;
  readonly finishedAtMs: number | undefined;
  readonly oom: boolean;
}

interface Matched {
  readonly rule: ExitRule;
  readonly container: ContainerSummary;
  readonly ended: Heard;
}

export function startExitTrigger(options: ExitOptions): ExitTrigger {
  const end = new AbortController();
  const trigger = new Follower(options, end.signal);
  const following = trigger.follow();
  return {
    counts: trigger.counts,
    status: () => ({ counts: { ...trigger.counts }, trouble: trigger.trouble }),
    idle: () => trigger.idle(),
    async [Symbol.asyncDispose]() {
      end.abort(new ExhibitError('cancelled', 'the agent is stopping'));
      await following;
      await trigger.idle();
    },
  };
}

class Follower {
  readonly counts: ExitCounts = { matched: 0, dropped: 0, captured: 0, known: 0, failed: 0 };
  trouble: string | undefined;
  readonly #options: ExitOptions;
  readonly #times: typeof TIMES;
  readonly #signal: AbortSignal;
  readonly #burst: Burst<Matched>;
  readonly #seen = new Set<string>();
  readonly #outOfMemory = new Set<string>();
  readonly #intake: Heard[] = [];
  readonly #work = new Set<Promise<void>>();
  #looking = false;
  #subscription = 0;

  constructor(options: ExitOptions, signal: AbortSignal) {
    this.#options = options;
    this.#times = { ...TIMES, ...options.times };
    this.#signal = signal;
    const stopped = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
    // Whoever stops the agent gives the captures their time: here nobody waits for them then.
    const take = (one: Matched) => Promise.race([this.#capture(one), stopped]);
    this.#burst = new Burst(options.config.bound, { take, signal, now: () => performance.now() });
  }

  async idle(): Promise<void> {
    while (this.#work.size > 0) await Promise.allSettled(this.#work);
    await this.#burst.idle();
  }

  /** Never rejects; ends with the signal. */
  async follow(): Promise<void> {
    const { events, log } = this.#options;
    let backoffMs = this.#times.backoffMs;
    while (!this.#signal.aborted) {
      this.#subscription += 1;
      this.#begin(this.#sweepSoon(this.#subscription));
      try {
        for await (const event of events(this.#signal)) {
          backoffMs = this.#times.backoffMs;
          if (event.kind === 'oom') remember(this.#outOfMemory, event.containerId);
          else this.#hear({ ...event, oom: false });
        }
      } catch (error) {
        if (this.#signal.aborted) return;
        this.trouble = explain(error);
        log.warn({ error: this.trouble, againInMs: backoffMs }, "the runtime's events ended");
      }
      await this.#pause(backoffMs);
      backoffMs = Math.min(2 * backoffMs, this.#times.backoffMostMs);
    }
  }

  #begin(work: Promise<void>): void {
    const told = work.catch((error: unknown) => {
      if (!this.#signal.aborted) this.#options.log.warn({ error: explain(error) }, 'ended containers not looked up');
    });
    this.#work.add(told);
    void told.finally(() => this.#work.delete(told));
  }

  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#signal }).catch(() => undefined);
  }

  #hear(heard: Heard): void {
    if (this.#seen.has(heard.containerId)) return;
    remember(this.#seen, heard.containerId);
    if (this.#intake.length >= INTAKE) {
      this.#drop();
      return;
    }
    this.#intake.push(heard);
    if (!this.#looking) this.#begin(this.#lookUp());
  }

  /** All that were heard of meanwhile with one question: a thousand ends are not a thousand lists. */
  async #lookUp(): Promise<void> {
    this.#looking = true;
    try {
      while (this.#intake.length > 0 && !this.#signal.aborted) {
        // What came with it in one piece is heard first.
        await turn();
        const batch = this.#intake.splice(0);
        const containers = new Map((await this.#list()).map((one) => [one.id as string, one]));
        for (const heard of batch) {
          const container = containers.get(heard.containerId);
          // A pod's sandbox, or gone already: either way there is nothing to take.
          if (container !== undefined) this.#begin(this.#judge(container, heard));
        }
      }
    } finally {
      this.#looking = false;
    }
  }

  #list(): Promise<ContainerSummary[]> {
    return this.#options.runtime.list(AbortSignal.any([this.#signal, AbortSignal.timeout(LIST_TIMEOUT_MS)]));
  }

  async #judge(container: ContainerSummary, heard: Heard): Promise<void> {
    const { rules } = this.#options.config;
    const { exitCode } = heard;
    const fitting = (oom: boolean) => ruleFor(rules, { container, exitCode, oom });
    let oom = heard.oom || this.#outOfMemory.has(container.id);
    if (!oom && exitCode === KILLED && fitting(true) !== fitting(false)) {
      await this.#pause(this.#times.oomGraceMs);
      const told = await this.#options.runtime.endOf?.(container.id, this.#signal).catch(() => undefined);
      oom = this.#outOfMemory.has(container.id) || told?.oomKilled === true;
    }
    const rule = fitting(oom);
    if (rule === undefined || this.#signal.aborted) return;
    this.counts.matched += 1;
    if (!this.#burst.offer({ rule, container, ended: { ...heard, oom } })) this.#drop();
  }

  #drop(): void {
    this.counts.dropped += 1;
    // The first of a burst, and then each tenfold of it: a flood of ends is no flood of lines.
    if (/^10*$/.test(String(this.counts.dropped)))
      this.#options.log.warn({ dropped: this.counts.dropped }, 'too many containers ended at once: not captured');
  }

  async #capture({ rule, container, ended }: Matched): Promise<void> {
    const { captures, runtime, config, log } = this.#options;
    const what = {
      containerId: container.id,
      rule: ruleName(config.rules, rule),
      exitCode: ended.exitCode,
      oom: ended.oom,
    };
    try {
      const finishedAtMs = await endedAtMs(runtime, ended, this.#signal);
      const handle = await captures.start(requestFor(rule, container, { ...ended, ...what, finishedAtMs }));
      if (!handle.created) {
        this.counts.known += 1;
        return;
      }
      for await (const event of handle.events()) {
        if (this.#signal.aborted) return;
        if (event.kind !== 'ended') continue;
        this.counts.captured += 1;
        log.info({ ...what, captureId: handle.captureId, state: event.capture.state }, 'ended container captured');
      }
    } catch (error) {
      if (isExhibitError(error, 'capture-conflict')) this.counts.known += 1;
      else {
        this.counts.failed += 1;
        log.warn({ ...what, error: explain(error) }, 'ended container not captured');
      }
    }
  }

  /** What ended while nobody listened, at most `maxAgeMs` ago. */
  async #sweepSoon(subscription: number): Promise<void> {
    await this.#pause(this.#times.sweepAfterMs);
    // One that ended at once is followed by another, with a look of its own.
    if (this.#signal.aborted || subscription !== this.#subscription) return;
    const { runtime, config, now } = this.#options;
    const ended = (await this.#list()).filter(({ state, id }) => state === 'exited' && !this.#seen.has(id));
    ended.sort((a, b) => b.createdAt.localeCompare(a.createdAt));
    // It answered, and the subscription has held for as long.
    this.trouble = undefined;
    for (const { id } of ended.slice(0, SWEPT)) {
      const how = await runtime.endOf?.(id, this.#signal);
      const finishedAtMs = Date.parse(how?.finishedAt ?? '');
      if (how === undefined || !(now() - finishedAtMs <= config.maxAgeMs)) continue;
      this.#hear({ containerId: id, exitCode: how.exitCode ?? 0, finishedAtMs, oom: how.oomKilled === true });
    }
  }
}

/** Forgets the oldest. */
function remember(known: Set<string>, id: string): void {
  known.add(id);
  if (known.size <= REMEMBERED) return;
  for (const oldest of known) {
    known.delete(oldest);
    return;
  }
}

/** As the runtime's record has it, which is what a later agent will be told; the event can say something else. */
async function endedAtMs(runtime: Runtime, { containerId, finishedAtMs }: Heard, signal: AbortSignal): Promise<number> {
  const recorded = await settledEnd(async () => runtime.endOf?.(containerId, signal), signal);
  const at = Date.parse(recorded?.finishedAt ?? '');
  if (at > 0) return at;
  if (finishedAtMs !== undefined) return finishedAtMs;
  throw new ExhibitError('target-not-found', `the runtime does not say when ${containerId.slice(0, 12)} ended`);
}

const ruleName = (rules: readonly ExitRule[], rule: ExitRule): string => rule.name ?? `${rules.indexOf(rule) + 1}`;

function requestFor(
  rule: ExitRule,
  { id }: ContainerSummary,
  ended: { exitCode: number; oom: boolean; finishedAtMs: number; rule: string },
): CaptureRequest {
  const how = ended.oom ? 'out of memory' : `exit code ${ended.exitCode}`;
  return {
    captureId: exitCaptureId(id, ended.finishedAtMs),
    selector: selectorText({ kind: 'container', id }),
    artifacts: rule.artifacts ?? DEFAULT_KEPT,
    ...(rule.artifacts === undefined ? { artifactsByDefault: true } : {}),
    caseId: rule.case,
    reason: rule.reason === '' ? `the container ended: ${how}` : rule.reason,
    ended: true,
    consistency: 'live',
    scope: 'container',
    ...(rule.sinks === undefined ? {} : { sinks: rule.sinks }),
    requester: { trigger: 'exit', identity: `rule ${ended.rule}` },
  };
}

/**
 * A UUIDv7 (RFC 9562) of the container and its end, so that whoever hears of the end again, after a restart as well, asks for
 * the same capture.
 */
export function exitCaptureId(containerId: string, finishedAtMs: number): string {
  return uuidv7({ msecs: finishedAtMs, random: createHash('sha256').update(containerId).digest() });
}
