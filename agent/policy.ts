import { z } from 'zod';
import { ARTIFACTS, type ArtifactName } from '../evidence/layout.ts';

/**
 * What this agent lets itself be asked for, whoever asks: docs/policy.md. A request can never widen it, and a trigger's own
 * rules come on top of the common ones, so that they can only narrow. Pure; capture/admission.ts applies it.
 */

export const TRIGGERS = ['controller', 'socket', 'folder', 'schedule', 'exit'] as const;
export type Trigger = (typeof TRIGGERS)[number];

/** What budgets and rates can be counted over: the journal keeps that much for certain. */
export const HISTORY_MS = 60 * 60 * 1000;
/** More captures in an hour than any node makes: nothing is admitted beyond it, so that the history stays whole. */
export const HISTORY_ENTRIES = 10_000;

/** A name of a namespace, in which `*` stands for any text. Kubernetes takes at most 63 characters. */
const pattern = z.string().regex(/^[A-Za-z0-9._*-]{1,63}$/, { error: 'a namespace, in which * stands for any text' });
const patterns = z.array(pattern).max(1000);

const rateSchema = z
  .strictObject({
    captures: z.number().int().min(1).max(HISTORY_ENTRIES).optional(),
    perMs: z.number().int().min(1000).max(HISTORY_MS).optional(),
    concurrent: z.number().int().min(1).max(1000).optional(),
  })
  .refine(({ captures, perMs }) => (captures === undefined) === (perMs === undefined), {
    error: 'captures and perMs together',
  });

/** Absent: no rule. */
const rules = {
  namespaces: z.strictObject({ allow: patterns.optional(), deny: patterns.optional() }).optional(),
  /** Containers of no pod, processes, cgroups, units. */
  outsideKubernetes: z.enum(['allow', 'refuse']).optional(),
  artifacts: z.array(z.enum(ARTIFACTS)).optional(),
  sinks: z.array(z.string().min(1)).optional(),
  freeze: z
    .strictObject({
      perCaptureMs: z.number().int().min(10).max(60_000).optional(),
      perHourMs: z.number().int().nonnegative().max(HISTORY_MS).optional(),
      /** What becomes of a capture that would stop its target when nothing is left of the hour's budget. */
      whenSpent: z.enum(['refuse', 'live']).optional(),
    })
    .optional(),
  rate: rateSchema.optional(),
};
const rulesSchema = z.strictObject(rules);
export type Rules = z.output<typeof rulesSchema>;

export const policySchema = z.strictObject({
  ...rules,
  /** By trigger, on top of the rules above. */
  triggers: z.partialRecord(z.enum(TRIGGERS), rulesSchema).optional(),
});
export type Policy = z.output<typeof policySchema>;

/** A capture that is asked for, as far as the policy looks at it. */
export interface Asked {
  readonly trigger: string;
  readonly target: Whose;
  readonly artifacts: readonly ArtifactName[];
  /** True when the request named none, and these are what the configuration says. */
  readonly artifactsByDefault: boolean;
  readonly sinks: readonly string[];
  readonly sinksByDefault: boolean;
  /** The artifacts for which the target would be stopped. */
  readonly freezing: readonly ArtifactName[];
  readonly freezeDeadlineMs: number;
}

/** To whom the target belongs. */
export interface Whose {
  /** Of everything in it. */
  readonly namespaces: readonly string[];
  /** What of it is in no pod, in words: `a process-tree`. */
  readonly outside?: string;
  /** Why it cannot be said which namespaces it reaches into. */
  readonly unknown?: string;
}

/** A capture that was admitted, by any agent of this boot. */
export interface PastCapture {
  readonly trigger: string | undefined;
  readonly startedAtMs: number;
  /** Undefined while it runs. */
  readonly endedAtMs: number | undefined;
  /** How long its target stood still; of one that runs or was cut off, how long it may have. */
  readonly pausedMs: number;
}

export type Verdict =
  /** `rule`: the key of the configuration. */
  | { readonly kind: 'refused'; readonly rule: string; readonly why: string }
  | {
      readonly kind: 'admitted';
      readonly artifacts: readonly ArtifactName[];
      /** Those that are left out, each with the reason. */
      readonly left: ReadonlyMap<ArtifactName, string>;
      readonly sinks: readonly string[];
      readonly freezeDeadlineMs: number;
      /** Present when the target must not be stopped, though it was asked for: why. */
      readonly live?: string;
    };

/** The common rules, then the trigger's own, each by the key under which it stands in the configuration. */
export function rulesFor(policy: Policy, trigger: string): readonly { readonly key: string; readonly rules: Rules }[] {
  const { triggers, ...common } = policy;
  const own = TRIGGERS.find((one) => one === trigger);
  const narrowing = own && triggers?.[own];
  return [
    { key: 'policy', rules: common },
    ...(narrowing === undefined ? [] : [{ key: `policy.triggers.${own}`, rules: narrowing }]),
  ];
}

/** Linear in the text for every pattern: a name from outside cannot make it slow. */
export function matchesPattern(text: string, wildcard: string): boolean {
  const [head = '', ...rest] = wildcard.split('*');
  if (!text.startsWith(head)) return false;
  const tail = rest.pop();
  if (tail === undefined) return text === head;
  let at = head.length;
  for (const part of rest) {
    const found = text.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return text.length - tail.length >= at && text.endsWith(tail);
}

/** Whether it makes a difference in which namespaces a target is. */
export function limitsNamespaces(policy: Policy, trigger: string): boolean {
  return rulesFor(policy, trigger).some(
    ({ rules: { namespaces } }) =>
      (namespaces?.deny ?? []).length > 0 || (namespaces?.allow !== undefined && !namespaces.allow.includes('*')),
  );
}

/** Sinks that a rule names and that are none. */
export function unknownSinks(policy: Policy, sinks: readonly string[]): string[] {
  const named = TRIGGERS.flatMap((trigger) => rulesFor(policy, trigger).flatMap(({ rules: { sinks = [] } }) => sinks));
  return [...new Set(named)].filter((name) => !sinks.includes(name));
}

/** Whether this capture may be, and how much of it. `history` holds at least the last HISTORY_MS, and all that run. */
export function judge(policy: Policy, asked: Asked, history: readonly PastCapture[], nowMs: number): Verdict {
  const recent = history.filter(({ endedAtMs }) => endedAtMs === undefined || nowMs - endedAtMs < HISTORY_MS);
  let narrowed = asked;
  const left = new Map<ArtifactName, string>();
  let live: string | undefined;
  for (const { key, rules } of rulesFor(policy, asked.trigger)) {
    const counted = key === 'policy' ? recent : recent.filter(({ trigger }) => trigger === asked.trigger);
    const refused =
      overNamespaces(key, rules, asked.target) ??
      overRate(key, rules, counted, nowMs) ??
      overSinks(key, rules, narrowed);
    if (refused !== undefined) return refused;
    narrowed = { ...narrowed, sinks: narrowed.sinks.filter((name) => rules.sinks?.includes(name) ?? true) };

    const forbidden = asked.artifacts.filter((name) => rules.artifacts?.includes(name) === false);
    if (forbidden.length > 0 && !asked.artifactsByDefault)
      return refuse(`${key}.artifacts`, `it does not allow the artifact ${forbidden.join(', ')}`);
    for (const name of forbidden) left.set(name, `${key}.artifacts does not allow it`);
    narrowed = { ...narrowed, artifacts: narrowed.artifacts.filter((name) => !left.has(name)) };
    if (narrowed.artifacts.length === 0)
      return refuse(`${key}.artifacts`, 'it allows none of the artifacts that a capture takes by default');

    const freeze = freezeOf(key, rules, narrowed, counted);
    if (freeze.kind === 'refused') return freeze;
    narrowed = { ...narrowed, freezeDeadlineMs: freeze.deadlineMs };
    live ??= freeze.live;
  }
  if (recent.length >= HISTORY_ENTRIES)
    return refuse('policy.rate', `${recent.length} captures within an hour are more than the journal can account for`);
  return live === undefined ? admitted(narrowed, left, undefined) : withoutFreeze(narrowed, left, live);
}

type Refused = Extract<Verdict, { kind: 'refused' }>;

const refuse = (rule: string, why: string): Refused => ({ kind: 'refused', rule, why });

function admitted(
  { artifacts, sinks, freezeDeadlineMs }: Asked,
  left: ReadonlyMap<ArtifactName, string>,
  live: string | undefined,
): Verdict {
  return { kind: 'admitted', artifacts, left, sinks, freezeDeadlineMs, ...(live === undefined ? {} : { live }) };
}

/** Memory can be read live; a checkpoint cannot be made of what runs. */
function withoutFreeze(asked: Asked, left: ReadonlyMap<ArtifactName, string>, live: string): Verdict {
  const artifacts = asked.artifacts.filter((name) => name !== 'checkpoint');
  if (artifacts.length === 0) return refuse('policy.freeze.perHourMs', `${live}, and a checkpoint cannot be made live`);
  const less = new Map(left);
  if (asked.artifacts.includes('checkpoint')) less.set('checkpoint', `${live}: it cannot be made live`);
  return admitted({ ...asked, artifacts }, less, live);
}

function overNamespaces(key: string, { namespaces, outsideKubernetes }: Rules, target: Whose): Refused | undefined {
  const { allow, deny = [] } = namespaces ?? {};
  if (target.outside !== undefined && outsideKubernetes === 'refuse')
    return refuse(`${key}.outsideKubernetes`, `it is refuse, and the target is ${target.outside}, not of a pod`);
  for (const name of target.namespaces) {
    const denied = deny.find((one) => matchesPattern(name, one));
    if (denied !== undefined)
      return refuse(`${key}.namespaces.deny`, `it has ${denied}, and the target reaches into the namespace ${name}`);
    if (allow !== undefined && !allow.some((one) => matchesPattern(name, one)))
      return refuse(`${key}.namespaces.allow`, `it does not have the namespace ${name}`);
  }
  const limited = deny.length > 0 || (allow !== undefined && !allow.includes('*'));
  if (target.unknown === undefined || !limited) return undefined;
  return refuse(`${key}.namespaces`, `it limits namespaces, and which ones the target reaches into ${target.unknown}`);
}

function overRate(key: string, { rate }: Rules, history: readonly PastCapture[], nowMs: number): Refused | undefined {
  const { captures, perMs = 0, concurrent } = rate ?? {};
  const running = history.filter(({ endedAtMs }) => endedAtMs === undefined).length;
  if (concurrent !== undefined && running >= concurrent)
    return refuse(`${key}.rate.concurrent`, `it is ${concurrent}, and so many captures run`);
  const begun = history.filter(({ startedAtMs }) => nowMs - startedAtMs < perMs).length;
  if (captures === undefined || begun < captures) return undefined;
  return refuse(`${key}.rate`, `it allows ${captures} in ${perMs / 1000} s, and ${begun} began in the last ones`);
}

function overSinks(key: string, rules: Rules, { sinks, sinksByDefault }: Asked): Refused | undefined {
  const allowed = rules.sinks;
  if (allowed === undefined) return undefined;
  const forbidden = sinks.filter((name) => !allowed.includes(name));
  if (forbidden.length === 0 || (sinksByDefault && forbidden.length < sinks.length)) return undefined;
  return refuse(`${key}.sinks`, `it does not allow the sink ${forbidden.join(', ')}`);
}

function freezeOf(
  key: string,
  { freeze }: Rules,
  { artifacts, freezing, freezeDeadlineMs }: Asked,
  history: readonly PastCapture[],
): Refused | { readonly kind: 'within'; readonly deadlineMs: number; readonly live?: string } {
  const { perCaptureMs = freezeDeadlineMs, perHourMs, whenSpent = 'refuse' } = freeze ?? {};
  const deadlineMs = Math.min(freezeDeadlineMs, perCaptureMs);
  const stops = freezing.filter((name) => artifacts.includes(name));
  if (perHourMs === undefined || stops.length === 0) return { kind: 'within', deadlineMs };
  const spentMs = Math.ceil(history.reduce((sum, { pausedMs }) => sum + pausedMs, 0));
  const leftMs = perHourMs - spentMs;
  if (leftMs >= MIN_FREEZE_MS) return { kind: 'within', deadlineMs: Math.min(deadlineMs, leftMs) };
  const spent = `${key}.freeze.perHourMs is ${perHourMs}, of which the captures of the last hour took ${spentMs}`;
  if (whenSpent === 'live') return { kind: 'within', deadlineMs, live: spent };
  const how = stops.includes('memory')
    ? 'ask for consistency live, and no checkpoint'
    : `leave out ${stops.join(', ')}`;
  return refuse(`${key}.freeze.perHourMs`, `it is ${perHourMs}, of which the last hour took ${spentMs}: ${how}`);
}

/** What stands still for less has no time for anything; also the least that freeze.deadlineMs may be. */
const MIN_FREEZE_MS = 10;
