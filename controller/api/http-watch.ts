import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { ExhibitError } from '../../evidence/error.ts';
import { errorAnswer } from './http-error.ts';

/** A stream of updates as server-sent events (WHATWG HTML, section 9.2): `update`, then `end`, or `error`. */

/** Below the 60 s after which proxies take a silent connection for dead. */
const PING_MS = 15_000;
/** A reader that takes nothing for so long is dropped: it watches again and is told everything at once. */
const SLOW_READER_MS = 30_000;
/**
 * Writes until the updates end or the reader is gone; one update at a time, so that what waits for a slow reader is held by nobody
 * but the socket's own buffer. Never throws: an error in the middle is the last event.
 */
export async function writeEvents(
  response: ServerResponse,
  headers: Readonly<Record<string, string>>,
  updates: AsyncIterable<object>,
  signal: AbortSignal,
  slowReaderMs = SLOW_READER_MS,
): Promise<void> {
  response.writeHead(200, { ...headers, 'content-type': 'text/event-stream; charset=utf-8' });
  response.flushHeaders();
  const ping = setInterval(() => {
    if (!response.writableNeedDrain) response.write(': ping\n\n');
  }, PING_MS);
  try {
    for await (const update of updates) {
      if (signal.aborted) return;
      if (!response.write(event('update', update))) await drained(response, signal, slowReaderMs);
    }
    response.end(event('end', {}));
  } catch (error) {
    if (signal.aborted) return;
    response.end(event('error', errorAnswer(error).body));
  } finally {
    clearInterval(ping);
  }
}

/** JSON has no line breaks of its own, so one `data:` line carries it whole. */
const event = (name: string, data: object): string => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;

/** Fails, and cuts the connection, when the reader takes nothing in time. */
async function drained(response: ServerResponse, signal: AbortSignal, slowReaderMs: number): Promise<void> {
  const late = AbortSignal.timeout(slowReaderMs);
  try {
    await once(response, 'drain', { signal: AbortSignal.any([signal, late]) });
  } catch (cause) {
    response.destroy();
    throw new ExhibitError('cancelled', 'The reader is gone or too slow', { cause });
  }
}
