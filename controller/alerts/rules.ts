import { parseSelector, selectorText } from '../../agent/runtime/select.ts';
import { isExhibitError } from '../../evidence/error.ts';
import { matchesAny, matchesPattern } from '../../evidence/wildcard.ts';
import { type Alert, PRIORITIES } from './alert.ts';
import type { AlertsConfig, CaptureConfig, MatchConfig, RuleConfig, SourceConfig } from './config.ts';
import { fillTarget } from './template.ts';

/** What is to be done with an alert. Pure: budgets and what was captured already are not known here. */
export type Decision =
  | { readonly kind: 'ignore'; readonly rule: string; readonly note: string }
  | { readonly kind: 'no-target'; readonly rule: string; readonly note: string }
  | {
      readonly kind: 'capture';
      readonly rule: RuleConfig;
      readonly capture: CaptureConfig;
      readonly targets: readonly Aim[];
    };

/** One call of CreateCapture. */
export interface Aim {
  /** As parseSelector reads it. */
  readonly target: string;
  /** How many captures it may become. */
  readonly maxTargets: number;
  /** Instead, when the container is gone. */
  readonly pod?: string;
}

/** Clocks of nodes are not that far apart. */
const MAX_AHEAD_MS = 600_000;

export function decide(
  alert: Alert,
  source: SourceConfig,
  sourceName: string,
  rules: AlertsConfig['rules'],
  nowMs: number,
): Decision {
  const idle = idleNote(alert, source, nowMs);
  if (idle !== undefined) return { kind: 'ignore', rule: '', note: idle };
  const rule = rules.find(({ match }) => fits(match, alert, sourceName));
  if (rule === undefined) return { kind: 'ignore', rule: '', note: 'no rule matches' };
  if ('ignore' in rule.do) return { kind: 'ignore', rule: rule.name, note: 'the rule says so' };
  const { capture } = rule.do;
  if (alert.cluster === '') return { kind: 'no-target', rule: rule.name, note: 'the alert names no cluster' };
  const targets = aims(alert, capture, sourceName);
  if (targets.length === 0)
    return { kind: 'no-target', rule: rule.name, note: 'the alert names no container and no pod' };
  if (targets.length > capture.maxTargets) {
    const note = `the alert names ${targets.length} containers, and the rule's maxTargets is ${capture.maxTargets}`;
    return { kind: 'no-target', rule: rule.name, note };
  }
  return { kind: 'capture', rule, capture, targets };
}

function idleNote(alert: Alert, source: SourceConfig, nowMs: number): string | undefined {
  if (alert.over !== undefined) return alert.over;
  if (alert.atMs === undefined) return 'it has no time';
  if (nowMs - alert.atMs > source.maxAgeMs) return 'it is too old';
  if (alert.atMs - nowMs > MAX_AHEAD_MS) return 'its time is yet to come';
  return undefined;
}

function fits(match: MatchConfig, alert: Alert, sourceName: string): boolean {
  if (match.source !== undefined && !matchesPattern(match.source, sourceName)) return false;
  if (match.rule !== undefined && !matchesPattern(match.rule, alert.rule)) return false;
  if (match.priority !== undefined && (alert.priority ?? PRIORITIES.length) > PRIORITIES.indexOf(match.priority))
    return false;
  if (match.severity !== undefined && (alert.severity ?? -1) < match.severity) return false;
  if (match.clusters !== undefined && !matchesAny(match.clusters, alert.cluster)) return false;
  if (match.namespaces !== undefined && !matchesAny(match.namespaces, alert.namespace)) return false;
  const labels = Object.entries(match.labels ?? {});
  if (
    !labels.every(([name, pattern]) => alert.fields.has(name) && matchesPattern(pattern, alert.fields.get(name) ?? ''))
  )
    return false;
  return (match.tags ?? []).every((pattern) => alert.tags.some((tag) => matchesPattern(pattern, tag)));
}

/** A container's id names it best; a pod may have another container by the same name a moment later. */
function aims(alert: Alert, capture: CaptureConfig, sourceName: string): Aim[] {
  if (capture.target !== undefined) {
    const filled = fillTarget(capture.target, alert, sourceName);
    return filled === undefined ? [] : aim(filled, capture.maxTargets);
  }
  const pod = podOf(alert, '');
  const instead = pod !== undefined && capture.whenGone === 'pod' ? { pod } : {};
  if (capture.scope === 'pod' && pod !== undefined) return [{ target: pod, maxTargets: 1 }];
  if (alert.containerIds.length > 0) return alert.containerIds.map((target) => ({ target, maxTargets: 1, ...instead }));
  if (pod === undefined) return [];
  const whole = alert.container === '' ? pod : podOf(alert, alert.container);
  return whole === undefined ? [] : [{ target: whole, maxTargets: 1, ...(whole === pod ? {} : instead) }];
}

/** Undefined too for a namespace `a/b`, which would read as another pod. */
function podOf({ namespace, pod }: Alert, container: string): string | undefined {
  if (namespace === '' || pod === '') return undefined;
  const selector = read([namespace, pod, ...(container === '' ? [] : [container])].join('/'));
  if (selector?.kind !== 'pod' || selector.namespace !== namespace || selector.pod !== pod) return undefined;
  return (selector.container ?? '') === container ? selectorText(selector) : undefined;
}

function aim(text: string, maxTargets: number): Aim[] {
  const selector = read(text);
  if (selector === undefined) return [];
  return [{ target: selectorText(selector), maxTargets: selector.kind === 'labels' ? maxTargets : 1 }];
}

function read(text: string): ReturnType<typeof parseSelector> | undefined {
  try {
    return parseSelector(text);
  } catch (error) {
    if (isExhibitError(error, 'usage')) return undefined;
    throw error;
  }
}
