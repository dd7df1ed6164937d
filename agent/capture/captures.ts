import { createHash } from 'node:crypto';
import type { Logger } from 'pino';
import { validate as isUuid, v7 as uuidv7 } from 'uuid';
import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import type { ArtifactName } from '../../evidence/layout.ts';
import type { Manifest } from '../../evidence/manifest.ts';
import type { Scope } from '../runtime/runtime.ts';
import type { Delivered } from './delivery.ts';
import type { Journal, JournalEntry, StageResult } from './journal.ts';

/** What a trigger asks for, before anything was looked up. */
export interface CaptureRequest {
  /** Empty: one is made. */
  readonly captureId: string;
  /** The selector as text, for the journal, `request.json` and comparison. */
  readonly selector: string;
  readonly artifacts: readonly ArtifactName[];
  /** What is meant has ended: nobody looks for its processes first. */
  readonly ended?: true;
  /** The request named none, and these are what the configuration says: the policy narrows them, and refuses named ones. */
  readonly artifactsByDefault?: boolean;
  /** To begin in spite of a limit of memory or disk, where the configuration lets this trigger do so (`limits.override`). */
  readonly force?: true;
  readonly caseId: string;
  readonly reason: string;
  readonly consistency: 'frozen' | 'live';
  readonly scope: Scope;
  /** Names of the agent's sinks; absent: those that the configuration says. */
  readonly sinks?: readonly string[];
  /** The number that the exhibit has in its case. */
  readonly exhibitNumber?: string;
  /** Who acquires the evidence, as the requester claims. */
  readonly acquirer?: string;
  readonly requester: { readonly trigger: string; readonly identity: string };
  /** Of a scheduled capture: which one, the time that it is for (RFC 3339), and how long its bundle is worth keeping. */
  readonly schedule?: { readonly name: string; readonly tick: string; readonly keepDays?: number };
}

export type CaptureEvent =
  | {
      kind: 'accepted';
      target: string;
      bundleUrl: string;
      stages: readonly string[];
      /** The target's in Kubernetes; absent outside of it. */
      namespace?: string | undefined;
      /** See JournalEntry. */
      reservedFreezeMs?: number;
    }
  /** `before`: of the stage `queue`, which may be told again: captures that it waits for. */
  | { kind: 'stage-started'; stage: string; before?: number }
  | { kind: 'stage-progress'; stage: string; doneBytes: number; totalBytes: number }
  /** `bytesRead` and `gaps` (how many by reason) are for those who count; absent where nothing was read. */
  | { kind: 'stage-ended'; result: StageResult; bytesRead?: number; gaps?: ReadonlyMap<string, number> }
  | { kind: 'ended'; capture: JournalEntry };

/** What the registry needs to carry one capture out; capture.ts does it, tests fake it. */
export type Execute = (captureId: string, request: CaptureRequest, hooks: CaptureHooks) => Promise<CaptureEnd>;

export interface CaptureEnd {
  readonly state: Manifest['outcome'];
  readonly changes?: JournalEntry['changes'];
}

export interface CaptureHooks {
  readonly signal: AbortSignal;
  emit(event: Exclude<CaptureEvent, { kind: 'ended' }>): void;
  /** Durably noted before the freeze begins, and removed after the thaw. */
  frozen(spec: JournalEntry['frozen']): Promise<void>;
  /** The same for a dump that a runtime was asked for. */
  dumping(dump: JournalEntry['dumping']): Promise<void>;
  /** Sinks in which it will be sealed later. */
  waiting(sinks: readonly string[]): Promise<void>;
}

export interface CaptureHandle {
  readonly captureId: string;
  /** False when the capture was there already. */
  readonly created: boolean;
  /**
   * Everything that happened so far, then what happens until the end. A reader who is too slow misses progress, never
   * another event. Leaving the loop does not end the capture.
   */
  events(): AsyncIterable<CaptureEvent>;
}

/** An event, and what the journal holds of its capture after it. */
export interface Told {
  readonly entry: JournalEntry;
  readonly event: CaptureEvent;
}

export interface Captures {
  /** Resolves when the capture was accepted, its target known; fails with the reason when it was not. */
  start(request: CaptureRequest): Promise<CaptureHandle>;
  /** By the whole id or a prefix that only one has. */
  get(idOrPrefix: string): JournalEntry;
  list(limit: number): readonly JournalEntry[];
  /** Resolves with the ended capture. A capture that has ended is left as it is. */
  cancel(idOrPrefix: string): Promise<JournalEntry>;
  /**
   * What happened so far to the capture of exactly this id; undefined when there is none: it never begins one. Waits for a start
   * that is under way, and fails as it does.
   */
  recall(captureId: string): Promise<readonly Told[] | undefined>;
  /**
   * Every event of every capture from now on, whoever asked for it; `ended` again each time that a sink is done with. Listeners
   * never throw and never wait.
   */
  watch(listener: (told: Told) => void): Disposable;
  /** A capture that had ended was sealed in a sink that it waited for. */
  delivered(news: Delivered): Promise<void>;
  /** No new captures; those running may end until `graceMs` have passed, then they are cancelled and sealed as such. */
  drain(graceMs: number): Promise<void>;
}

interface Run {
  readonly requestKey: string;
  readonly controller: AbortController;
  readonly history: CaptureEvent[];
  /** One wake-up for every reader; replaced at each event. */
  changed: PromiseWithResolvers<void>;
  /** Settles once the outcome of the start is known. */
  readonly accepted: PromiseWithResolvers<void>;
  ended: Promise<JournalEntry | undefined>;
}

/** Progress is kept only as the latest value a stage, so that the history of a long capture stays small. */
function remember(history: CaptureEvent[], event: CaptureEvent): void {
  const last = history.at(-1);
  if (event.kind === 'stage-progress' && last?.kind === 'stage-progress' && last.stage === event.stage) history.pop();
  history.push(event);
}

export function requestKey(request: CaptureRequest): string {
  const { selector, artifacts, caseId, reason, consistency, scope, sinks, exhibitNumber, acquirer } = request;
  const asked: unknown[] = [selector, [...artifacts].sort(), caseId, reason, consistency, scope];
  // Only where given: a request that was made before there were such must still find its capture.
  const more = { ...(sinks === undefined ? {} : { sinks: [...new Set(sinks)].sort() }), exhibitNumber, acquirer };
  if (Object.values(more).some((value) => value !== undefined)) asked.push(more);
  return createHash('sha256').update(JSON.stringify(asked)).digest('hex');
}

export function createCaptures(options: {
  journal: Journal;
  execute: Execute;
  now: () => number;
  log: Logger;
}): Captures {
  const { journal, execute, now, log } = options;
  const running = new Map<string, Run>();
  const listeners = new Set<(told: Told) => void>();
  let draining = false;

  function begin(captureId: string, request: CaptureRequest): Run {
    const run: Run = {
      requestKey: requestKey(request),
      controller: new AbortController(),
      history: [],
      changed: Promise.withResolvers(),
      accepted: Promise.withResolvers(),
      ended: Promise.resolve(undefined),
    };
    running.set(captureId, run);
    run.ended = carryOut(captureId, request, run).finally(() => running.delete(captureId));
    return run;
  }

  async function carryOut(captureId: string, request: CaptureRequest, run: Run): Promise<JournalEntry | undefined> {
    let entry: JournalEntry | undefined;
    const publish = (event: CaptureEvent) => {
      remember(run.history, event);
      const { resolve } = run.changed;
      run.changed = Promise.withResolvers();
      resolve();
      if (entry !== undefined) for (const listener of listeners) listener({ entry, event });
    };
    const update = async (change: Partial<JournalEntry>) => {
      if (entry === undefined) return;
      entry = { ...entry, ...change };
      await journal
        .put(entry)
        .catch((error: unknown) => log.error({ captureId, error: explain(error) }, 'journal not written'));
    };
    const emit = (event: Exclude<CaptureEvent, { kind: 'ended' }>) => {
      if (event.kind === 'accepted') {
        entry = newEntry(captureId, request, event, now());
        void update({});
        run.accepted.resolve();
      }
      if (event.kind === 'stage-ended') void update({ stages: [...(entry?.stages ?? []), event.result] });
      publish(event);
    };
    const frozen = async (spec: JournalEntry['frozen']) => {
      if (entry === undefined) return;
      const { frozen: _, ...rest } = entry;
      entry = spec === undefined ? rest : { ...rest, frozen: spec };
      await journal.put(entry);
    };

    const dumping = async (dump: JournalEntry['dumping']) => {
      if (entry === undefined) return;
      const { dumping: _, ...rest } = entry;
      entry = dump === undefined ? rest : { ...rest, dumping: dump };
      await journal.put(entry);
    };

    const waiting = (sinks: readonly string[]) => update({ waiting: [...sinks] });
    const { signal } = run.controller;

    try {
      const end = await execute(captureId, request, { signal, emit, frozen, dumping, waiting });
      if (end.state === 'complete' || end.state === 'partial') entry = withoutReserve(entry);
      await update({ ...end, finishedAtMs: now() });
    } catch (error) {
      run.accepted.reject(error);
      if (entry === undefined) return undefined;
      log.error({ captureId, error: explain(error) }, 'capture failed');
      await update({
        state: isExhibitError(error, 'cancelled') ? 'cancelled' : 'failed',
        finishedAtMs: now(),
        error: explain(error),
      });
    }
    if (entry !== undefined) publish({ kind: 'ended', capture: entry });
    return entry;
  }

  function find(idOrPrefix: string): JournalEntry {
    const found = journal.entries().filter((entry) => idOrPrefix !== '' && entry.captureId.startsWith(idOrPrefix));
    const [only, other] = found;
    if (only === undefined)
      throw new ExhibitError(
        'capture-not-found',
        `There is no capture ${idOrPrefix} on this node; list them with: exhibit captures`,
      );
    if (other !== undefined) {
      const ids = found.slice(0, 10).map((entry) => entry.captureId);
      throw new ExhibitError(
        'capture-not-found',
        `${idOrPrefix} stands for ${found.length} captures, give more of the id: ${ids.join(', ')}`,
      );
    }
    return only;
  }

  async function start(request: CaptureRequest): Promise<CaptureHandle> {
    const captureId = request.captureId === '' ? uuidv7() : request.captureId.toLowerCase();
    if (!isUuid(captureId))
      throw new ExhibitError(
        'usage',
        `${request.captureId} is not a UUID: leave the id out, or give one made by uuidgen`,
      );
    const there = running.get(captureId);
    const before = journal.get(captureId);
    const knownKey = there?.requestKey ?? before?.requestKey;
    if (knownKey !== undefined && knownKey !== requestKey(request)) {
      throw new ExhibitError(
        'capture-conflict',
        `Capture ${captureId} exists already and asked for something else; use another id`,
      );
    }
    if (there === undefined && before !== undefined) return { captureId, created: false, events: () => ended(before) };
    if (there === undefined && draining)
      throw new ExhibitError('cancelled', 'The agent is stopping and takes no new captures; ask again in a moment');
    const run = there ?? begin(captureId, request);
    await run.accepted.promise;
    return { captureId, created: there === undefined, events: () => follow(run) };
  }

  return {
    start,
    get: find,
    list: (limit) => journal.entries().slice(0, limit),
    cancel: async (idOrPrefix) => {
      const { captureId } = find(idOrPrefix);
      const run = running.get(captureId);
      run?.controller.abort(new ExhibitError('cancelled', 'The capture was cancelled'));
      return (await run?.ended) ?? find(captureId);
    },
    recall: async (captureId) => {
      const run = running.get(captureId);
      await run?.accepted.promise;
      const entry = journal.get(captureId);
      return entry && (run?.history ?? pastOf(entry)).map((event) => ({ entry, event }));
    },
    watch: (listener) => {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    delivered: async ({ captureId, outcome, waiting }) => {
      await running.get(captureId)?.ended;
      const entry = journal.get(captureId);
      if (entry === undefined) return;
      // What was cut while it waited makes less of it than it seemed.
      const state = entry.state === 'complete' || entry.state === 'interrupted' ? outcome : entry.state;
      const after: JournalEntry = { ...entry, state, waiting: [...waiting] };
      await journal.put(after);
      for (const listener of listeners) listener({ entry: after, event: { kind: 'ended', capture: after } });
    },
    drain: async (graceMs) => {
      draining = true;
      const timer = setTimeout(() => {
        for (const run of running.values())
          run.controller.abort(new ExhibitError('cancelled', 'The agent was stopped during the capture'));
      }, graceMs);
      await Promise.allSettled([...running.values()].map((run) => run.ended));
      clearTimeout(timer);
    },
  };
}

/** What its target stood still is known now, stage by stage. */
function withoutReserve(entry: JournalEntry | undefined): JournalEntry | undefined {
  if (entry === undefined) return undefined;
  const { reservedFreezeMs: _, ...rest } = entry;
  return rest;
}

/** Of a capture that was just accepted. */
export function newEntry(
  captureId: string,
  request: CaptureRequest,
  accepted: Extract<CaptureEvent, { kind: 'accepted' }>,
  startedAtMs: number,
): JournalEntry {
  return {
    captureId,
    requestKey: requestKey(request),
    trigger: request.requester.trigger,
    ...(accepted.reservedFreezeMs === undefined ? {} : { reservedFreezeMs: accepted.reservedFreezeMs }),
    state: 'running',
    target: accepted.target,
    scope: request.scope,
    caseId: request.caseId,
    reason: request.reason,
    bundleUrl: accepted.bundleUrl,
    startedAtMs,
    finishedAtMs: 0,
    error: '',
    stages: [],
    asked: {
      ...request.requester,
      selector: request.selector,
      artifacts: [...request.artifacts],
      namespace: accepted.namespace ?? '',
    },
  };
}

async function* ended(capture: JournalEntry): AsyncIterable<CaptureEvent> {
  yield* pastOf(capture);
}

/** Of a capture that does not run. */
function pastOf(capture: JournalEntry): CaptureEvent[] {
  const { target, bundleUrl, stages } = capture;
  return [
    { kind: 'accepted', target, bundleUrl, stages: stages.map((stage) => stage.stage) },
    { kind: 'ended', capture },
  ];
}

async function* follow(run: Run): AsyncIterable<CaptureEvent> {
  const seen = new Set<CaptureEvent>();
  for (;;) {
    const { promise } = run.changed;
    for (const event of run.history.filter((one) => !seen.has(one))) {
      seen.add(event);
      yield event;
      if (event.kind === 'ended') return;
    }
    await promise;
  }
}
