import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from 'pino';
import { explain } from '../../evidence/error.ts';
import type { CaptureRequest, Captures } from '../capture/captures.ts';
import { type Incidents, SCHEDULE_TRIGGER } from '../capture/incidents.ts';
import type { JournalEntry } from '../capture/journal.ts';
import type { Runtime } from '../runtime/runtime.ts';
import { judge, recent } from './schedule-budget.ts';
import { LIGHT_ARTIFACTS, type ScheduleBudgetConfig, type ScheduleConfig } from './schedule-options.ts';
import { openScheduleState, type StateFile } from './schedule-state.ts';
import { chooseTargets, type ScheduledTarget } from './schedule-targets.ts';
import { dueAt, jitterOf, type Ticks, ticksOf } from './schedule-time.ts';

/**
 * The trigger of the clock: each schedule captures what its selector matches, at its times, within the budget that the node
 * has for all of them, and never while an incident is captured. docs/schedules.md.
 */
export interface Schedules extends AsyncDisposable {
  /** How each one stands, for the doctor. */
  status(): readonly ScheduleStatus[];
}

export interface ScheduleStatus {
  readonly name: string;
  /** ms since the epoch; undefined: never, or not known yet. */
  readonly nextMs: number | undefined;
  readonly lastMs: number | undefined;
  readonly isRunning: boolean;
  /** How late the last run began; undefined before the first. */
  readonly lateMs?: number | undefined;
  readonly counts: Readonly<Counts>;
  /** What went wrong last; undefined since a run that went well. */
  readonly trouble: string | undefined;
}

/** Since the agent began. */
export interface Counts {
  runs: number;
  captures: number;
  /** Captures that were not begun, or ended neither complete nor partial. */
  failures: number;
  /** Ticks for which there was no agent, or a clock that jumped over them. */
  missed: number;
  /** Ticks that came while the run before still went on. */
  overlapped: number;
  /** Captures that the budget did not allow. */
  overBudget: number;
}

export interface SchedulesOptions {
  readonly schedules: readonly ScheduleConfig[];
  readonly budget: ScheduleBudgetConfig;
  readonly node: string;
  /** As the agent reaches it. */
  readonly stateDir: string;
  readonly captures: Pick<Captures, 'start'>;
  /** Asked for its running containers. */
  readonly runtime: Pick<Runtime, 'list'>;
  readonly incidents: Incidents;
  /** After a run, with the names of what it found: removes what is older than the schedule keeps. */
  readonly tidy?: (schedule: ScheduleConfig, found: readonly string[]) => Promise<void>;
  readonly now: () => number;
  /** For tests; rejects when the signal is aborted. */
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly log: Logger;
}

/** A clock that jumps is noticed after this at the latest. */
const LONGEST_SLEEP_MS = 60_000;
/** A runtime that hangs. */
const LIST_TIMEOUT_MS = 15_000;

interface Line {
  readonly schedule: ScheduleConfig;
  readonly ticks: Ticks;
  readonly jitterMs: number;
  readonly counts: Counts;
  lastMs: number;
  ranMs: number | undefined;
  lateMs: number | undefined;
  nextMs: number | undefined;
  run: Promise<void> | undefined;
  trouble: string | undefined;
}

export async function openSchedules(options: SchedulesOptions): Promise<Schedules> {
  const file = await openScheduleState(options.stateDir, options.log);
  return new Clock(options, file);
}

class Clock implements Schedules {
  readonly #options: SchedulesOptions;
  readonly #file: StateFile;
  readonly #lines: readonly Line[];
  readonly #loops: readonly Promise<void>[];
  readonly #end = new AbortController();
  readonly #sleep: NonNullable<SchedulesOptions['sleep']>;
  #spent: { atMs: number; bytes: number }[];
  /** Scheduled captures that run now. */
  #active = 0;
  #freed = Promise.withResolvers<void>();

  constructor(options: SchedulesOptions, file: StateFile) {
    this.#options = options;
    this.#file = file;
    this.#sleep = options.sleep ?? ((ms, signal) => pause(ms, undefined, { signal }));
    this.#spent = recent(file.state.spent, options.now());
    this.#lines = options.schedules.map((schedule) => ({
      schedule,
      ticks: ticksOf(schedule),
      jitterMs: jitterOf(options.node, schedule),
      counts: { runs: 0, captures: 0, failures: 0, missed: 0, overlapped: 0, overBudget: 0 },
      lastMs: file.state.last[schedule.name] ?? options.now(),
      ...{ ranMs: undefined, lateMs: undefined, nextMs: undefined, run: undefined, trouble: undefined },
    }));
    this.#loops = this.#lines.map((line) => this.#loop(line));
  }

  status(): ScheduleStatus[] {
    return this.#lines.map(({ schedule, nextMs, ranMs, lateMs, run, counts, trouble }) => ({
      name: schedule.name,
      nextMs,
      lastMs: ranMs,
      isRunning: run !== undefined,
      lateMs,
      counts: { ...counts },
      trouble,
    }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort(new Error('the agent is stopping'));
    await Promise.allSettled(this.#loops);
    await Promise.allSettled(this.#lines.map(({ run }) => run));
  }

  async #loop(line: Line): Promise<void> {
    const { signal } = this.#end;
    // One that is new is known from now on: a restart before its first time is not a missed run.
    await this.#note();
    while (!signal.aborted) {
      const now = this.#options.now();
      const due = dueAt(now, line.lastMs, line);
      if (due.kind === 'wait') {
        line.lastMs = due.lastMs;
        line.nextMs = due.nextMs;
        const ms = Math.min(LONGEST_SLEEP_MS, due.nextMs === undefined ? LONGEST_SLEEP_MS : due.nextMs - now);
        await this.#sleep(Math.max(1, ms), signal).catch(() => undefined);
        continue;
      }
      line.lastMs = due.tickMs;
      line.counts.missed += due.missed;
      await this.#note();
      const { name } = line.schedule;
      if (due.missed > 0) this.#options.log.warn({ schedule: name, missed: due.missed }, 'scheduled runs were missed');
      if (due.kind === 'missed') continue;
      if (line.run !== undefined) {
        line.counts.overlapped += 1;
        this.#options.log.warn({ schedule: name }, 'scheduled run left out: the one before still goes on');
        continue;
      }
      line.ranMs = now;
      line.lateMs = due.lateMs;
      line.counts.runs += 1;
      line.run = this.#run(line, due.tickMs, due.lateMs)
        .catch((error: unknown) => this.#fail(line, error))
        .finally(() => {
          line.run = undefined;
        });
    }
  }

  async #note(): Promise<void> {
    const last = Object.fromEntries(this.#lines.map(({ schedule, lastMs }) => [schedule.name, lastMs]));
    await this.#file.put({ last, spent: this.#spent });
  }

  #fail(line: Line, error: unknown): void {
    if (this.#end.signal.aborted) return;
    line.counts.failures += 1;
    line.trouble = explain(error);
    this.#options.log.error({ schedule: line.schedule.name, error: line.trouble }, 'scheduled run failed');
  }

  async #run(line: Line, tickMs: number, lateMs: number): Promise<void> {
    const { runtime, log, tidy } = this.#options;
    const { schedule } = line;
    const signal = AbortSignal.any([this.#end.signal, AbortSignal.timeout(LIST_TIMEOUT_MS)]);
    // One target by its text needs no list, and no runtime that has one.
    const containers = schedule.selector.target === undefined ? await runtime.list(signal) : [];
    const { targets, leftOut } = chooseTargets(schedule.selector, containers, schedule.maxTargets);
    log.info({ schedule: schedule.name, targets: targets.length, leftOut, lateMs }, 'scheduled run');
    const troubles = leftOut === 0 ? [] : [`${leftOut} more targets than maxTargets (${schedule.maxTargets})`];
    for (const [index, target] of targets.entries()) {
      const why = await this.#permit();
      if (this.#end.signal.aborted) return;
      if (why !== undefined) {
        line.counts.overBudget += targets.length - index;
        log.warn({ schedule: schedule.name, leftOut: targets.length - index, why }, 'scheduled captures left out');
        troubles.push(why);
        break;
      }
      const trouble = await this.#capture(line, tickMs, target);
      if (trouble !== undefined) troubles.push(`${target.name}: ${trouble}`);
    }
    if (targets.length === 0) troubles.push('nothing that runs matches its selector');
    line.trouble = troubles[0];
    await tidy?.(
      schedule,
      targets.map(({ name }) => name),
    );
  }

  /** Takes a place in the budget, waiting for it if need be; why there is none. */
  async #permit(): Promise<string | undefined> {
    const { budget, incidents, now } = this.#options;
    const giveUp = AbortSignal.any([this.#end.signal, AbortSignal.timeout(budget.waitMs)]);
    const over = new Promise<void>((resolve) => giveUp.addEventListener('abort', () => resolve(), { once: true }));
    for (;;) {
      const load = { incidents: incidents.running, scheduled: this.#active };
      const verdict = judge(budget, { spent: this.#spent, load, now: now() });
      if (verdict.kind === 'skip') return verdict.why;
      if (this.#end.signal.aborted) return 'the agent is stopping';
      if (verdict.kind === 'go') {
        this.#active += 1;
        return undefined;
      }
      if (giveUp.aborted) return `${verdict.why}, for longer than waitMs (${budget.waitMs})`;
      await Promise.race([incidents.changed(), this.#freed.promise, over]);
    }
  }

  /** Resolves with what went wrong. The place in the budget is the caller's until then. */
  async #capture(line: Line, tickMs: number, target: ScheduledTarget): Promise<string | undefined> {
    const { captures, now, log } = this.#options;
    const { name } = line.schedule;
    const spent = { atMs: now(), bytes: 0 };
    this.#spent = [...recent(this.#spent, spent.atMs), spent];
    try {
      const handle = await captures.start(requestOf(line.schedule, tickMs, target));
      line.counts.captures += 1;
      let ended: JournalEntry | undefined;
      for await (const event of handle.events()) if (event.kind === 'ended') ended = event.capture;
      for (const stage of ended?.stages ?? []) spent.bytes += stage.storedBytes;
      await this.#note();
      if (ended?.state === 'complete' || ended?.state === 'partial') return undefined;
      line.counts.failures += 1;
      return `the capture ended as ${ended?.state}`;
    } catch (error) {
      if (this.#end.signal.aborted) return undefined;
      line.counts.failures += 1;
      log.warn({ schedule: name, target: target.name, error: explain(error) }, 'scheduled capture not begun');
      return explain(error);
    } finally {
      this.#active -= 1;
      this.#freed.resolve();
      this.#freed = Promise.withResolvers();
    }
  }
}

function requestOf(schedule: ScheduleConfig, tickMs: number, { selector }: ScheduledTarget): CaptureRequest {
  const { name, artifacts, consistency, scope, sinks, keepDays } = schedule;
  return {
    captureId: '',
    selector,
    artifacts: artifacts ?? LIGHT_ARTIFACTS,
    ...(artifacts === undefined ? { artifactsByDefault: true } : {}),
    caseId: schedule.case,
    reason: schedule.reason,
    consistency,
    scope,
    ...(sinks === undefined ? {} : { sinks }),
    requester: { trigger: SCHEDULE_TRIGGER, identity: name },
    schedule: { name, tick: new Date(tickMs).toISOString(), ...(keepDays === undefined ? {} : { keepDays }) },
  };
}
