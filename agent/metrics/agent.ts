import type { Registry } from 'prom-client';
import type { Captures, Execute } from '../capture/captures.ts';
import type { LimitNumbers } from '../limits.ts';
import type { Readiness } from '../readiness.ts';
import { S3_ERROR_KINDS, type S3Attempt } from '../sink/s3-watch.ts';
import type { ControllerStatus } from '../trigger/controller.ts';
import type { ScheduleStatus } from '../trigger/schedule.ts';
import { CaptureMetrics } from './captures.ts';
import { certificateEndMs } from './certificate.ts';
import { limitMetrics } from './limits.ts';
import { processMetrics } from './process.ts';

/**
 * What the agent tells Prometheus: docs/metrics.md has every metric, and a test holds it to this. Counted in one place, by watching
 * captures, attempts at S3 and how triggers stand.
 */
export interface AgentMetrics extends Disposable {
  around(execute: Execute): Execute;
  onRefused(trigger: string, rule: string): void;
  onSeal(sink: string, whole: boolean): void;
  /** Who counts the attempts at this sink. */
  s3Attempts(sink: string): (attempt: S3Attempt) => void;
  /** Everything that is only there once the agent is. */
  watch(sources: AgentSources): void;
  text(): Promise<{ readonly text: string; readonly contentType: string }>;
  readonly registry: Registry;
}

export interface AgentSources {
  readonly captures: Pick<Captures, 'watch' | 'list'>;
  readonly readiness: Pick<Readiness, 'now'>;
  /** `limitBytes`: what it may hold now. */
  readonly spool: () => Promise<{ readonly usedBytes: number; readonly limitBytes: number }>;
  /** What its limits did. */
  readonly limits: () => LimitNumbers;
  /** The certificate that the agent shows to the controller, PEM; undefined: there is no controller. */
  readonly certificateFile: string | undefined;
  readonly status: {
    readonly controller?: () => ControllerStatus | undefined;
    readonly schedules?: () => readonly ScheduleStatus[];
  };
}

/** The library is loaded here alone: an agent without the port does without it. */
export async function openAgentMetrics(
  about: {
    readonly version: string;
    /** Names of all sinks. */
    readonly sinks: readonly string[];
    /** Names of those that are S3: a failure is the first change of a number that was there. */
    readonly s3Sinks: readonly string[];
  },
  now: () => number = Date.now,
): Promise<AgentMetrics> {
  const prom = await import('prom-client');
  const registry = new prom.Registry();
  const registers = [registry];
  const captures = new CaptureMetrics(prom, registry);
  const { requests, errors, retries } = s3Metrics(prom, registry);
  const seals = new prom.Counter({
    name: 'exhibit_seals_total',
    help: 'Seals that were made, by sink; state not-whole: a key did not sign, or there is no timestamp',
    labelNames: ['sink', 'state'],
    registers,
  });
  const watched = new DisposableStack();
  processMetrics(prom, registry, about);
  for (const sink of about.s3Sinks) for (const kind of S3_ERROR_KINDS) errors.inc({ sink, kind }, 0);
  for (const sink of about.sinks) for (const state of ['whole', 'not-whole']) seals.inc({ sink, state }, 0);
  return {
    registry,
    around: (execute) => captures.around(execute),
    onRefused: (trigger, rule) => captures.onRefused(trigger, rule),
    onSeal: (sink, whole) => seals.inc({ sink, state: whole ? 'whole' : 'not-whole' }),
    s3Attempts:
      (sink) =>
      ({ call, error, isRetry }) => {
        requests.inc({ sink, call });
        if (isRetry) retries.inc({ sink, call });
        if (error !== undefined) errors.inc({ sink, kind: error });
      },
    watch(sources) {
      watched.use(sources.captures.watch((told) => captures.onTold(told)));
      stateMetrics(prom, registers, sources);
      limitMetrics(prom, registers, sources.limits);
      if (sources.certificateFile !== undefined) certificateMetrics(prom, registers, sources.certificateFile, now);
      if (sources.status.controller !== undefined) streamMetrics(prom, registers, sources.status.controller, now);
      if (sources.status.schedules !== undefined) scheduleMetrics(prom, registers, sources.status.schedules, now);
    },
    text: async () => ({ text: await registry.metrics(), contentType: registry.contentType }),
    [Symbol.dispose]: () => {
      watched.dispose();
      registry.clear();
    },
  };
}

type Prom = typeof import('prom-client');

function s3Metrics({ Counter }: Prom, registry: Registry) {
  const registers = [registry];
  return {
    requests: new Counter({
      name: 'exhibit_s3_requests_total',
      help: 'Attempts of requests that write evidence, by sink and call',
      labelNames: ['sink', 'call'],
      registers,
    }),
    errors: new Counter({
      name: 'exhibit_s3_errors_total',
      help: `Attempts that failed, by sink and kind: ${S3_ERROR_KINDS.join(', ')}`,
      labelNames: ['sink', 'kind'],
      registers,
    }),
    retries: new Counter({
      name: 'exhibit_s3_retries_total',
      help: 'Attempts of a request that had been tried before, by sink and call',
      labelNames: ['sink', 'call'],
      registers,
    }),
  };
}

function stateMetrics({ Gauge }: Prom, registers: Registry[], { captures, readiness, spool }: AgentSources): void {
  new Gauge({
    name: 'exhibit_ready',
    help: '1 when a capture would work, as /readyz says',
    registers,
    collect() {
      this.set(readiness.now().ready ? 1 : 0);
    },
  });
  new Gauge({
    name: 'exhibit_spool_bytes',
    help: 'What the spool and the notes on captures hold now',
    registers,
    async collect() {
      this.set((await spool()).usedBytes);
    },
  });
  new Gauge({
    name: 'exhibit_spool_limit_bytes',
    help: 'What the spool may hold now: less than configured where memory is short',
    registers,
    async collect() {
      this.set((await spool()).limitBytes);
    },
  });
  new Gauge({
    name: 'exhibit_journal_entries',
    help: 'Captures that the journal remembers',
    registers,
    collect() {
      this.set(captures.list(Number.POSITIVE_INFINITY).length);
    },
  });
  new Gauge({
    name: 'exhibit_captures_waiting',
    help: 'Captures that ended and are not sealed in all of their sinks yet',
    registers,
    collect() {
      const entries = captures.list(Number.POSITIVE_INFINITY);
      this.set(entries.filter(({ waiting = [] }) => waiting.length > 0).length);
    },
  });
}

function streamMetrics(
  { Counter, Gauge }: Prom,
  registers: Registry[],
  status: () => ControllerStatus | undefined,
  now: () => number,
): void {
  new Gauge({
    name: 'exhibit_controller_stream_up',
    help: '1 while the controller has taken the agent in',
    registers,
    collect() {
      this.set(status()?.upSinceMs === undefined ? 0 : 1);
    },
  });
  new Gauge({
    name: 'exhibit_controller_stream_seconds',
    help: 'How long the stream has been up; 0 while it is down',
    registers,
    collect() {
      const upSinceMs = status()?.upSinceMs;
      this.set(upSinceMs === undefined ? 0 : Math.max(0, now() - upSinceMs) / 1000);
    },
  });
  new Counter({
    name: 'exhibit_controller_connects_total',
    help: 'Streams that the controller took in since the agent began; all but the first are reconnects',
    registers,
    collect() {
      this.reset();
      this.inc(status()?.tally?.welcomes ?? 0);
    },
  });
  new Counter({
    name: 'exhibit_controller_disconnects_total',
    help: 'Streams to the controller that ended or never came to be',
    registers,
    collect() {
      this.reset();
      this.inc(status()?.tally?.ends ?? 0);
    },
  });
}

function certificateMetrics({ Gauge }: Prom, registers: Registry[], file: string, now: () => number): void {
  new Gauge({
    name: 'exhibit_agent_certificate_expiry_seconds',
    help: 'How long the certificate that the agent shows to the controller is still valid, as its file is now',
    registers,
    async collect() {
      // One that cannot be read has no end, and not that of before.
      this.remove();
      const endMs = await certificateEndMs(file);
      if (endMs !== undefined) this.set((endMs - now()) / 1000);
    },
  });
}

function scheduleMetrics(
  { Counter, Gauge }: Prom,
  registers: Registry[],
  status: () => readonly ScheduleStatus[],
  now: () => number,
): void {
  new Gauge({
    name: 'exhibit_schedule_lag_seconds',
    help: 'How late the last run of a schedule began, its jitter not counted; 0 before the first',
    labelNames: ['schedule'],
    registers,
    collect() {
      for (const { name, lateMs } of status()) this.set({ schedule: name }, (lateMs ?? 0) / 1000);
    },
  });
  new Gauge({
    name: 'exhibit_schedule_overdue_seconds',
    help: 'For how long the next run of a schedule should have begun; 0 while its time is to come',
    labelNames: ['schedule'],
    registers,
    collect() {
      for (const { name, nextMs } of status())
        this.set({ schedule: name }, Math.max(0, now() - (nextMs ?? now())) / 1000);
    },
  });
  new Counter({
    name: 'exhibit_schedule_runs_total',
    help: 'Runs of schedules that began, by schedule',
    labelNames: ['schedule'],
    registers,
    collect() {
      this.reset();
      for (const { name, counts } of status()) this.inc({ schedule: name }, counts.runs);
    },
  });
  new Counter({
    name: 'exhibit_schedule_left_out_total',
    help: 'Runs and captures of schedules that were left out: missed, overlapped, over-budget, or failed',
    labelNames: ['schedule', 'reason'],
    registers,
    collect() {
      this.reset();
      for (const { name: schedule, counts } of status()) {
        this.inc({ schedule, reason: 'missed' }, counts.missed);
        this.inc({ schedule, reason: 'overlapped' }, counts.overlapped);
        this.inc({ schedule, reason: 'over-budget' }, counts.overBudget);
        this.inc({ schedule, reason: 'failed' }, counts.failures);
      }
    },
  });
}
