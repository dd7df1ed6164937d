import { createReadStream } from 'node:fs';
import { type AuditVerdict, type ChainEnd, checkAudit, readAuditLine } from '../evidence/audit-log.ts';
import { ExhibitError, errnoOf } from '../evidence/error.ts';

/** The check of an exported audit log, without a controller. */

/** The longest entry is a note of a case or the words of an alert, some 100 KB; a file of one endless line is no log. */
const MAX_LINE_CHARS = 16 * 1024 * 1024;

/** `SEQ:DIGEST`, as an earlier check printed it. @throws ExhibitError `usage` */
export function readKnownEnd(text: string): ChainEnd {
  const [, seq, digest] = /^(\d{1,15}):([0-9a-f]{64})$/i.exec(text) ?? [];
  if (seq !== undefined && digest !== undefined && Number(seq) > 0)
    return { seq: Number(seq), digest: digest.toLowerCase() };
  throw new ExhibitError('usage', `${text} is no end of a log: say NUMBER:DIGEST, as an earlier check printed it.`);
}

/** A line that is no entry ends it there: what follows cannot be told from what was put in. @throws ExhibitError `usage` for no file */
export async function checkAuditFile(
  file: string,
  known: ChainEnd | undefined,
  signal: AbortSignal,
): Promise<AuditVerdict> {
  const check = checkAudit(known === undefined ? {} : { known });
  let number = 0;
  try {
    for await (const line of linesOf(file, signal)) {
      number += 1;
      if (line !== '') check.take(readAuditLine(line, number));
    }
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof ExhibitError && error.code === 'bundle-corrupt') {
      const { problems, ...rest } = check.verdict();
      return { ...rest, problems: [error.message, ...problems] };
    }
    if (errnoOf(error) === undefined) throw error;
    throw new ExhibitError('usage', `Cannot read the log ${file}`, { cause: error });
  }
  const verdict = check.verdict();
  return verdict.entries > 0 || known !== undefined ? verdict : { ...verdict, problems: ['there is no entry in it'] };
}

async function* linesOf(file: string, signal: AbortSignal): AsyncGenerator<string> {
  let rest = '';
  let number = 1;
  for await (const chunk of createReadStream(file, { encoding: 'utf8', signal }) as AsyncIterable<string>) {
    const [first = '', ...more] = chunk.split('\n');
    rest += first;
    for (const line of more) {
      yield rest;
      number += 1;
      rest = line;
    }
    if (rest.length > MAX_LINE_CHARS)
      throw new ExhibitError('bundle-corrupt', `line ${number} of the audit log is longer than any entry`);
  }
  if (rest !== '') yield rest;
}
