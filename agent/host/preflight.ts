import type { Preflight } from '../../evidence/dump.ts';
import { explain } from '../../evidence/error.ts';
import type { Pid } from '../runtime/runtime.ts';
import { type Host, procPath } from './host.ts';
import { type Asker, openAsker } from './preflight-ask.ts';
import { askMaps, filesSurvey } from './preflight-files-survey.ts';
import { lookAtProcesses } from './preflight-look.ts';
import { listed, type Survey } from './preflight-obstacle.ts';
import { processObstacles, treeOf } from './preflight-process.ts';
import { socketsSurvey } from './preflight-sockets-survey.ts';
import { parseStat } from './process-stat.ts';
import { LIMIT_BYTES, readBounded } from './procfs.ts';

export interface PreflightOptions {
  /** How a process is started that may be made to wait; see preflight-ask.ts. */
  readonly openAsker?: (host: Host, signal: AbortSignal) => Asker;
}

/**
 * What CRIU will refuse of a container, from /proc, before anything is touched: docs/checkpoints.md tells each obstacle, how it
 * is seen, and what CRIU 4.2 did. `pids`: all the container's processes, as `host.procRoot` shows them. What is gone is left out, what
 * cannot be looked at is a note. Nothing of the target's is opened. Throws the signal's reason only.
 */
export async function preflight(
  host: Host,
  pids: readonly Pid[],
  signal: AbortSignal,
  options: PreflightOptions = {},
): Promise<Preflight> {
  const begin = performance.now();
  signal.throwIfAborted();
  await using asker = (options.openAsker ?? openAsker)(host, signal);
  // Mappings are read while the agent looks at the rest.
  const maps = askMaps(asker, pids);
  maps.catch(() => {});
  const { looks, notes } = await lookAtProcesses(host, pids, signal);
  const tree = treeOf(looks, (pid) => startOf(host, pid));
  const { dumped, beside } = tree;
  if (beside.length > 0) notes.push(besideNote(beside.map(({ pid }) => pid)));
  const surveys = [
    attempt('sockets', signal, () => socketsSurvey(host, asker, dumped, signal)),
    attempt('files', signal, () => filesSurvey(host, asker, dumped, maps)),
  ];
  const [sockets, files] = await Promise.all(surveys);
  const parts: Survey[] = [{ obstacles: processObstacles(tree), notes: [] }, sockets ?? NOTHING, files ?? NOTHING];
  const obstacles = parts.flatMap((part) => part.obstacles);
  return {
    processes: looks.length,
    obstacles: listed(obstacles),
    obstacleCount: obstacles.length,
    dumpBytes: dumped.reduce((sum, { status }) => sum + status.memoryBytes, 0),
    notes: bounded([...notes, ...dumped.flatMap((look) => look.notes), ...parts.flatMap((part) => part.notes)]),
    wallMs: performance.now() - begin,
  };
}

const NOTHING: Survey = { obstacles: [], notes: [] };

/** A preflight never ends a capture: what went wrong with it is a note. */
async function attempt(what: string, signal: AbortSignal, survey: () => Promise<Survey>): Promise<Survey> {
  try {
    return await survey();
  } catch (error) {
    signal.throwIfAborted();
    return { obstacles: [], notes: [`the ${what} could not be looked at: ${explain(error)}`] };
  }
}

function startOf(host: Host, pid: number): number {
  const reading = readBounded(procPath(host, pid, 'stat'), LIMIT_BYTES.small, true);
  const stat = reading.kind === 'read' ? parseStat(reading.bytes) : undefined;
  return stat?.startTicks ?? Number.POSITIVE_INFINITY;
}

/** Pids told in one note. */
const PIDS_MAX = 10;

function besideNote(pids: readonly number[]): string {
  const more = pids.length > PIDS_MAX ? ` and ${pids.length - PIDS_MAX} more` : '';
  return (
    `CRIU takes the container's first process and its descendants: process ${pids.slice(0, PIDS_MAX).join(', ')}${more}, ` +
    'put in from outside, will not be in the checkpoint'
  );
}

/** Notes kept: a hostile target could make one a process. */
const NOTES_MAX = 20;

function bounded(notes: readonly string[]): string[] {
  if (notes.length <= NOTES_MAX) return [...notes];
  return [...notes.slice(0, NOTES_MAX), `and ${notes.length - NOTES_MAX} more notes`];
}
