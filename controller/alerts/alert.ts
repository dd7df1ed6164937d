import { ExhibitError } from '../../evidence/error.ts';

/** One alert of any source, as rules see it. All of its words are a stranger's. */
export interface Alert {
  /** For reports, and to know the same alert again: Falco's uuid, Alertmanager's fingerprint, a finding's id. */
  readonly id: string;
  /** Falco's rule, Alertmanager's alertname, GuardDuty's type. */
  readonly rule: string;
  /** Why nothing is to be done with it, whatever the rules say: it is resolved, or archived. */
  readonly over?: string;
  /** Syslog's order: 0 is emergency, 7 is debug. Of Falco, and of the label `severity`. */
  readonly priority?: number;
  /** GuardDuty's number, 1 to 10. */
  readonly severity?: number;
  /** Milliseconds since the epoch; absent when it has no time that can be read. */
  readonly atMs?: number;
  readonly tags: readonly string[];
  /** output_fields, labels, or what is told of a finding; by name. */
  readonly fields: ReadonlyMap<string, string>;
  /** Empty where the alert does not say. */
  readonly cluster: string;
  readonly node: string;
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  /** Whole ids or prefixes, in hex. */
  readonly containerIds: readonly string[];
  /** A Deployment, a DaemonSet: what GuardDuty names instead of a pod. */
  readonly workload: string;
}

/** Falco's own words, in its order; syslog's. */
export const PRIORITIES = [
  'emergency',
  'alert',
  'critical',
  'error',
  'warning',
  'notice',
  'informational',
  'debug',
] as const;
export type Priority = (typeof PRIORITIES)[number];

/** As people write them in labels. */
const SYNONYMS: Readonly<Record<string, Priority>> = {
  page: 'critical',
  high: 'error',
  warn: 'warning',
  info: 'informational',
};

export function priorityOf(word: string): number | undefined {
  const lower = word.toLowerCase();
  const known: readonly string[] = PRIORITIES;
  const rank = known.indexOf(Object.hasOwn(SYNONYMS, lower) ? (SYNONYMS[lower] ?? '') : lower);
  return rank < 0 ? undefined : rank;
}

/** No name of Kubernetes, and no value that a rule looks at, is longer. */
const MAX_FIELD_CHARS = 1024;
/** Falco's rules print some twenty, Alertmanager's labels are as many. */
const MAX_FIELDS = 200;

/** Text as it came, cut. Falco writes `<NA>` or null for what it does not know. */
export function word(value: unknown): string {
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  if (typeof value !== 'string' || value === '<NA>') return '';
  return value.slice(0, MAX_FIELD_CHARS);
}

export function fieldsOf(record: unknown): ReadonlyMap<string, string> {
  if (typeof record !== 'object' || record === null) return new Map();
  const entries = Object.entries(record).slice(0, MAX_FIELDS);
  return new Map(entries.map(([name, value]) => [name.slice(0, MAX_FIELD_CHARS), word(value)]));
}

/** RFC 3339, with as many digits of a second as the sender has. */
export function timeOf(value: unknown): number | undefined {
  if (typeof value !== 'string' || value.length > 64) return undefined;
  const atMs = Date.parse(value);
  return Number.isFinite(atMs) ? atMs : undefined;
}

/** `containerd://<hex>`, or the hex digits alone; empty for what is no id, such as Falco's `host`. */
export function containerIdOf(value: unknown): string {
  const id = /^(?:(?:containerd|docker|cri-o):\/\/)?([0-9a-f]{12,64})$/.exec(word(value))?.[1];
  return id ?? '';
}

/** @throws ExhibitError `usage` */
export function record(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ExhibitError('usage', `${what} is not a JSON object`);
  }
  return value as Record<string, unknown>;
}

/** What is inside, or nothing where the payload has something else there. */
export const inner = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};

export const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
