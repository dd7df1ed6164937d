import { type JournalRecord, type LogReason, microsecondTime } from '../../evidence/log-records.ts';
import { jsonLine, worded } from '../host/decode.ts';
import { cursorOf } from '../host/journald-export.ts';
import { fieldName } from '../host/journald-file.ts';
import type { JournaldEntry } from '../host/journald-format.ts';

export interface EntryFields {
  /** `NAME=value`, in the file's order. */
  readonly read: Buffer[];
  /** What could not be had, in words. */
  readonly missing: string[];
}

/** Messages in a record; `journal.export` has all of it. */
const MAX_MESSAGE_BYTES = 64 * 1024;
const MAX_NAME_BYTES = 256;

/** A line of `journal.jsonl`; undefined for a time that cannot be written. */
export function journalLine(
  entry: JournaldEntry,
  fields: EntryFields,
  { seqnumId, file, because }: { seqnumId: string; file: string; because: LogReason[] },
): Buffer | undefined {
  const at = microsecondTime(entry.realtimeUs);
  if (at === undefined) return undefined;
  const values = new Map<string, Buffer>();
  for (const field of fields.read) {
    const name = fieldName(field);
    if (name !== undefined && !values.has(name)) values.set(name, field.subarray(name.length + 1));
  }
  const message = values.get('MESSAGE');
  const identifier = values.get('SYSLOG_IDENTIFIER') ?? values.get('_COMM');
  const unit = values.get('_SYSTEMD_UNIT') ?? values.get('UNIT');
  const transport = values.get('_TRANSPORT');
  const priority = numberOf(values.get('PRIORITY'));
  const pid = numberOf(values.get('_PID'));
  const missing = [...fields.missing];
  if (message !== undefined && message.length > MAX_MESSAGE_BYTES)
    missing.push(`the rest of MESSAGE, which journal.export has`);
  const record: JournalRecord = {
    at,
    realtimeUs: String(entry.realtimeUs),
    monotonicUs: String(entry.monotonicUs),
    bootId: entry.bootId,
    cursor: cursorOf(entry, seqnumId),
    file,
    because,
    ...(transport !== undefined && { transport: short(transport) }),
    ...(unit !== undefined && { unit: short(unit) }),
    ...(identifier !== undefined && worded('identifier', identifier.subarray(0, MAX_NAME_BYTES))),
    ...(pid !== undefined && { pid }),
    ...(priority !== undefined && priority <= 7 && { priority }),
    ...(message !== undefined && worded('message', message.subarray(0, MAX_MESSAGE_BYTES))),
    ...(missing.length > 0 && { missing }),
  };
  return Buffer.from(`${jsonLine(record)}\n`);
}

const short = (value: Buffer): string => value.toString('utf8', 0, MAX_NAME_BYTES);

function numberOf(value: Buffer | undefined): number | undefined {
  const text = value?.toString('latin1', 0, 11) ?? '';
  return /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}
