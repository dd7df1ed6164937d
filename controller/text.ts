import { ExhibitError } from '../evidence/error.ts';
import { oneLine } from '../evidence/request-words.ts';

/** Texts of callers, before anything is done with them: bounded, of one line where they are printed on one. */

/** A sentence or three; the case has notes for more. */
const REASON_CHARS = 1_000;
/** Any numbering of cases; it goes on a printed line and into labels of sinks. */
const CASE_ID_CHARS = 100;
const TITLE_CHARS = 200;
/** A page or two. */
const NOTE_CHARS = 10_000;
/** A DNS subdomain is the longest name that Kubernetes knows. */
const NAME_CHARS = 253;

export const readReason = (text: string): string => oneLine('reason', text, REASON_CHARS) ?? '';
export const readTitle = (text: string): string => oneLine('title', text, TITLE_CHARS) ?? '';
export const readName = (what: string, text: string): string => oneLine(what, text, NAME_CHARS) ?? '';

/** Empty: none. @throws ExhibitError `usage` */
export function readCaseId(text: string): string {
  const caseId = oneLine('case id', text, CASE_ID_CHARS) ?? '';
  if (caseId.trim() !== caseId) throw new ExhibitError('usage', 'The case id begins or ends with a space');
  return caseId;
}

/** Several lines. @throws ExhibitError `usage` when it is empty, too long or holds controls */
export function readNote(text: string): string {
  if (text.trim() === '') throw new ExhibitError('usage', 'The note is empty');
  if (text.length > NOTE_CHARS)
    throw new ExhibitError('usage', `The note is ${text.length} characters long; ${NOTE_CHARS} is the most`);
  for (const line of text.split(/\r?\n/)) {
    const plain = line.replaceAll('\t', ' ');
    if (plain.trim() !== '') oneLine('note', plain, NOTE_CHARS);
  }
  return text;
}
