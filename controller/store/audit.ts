import { createHash } from 'node:crypto';
import { z } from 'zod';
import { ExhibitError } from '../../evidence/error.ts';
import { canonicalJson } from '../../evidence/json.ts';
import type { AuditRow, NewAudit } from './store.ts';

/** The chain of the audit log, without a database: each entry holds the digest of the one before. */

/** What the first entry has for the one before. */
export const NO_ENTRY = '0'.repeat(64);

export interface ChainEnd {
  readonly seq: number;
  readonly digest: string;
}

export const CHAIN_START: ChainEnd = { seq: 0, digest: NO_ENTRY };

/** SHA-256 in hex over the canonical JSON of the entry without its digest (evidence/json.ts). */
export function digestOf({ digest: _, ...entry }: AuditRow): string {
  return createHash('sha256').update(canonicalJson(entry)).digest('hex');
}

export function chained(previous: ChainEnd, entry: NewAudit): AuditRow {
  const unsealed: AuditRow = {
    seq: previous.seq + 1,
    atMs: entry.atMs,
    actor: entry.actor,
    action: entry.action,
    captureId: entry.captureId ?? '',
    caseId: entry.caseId ?? '',
    details: Buffer.from(canonicalJson(entry.details)).toString(),
    previous: previous.digest,
    digest: '',
  };
  return { ...unsealed, digest: digestOf(unsealed) };
}

export interface AuditVerdict {
  readonly entries: number;
  /** To be kept elsewhere: what is cut off at the end shows only against it. */
  readonly end: ChainEnd;
  /** Sentences; none: the entries are whole, unaltered and in their order. */
  readonly problems: readonly string[];
}

/** A log that somebody rewrote has a problem an entry; more of them tell nobody more. */
const MAX_PROBLEMS = 100;

/**
 * Judges entries in the order they are given, beginning after `after` (the start of the log), and expected to reach at least as
 * far as `known`: an end that was written down before.
 */
export function verifyAudit(
  rows: Iterable<AuditRow>,
  { after = CHAIN_START, known }: { after?: ChainEnd; known?: ChainEnd } = {},
): AuditVerdict {
  const problems: string[] = [];
  const found = (problem: string) => problems.length < MAX_PROBLEMS && problems.push(problem);
  let end = after;
  let entries = 0;
  for (const row of rows) {
    entries += 1;
    for (const problem of faultsOf(row, end)) found(problem);
    if (known?.seq === row.seq && known.digest !== row.digest)
      found(`entry ${row.seq} is not the one that was there before: its digest was ${known.digest}`);
    end = { seq: row.seq, digest: row.digest };
  }
  if (known !== undefined && end.seq < known.seq)
    found(`the log ends at entry ${end.seq}; it had ${known.seq} before: entries were cut off`);
  return { entries, end, problems };
}

function faultsOf(row: AuditRow, before: ChainEnd): string[] {
  const faults: string[] = [];
  if (digestOf(row) !== row.digest) faults.push(`entry ${row.seq} was altered: its digest is another`);
  if (row.seq > before.seq + 1) faults.push(`entries ${before.seq + 1} to ${row.seq - 1} are missing`);
  else if (row.seq <= before.seq) faults.push(`entry ${row.seq} comes after entry ${before.seq}`);
  else if (row.previous !== before.digest)
    faults.push(`entry ${row.seq} does not follow the entry ${before.seq} that is here`);
  return faults;
}

const hex = z.string().regex(/^[0-9a-f]{64}$/);
const rowSchema = z.strictObject({
  seq: z.int().positive(),
  atMs: z.int(),
  actor: z.string(),
  action: z.string(),
  captureId: z.string(),
  caseId: z.string(),
  details: z.string(),
  previous: hex,
  digest: hex,
});

/** One entry of an exported log, a line without its end. */
export const auditLine = (row: AuditRow): string => JSON.stringify(row);

/** Entries of an exported log. @throws ExhibitError `bundle-corrupt` with the line that is none */
export function* readAuditLines(lines: Iterable<string>): Generator<AuditRow> {
  let number = 0;
  for (const line of lines) {
    number += 1;
    if (line !== '') yield readAuditLine(line, number);
  }
}

function readAuditLine(line: string, number: number): AuditRow {
  try {
    return rowSchema.parse(JSON.parse(line));
  } catch (cause) {
    throw new ExhibitError('bundle-corrupt', `line ${number} of the audit log is no entry`, { cause });
  }
}
