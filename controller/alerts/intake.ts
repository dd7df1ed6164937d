import { createHash } from 'node:crypto';
import type { Logger } from 'pino';
import { parseSelector, selectorToProto } from '../../agent/runtime/select.ts';
import { type ErrorCode, ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import type { CreateCaptureRequest__Output } from '../../proto/gen/exhibit/controller/v1/CreateCaptureRequest.ts';
import type { Api, CallContext } from '../api/api.ts';
import { fromJson, typesOf } from '../api/http-messages.ts';
import type { Store } from '../store/store.ts';
import type { Alert } from './alert.ts';
import { caseFor } from './case.ts';
import type { AlertsConfig, CaptureConfig, RuleConfig } from './config.ts';
import type { Ledger } from './ledger.ts';
import { type Aim, decide } from './rules.ts';
import { fillReason, shown } from './template.ts';

/** From an alert to its captures: once for each target, and never more than the budgets allow. */
export interface Intake {
  /** Never throws; the outcomes of the alert's targets, or the one that says why it has none. */
  handle(alert: Alert, sourceName: string, signal: AbortSignal): Promise<readonly Outcome[]>;
}

export const OUTCOMES = [
  'captured',
  /** It matched; the same came before. */
  'duplicate',
  'over-budget',
  'ignored',
  /** The alert names nothing that could be captured. */
  'no-target',
  /** What it names is not there any more. */
  'gone',
  /** The source's grants do not reach there. */
  'forbidden',
  /** Worth another try: the sender is asked for one. */
  'failed',
  /** Its turn comes after the answer. */
  'pending',
] as const;

export interface Outcome {
  readonly alert: string;
  readonly outcome: (typeof OUTCOMES)[number];
  readonly rule?: string;
  readonly target?: string;
  readonly captureIds?: readonly string[];
  readonly note?: string;
}

export interface IntakeParts {
  readonly api: Pick<Api, 'CreateCapture' | 'GetCase' | 'OpenCase'>;
  readonly store: Pick<Store, 'claim' | 'spend'>;
  readonly alerts: AlertsConfig;
  readonly ledger: Ledger;
  readonly log: Logger;
  readonly now: () => number;
}

const HOUR_MS = 3_600_000;
/** Claims that came to nothing may be tried again; the oldest are forgotten, and are duplicates then until their window is over. */
const MAX_RELEASED = 10_000;

interface Work {
  readonly alert: Alert;
  readonly source: string;
  readonly rule: RuleConfig;
  readonly capture: CaptureConfig;
  readonly context: CallContext;
}

export function createIntake(parts: IntakeParts): Intake {
  const { alerts, now } = parts;
  const released = new Set<string>();
  return {
    handle: async (alert, sourceName, signal) => {
      const source = alerts.sources[sourceName];
      if (source === undefined) return [];
      const decision = decide(alert, source, sourceName, alerts.rules, now());
      const id = shown(alert.id);
      if (decision.kind !== 'capture') {
        const outcome = decision.kind === 'ignore' ? 'ignored' : 'no-target';
        const told: Outcome = {
          alert: id,
          outcome,
          note: decision.note,
          ...(decision.rule === '' ? {} : { rule: decision.rule }),
        };
        tell(parts.ledger, alert, sourceName, decision.rule, told);
        return [told];
      }
      const { rule, capture, targets } = decision;
      const grants = source.grants.map((grant) => ({ role: 'responder' as const, ...grant }));
      const caller = { name: actorOf(sourceName, rule.name), by: 'alert' as const, grants };
      const work = { alert, source: sourceName, rule, capture, context: { caller, signal } };
      const outcomes: Outcome[] = [];
      for (const aim of targets) {
        const told = await aimed(parts, work, aim, released);
        tell(parts.ledger, alert, sourceName, rule.name, told);
        outcomes.push(told);
      }
      return outcomes;
    },
  };
}

export const actorOf = (source: string, rule: string): string =>
  rule === '' ? `alert:${source}` : `alert:${source}/${rule}`;

/** One target: is it new, is there budget, and then the capture. */
async function aimed(parts: IntakeParts, work: Work, aim: Aim, released: Set<string>): Promise<Outcome> {
  const { alert, source, rule } = work;
  const base = { alert: shown(alert.id), rule: rule.name, target: aim.target };
  const key = digest('alert', source, rule.name, alert.cluster, aim.target);
  const release = (): void => {
    released.add(key);
    const oldest = released.size > MAX_RELEASED ? released.values().next().value : undefined;
    if (oldest !== undefined) released.delete(oldest);
  };
  try {
    const isFirst = await parts.store.claim(key, parts.now(), parts.alerts.duplicateWindowMs);
    if (!isFirst && !released.delete(key)) return { ...base, outcome: 'duplicate' };
    const empty = await spendAll(parts, work, aim.maxTargets);
    if (empty !== undefined) {
      release();
      return { ...base, outcome: 'over-budget', note: empty };
    }
    return { ...base, ...(await capture(parts, work, aim, key)) };
  } catch (error) {
    const outcome = outcomeOf(error);
    if (outcome !== 'gone') release();
    if (!isExhibitError(error))
      parts.log.error({ err: error, source, rule: rule.name }, 'an alert could not be handled');
    const note = isExhibitError(error) ? shown(explain(error)) : "the controller's log says why";
    return { ...base, outcome, note };
  }
}

/** The narrowest first, so that one noisy rule does not eat what all share. Says which is empty. */
async function spendAll({ store, alerts, now }: IntakeParts, work: Work, amount: number): Promise<string | undefined> {
  const budgets: [name: string, most: number, words: string][] = [
    [`alert:rule:${work.rule.name}`, work.rule.perHour, `the rule's ${work.rule.perHour} captures an hour`],
    [`alert:source:${work.source}`, alerts.sources[work.source]?.perHour ?? 0, "the source's captures an hour"],
    ['alert:all', alerts.perHour, 'the captures of all alerts in an hour'],
  ];
  for (const [name, most, words] of budgets) {
    if (!(await store.spend(name, amount, { most, windowMs: HOUR_MS }, now()))) return `used up: ${words}`;
  }
  return undefined;
}

async function capture(
  parts: IntakeParts,
  work: Work,
  aim: Aim,
  key: string,
): Promise<Pick<Outcome, 'outcome' | 'captureIds' | 'note'>> {
  const caseTemplate = 'capture' in work.rule.do ? work.rule.do.case : undefined;
  const { caseId, note } = await caseFor(parts.api, caseTemplate, work.alert, work.source, work.context);
  try {
    return {
      ...(await create(parts, work, aim.target, aim.maxTargets, caseId, key)),
      ...(note === undefined ? {} : { note }),
    };
  } catch (error) {
    if (aim.pod === undefined || outcomeOf(error) !== 'gone') throw error;
    const podWork = { ...work, capture: { ...work.capture, scope: 'pod' as const } };
    const made = await create(parts, podWork, aim.pod, 1, caseId, `${key}:pod`);
    return { ...made, note: `the container is gone; its pod ${aim.pod} was captured instead` };
  }
}

async function create(parts: IntakeParts, work: Work, target: string, maxTargets: number, caseId: string, key: string) {
  const { alert, capture: wanted, context } = work;
  const request = {
    // The same alert told again, by a sender that heard no answer, is the same request.
    requestId: uuidOf(digest(key, alert.id)),
    selector: selectorToProto(parseSelector(target)),
    clusters: [alert.cluster],
    node: alert.node,
    artifacts: wanted.artifacts,
    consistency: wanted.consistency ?? '',
    scope: wanted.scope ?? '',
    sinks: wanted.sinks,
    caseId,
    reason: fillReason(wanted.reason, alert, work.source),
    maxTargets,
  };
  const message = fromJson(typesOf('CreateCapture').request, request) as CreateCaptureRequest__Output;
  const { captures = [], unreached = [] } = await parts.api.CreateCapture(message, context);
  const captureIds = captures.map((made) => made.captureId ?? '').filter((id) => id !== '');
  if (captureIds.length > 0) return { outcome: 'captured' as const, captureIds };
  const code = unreached.length > 0 ? 'agent-unreachable' : 'target-not-found';
  throw new ExhibitError(
    code,
    unreached.length > 0 ? 'An agent that may have it could not be asked' : `There is no ${target}`,
  );
}

const GONE: readonly ErrorCode[] = ['target-not-found', 'target-not-running', 'node-not-found'];
const FORBIDDEN: readonly ErrorCode[] = ['forbidden', 'unauthenticated', 'refused'];

function outcomeOf(error: unknown): 'gone' | 'forbidden' | 'no-target' | 'duplicate' | 'failed' {
  if (!isExhibitError(error)) return 'failed';
  // It was asked for before, in other words: the rule was changed in between.
  if (error.code === 'capture-conflict') return 'duplicate';
  if (GONE.includes(error.code)) return 'gone';
  if (FORBIDDEN.includes(error.code)) return 'forbidden';
  return error.code === 'target-ambiguous' || error.code === 'usage' ? 'no-target' : 'failed';
}

function tell(ledger: Ledger, alert: Alert, source: string, rule: string, told: Outcome): void {
  const details = {
    alert: alert.id,
    alertRule: alert.rule,
    cluster: alert.cluster,
    ...(told.target === undefined ? {} : { target: told.target }),
    ...(told.note === undefined ? {} : { note: told.note }),
  };
  const action = `alert.${told.outcome === 'captured' ? 'fired' : told.outcome}`;
  const captureId = told.captureIds?.[0];
  ledger.note({ actor: actorOf(source, rule), action, details, ...(captureId === undefined ? {} : { captureId }) });
}

const digest = (...parts: string[]): string => createHash('sha256').update(JSON.stringify(parts)).digest('hex');

/** RFC 9562, version 8: a UUID of our own making, the same for the same digest. */
function uuidOf(hex: string): string {
  const variant = ((Number.parseInt(hex.slice(16, 17), 16) & 0x3) | 0x8).toString(16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
