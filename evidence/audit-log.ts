import { createHash } from 'node:crypto';
import { z } from 'zod';
import { ExhibitError } from './error.ts';
import { canonicalJson } from './json.ts';

/** The controller's audit log and its chain, without a controller: each entry holds the digest of the one before. */

/** `digest` is SHA-256 over the entry's canonical JSON without it, `previous` that of the entry before; the first has 64 zeros. */
export interface AuditRow {
  readonly seq: number;
  readonly atMs: number;
  readonly actor: string;
  readonly action: string;
  readonly captureId: string;
  readonly caseId: string;
  /** Canonical JSON. */
  readonly details: string;
  readonly previous: string;
  readonly digest: string;
}

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

export interface AuditVerdict {
  readonly entries: number;
  /** To be kept elsewhere: what is cut off at the end shows only against it. */
  readonly end: ChainEnd;
  /** Sentences; none: the entries are whole, unaltered and in their order. */
  readonly problems: readonly string[];
}

/** A log that somebody rewrote has a problem an entry; more of them tell nobody more. */
const MAX_PROBLEMS = 100;

export interface AuditExpected {
  /** The entry before the first one that is given. */
  readonly after?: ChainEnd;
  /** An end that was written down before: the entries have to reach at least as far, and be the same there. */
  readonly known?: ChainEnd;
}

/** Judges entries in the order they are given, one at a time: a log can be larger than memory. */
export interface AuditCheck {
  take(row: AuditRow): void;
  verdict(): AuditVerdict;
}

/** Begins at the start of the log, after `after`, or after `known` where the first entry follows that. */
export function checkAudit({ after = CHAIN_START, known }: AuditExpected = {}): AuditCheck {
  const problems: string[] = [];
  const found = (problem: string) => problems.length < MAX_PROBLEMS && problems.push(problem);
  let end = after;
  let entries = 0;
  return {
    take(row) {
      if (entries === 0 && known !== undefined && row.seq === known.seq + 1) end = known;
      entries += 1;
      for (const problem of faultsOf(row, end)) found(problem);
      if (known?.seq === row.seq && known.digest !== row.digest)
        found(`entry ${row.seq} is not the one that was there before: its digest was ${known.digest}`);
      end = { seq: row.seq, digest: row.digest };
    },
    verdict() {
      const isCut = known !== undefined && end.seq < known.seq;
      const cut = `the log ends at entry ${end.seq}; it had ${known?.seq} before: entries were cut off`;
      return { entries, end, problems: isCut ? [...problems, cut] : [...problems] };
    },
  };
}

export function verifyAudit(rows: Iterable<AuditRow>, expected: AuditExpected = {}): AuditVerdict {
  const check = checkAudit(expected);
  for (const row of rows) check.take(row);
  return check.verdict();
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

/** @throws ExhibitError `bundle-corrupt` with the line's number */
export function readAuditLine(line: string, number: number): AuditRow {
  try {
    return rowSchema.parse(JSON.parse(line));
  } catch (cause) {
    throw new ExhibitError('bundle-corrupt', `line ${number} of the audit log is no entry`, { cause });
  }
}
