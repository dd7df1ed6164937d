import { closeSync, openSync, readSync } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';
import { type AuditVerdict, type ChainEnd, readAuditLines, verifyAudit } from '../controller/store/audit.ts';
import { ExhibitError, isErrno } from '../evidence/error.ts';

/** An exported audit log, checked without the controller. */

/** Far longer than any entry: its longest field is a note of a case. */
const MAX_LINE_CHARS = 2 ** 20;
const CHUNK_BYTES = 2 ** 16;

/** `end`: what the log reached before, as this prints it. @throws ExhibitError `usage`, or `bundle-corrupt` for a line that is no entry */
export function checkAuditFile(file: string, end: string | undefined): AuditVerdict {
  const known = end === undefined ? {} : { known: readEnd(end) };
  const fd = open(file);
  try {
    return verifyAudit(readAuditLines(linesOf(fd, file)), known);
  } finally {
    closeSync(fd);
  }
}

export const endText = ({ seq, digest }: ChainEnd): string => `${seq}:${digest}`;

function readEnd(text: string): ChainEnd {
  const [, seq, digest] = /^(\d{1,15}):([0-9a-f]{64})$/.exec(text) ?? [];
  if (seq === undefined || digest === undefined)
    throw new ExhibitError('usage', '--end is NUMBER:DIGEST, as an earlier check printed it.');
  return { seq: Number(seq), digest };
}

function open(file: string): number {
  try {
    return openSync(file, 'r');
  } catch (cause) {
    const why = isErrno(cause, 'ENOENT', 'ENOTDIR') ? 'it is not there' : 'it cannot be read';
    throw new ExhibitError('usage', `Cannot check ${file}: ${why}; name a file that \`exhibit audit --json\` wrote.`, {
      cause,
    });
  }
}

function* linesOf(fd: number, file: string): Generator<string> {
  const decoder = new StringDecoder('utf8');
  const chunk = Buffer.alloc(CHUNK_BYTES);
  let rest = '';
  for (let bytes = readSync(fd, chunk); bytes > 0; bytes = readSync(fd, chunk)) {
    const lines = (rest + decoder.write(chunk.subarray(0, bytes))).split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
    if (rest.length > MAX_LINE_CHARS) throw new ExhibitError('bundle-corrupt', `${file} has a line that is no entry.`);
  }
  yield rest + decoder.end();
}
