import type { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { type ErrorCode, isExhibitError } from '../../evidence/error.ts';
import { ARTIFACTS, type ArtifactName } from '../../evidence/layout.ts';
import type { Execute, Told } from '../capture/captures.ts';
import { TRIGGERS } from '../policy.ts';
import { GAP_REASONS } from './gap-reason.ts';

/** What captures do, counted by watching them. No label is anything that a container, a request or a person can choose. */

type Prom = typeof import('prom-client');

/** Stages beside the artifacts. */
const STAGES: readonly string[] = [...ARTIFACTS, 'seal', 'queue'];
/** From a list of processes to an hour of memory over a slow line. */
const STAGE_BUCKETS_S = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600];
/** kubelet's probes begin to fail after a second; `freeze.deadlineMs` is a minute at most. */
const STALL_BUCKETS_S = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60];

const oneOf = (known: readonly string[], name: string | undefined): string =>
  name !== undefined && known.includes(name) ? name : 'other';

export class CaptureMetrics {
  readonly #running = new Set<string>();
  readonly #ended: Counter<'trigger' | 'outcome'>;
  readonly #notBegun: Counter<'trigger' | 'reason'>;
  readonly #refused: Counter<'trigger' | 'rule'>;
  readonly #active: Gauge;
  readonly #stages: Counter<'artifact' | 'status'>;
  readonly #stageSeconds: Histogram<'artifact'>;
  readonly #stallSeconds: Histogram<'artifact'>;
  readonly #readBytes: Counter<'artifact'>;
  readonly #storedBytes: Counter<'artifact'>;
  readonly #gaps: Counter<'artifact' | 'reason'>;

  constructor({ Counter, Gauge, Histogram }: Prom, registry: Registry) {
    const registers = [registry];
    this.#ended = new Counter({
      name: 'exhibit_captures_total',
      help: 'Captures that ended, by what asked for them and how they ended',
      labelNames: ['trigger', 'outcome'],
      registers,
    });
    this.#notBegun = new Counter({
      name: 'exhibit_captures_not_begun_total',
      help: 'Captures that were asked for and not begun, by the code of the error',
      labelNames: ['trigger', 'reason'],
      registers,
    });
    this.#refused = new Counter({
      name: 'exhibit_policy_refusals_total',
      help: "Captures that the agent's policy refused, by the rule",
      labelNames: ['trigger', 'rule'],
      registers,
    });
    this.#active = new Gauge({
      name: 'exhibit_captures_running',
      help: 'Captures under way, from their acceptance to their seal',
      registers,
    });
    this.#stages = new Counter({
      name: 'exhibit_stages_total',
      help: 'Stages of captures that ended, by artifact and status',
      labelNames: ['artifact', 'status'],
      registers,
    });
    this.#stageSeconds = new Histogram({
      name: 'exhibit_stage_seconds',
      help: 'How long a stage took, by artifact',
      labelNames: ['artifact'],
      buckets: STAGE_BUCKETS_S,
      registers,
    });
    this.#stallSeconds = new Histogram({
      name: 'exhibit_stall_seconds',
      help: 'How long a target stood still for a stage; stages that stopped nothing are not in it',
      labelNames: ['artifact'],
      buckets: STALL_BUCKETS_S,
      registers,
    });
    this.#readBytes = new Counter({
      name: 'exhibit_read_bytes_total',
      help: 'Bytes read of targets and the node, by artifact',
      labelNames: ['artifact'],
      registers,
    });
    this.#storedBytes = new Counter({
      name: 'exhibit_stored_bytes_total',
      help: 'Bytes written towards the sinks, compressed, by artifact; once, however many sinks there are',
      labelNames: ['artifact'],
      registers,
    });
    this.#gaps = new Counter({
      name: 'exhibit_gaps_total',
      help: 'Things that were not captured, by artifact and reason',
      labelNames: ['artifact', 'reason'],
      registers,
    });
    // A rate of what was never there is nothing, and an alert on it silent.
    for (const trigger of TRIGGERS) {
      for (const outcome of OUTCOMES) this.#ended.inc({ trigger, outcome }, 0);
      for (const reason of NOT_OURS) this.#notBegun.inc({ trigger, reason }, 0);
    }
    for (const artifact of STOPPING) this.#stallSeconds.zero({ artifact });
  }

  /** Counts what fails before it is accepted, which watchers of captures never hear of. */
  around(execute: Execute): Execute {
    return async (captureId, request, hooks) => {
      let accepted = false;
      const emit: typeof hooks.emit = (event) => {
        accepted ||= event.kind === 'accepted';
        hooks.emit(event);
      };
      try {
        return await execute(captureId, request, { ...hooks, emit });
      } catch (error) {
        const reason = isExhibitError(error) ? error.code : 'internal';
        if (!accepted) this.#notBegun.inc({ trigger: oneOf(TRIGGERS, request.requester.trigger), reason });
        throw error;
      }
    };
  }

  onRefused(trigger: string, rule: string): void {
    this.#refused.inc({ trigger: oneOf(TRIGGERS, trigger), rule: rule.replace(/^policy\.(triggers\.\w+\.)?/, '') });
  }

  onTold({ entry, event }: Told): void {
    switch (event.kind) {
      case 'accepted':
        this.#running.add(entry.captureId);
        break;
      case 'stage-ended':
        this.#onStage(event);
        break;
      case 'ended':
        // Told again with each sink that took what waited.
        if (!this.#running.delete(entry.captureId)) return;
        this.#ended.inc({ trigger: oneOf(TRIGGERS, entry.trigger), outcome: oneOf(OUTCOMES, entry.state) });
        break;
      default:
        return;
    }
    this.#active.set(this.#running.size);
  }

  #onStage({ result, bytesRead = 0, gaps }: Extract<Told['event'], { kind: 'stage-ended' }>): void {
    const artifact = oneOf(STAGES, result.stage);
    this.#stages.inc({ artifact, status: result.status });
    this.#stageSeconds.observe({ artifact }, result.wallMs / 1000);
    if (result.pauseMs > 0) this.#stallSeconds.observe({ artifact }, result.pauseMs / 1000);
    this.#readBytes.inc({ artifact }, bytesRead);
    this.#storedBytes.inc({ artifact }, result.storedBytes);
    for (const [reason, count] of gaps ?? []) this.#gaps.inc({ artifact, reason: oneOf(GAP_REASONS, reason) }, count);
  }
}

/** What keeps a capture from beginning and is no fault of who asked: the alert is on these. */
const NOT_OURS: readonly ErrorCode[] = [
  'sink-failed',
  'spool-full',
  'runtime-unreachable',
  'runtime-failed',
  'internal',
];
/** Artifacts for which a target is stopped. */
const STOPPING: readonly ArtifactName[] = ['memory', 'checkpoint'];

/** As a capture may end while its agent lives; see CAPTURE_STATES of the journal. */
const OUTCOMES = ['complete', 'partial', 'cancelled', 'truncated', 'failed'];
