/** How things look on a terminal. Everything here is pure; `escapeText` stands between evidence and the reader's screen. */

/**
 * What a terminal could obey or a reader could not see: controls (C0, DEL, C1), format characters (bidirectional
 * overrides, zero-width, tags), line and paragraph separators, lone surrogates, private use and unassigned code points.
 */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}]/gu;
const SHORT_ESCAPES: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/**
 * `text` as one line that shows every character and makes a terminal do nothing: `\n`, `\x1b`, `\u{202e}`.
 * It is for eyes only and cannot be undone (a backslash stays one): programs read `--json`, which is exact.
 */
export function escapeText(text: string): string {
  return text.replaceAll(UNSEEN, (character) => {
    const short = SHORT_ESCAPES[character];
    if (short !== undefined) return short;
    const code = character.codePointAt(0) ?? 0;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
  });
}

/** Like `escapeText`, but keeps line ends and tabs: for whole texts. */
export function escapeLines(text: string): string {
  return text.replaceAll(UNSEEN, (character) =>
    character === '\n' || character === '\t' ? character : escapeText(character),
  );
}

/** `text` cut to `maxLength` characters, the last one an ellipsis when something was cut. */
export function truncate(text: string, maxLength: number): string {
  if (text.length <= maxLength) return text;
  return `${text.slice(0, Math.max(0, maxLength - 1))}…`;
}

/**
 * One JSON document. What JSON lets through but a terminal obeys (DEL, C1, bidirectional and other invisible characters)
 * is written as `\uXXXX`, which every parser reads back to the same string.
 */
export function toJson(value: unknown, indent = 0): string {
  const text = JSON.stringify(value, undefined, indent);
  return text.replaceAll(/(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) =>
    Array.from({ length: character.length }, (_, at) => {
      return `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`;
    }).join(''),
  );
}

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** `512 B`, `1.5 MiB`: three significant digits in binary units. */
export function formatBytes(sizeBytes: number): string {
  let value = sizeBytes;
  let unit = 0;
  while (value >= 999.5 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : Number(value.toPrecision(3))} ${BYTE_UNITS[unit]}`;
}

/** `0.4 ms`, `120 ms`, `3.4 s`, `2 min 5 s`, `1 h 2 min`. */
export function formatDuration(durationMs: number): string {
  if (durationMs < 10) return `${Math.round(durationMs * 10) / 10} ms`;
  if (durationMs < 999.5) return `${Math.round(durationMs)} ms`;
  if (durationMs < 59_950) return `${(durationMs / 1000).toFixed(1)} s`;
  const seconds = Math.round(durationMs / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

/** `1 gap`, `3 gaps`. */
export function formatCount(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** Milliseconds since the epoch as RFC 3339 UTC with seconds; `-` for 0, which the API uses for "not yet". */
export function formatTime(epochMs: number): string {
  return isTime(epochMs) ? new Date(epochMs).toISOString().replace(/\.\d+Z$/, 'Z') : '-';
}

/** False for 0 and for what no `Date` can hold. */
export function isTime(epochMs: number): boolean {
  return epochMs > 0 && epochMs <= 8.64e15;
}

/** A cell never gets wider: a hostile name cannot push the other columns off the screen. */
const MAX_CELL_WIDTH = 96;

/** Columns of text under their headings, two spaces apart, each cell escaped and cut; ends with a newline. */
export function formatTable(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [headings, ...rows.map((row) => row.map((cell) => truncate(escapeText(cell || '-'), MAX_CELL_WIDTH)))];
  const widths = headings.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines
    .map((line) => `${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')}`.trimEnd())
    .map((line) => `${line}\n`)
    .join('');
}

/** `name  value` lines with the values in one column, escaped; pairs without a value are left out. */
export function formatFields(fields: readonly (readonly [name: string, value: string | undefined])[]): string {
  const shown = fields.filter((field): field is readonly [string, string] => Boolean(field[1]));
  const width = Math.max(0, ...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${name.padEnd(width)}  ${escapeText(value)}\n`).join('');
}
