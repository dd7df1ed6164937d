import type { Logger } from 'pino';
import { ExhibitError } from '../../evidence/error.ts';
import type { ArtifactName } from '../../evidence/layout.ts';
import type { Config } from '../config.ts';
import type { Host } from '../host/host.ts';
import { judge, limitsNamespaces, type PastCapture, type Verdict } from '../policy.ts';
import type { Runtime, Target } from '../runtime/runtime.ts';
import type { CaptureRequest } from './captures.ts';
import type { Journal, JournalEntry } from './journal.ts';
import { whoseTarget } from './whose.ts';

/**
 * The agent's policy, applied: every capture of every trigger passes here when its target is known, before anything is read
 * of it and before anything is written. What it may use up is reserved in the same moment, so that two at once do not get the
 * same rest of a budget.
 */
export interface Admission {
  /** The permit is held until the capture ends. @throws ExhibitError `refused`, with the rule in its sentence. */
  admit(captureId: string, request: CaptureRequest, found: Found, signal: AbortSignal): Promise<Permit>;
}

export interface Found {
  readonly runtime: Runtime;
  readonly target: Target;
}

export interface Permit extends Disposable {
  readonly artifacts: readonly ArtifactName[];
  readonly left: ReadonlyMap<ArtifactName, string>;
  /** Undefined: all. */
  readonly sinks: readonly string[] | undefined;
  readonly freezeDeadlineMs: number;
  /** Why the target must not be stopped; undefined: as asked. */
  readonly live: string | undefined;
  /** What the journal notes as spent until the capture has ended well. 0 where nothing is stopped. */
  readonly reservedFreezeMs: number;
}

export interface AdmissionParts {
  readonly config: Config;
  readonly host: Host;
  readonly sinks: readonly { readonly name: string }[];
  /** Those that can say which containers there are. */
  readonly runtimes: readonly Runtime[];
  readonly journal: Pick<Journal, 'entries'>;
  readonly now: () => number;
  readonly log: Logger;
  /** For those who count. */
  readonly onRefused?: ((trigger: string, rule: string) => void) | undefined;
}

interface Held {
  readonly trigger: string;
  readonly startedAtMs: number;
  readonly reservedFreezeMs: number;
}

export function openAdmission(parts: AdmissionParts): Admission {
  const { config, sinks, journal, now, log } = parts;
  const held = new Map<string, Held>();
  const history = (): PastCapture[] => [
    ...journal
      .entries()
      .filter(({ captureId }) => !held.has(captureId))
      .map(pastCapture),
    ...[...held.values()].map(({ reservedFreezeMs, ...one }) => ({
      ...one,
      endedAtMs: undefined,
      pausedMs: reservedFreezeMs,
    })),
  ];
  return {
    async admit(captureId, request, found, signal) {
      const { trigger } = request.requester;
      const target = await whoseTarget(parts, found.target, limitsNamespaces(config.policy, trigger), signal);
      const asked = {
        ...{ trigger, target },
        artifacts: request.artifacts,
        artifactsByDefault: request.artifactsByDefault === true,
        sinks: request.sinks ?? config.defaultSinks ?? sinks.map(({ name }) => name),
        sinksByDefault: request.sinks === undefined,
        freezing: freezingOf(request, found),
        freezeDeadlineMs: config.freeze.deadlineMs,
      };
      // From here to the note no other capture is judged.
      const startedAtMs = now();
      const verdict = judge(config.policy, asked, history(), startedAtMs);
      if (verdict.kind === 'refused') {
        parts.onRefused?.(trigger, verdict.rule);
        throw refusal(log, captureId, request, verdict);
      }
      const stops = verdict.live === undefined && asked.freezing.some((name) => verdict.artifacts.includes(name));
      const reservedFreezeMs = stops ? verdict.freezeDeadlineMs : 0;
      held.set(captureId, { trigger, startedAtMs, reservedFreezeMs });
      return { ...verdict, live: verdict.live, reservedFreezeMs, [Symbol.dispose]: () => void held.delete(captureId) };
    },
  };
}

/** For a rehearsal, which is nobody's capture. */
export function admitAll(config: Config): Admission {
  return {
    admit: async (_captureId, { artifacts, sinks }) => ({
      ...{ artifacts, sinks, left: new Map(), live: undefined, reservedFreezeMs: 0 },
      freezeDeadlineMs: config.freeze.deadlineMs,
      [Symbol.dispose]: () => undefined,
    }),
  };
}

/** What the journal says of it: where its end was not a good one, all that it may have taken. */
function pastCapture({ trigger, startedAtMs, finishedAtMs, stages, reservedFreezeMs = 0 }: JournalEntry): PastCapture {
  const measuredMs = stages.reduce((sum, { pauseMs }) => sum + pauseMs, 0);
  const endedAtMs = Math.max(startedAtMs, finishedAtMs);
  return { trigger, startedAtMs, endedAtMs, pausedMs: Math.max(measuredMs, reservedFreezeMs) };
}

function freezingOf({ artifacts, consistency }: CaptureRequest, { runtime, target }: Found): ArtifactName[] {
  if (target.record.ended !== undefined) return [];
  const frozen: readonly ArtifactName[] = consistency === 'frozen' && target.freeze !== undefined ? ['memory'] : [];
  const dumped: readonly ArtifactName[] = runtime.rungs.length > 0 ? ['checkpoint'] : [];
  return [...frozen, ...dumped].filter((name) => artifacts.includes(name));
}

function refusal(
  log: Logger,
  captureId: string,
  { selector, requester }: CaptureRequest,
  { rule, why }: Extract<Verdict, { kind: 'refused' }>,
): ExhibitError {
  log.warn({ captureId, selector, requester, rule, why }, 'capture refused by the policy');
  return new ExhibitError('refused', `The policy of this agent refuses the capture: ${rule}: ${why}`);
}
