import { explain } from '../../evidence/error.ts';
import type { ReadingGap } from './process-raw.ts';
import type { ScannedProcess } from './process-scanned.ts';
import { type ProcfsReader, StalledError } from './procfs-reader.ts';
import type { ScanFacts } from './procfs-request.ts';

/** What a scan could not read of a process at all. */
export type ScanGap = ReadingGap & { readonly pid: number };

/** After so many processes that blocked the reader, the rest is read carefully from the start. */
const STALLS_MAX = 3;
/** After so many that blocked even the careful reader, the rest is not read. Together they bound a scan's waiting. */
const CAREFUL_STALLS_MAX = 3;

/**
 * Scans the processes in their order. A process that makes the reader wait too long is read again without
 * what can block, and if that blocks as well, it becomes a gap and the scan goes on with the next.
 */
export async function* scanProcesses(
  reader: ProcfsReader,
  pids: readonly number[],
  known: Omit<ScanFacts, 'reference'>,
  signal: AbortSignal,
  gap: (gap: ScanGap) => void,
): AsyncGenerator<ScannedProcess> {
  let reference: ScanFacts['reference'];
  let waiting = [...pids];
  let stalls = 0;
  let carefulStalls = 0;
  while (waiting.length > 0) {
    const careful = stalls >= STALLS_MAX;
    try {
      for await (const found of scanned(reader, waiting, careful, { ...known, reference }, signal)) {
        waiting = waiting.slice(1);
        reference = found.reference;
        yield found;
      }
      if (waiting.length > 0) throw new Error('the reader answered for fewer processes than were asked for');
    } catch (error) {
      const [pid, ...rest] = waiting;
      if (signal.aborted || pid === undefined) throw error;
      waiting = rest;
      if (!careful) {
        stalls += 1;
        const again = await scanCarefully(reader, pid, { ...known, reference }, signal);
        if (again) yield again;
        else carefulStalls += 1;
        if (again) continue;
      } else {
        carefulStalls += 1;
      }
      gap({ pid, what: `pid ${pid}`, why: whyNot(error) });
      if (carefulStalls < CAREFUL_STALLS_MAX) continue;
      for (const left of rest)
        gap({ pid: left, what: `pid ${left}`, why: 'not read: too many processes blocked the reader' });
      return;
    }
  }
}

function whyNot(error: unknown): string {
  return error instanceof StalledError ? `reading it blocks: ${error.message}` : explain(error);
}

async function* scanned(
  reader: ProcfsReader,
  pids: readonly number[],
  careful: boolean,
  facts: ScanFacts,
  signal: AbortSignal,
): AsyncGenerator<ScannedProcess> {
  for await (const reply of reader.ask({ kind: 'processes', pids, careful, ...facts }, signal)) {
    if (reply.kind === 'process') yield reply.process;
  }
}

async function scanCarefully(
  reader: ProcfsReader,
  pid: number,
  facts: ScanFacts,
  signal: AbortSignal,
): Promise<ScannedProcess | undefined> {
  let found: ScannedProcess | undefined;
  try {
    for await (const process of scanned(reader, [pid], true, facts, signal)) found = process;
  } catch (error) {
    if (signal.aborted) throw error;
  }
  return found;
}
