import { setTimeout } from 'node:timers/promises';
import { errnoOf, explain } from '../../evidence/error.ts';
import type { Host } from '../host/host.ts';
import { type DetailedVma, parseSmaps } from '../host/maps.ts';
import { memorylessReason, parseOwner, readText, waitingDevices } from '../host/memory.ts';
import { type ProcessStat, parseStat } from '../host/process-stat.ts';
import type { Pid } from '../runtime/runtime.ts';

/** Everything about a process that can be learned while it runs, so that little is left for the freeze. */
export interface ProcessSurvey {
  readonly kind: 'process';
  readonly pid: Pid;
  readonly stat: ProcessStat;
  readonly owner: { readonly uid: number; readonly gid: number };
  /** Arguments ended by NUL. */
  readonly commandLine: Uint8Array;
  readonly auxv: Uint8Array;
  readonly vmas: readonly DetailedVma[];
  /** Resident and swapped, as smaps counts them. */
  readonly memoryBytes: number;
  readonly waitingDevices: ReadonlySet<string>;
  readonly bytesRead: number;
  readonly filesOpened: number;
}

export type SurveyResult =
  | ProcessSurvey
  /** A zombie, a kernel thread. */
  | { readonly kind: 'memoryless'; readonly pid: Pid; readonly why: string }
  | { readonly kind: 'failed'; readonly pid: Pid; readonly errno?: string; readonly why: string };

/** Never throws but for the signal: what went wrong is in the result. */
export async function surveyProcess(
  host: Host,
  pid: Pid,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<SurveyResult> {
  const timer = new AbortController();
  try {
    const late = setTimeout(timeoutMs, undefined, { signal: AbortSignal.any([signal, timer.signal]) });
    const why = `its files in /proc did not answer in ${timeoutMs} ms; reading on could block the agent`;
    return await Promise.race([look(host, pid), late.then((): SurveyResult => ({ kind: 'failed', pid, why }))]);
  } catch (error) {
    signal.throwIfAborted();
    const errno = errnoOf(error);
    return { kind: 'failed', pid, why: explain(error), ...(errno === undefined ? {} : { errno }) };
  } finally {
    timer.abort();
  }
}

async function look(host: Host, pid: Pid): Promise<SurveyResult> {
  const bytesOf = async (name: string): Promise<Buffer> =>
    Buffer.from((await readText(host, pid, name)).text, 'latin1');
  const stat = parseStat(await bytesOf('stat'));
  if (stat === undefined) return { kind: 'failed', pid, why: '/proc/PID/stat is not as proc(5) says' };
  const memoryless = memorylessReason(stat);
  if (memoryless !== undefined) return { kind: 'memoryless', pid, why: memoryless };
  const status = await bytesOf('status');
  const commandLine = await bytesOf('cmdline');
  const auxv = await bytesOf('auxv');
  const mountinfo = await bytesOf('mountinfo');
  const smaps = await readText(host, pid, 'smaps');
  const { vmas } = parseSmaps(smaps.text);
  const small = status.byteLength + commandLine.byteLength + auxv.byteLength + mountinfo.byteLength;
  return {
    kind: 'process',
    ...{ pid, stat, commandLine, auxv, vmas },
    owner: parseOwner(status.toString('latin1')) ?? { uid: 0, gid: 0 },
    memoryBytes: vmas.reduce((sum, vma) => sum + vma.residentBytes + vma.swappedBytes, 0),
    waitingDevices: waitingDevices(mountinfo.toString('latin1')),
    bytesRead: small + smaps.text.length,
    filesOpened: 6,
  };
}
