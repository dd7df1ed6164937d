import { explain } from '../../evidence/error.ts';
import type { Host } from '../host/host.ts';
import { readTail } from '../host/tail.ts';
import { asHostPath } from '../runtime/runtime.ts';

/** containerd's shim ends its error with the path of CRIU's log: `… path= /run/containerd/…/criu-dump.log`. */
const LOG_PATH = /(\/[^\s:"']+\/(?:criu-)?dump\.log)/;
/** Only the runtime's own folders: the path comes out of a message. */
const RUNTIME_FOLDERS = ['/run/containerd/', '/run/docker/', '/var/lib/containerd/', '/var/lib/docker/'];
/** CRIU's log grows with processes and mappings, some 40 KiB for one process; its errors are at the end. */
const LOG_TAIL_BYTES = 4 * 1024 * 1024;
/** The first error is the reason, the next ones are its consequences. */
const MOST_LINES = 10;
const MOST_LINE_CHARS = 500;
/** What a person sees of the log in the manifest. */
const LAST_LINES = 30;

/** Where CRIU left its log, as the runtime's error says it; undefined when it says nothing of the kind. Pure. */
export function criuLogPath(words: string): string | undefined {
  const found = LOG_PATH.exec(words)?.[1];
  if (found === undefined || found.split('/').includes('..')) return undefined;
  const real = found.replace(/^\/var\/run\//, '/run/');
  return RUNTIME_FOLDERS.some((folder) => real.startsWith(folder)) ? found : undefined;
}

/** The lines of a CRIU log that say why: `(00.012) Error (criu/sk-inet.c:191): inet: Connected TCP socket …`. Pure. */
export function criuErrors(log: string): string[] {
  return log
    .split('\n')
    .filter((line) => /\bError \(/.test(line))
    .slice(0, MOST_LINES)
    .map((line) => line.replace(/^\(\s*[\d.]+\)\s*/, '').slice(0, MOST_LINE_CHARS));
}

/** Errors that say nothing about the target: one that CRIU lives with, and what its dump says at every failure. */
const BESIDE_THE_POINT = /RLIMIT_NOFILE|Dump files \(pid|Dumping FAILED/;

/** The one error that a person wants to read: the first that is a reason and not a consequence. Pure. */
export function criuWhy(errors: readonly string[]): string | undefined {
  const reason = errors.find((line) => !BESIDE_THE_POINT.test(line));
  return reason?.replace(/^Error \([^)]*\):\s*/, '');
}

/** The end of a log, without its control characters: parts of it are names that the container chose. Pure. */
export function lastLines(log: string): string[] {
  return log
    .trimEnd()
    .split('\n')
    .slice(-LAST_LINES)
    .map((line) => line.replaceAll(/[\x00-\x1f\x7f-\x9f]/g, ' ').slice(0, MOST_LINE_CHARS));
}

export interface CriuLog {
  /** The last 4 MiB of it; undefined where the runtime does not say where it is, or it cannot be read. */
  readonly log: Buffer | undefined;
  /** Why the log could not be read, where it could not. */
  readonly problem?: string;
}

/** CRIU's log of a checkpoint that the runtime reports as failed. Never throws: the failure itself is what counts. */
export async function criuLog(host: Host, failure: unknown): Promise<CriuLog> {
  const logPath = criuLogPath(explain(failure));
  if (logPath === undefined) return { log: undefined };
  try {
    return { log: await readTail(host, asHostPath(logPath), LOG_TAIL_BYTES) };
  } catch (error) {
    return { log: undefined, problem: `CRIU's log ${logPath} could not be read: ${explain(error)}` };
  }
}
