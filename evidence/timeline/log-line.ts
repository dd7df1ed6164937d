import { parseMoment } from './moment.ts';
import { cutText } from './timeline.ts';

/**
 * Lines of container logs as runtimes write them. CRI: `2026-03-01T12:00:00.123456789+01:00 stdout F text`, where P marks a part
 * of a line that goes on (k8s.io/cri-client, logs.go). Docker's json-file: `{"log":"text\n","stream":"stdout","time":"…"}`,
 * where a text without a newline goes on.
 */
export interface LogText {
  readonly ns: bigint;
  readonly stream: string;
  readonly text: string;
  /** Of the file, where it began. */
  readonly line: number;
  readonly format: 'cri' | 'docker';
}

/** Joins the parts of lines, which may be mixed with those of the other stream. */
export interface LogJoiner {
  /** What the line completes; `undefined` when it goes on, `bad` when it is none. */
  push(text: string, line: number): LogText | 'bad' | undefined;
  /** What was begun and never ended: the file was cut there. */
  end(): LogText[];
}

const CRI_LINE = /^(\S{20,40}) (stdout|stderr) (\S+) (.*)$/s;

interface Piece extends LogText {
  readonly isLast: boolean;
}

export function createLogJoiner(): LogJoiner {
  const open = new Map<string, LogText>();
  return {
    push(text, line) {
      const piece = text.startsWith('{') ? dockerPiece(text, line) : criPiece(text, line);
      if (piece === undefined) return 'bad';
      const { isLast, ...found } = piece;
      const begun = open.get(found.stream);
      const joined = begun === undefined ? found : { ...begun, text: cutText(begun.text + found.text) };
      if (isLast) open.delete(found.stream);
      else open.set(found.stream, joined);
      return isLast ? { ...joined, text: cutText(joined.text) } : undefined;
    },
    end() {
      const rest = [...open.values()];
      open.clear();
      return rest;
    },
  };
}

function criPiece(text: string, line: number): Piece | undefined {
  const parts = CRI_LINE.exec(text);
  const ns = parts?.[1] === undefined ? undefined : parseMoment(parts[1]);
  if (parts === null || ns === undefined) return undefined;
  const [, , stream = '', tags = '', words = ''] = parts;
  return { ns, stream, text: words, line, format: 'cri', isLast: !tags.split(':').includes('P') };
}

function dockerPiece(text: string, line: number): Piece | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null || !('time' in value) || !('log' in value)) return undefined;
  const { log, time } = value;
  const ns = typeof time === 'string' ? parseMoment(time) : undefined;
  if (typeof log !== 'string' || ns === undefined) return undefined;
  // Docker knows two streams; a third name would be a hostile file's, and would be held for ever.
  const stream = 'stream' in value && value.stream === 'stderr' ? 'stderr' : 'stdout';
  const isLast = log.endsWith('\n');
  return { ns, stream, text: isLast ? log.slice(0, -1) : log, line, format: 'docker', isLast };
}
