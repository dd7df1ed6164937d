import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { explain } from '../../evidence/error.ts';
import type { Pid } from '../runtime/runtime.ts';
import type { CollectContext } from './collector.ts';
import { type PictureOptions, type ProcessPicture, takePicture } from './memory-picture.ts';
import { type ProcessSurvey, surveyProcess } from './memory-survey.ts';

/** The processes of the target, twice: while it runs, and at the moment that is captured. What is missing is a gap. */

/** Undefined: known to have no memory, or not to answer; said once, and not tried again. */
export type Surveys = Map<Pid, ProcessSurvey | undefined>;

export async function surveyTarget(context: CollectContext): Promise<Surveys> {
  const surveys: Surveys = new Map();
  for (const pid of await context.runtime.pids(context.target, context.signal)) {
    surveys.set(pid, await surveyOrGap(context, pid, LIVE_SURVEY_MS));
  }
  return surveys;
}

/**
 * cmdline is read from the process' own memory, and maps waits for its memory lock: both can be held up for ever by a
 * FUSE server or a userfaultfd handler. A process that does not answer in this time is not touched again.
 */
const LIVE_SURVEY_MS = 15_000;
/** A process that came after the survey is surveyed while all stand still; 65,000 mappings took 1.4 s. */
const FROZEN_SURVEY_MS = 3_000;

/** `hadMemory`: it was surveyed before, so that without memory it has ended since. */
async function surveyOrGap(
  context: CollectContext,
  pid: Pid,
  timeoutMs: number,
  hadMemory = false,
): Promise<ProcessSurvey | undefined> {
  const survey = await surveyProcess(context.host, pid, timeoutMs, context.signal);
  if (survey.kind === 'process') {
    context.read(survey.bytesRead, survey.filesOpened);
    return survey;
  }
  // What never had memory is no loss, but whoever counts the processes wants to know.
  if (survey.kind === 'memoryless' && hadMemory) processGap(context, pid, { errno: 'ESRCH', why: ENDED_BETWEEN });
  else if (survey.kind === 'memoryless') context.note(`pid ${pid}: no core: ${survey.why}`);
  else processGap(context, pid, survey);
  return undefined;
}

const ENDED_BETWEEN = 'it ended between listing and reading';

function processGap(context: CollectContext, pid: Pid, { errno, why }: { errno?: string; why: string }): void {
  context.gap({ what: `memory of pid ${pid}`, pid, why, ...(errno === undefined ? {} : { errno }) });
}

/**
 * Takes the pictures once while the target runs and throws them away: loading the FFI library and compiling this code take
 * 80 ms the first time, which the target would spend standing still.
 */
export async function rehearse(context: CollectContext, options: PictureOptions, surveys: Surveys): Promise<void> {
  for (const survey of surveys.values()) {
    context.signal.throwIfAborted();
    if (survey === undefined) continue;
    const result = await takePicture(context.host, survey, options);
    if (result.kind !== 'picture') continue;
    result.picture.memory[Symbol.dispose]();
    context.read(result.picture.bytesRead, result.picture.filesOpened);
  }
}

export interface PicturesOptions extends PictureOptions {
  /** Told after each process, so that what was gathered of it is not kept waiting. */
  readonly onPicture?: () => void;
  /** Takes over the open /proc/PID/mem of each picture. */
  readonly opened: DisposableStack;
}

/**
 * The processes now: those that came since the survey are surveyed here, those that went are gaps. A runtime that takes
 * long to list them is not waited for: those of the survey are taken meanwhile.
 */
export async function pictureAll(
  context: CollectContext,
  options: PicturesOptions,
  surveys: Surveys,
): Promise<ProcessPicture[]> {
  const pictures: ProcessPicture[] = [];
  const listing = pidsNow(context, surveys);
  const seen = new Set<Pid>();
  const take = async (pid: Pid): Promise<void> => {
    context.signal.throwIfAborted();
    seen.add(pid);
    const picture = await pictureOf(context, options, surveys, pid);
    if (picture !== undefined) pictures.push(picture);
    options.onPicture?.();
    // A turn of the event loop: it has to hear the guard and feed the threads that copy.
    await setImmediate();
  };
  const soon = await Promise.race([listing, sleep(LISTING_MS, undefined)]);
  if (soon === undefined) for (const [pid, survey] of [...surveys]) if (survey !== undefined) await take(pid);
  const listed = await listing;
  for (const pid of listed) if (!seen.has(pid)) await take(pid);
  for (const [pid, survey] of surveys) {
    if (survey === undefined || seen.has(pid)) continue;
    processGap(context, pid, { errno: 'ESRCH', why: ENDED_BETWEEN });
  }
  return pictures;
}

/** A cgroup is read in one or two; later the threads that copy leave nothing of the processors to whoever lists. */
const LISTING_MS = 5;

/** A runtime that does not answer while its container stands still must not cost the copy. */
async function pidsNow(context: CollectContext, surveys: Surveys): Promise<readonly Pid[]> {
  try {
    return await context.runtime.pids(context.target, context.signal);
  } catch (error) {
    context.signal.throwIfAborted();
    context.note(`the processes could not be listed again (${explain(error)}): those of the survey were taken`);
    return [...surveys.keys()];
  }
}

/** Surveys tried for one process: a second when it was not there before, or ran another program meanwhile. */
const SURVEYS_MAX = 3;

async function pictureOf(
  context: CollectContext,
  options: PicturesOptions,
  surveys: Surveys,
  pid: Pid,
): Promise<ProcessPicture | undefined> {
  const hadMemory = surveys.get(pid) !== undefined;
  for (let tries = 0; tries < SURVEYS_MAX; tries += 1) {
    if (!surveys.has(pid)) surveys.set(pid, await surveyOrGap(context, pid, FROZEN_SURVEY_MS, hadMemory));
    const survey = surveys.get(pid);
    if (survey === undefined) return undefined;
    const result = await takePicture(context.host, survey, options);
    if (result.kind === 'picture') {
      options.opened.use(result.picture.memory);
      context.read(result.picture.bytesRead, result.picture.filesOpened);
      return result.picture;
    }
    if (result.kind === 'gone') {
      const gone = result.errno === 'ENOENT' || result.errno === 'ESRCH';
      processGap(context, pid, gone ? { errno: 'ESRCH', why: ENDED_BETWEEN } : result);
      return undefined;
    }
    surveys.delete(pid);
  }
  processGap(context, pid, { why: `it ran another program each time the agent looked, ${SURVEYS_MAX} times` });
  return undefined;
}
