import { clampMoment, floorDivide, isoMicroseconds } from '../evidence/timeline/moment.ts';
import { FIELD_NAMES, type TimelineEntry } from '../evidence/timeline/timeline.ts';
import { escapeText, truncate } from './print.ts';
import { eventsOf, type Origin, type TimelineFormat, type TimeRange } from './timeline-format.ts';

/**
 * CSV (RFC 4180) with a header, for Timesketch and for spreadsheets. Control characters are shown escaped, so that a row is a line,
 * and a text that a spreadsheet would take for a formula has an apostrophe before it. JSON lines have the exact text.
 */
const SOURCE_NAMES = ['message', 'data_type', 'artifact', 'object', 'member', 'line', 'container'] as const;
const ORIGIN_NAMES = ['hostname', 'namespace', 'pod', 'capture_id'] as const;
const TIME_NAMES = ['datetime', 'timestamp', 'timestamp_ns', 'timestamp_desc'] as const;

const CSV_COLUMNS: readonly string[] = [...TIME_NAMES, ...SOURCE_NAMES, ...FIELD_NAMES, ...ORIGIN_NAMES];

export function csvFormat({ container: own, ...origin }: Origin, range: TimeRange): TimelineFormat {
  return {
    header: `${CSV_COLUMNS.join(',')}\r\n`,
    head: (ns) => `${isoMicroseconds(ns)},${floorDivide(clampMoment(ns), 1000n)},${ns},`,
    *lines(entry) {
      const events = eventsOf(entry.times, range);
      if (events.length === 0) return;
      const rest = cellsOf(entry, own);
      for (const { ns, words } of events) yield { ns, text: `${words},${rest}` };
    },
    tail: `,${ORIGIN_NAMES.map((name) => cell(origin[name])).join(',')}\r\n`,
  };
}

function cellsOf(entry: TimelineEntry, own: string): string {
  const { message, dataType, artifact, object, member, line, container = own, fields } = entry;
  const source = [message, dataType, artifact, object, member, line, container];
  return [...source, ...FIELD_NAMES.map((name) => fields[name])].map(cell).join(',');
}

/** Python's csv refuses a cell of more than 131,072 characters. */
const MAX_CELL_CHARACTERS = 120_000;
/** What spreadsheets take for the beginning of a formula; the last four are the full-width forms that some read as well. */
const FORMULA = /^[=+\-@\uff1d\uff0b\uff0d\uff20]/;
/** Nothing to quote, nothing to escape. */
const PLAIN = /^[A-Za-z0-9_./:][A-Za-z0-9_./: -]*$/;

function cell(value: string | number | undefined): string {
  if (value === undefined) return '';
  if (typeof value === 'number') return String(value);
  if (value === '' || (PLAIN.test(value) && value.length <= MAX_CELL_CHARACTERS)) return value;
  const shown = truncate(escapeText(value), MAX_CELL_CHARACTERS);
  return `"${FORMULA.test(shown) ? "'" : ''}${shown.replaceAll('"', '""')}"`;
}
