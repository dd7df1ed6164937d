/** A log that a test can read. */
import pino, { type Logger } from 'pino';

export interface LogLines {
  readonly log: Logger;
  readonly lines: readonly Readonly<Record<string, unknown>>[];
  /** The first line, there or to come, that has all of this in its JSON. */
  line(...parts: readonly string[]): Promise<Readonly<Record<string, unknown>>>;
}

export function collectLog(): LogLines {
  const lines: Record<string, unknown>[] = [];
  const waiting = new Set<() => void>();
  const write = (text: string) => {
    lines.push(JSON.parse(text));
    for (const look of [...waiting]) look();
  };
  return {
    log: pino({ level: 'debug', base: null }, { write }),
    lines,
    line: (...parts) =>
      new Promise((resolve) => {
        const look = () => {
          const found = lines.find((line) => parts.every((part) => JSON.stringify(line).includes(part)));
          if (found === undefined) return;
          waiting.delete(look);
          resolve(found);
        };
        waiting.add(look);
        look();
      }),
  };
}
