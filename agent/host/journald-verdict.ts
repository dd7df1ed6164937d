import type { LogReason } from '../../evidence/log-records.ts';
import { fieldName } from './journald-file.ts';

/**
 * Pure: which entries of a journal are about the target. A field that entries share is stored once in a journal file, so it is
 * judged once, and an entry is judged by its fields' verdicts.
 */
export interface Verdict {
  /** Of this field alone: bits of REASON. */
  readonly reasons: number;
  /** A pid that it names. */
  readonly pid: number | undefined;
  readonly sizeBytes: number;
}

export interface JournalWanted {
  readonly pidsSinceUs: ReadonlyMap<number, bigint>;
  readonly mentions: readonly string[];
  readonly units: ReadonlySet<string>;
}

const REASON = { unit: 1, kernel: 2, pid: 4, mention: 8 } as const satisfies Partial<Record<LogReason, number>>;

/** systemd.journal-fields(7): whose entry it is, and of whom process 1 and other programs speak in theirs. */
const UNIT_FIELDS = new Set(['_SYSTEMD_UNIT', 'UNIT', 'OBJECT_SYSTEMD_UNIT', 'COREDUMP_UNIT']);
/** Those that journald vouches for, and what it makes of audit messages. */
const PID_FIELDS = new Set(['_PID', 'OBJECT_PID', 'COREDUMP_PID', '_AUDIT_FIELD_PPID', '_AUDIT_FIELD_OPID']);

/** Of `NAME=value`. */
export function judgeField(field: Buffer, wanted: JournalWanted): Verdict {
  const name = fieldName(field) ?? '';
  const value = (): string => field.toString('latin1', name.length + 1, name.length + 257);
  let reasons = wanted.mentions.some((id) => field.includes(id)) ? REASON.mention : 0;
  if (UNIT_FIELDS.has(name) && wanted.units.has(value())) reasons |= REASON.unit;
  if (name === '_TRANSPORT' && value() === 'kernel') reasons |= REASON.kernel;
  const pid = PID_FIELDS.has(name) && /^\d{1,10}$/.test(value()) ? Number(value()) : undefined;
  return { reasons, pid, sizeBytes: field.length };
}

/** The reasons for an entry of that time; 0: it is not wanted. */
export function judgeEntry(verdicts: readonly Verdict[], realtimeUs: bigint, wanted: JournalWanted): number {
  let reasons = 0;
  for (const { reasons: own, pid } of verdicts) {
    reasons |= own;
    const since = pid === undefined ? undefined : wanted.pidsSinceUs.get(pid);
    if (since !== undefined && realtimeUs >= since) reasons |= REASON.pid;
  }
  return reasons;
}

export function reasonsOf(bits: number): LogReason[] {
  return (['unit', 'kernel', 'pid', 'mention'] as const).filter((reason) => (bits & REASON[reason]) !== 0);
}
