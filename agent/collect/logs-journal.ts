import { setImmediate } from 'node:timers/promises';
import { errnoOf, explain } from '../../evidence/error.ts';
import { microsecondTime } from '../../evidence/log-records.ts';
import { exportEntry } from '../host/journald-export.ts';
import type { FieldReading, JournaldFile } from '../host/journald-file.ts';
import type { JournaldEntry } from '../host/journald-format.ts';
import { judgeEntry, judgeField, reasonsOf, type Verdict } from '../host/journald-verdict.ts';
import { type EntryFields, journalLine } from './logs-journal-line.ts';
import { type OpenJournal, openJournals } from './logs-journal-open.ts';
import type { NodeLogs } from './logs-node.ts';

/** journald lets a journal have 4 GiB (SystemMaxUse); what is older than this much reading is left. */
const MAX_READ_BYTES = 2 * 1024 * 1024 * 1024;
/** Some five times what 4 GiB hold; a damaged list may name one entry without end. */
const MAX_ENTRIES = 20_000_000;
/** An entry's fields in all: a damaged one may name one field a thousand times. */
const MAX_ENTRY_BYTES = 16 * 1024 * 1024;
/** How long entries are read before timers and sockets of the agent get their turn. */
const TURN_MS = 10;
/** Verdicts on fields kept a file: about 100 bytes each. */
const MAX_VERDICTS = 30_000;

/** What may still be read. */
interface Budget {
  readBytes: number;
  entries: number;
}

/**
 * `journal.export` and `journal.jsonl`. Entries are looked at from the newest back to the window's begin, until the bounds are
 * spent, and stored file by file from old to new.
 */
export async function takeJournal(logs: NodeLogs): Promise<void> {
  using stack = new DisposableStack();
  const journals = await openJournals(logs, stack);
  if (journals === undefined) return logs.context.note('the node has no systemd journal');
  const budget: Budget = { readBytes: MAX_READ_BYTES, entries: MAX_ENTRIES };
  const newestFirst = journals.toSorted((a, b) =>
    a.journal.header.tailRealtimeUs > b.journal.header.tailRealtimeUs ? -1 : 1,
  );
  for (const one of newestFirst) await guarded(logs, one, () => select(logs, one, budget));
  const text = logs.parts('journal', '.export');
  const lines = logs.parts('journal', '.jsonl');
  for (const one of newestFirst.reverse()) {
    await guarded(logs, one, async () => {
      for await (const { exported, line } of read(logs, one)) {
        await text.add(exported);
        await lines.add(line);
      }
    });
    report(logs, one);
  }
  await text.end();
  await lines.end();
}

/** A file that cannot be read on does not cost the others. */
async function guarded({ context }: NodeLogs, one: OpenJournal, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    // The sink's own errors have no errno's name.
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    context.gap({ what: one.log.path, why: `reading failed: ${explain(error)}`, errno });
  }
  one.file.drop();
}

async function select(logs: NodeLogs, one: OpenJournal, budget: Budget): Promise<void> {
  const { sought, room } = logs;
  const { journal, file } = one;
  const verdicts = new Map<number, Verdict>();
  const readBefore = file.bytesRead;
  const first = journal.firstSince(sought.fromUs);
  const turns = takeTurns(logs.context.signal);
  for (let index = journal.count - 1; index >= first; index -= 1) {
    await turns();
    const spent = whatIsSpent(room.bytes, budget, file.bytesRead - readBefore);
    const entry = journal.entry(index);
    if (spent !== undefined) {
      reportSpent(logs, one, spent, index + 1 - first, entry);
      break;
    }
    budget.entries -= 1;
    if (entry === undefined || entry.realtimeUs < sought.fromUs || entry.realtimeUs > sought.toUs) continue;
    one.seen += 1;
    const own = entry.items.map((offset) => verdictOf(journal, offset, logs, verdicts));
    const reasons = judgeEntry(own, entry.realtimeUs, sought);
    if (reasons === 0) continue;
    one.taken.push(index);
    one.reasons.push(reasons);
    room.bytes -= costOf(own);
  }
  budget.readBytes -= file.bytesRead - readBefore;
}

/** The agent's timers and sockets get their turn now and then. */
function takeTurns(signal: AbortSignal): () => Promise<void> {
  let turnMs = performance.now();
  return async () => {
    if (performance.now() - turnMs <= TURN_MS) return;
    await setImmediate();
    signal.throwIfAborted();
    turnMs = performance.now();
  };
}

function whatIsSpent(roomBytes: number, budget: Budget, readBytes: number): string | undefined {
  if (roomBytes <= 0) return 'logs.nodeBytes is spent';
  if (readBytes > budget.readBytes) return `${MAX_READ_BYTES} bytes of journals are read`;
  return budget.entries <= 0 ? `${MAX_ENTRIES} entries are looked at` : undefined;
}

function reportSpent(
  logs: NodeLogs,
  one: OpenJournal,
  why: string,
  left: number,
  newest: JournaldEntry | undefined,
): void {
  const from = newest === undefined ? undefined : microsecondTime(newest.realtimeUs);
  const until = from === undefined ? '' : `, the newest of them of ${from}`;
  logs.context.gap({
    what: one.log.path,
    why: `${why}: ${left} older entries of the window are not looked at${until}`,
  });
}

function verdictOf(journal: JournaldFile, offset: number, { sought }: NodeLogs, known: Map<number, Verdict>): Verdict {
  const before = known.get(offset);
  if (before !== undefined) return before;
  const reading = journal.field(offset);
  const verdict =
    reading.kind === 'read' ? judgeField(reading.bytes, sought) : { reasons: 0, pid: undefined, sizeBytes: 0 };
  if (known.size >= MAX_VERDICTS) known.clear();
  known.set(offset, verdict);
  return verdict;
}

/** What is stored of it: its fields as they are, and the record, in which the message comes again. */
function costOf(verdicts: readonly Verdict[]): number {
  let [all, largest] = [0, 0];
  for (const { sizeBytes } of verdicts) {
    all += sizeBytes;
    largest = Math.max(largest, sizeBytes);
  }
  return Math.min(all, MAX_ENTRY_BYTES) + largest + 800;
}

async function* read({ context }: NodeLogs, one: OpenJournal): AsyncGenerator<{ exported: Buffer; line: Buffer }> {
  const { journal, log, taken, reasons } = one;
  const turns = takeTurns(context.signal);
  for (let at = taken.length - 1; at >= 0; at -= 1) {
    await turns();
    const entry = journal.entry(taken[at] ?? 0);
    if (entry === undefined) continue;
    const fields = fieldsOf(journal, entry);
    const { seqnumId } = journal.header;
    const line = journalLine(entry, fields, { seqnumId, file: log.path, because: reasonsOf(reasons[at] ?? 0) });
    if (line !== undefined) yield { exported: exportEntry(entry, seqnumId, fields.read), line };
  }
}

function fieldsOf(journal: JournaldFile, { items }: JournaldEntry): EntryFields {
  const fields: EntryFields = { read: [], missing: [] };
  let room = MAX_ENTRY_BYTES;
  for (const offset of items) {
    const reading: FieldReading = room > 0 ? journal.field(offset) : { kind: 'missing', name: undefined, why: 'large' };
    if (reading.kind === 'missing') fields.missing.push(`${reading.name ?? 'a field'} (${reading.why})`);
    else {
      fields.read.push(reading.bytes);
      room -= reading.bytes.length;
    }
  }
  return fields;
}

function report({ context, source }: NodeLogs, { log, file, journal, seen, taken }: OpenJournal): void {
  const notes = [...journal.damage];
  for (const damage of notes) context.gap({ what: log.path, why: damage });
  const { sizeBytes } = log;
  source({
    kind: 'journal',
    path: log.path,
    sizeBytes,
    bytesRead: file.bytesRead,
    seen,
    taken: taken.length,
    ...(notes.length > 0 && { notes }),
  });
}
