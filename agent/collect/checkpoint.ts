import type { PlannedRung, RungRecord } from '../../evidence/dump.ts';
import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import { asHostPath, type CheckpointRung, type HostPath } from '../runtime/runtime.ts';
import { DUMP_LOG } from './checkpoint-archive.ts';
import { type Attempt, type AttemptOptions, CHECKPOINT_OBJECT } from './checkpoint-attempt.ts';
import { criuErrors, criuWhy, lastLines } from './checkpoint-criu.ts';
import { attemptArchive } from './checkpoint-fifo.ts';
import { attemptImages } from './checkpoint-images.ts';
import type { CollectContext, Collector } from './collector.ts';

/** CRIU's logs of rungs that failed: `<rung>/dump.log`. */
export const LOGS_OBJECT = 'checkpoint-logs.tar.zst';
const DEFAULT_RUN_DIR = asHostPath('/run/exhibit');
/**
 * How long a cancelled capture waits for the runtime to finish. It cannot be told to stop: that kills runc in the middle and
 * can leave the task paused. Below the agent's own grace at shutdown; the reading goes on in the background after it.
 */
export const ABORT_WAIT_MS = 15_000;

export interface CheckpointOptions {
  /** Where FIFOs and the tmpfs are made: on a tmpfs, seen under this path by the runtime too. `/run/exhibit` unless told. */
  readonly runDir?: HostPath;
  readonly abortWaitMs?: number;
}

/**
 * A CRIU checkpoint made by the runtime, by the first way of the plan's ladder that works. Facts: `preflight`, what CRIU was
 * expected to refuse; `rungs`, one record for each (RungRecord); and `checkpointBy`. One that fails leaves the container
 * running; when all do, CRIU's logs are what is stored.
 */
export function createCheckpointCollector(options: CheckpointOptions = {}): Collector {
  return { artifact: 'checkpoint', collect: (context) => collect(context, options) };
}

async function collect(context: CollectContext, options: CheckpointOptions): Promise<void> {
  const { runDir = DEFAULT_RUN_DIR, abortWaitMs = ABORT_WAIT_MS } = options;
  const plan = context.checkpoint;
  if (plan === undefined) throw new ExhibitError('internal', 'a checkpoint was asked for without a plan for it');
  context.signal.throwIfAborted();
  context.fact('preflight', plan.preflight);
  const climb = new Climb(context, {
    runDir,
    abortWaitMs,
    tmpfsBytes: plan.tmpfsBytes,
    hugePages: plan.hugePages,
    expectedBytes: Math.min(plan.preflight.dumpBytes, plan.tmpfsBytes),
  });
  for (const planned of plan.ladder) {
    const why = climb.whyNot(planned);
    if (why === undefined) await climb.try(planned);
    else climb.skip(planned, why);
  }
  await climb.storeLogs();
  climb.end();
}

/** One way up the ladder: what was tried so far. */
class Climb {
  readonly #context: CollectContext;
  readonly #options: AttemptOptions;
  readonly #records: RungRecord[] = [];
  readonly #logs: { rung: string; log: Buffer }[] = [];
  #reached: string | undefined;
  #tried = false;
  readonly #failures: ExhibitError[] = [];

  constructor(context: CollectContext, options: AttemptOptions) {
    this.#context = context;
    this.#options = options;
  }

  /** Why this rung is left out, or undefined when it is to be tried. */
  whyNot({ expected, askAnyway }: PlannedRung): string | undefined {
    if (this.#reached !== undefined) return `${this.#reached} worked`;
    if (expected !== 'fails') return undefined;
    if (!askAnyway) return 'it is expected to fail, and the plan does not ask for it';
    return this.#tried ? 'it is expected to fail, and another was tried for CRIU’s own words' : undefined;
  }

  skip(planned: PlannedRung, error: string): void {
    this.#tell({ ...planned, outcome: 'not-tried', wallMs: 0, error });
  }

  async try(planned: PlannedRung): Promise<void> {
    const { runtime, paused, log } = this.#context;
    const rung = runtime.rungs.find(({ name }) => name === planned.rung);
    if (rung === undefined) return this.skip(planned, `the ${runtime.kind} runtime does not offer it`);
    const attempt = await this.#attempt(rung, planned);
    if (attempt.stallMs !== undefined) paused(attempt.stallMs);
    const record = recordOf(planned, attempt);
    this.#tell(record);
    if (attempt.failure === undefined) this.#reached = planned.rung;
    else {
      log.warn({ rung: planned.rung, error: record.error }, 'checkpoint rung failed');
      this.#failures.push(explained(attempt.failure, record));
      if (record.outcome === 'failed') this.#tried = true;
      if (attempt.log !== undefined) this.#logs.push({ rung: planned.rung, log: attempt.log });
    }
  }

  /** What kept a rung from being tried at all (no FIFO, no memory, no journal) is a failure of that rung alone. */
  async #attempt(rung: CheckpointRung, planned: PlannedRung): Promise<Attempt> {
    const { signal } = this.#context;
    try {
      return await attemptBy(this.#context, rung, planned, this.#options);
    } catch (failure) {
      if (signal.aborted || isExhibitError(failure, 'sink-failed') || isExhibitError(failure, 'sink-exists'))
        throw failure;
      return { failure, wallMs: 0, stallMs: undefined, log: undefined, stats: undefined };
    }
  }

  #tell(record: RungRecord): void {
    this.#records.push(record);
    this.#context.fact('rungs', this.#records);
  }

  async storeLogs(): Promise<void> {
    if (this.#logs.length === 0) return;
    const mtimeNs = BigInt(this.#context.now()) * 1_000_000n;
    await using archive = await this.#context.archive(LOGS_OBJECT);
    for (const { rung, log } of this.#logs)
      await archive.add({ path: `${rung}/${DUMP_LOG}`, type: 'file', sizeBytes: log.length, mtimeNs }, log);
    await archive.commit();
  }

  /** Throws when no rung was reached, with the reason of each. */
  end(): void {
    if (this.#reached !== undefined) this.#context.fact('checkpointBy', this.#reached);
    else throw noCheckpoint(this.#failures, this.#records);
  }
}

function attemptBy(
  context: CollectContext,
  rung: CheckpointRung,
  planned: PlannedRung,
  options: AttemptOptions,
): Promise<Attempt> {
  switch (rung.delivers) {
    case 'archive':
      return attemptArchive(context, rung, options);
    case 'images':
      return attemptImages(context, rung, planned, options);
    default:
      return rung satisfies never;
  }
}

function recordOf(planned: PlannedRung, { failure, wallMs, stallMs, log, stats }: Attempt): RungRecord {
  const text = log?.toString('latin1') ?? '';
  const worked = failure === undefined;
  const where = worked ? `${CHECKPOINT_OBJECT} ${DUMP_LOG}` : `${LOGS_OBJECT} ${planned.rung}/${DUMP_LOG}`;
  const criu = {
    errors: worked ? [] : criuErrors(text),
    lastLines: worked || text === '' ? [] : lastLines(text),
    ...(stats === undefined ? {} : { stats }),
    ...(worked || log !== undefined ? { log: where } : {}),
  };
  return {
    ...planned,
    outcome: worked ? 'worked' : isExhibitError(failure, 'runtime-unsupported') ? 'not-offered' : 'failed',
    wallMs: Math.round(wallMs),
    ...(stallMs === undefined ? {} : { stallMs: Math.round(stallMs * 1000) / 1000 }),
    ...(worked ? {} : { error: messageOf(failure) }),
    ...(worked || log !== undefined || stats !== undefined ? { criu } : {}),
  };
}

function noCheckpoint(failures: readonly ExhibitError[], records: readonly RungRecord[]): ExhibitError {
  const first = failures.find(({ code }) => code !== 'runtime-unsupported') ?? failures[0];
  if (first !== undefined) {
    const words = failures.map(({ message }) => message).join('; ');
    return new ExhibitError(first.code, `no checkpoint: ${words}`, { cause: new AggregateError(failures, words) });
  }
  const reasons = records.map(({ rung, reasons: why, error }) => `${rung}: ${[...why, error].join(', ')}`);
  const why = reasons.join('; ') || 'checkpoint.rungs allows no way that the runtime offers';
  return new ExhibitError('runtime-unsupported', `no checkpoint was tried: ${why}`);
}

function explained(failure: unknown, { rung, criu }: RungRecord): ExhibitError {
  const code = isExhibitError(failure) ? failure.code : 'runtime-failed';
  const reason = criuWhy(criu?.errors ?? []);
  const why = reason === undefined ? messageOf(failure) : `CRIU says: ${reason}`;
  return new ExhibitError(code, `${rung}: ${why}`, { cause: failure });
}

/** Without the causes, which repeat the runtime's words. */
function messageOf(error: unknown): string {
  return isExhibitError(error) ? error.message : explain(error);
}
