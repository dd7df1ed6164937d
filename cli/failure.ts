import { type ErrorCode, ExhibitError, errnoOf, explain } from '../evidence/error.ts';
import { escapeText, toJson } from './print.ts';
import { Interruption } from './session.ts';

/** A failure as the person and the shell see it. `interrupted` is the program's own: the person ended it. */
export interface Failure {
  readonly code: ErrorCode | 'interrupted';
  /** One sentence that says what to do. */
  readonly message: string;
  readonly exitCode: number;
}

/** 1 for what failed, 2 for wrong usage. */
export function failureOf(error: unknown): Failure {
  if (error instanceof Interruption) {
    return { code: 'interrupted', message: error.message, exitCode: error.exitCode };
  }
  if (error instanceof ExhibitError) {
    return { code: error.code, message: sentence(error), exitCode: isUsage(error.code) ? 2 : 1 };
  }
  if (errnoOf(error) !== undefined) {
    return { code: 'internal', message: `The system refused: ${explain(error)}`, exitCode: 1 };
  }
  const message = `Something unexpected failed, run it again with EXHIBIT_DEBUG=1 and report what it says: ${explain(error)}`;
  return { code: 'internal', message, exitCode: 1 };
}

/**
 * What goes to stderr: one JSON document, or words. Some messages list things below their sentence; all lines but the first
 * are indented, so that a name with a newline in it cannot pass for a message of its own.
 */
export function describeFailure(failure: Failure, options: { json: boolean }): string {
  if (options.json) return `${toJson({ error: { code: failure.code, message: failure.message } })}\n`;
  const lines = failure.message.split('\n').map((line) => escapeText(line.trim()));
  return `exhibit: ${lines.join('\n  ')}\n`;
}

/** A chain of causes longer than this is a loop. */
const MAX_CAUSES = 8;

/** The whole chain of causes with stacks, for EXHIBIT_DEBUG=1. */
export function describeCauses(error: unknown): string {
  const lines: string[] = [];
  for (let at = error, depth = 0; at !== undefined && depth < MAX_CAUSES; depth += 1) {
    const code = at instanceof ExhibitError ? ` [${at.code}]` : '';
    const text = at instanceof Error ? (at.stack ?? at.message) : String(at);
    lines.push(`${depth === 0 ? 'error' : 'caused by'}${code}: ${text.split('\n').map(escapeText).join('\n')}\n`);
    at = at instanceof Error ? at.cause : undefined;
  }
  return lines.join('');
}

/**
 * A message that ends with a full stop is whole. To any other belongs the reason, when a system call or one of ours gave
 * it: `Cannot read agent.yaml: ENOENT: no such file`. What libraries throw is for EXHIBIT_DEBUG=1.
 */
function sentence(error: ExhibitError): string {
  const words = [error.message];
  let at: unknown = error.message.endsWith('.') ? undefined : error.cause;
  for (let depth = 0; depth < MAX_CAUSES && at instanceof Error; depth += 1) {
    if (!(at instanceof ExhibitError) && errnoOf(at) === undefined) break;
    const { message } = at;
    if (!words.some((earlier) => earlier.includes(message))) words.push(message);
    at = at.cause;
  }
  return words.join(': ');
}

/** A configuration that is wrong is wrong usage of the agent. */
function isUsage(code: ErrorCode): boolean {
  return code === 'usage' || code === 'config';
}
