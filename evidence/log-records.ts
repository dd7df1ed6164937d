import { z } from 'zod';

/**
 * The JSON lines of `node-logs.tar.zst`: what the node's own logs say about a target, one record a line, keys sorted. Beside
 * each of these members lies what it was made from: `journal.export`, `kmsg.txt`, `audit.log`. Lists go on in
 * `journal-2.jsonl` and so on. See docs/logs.md.
 */

export const NODE_LOGS_OBJECT = 'node-logs.tar.zst';
export const JOURNAL_RECORDS = 'journal.jsonl';
export const KERNEL_RECORDS = 'kmsg.jsonl';
export const AUDIT_RECORDS = 'audit.jsonl';

const decimal = z.string().regex(/^\d+$/);
const base64 = z.base64();
const hex128 = z.string().regex(/^[0-9a-f]{32}$/);

/** RFC 3339 in UTC with six decimals: `2026-11-27T18:15:51.000123Z`. */
const at = z.iso.datetime({ precision: 6 });

/**
 * Why a record is here. `unit`: of one of the units of `logs.units`. `kernel`: every message of the kernel. `pid`: it names a
 * process of the target, within that process' time. `event`: it is of the same audit event as such a record. `mention`: it has the
 * container's, the sandbox's or the pod's id in a field.
 */
export const LOG_REASONS = ['unit', 'kernel', 'pid', 'event', 'mention'] as const;
export type LogReason = (typeof LOG_REASONS)[number];
const because = z.array(z.enum(LOG_REASONS)).min(1);

/** Text that is not UTF-8 is shown with U+FFFD and is exact in the field `...Base64`. */
export const journalRecordSchema = z.strictObject({
  at,
  /** `__REALTIME_TIMESTAMP`: when journald took it, microseconds since the epoch. */
  realtimeUs: decimal,
  /** `__MONOTONIC_TIMESTAMP`: microseconds since the boot that `bootId` names. */
  monotonicUs: decimal,
  bootId: hex128,
  /** journalctl's `__CURSOR`, which has the sequence number. */
  cursor: z.string(),
  /** The journal file on the node. */
  file: z.string(),
  because,
  /** `_TRANSPORT`: journal, stdout, syslog, kernel, audit, driver. */
  transport: z.string().optional(),
  /** `_SYSTEMD_UNIT`, or the unit that process 1 speaks of (`UNIT`). */
  unit: z.string().optional(),
  /** `SYSLOG_IDENTIFIER`, else `_COMM`. */
  identifier: z.string().optional(),
  identifierBase64: base64.optional(),
  /** `_PID`, in the node's pid namespace. */
  pid: z.number().int().nonnegative().optional(),
  /** 0 is emergency, 7 debug. */
  priority: z.number().int().min(0).max(7).optional(),
  message: z.string().optional(),
  messageBase64: base64.optional(),
  /** Names of fields that are not in `journal.export`: too large, damaged, or packed with XZ. */
  missing: z.array(z.string()).optional(),
});
export type JournalRecord = z.infer<typeof journalRecordSchema>;

export const kernelRecordSchema = z.strictObject({
  /** The wall clock's time, from the kernel's own clock; off by as much as the wall clock was set since. */
  at,
  realtimeUs: decimal,
  /** Since boot, as the kernel has it. */
  monotonicUs: decimal,
  sequence: decimal,
  /** 0 is emergency, 7 debug. */
  priority: z.number().int().min(0).max(7),
  /** syslog(3); 0 is the kernel, 1 and up are programs that write to /dev/kmsg. */
  facility: z.number().int().nonnegative(),
  because,
  /** What the kernel escaped (`\x1b`) is as it was. */
  message: z.string(),
  messageBase64: base64.optional(),
  /** `SUBSYSTEM`, `DEVICE`. */
  dictionary: z.record(z.string(), z.string()).optional(),
});
export type KernelRecord = z.infer<typeof kernelRecordSchema>;

export const auditRecordSchema = z.strictObject({
  /** As the record has it: the kernel gives milliseconds. */
  at,
  realtimeUs: decimal,
  /** With `realtimeUs` it names the event that records belong to. */
  serial: decimal,
  /** `SYSCALL`, `EXECVE`, `PATH`, `USER_LOGIN`; `UNKNOWN[1334]`. */
  type: z.string(),
  /** The node that auditd wrote at the line's start, if it does. */
  node: z.string().optional(),
  /** The log file on the node. */
  file: z.string(),
  because,
  /** As the record has them, without quotes; what the kernel wrote in hex (proctitle, exe, comm, a0...) is decoded. */
  fields: z.record(z.string(), z.string()),
  /** The exact bytes of those that are not UTF-8. */
  fieldsBase64: z.record(z.string(), base64).optional(),
  /** The command line: of EXECVE its arguments, of PROCTITLE its parts. */
  arguments: z.array(z.string()).optional(),
});
export type AuditRecord = z.infer<typeof auditRecordSchema>;

/** One of the node's logs that was looked at: a line of `sources.jsonl`. */
export const logSourceSchema = z.strictObject({
  kind: z.enum(['journal', 'kernel', 'audit', 'file']),
  /** On the node. */
  path: z.string(),
  sizeBytes: z.number().int().nonnegative().optional(),
  /** What was read of it. */
  bytesRead: z.number().int().nonnegative(),
  /** Entries, messages or lines within the window that were looked at, and how many of them are in the archive. */
  seen: z.number().int().nonnegative().optional(),
  taken: z.number().int().nonnegative().optional(),
  /** The member that holds it, of a plain file. */
  member: z.string().optional(),
  notes: z.array(z.string()).optional(),
});
export type LogSource = z.infer<typeof logSourceSchema>;

/** RFC 3339 in UTC with microseconds; undefined beyond the year 9999, where there is no such text. */
export function microsecondTime(realtimeUs: bigint): string | undefined {
  const date = new Date(Number(realtimeUs / 1000n));
  if (Number.isNaN(date.getTime()) || date.getUTCFullYear() > 9999) return undefined;
  return `${date.toISOString().slice(0, -1)}${String(realtimeUs % 1000n).padStart(3, '0')}Z`;
}
