import { compareText, FACT_KINDS, type FactKind, type Facts, type Fields, unpackFields } from '../facts/facts.ts';
import { type Change, changesOf, type Diff } from './compare.ts';

/**
 * What to look at first among the differences: facts, not verdicts. A deployment makes new executables as an intruder does.
 */
export const REMARK_REASONS = {
  'executable-not-in-image': 'a new process runs a file that the image does not have, or has with other content',
  'executable-deleted': 'a new process runs a file that was deleted, or that never had a name (memfd)',
  'new-executable': 'a process of an executable that did not run before',
  'new-command': 'an executable that ran before, with other words',
  'new-privilege': 'an executable that ran before, now as root',
  'new-anomaly': 'a process is conspicuous in a way that it was not before (docs/volatile.md)',
  'new-port': 'something takes in what comes to a port, or reads frames or raw packets',
  'port-changed-hands': 'another executable has an open port',
  'new-peer': 'a connection to an address and port to which there was none',
  'new-client': 'a connection from an address from which there was none',
  'set-id': 'a new or changed file that runs with the rights of its owner or group',
  'device-node': 'a new device file',
  'new-program': 'a new or changed file that may be executed',
  'changed-library': 'mapped code has other content under the same path',
  'library-not-in-image': 'new mapped code that the image does not have, or has with other content',
  'new-library': 'mapped code that was not mapped before',
  'new-root-account': 'an account with user id 0',
  'new-user': 'a new account or group',
  'account-changed': 'another id, shell, home, password field or member',
  'new-module': 'the kernel has a module that it had not',
  'module-changed': 'a kernel module is another one, or hides from one of the kernel’s lists',
} as const;
export type RemarkReason = keyof typeof REMARK_REASONS;

export const REMARK_SEVERITIES = ['high', 'medium', 'low'] as const;
export type RemarkSeverity = (typeof REMARK_SEVERITIES)[number];

export interface Remark {
  readonly severity: RemarkSeverity;
  readonly reason: RemarkReason;
  readonly kind: FactKind;
  /** Of the thing, as in the lists of its kind. */
  readonly key: string;
  /** Before may have had it and did not say. */
  readonly perhaps?: true | undefined;
}

export interface Remarks {
  readonly counts: Readonly<Record<RemarkSeverity, number>>;
  /** The weightiest first, then by kind; at most MAX_REMARKS of each severity. */
  readonly list: readonly Remark[];
}

/** More than a person reads; all are counted. */
export const MAX_REMARKS = 500;

type Said = readonly [severity: RemarkSeverity, reason: RemarkReason];

export function remarksOf({ after, kinds }: Diff, only: readonly FactKind[] = FACT_KINDS): Remarks {
  const counts: Record<RemarkSeverity, number> = { high: 0, medium: 0, low: 0 };
  const kept: Record<RemarkSeverity, Remark[]> = { high: [], medium: [], low: [] };
  const add = ([severity, reason]: Said, rest: Pick<Remark, 'kind' | 'key' | 'perhaps'>) => {
    counts[severity] += 1;
    if (kept[severity].length < MAX_REMARKS) kept[severity].push({ severity, reason, ...rest });
  };
  for (const kind of only) {
    const { new: came, perhapsNew, changed } = kinds[kind];
    for (const { key, packed } of came)
      for (const said of ofNew(kind, unpackFields(packed), after)) add(said, { kind, key });
    for (const { key, packed } of perhapsNew) {
      for (const said of ofNew(kind, unpackFields(packed), after)) add(said, { kind, key, perhaps: true });
    }
    for (const item of changed) {
      const fields = unpackFields(item.after);
      for (const said of ofChanged(kind, fields, changesOf(item))) add(said, { kind, key: item.key });
    }
  }
  return { counts, list: REMARK_SEVERITIES.flatMap((severity) => kept[severity]) };
}

function ofNew(kind: FactKind, fields: Fields, after: Facts): Said[] {
  switch (kind) {
    case 'processes':
      if (fields.deleted === true || fields.memfd === true) return [['high', 'executable-deleted']];
      return isOfLayer(after, fields.executable)
        ? [['high', 'executable-not-in-image']]
        : [['medium', 'new-executable']];
    case 'ports':
      return [[isLocal(fields.address) ? 'medium' : 'high', 'new-port']];
    case 'peers':
      if (fields.direction === 'in') return [['low', 'new-client']];
      return [[isLocal(fields.address) ? 'low' : 'medium', 'new-peer']];
    case 'files':
      return ofFile(fields);
    case 'libraries':
      return isOfLayer(after, fields.path) ? [['high', 'library-not-in-image']] : [['low', 'new-library']];
    case 'users':
      if (fields.account === 'user' && listOf(fields.uids).includes(0)) return [['high', 'new-root-account']];
      return [[fields.account === 'user' ? 'high' : 'medium', 'new-user']];
    case 'modules':
      return [['high', 'new-module']];
    default:
      return kind satisfies never;
  }
}

function ofChanged(kind: FactKind, fields: Fields, changes: readonly Change[]): Said[] {
  const came = (field: string): readonly unknown[] =>
    changes.flatMap((change) => (change.field === field && 'new' in change ? change.new : []));
  const hasChanged = (...names: string[]) => changes.some(({ field }) => names.includes(field));
  switch (kind) {
    case 'processes':
      return [
        ...(came('users').includes(0) ? [['high', 'new-privilege'] as const] : []),
        ...(came('anomalies').length > 0 ? [['high', 'new-anomaly'] as const] : []),
        ...(came('commands').length > 0 ? [['medium', 'new-command'] as const] : []),
      ];
    case 'ports':
      return came('executables').length > 0 ? [['high', 'port-changed-hands']] : [];
    case 'peers':
      return [];
    case 'files':
      return hasChanged('sha256', 'mode', 'owner', 'type', 'size') ? ofFile(fields) : [];
    case 'libraries':
      return came('sha256').length > 0 ? [['high', 'changed-library']] : [];
    case 'users':
      return [['high', 'account-changed']];
    case 'modules':
      return [['high', 'module-changed']];
    default:
      return kind satisfies never;
  }
}

function ofFile({ type, mode, change }: Fields): Said[] {
  if (change === 'deleted') return [];
  if (type === 'block-device' || type === 'character-device') return [['high', 'device-node']];
  const bits = typeof mode === 'string' ? Number.parseInt(mode, 8) : 0;
  if (type !== 'file') return [];
  if ((bits & 0o6000) !== 0) return [['high', 'set-id']];
  return (bits & 0o111) !== 0 ? [['medium', 'new-program']] : [];
}

/** Whether the writable layer has the file, new or with other content than the image's. */
function isOfLayer({ kinds }: Facts, path: Fields[string] | undefined): boolean {
  const packed = typeof path === 'string' ? kinds.files.entries.get(path) : undefined;
  const change = packed === undefined ? undefined : unpackFields(packed).change;
  return change === 'added' || change === 'modified';
}

/** Only reached from the pod itself. */
function isLocal(address: Fields[string] | undefined): boolean {
  return typeof address === 'string' && /^(127\.|::1$|::ffff:127\.)/.test(address);
}

function listOf(value: Fields[string] | undefined): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** Conspicuous things first, then by key; for lists of new and changed things. */
export function byWeight(weightOf: ReadonlyMap<string, number>): (a: { key: string }, b: { key: string }) => number {
  const last = REMARK_SEVERITIES.length;
  return (a, b) => (weightOf.get(a.key) ?? last) - (weightOf.get(b.key) ?? last) || compareText(a.key, b.key);
}
