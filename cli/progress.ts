import type { Ora } from 'ora';
import type { VerifyProgress } from '../evidence/verify.ts';
import { escapeText, formatBytes, formatCount, formatDuration, toJson, truncate } from './print.ts';
import type { Output } from './session.ts';
import type { EventView, StageView } from './view.ts';

/** Shows a capture's events as they come. `stop` gives the terminal back; it may be called at any time, and twice. */
export interface Progress {
  show(event: EventView): Promise<void>;
  stop(): void;
}

/** A reason is a sentence; one that is longer is in `exhibit show`. */
const MAX_REASON_LENGTH = 200;

/** `memory: captured, 1.2 GiB stored in 3.4 s, paused 120 ms`. */
export function describeStage(stage: StageView): string {
  if (isQueue(stage.stage) && stage.status === 'captured')
    return escapeText(`${stage.stage}: waited ${formatDuration(stage.wallMs)}`);
  const facts = [stage.status];
  if (stage.storedBytes > 0) facts.push(`${formatBytes(stage.storedBytes)} stored in ${formatDuration(stage.wallMs)}`);
  if (stage.pauseMs > 0) facts.push(`paused ${formatDuration(stage.pauseMs)}`);
  if (stage.gapCount > 0) facts.push(formatCount(stage.gapCount, 'gap'));
  const reason = stage.reason === null ? '' : `: ${truncate(stage.reason, MAX_REASON_LENGTH)}`;
  return escapeText(`${stage.stage}: ${facts.join(', ')}${reason}`);
}

/** Also where several captures are shown side by side, each stage with its target before it. */
const isQueue = (stage: string): boolean => /(^| )queue$/.test(stage);

/** `queue: waiting, 2 before it` */
export const describeStart = ({ stage, before = 0 }: { readonly stage: string; readonly before?: number }): string =>
  escapeText(before > 0 ? `${stage}: waiting, ${before} before it` : `${stage}: started`);

/** How far a stage is. Times are the agent's, so that a rate does not depend on this machine's clock. */
export interface StageProgress {
  readonly stage: string;
  readonly startedAtMs: number;
  readonly atMs: number;
  readonly doneBytes: number;
  readonly totalBytes: number | null;
  /** Of the queue. */
  readonly before?: number;
  /** As the controller works it out, where one is asked. */
  readonly bytesPerSecond?: number | null;
  readonly remainingMs?: number | null;
}

/** A rate over less time than this says nothing. */
const MIN_RATE_INTERVAL_MS = 200;

/** `memory: 310 MiB of 1.2 GiB, 120 MiB/s, 8 s left`. */
export function describeProgress(at: StageProgress): string {
  if (at.before !== undefined) return describeStart(at);
  if (at.doneBytes === 0) return escapeText(at.stage);
  const total = at.totalBytes === null ? '' : ` of ${formatBytes(Math.max(at.totalBytes, at.doneBytes))}`;
  const speed = at.bytesPerSecond ?? meanSpeed(at);
  const rate = speed === undefined ? '' : `, ${formatBytes(Math.round(speed))}/s`;
  const left = at.remainingMs ? `, ${formatDuration(at.remainingMs)} left` : '';
  return escapeText(`${at.stage}: ${formatBytes(at.doneBytes)}${total}${rate}${left}`);
}

function meanSpeed({ startedAtMs, atMs, doneBytes }: StageProgress): number | undefined {
  const elapsedMs = atMs - startedAtMs;
  return elapsedMs < MIN_RATE_INTERVAL_MS ? undefined : (doneBytes / elapsedMs) * 1000;
}

/** `accepted: prod/web-0/app to s3://evidence` or that somebody else began it. */
export function describeAccepted(event: Extract<EventView, { event: 'accepted' }>): string {
  const verb = event.created ? 'capturing' : 'joined the capture of';
  return escapeText(`${verb} ${event.target} into ${event.sinkUrl}`);
}

/** JSON lines on stdout, every event. */
export function jsonProgress(stdout: Output): Progress {
  return {
    show: (event) => stdout.write(`${toJson(event)}\n`),
    stop: () => undefined,
  };
}

/** One plain line on stderr when a stage starts and when it ends, with the agent's time. */
function plainProgress(stderr: Output): Progress {
  return {
    async show(event) {
      const words = plainWords(event);
      if (words !== undefined) await stderr.write(`${event.at ?? '-'} ${words}\n`);
    },
    stop: () => undefined,
  };
}

function plainWords(event: EventView): string | undefined {
  switch (event.event) {
    case 'accepted':
      return describeAccepted(event);
    case 'stage-started':
      return describeStart(event);
    case 'stage-ended':
      return describeStage(event);
    case 'stage-progress':
    case 'ended':
      return undefined;
    default:
      return event satisfies never;
  }
}

/** A spinner with bytes and rate for the stages that run, and one line that stays for each that ended. */
async function terminalProgress(stderr: Output): Promise<Progress> {
  const { default: ora } = await import('ora');
  // discardStdin would put the terminal into raw mode and take Ctrl-C away from us.
  const spinner = ora({ stream: stderr.stream, discardStdin: false, text: 'waiting for the agent' }).start();
  const running = new Map<string, StageProgress>();
  const text = () => [...running.values()].map(describeProgress).join('   ') || 'working';
  return {
    async show(event) {
      const atMs = event.at === null ? 0 : Date.parse(event.at);
      switch (event.event) {
        case 'accepted':
          spinner.info(describeAccepted(event));
          break;
        case 'stage-started':
          running.set(event.stage, {
            ...{ stage: event.stage, startedAtMs: atMs, atMs, doneBytes: 0, totalBytes: null },
            ...(event.before === undefined ? {} : { before: event.before }),
          });
          break;
        case 'stage-progress': {
          const startedAtMs = running.get(event.stage)?.startedAtMs ?? atMs;
          running.set(event.stage, { ...event, startedAtMs, atMs });
          break;
        }
        case 'stage-ended':
          running.delete(event.stage);
          keepLine(spinner, event);
          break;
        case 'ended':
          spinner.stop();
          return;
        default:
          event satisfies never;
      }
      spinner.text = text();
      if (!spinner.isSpinning) spinner.start();
    },
    stop: () => void spinner.stop(),
  };
}

function keepLine(spinner: Ora, stage: StageView): void {
  const line = describeStage(stage);
  if (stage.status === 'captured') spinner.succeed(line);
  else if (stage.status === 'partial') spinner.warn(line);
  else if (stage.status === 'failed') spinner.fail(line);
  else spinner.info(line);
}

/** A verification's progress on a terminal: one line that goes away. Nothing elsewhere: the report is what counts. */
export async function verifyProgress(
  stderr: Output,
): Promise<{ show(at: VerifyProgress): void; stop(): void } | undefined> {
  if (!canSpin(stderr)) return undefined;
  const { default: ora } = await import('ora');
  const spinner = ora({ stream: stderr.stream, discardStdin: false, text: 'reading' }).start();
  return {
    show({ object, doneBytes, totalBytes }) {
      spinner.text = escapeText(`${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}: ${object}`);
    },
    stop: () => void spinner.stop(),
  };
}

/** ora divides by the terminal's width: without one it would clear lines for ever. */
function canSpin(stderr: Output): boolean {
  return stderr.isTerminal && stderr.columns > 0;
}

/** The progress that fits where stderr goes. */
export async function personProgress(stderr: Output): Promise<Progress> {
  return canSpin(stderr) ? await terminalProgress(stderr) : plainProgress(stderr);
}
