import { isUtf8 } from 'node:buffer';
import { fromLatin1, wordsOf } from './decode.ts';

/**
 * Pure: lines of auditd's log, audit.log, as the audit project's "Audit Event Parsing" has them. A line is Latin-1 here, one
 * character a byte: what a program put into it is hostile.
 */

export interface AuditStamp {
  /** The kernel gives milliseconds. */
  readonly realtimeUs: bigint;
  readonly serial: string;
}

/** Of `msg=audit(1762000000.123:4711):`, near the line's start. */
export function auditStamp(line: string): AuditStamp | undefined {
  const match = /^(?:node=\S{1,256} )?(?:type=\S{1,64} )?msg=audit\((\d{1,12})\.(\d{3}):(\d{1,20})\):/.exec(line);
  if (match === null) return undefined;
  return { realtimeUs: (BigInt(match[1] ?? 0) * 1000n + BigInt(match[2] ?? 0)) * 1000n, serial: match[3] ?? '' };
}

/** What is read of a line to tell whom it names: `pid`, `ppid`, and `opid` of whom a signal or a trace was for. */
export interface AuditPids {
  readonly pid: number | undefined;
  readonly ppid: number | undefined;
  readonly opid: number | undefined;
}

const PID_FIELD = / (pid|ppid|opid)=(\d{1,10})(?= |$)/g;

/** Only what stands before the first quoted text, or where the line has none: a name inside quotes cannot forge one. */
export function auditPids(line: string): AuditPids {
  const pids: { pid?: number; ppid?: number; opid?: number } = {};
  for (const [, name, digits] of outsideQuotes(line).matchAll(PID_FIELD))
    pids[name as keyof typeof pids] ??= Number(digits);
  return { pid: pids.pid, ppid: pids.ppid, opid: pids.opid };
}

/** The enriched part, after a group separator, has words for numbers and no pids. */
function outsideQuotes(line: string): string {
  return (line.split('\x1d', 1)[0] ?? '').replaceAll(/"[^"]*"?/g, '""');
}

export interface AuditLine {
  readonly type: string;
  readonly node: string | undefined;
  readonly fields: Record<string, string>;
  readonly fieldsBase64: Record<string, string>;
  readonly arguments: string[] | undefined;
}

/** A record has some tens; EXECVE one an argument. */
const MAX_FIELDS = 4096;

/** Undefined for what is no record. */
export function parseAuditLine(line: string): AuditLine | undefined {
  const stamp = auditStamp(line);
  const head = /^(?:node=(\S+) )?(?:type=(\S+) )?msg=audit\([^)]*\):/.exec(line);
  if (stamp === undefined || head === null) return undefined;
  const type = head[2] ?? 'UNKNOWN';
  const values = new Map<string, Buffer>();
  for (const [name, raw] of pairsOf(line.slice(head[0].length))) {
    if (values.size === MAX_FIELDS) break;
    if (!values.has(name)) values.set(name, decodeValue(type, name, raw));
  }
  const fields: Record<string, string> = Object.create(null);
  const fieldsBase64: Record<string, string> = Object.create(null);
  for (const [name, bytes] of values) {
    fields[name] = bytes.toString('utf8');
    if (!isUtf8(bytes)) fieldsBase64[name] = bytes.toString('base64');
  }
  return {
    type,
    node: head[1] === undefined ? undefined : wordsOf(head[1]),
    fields,
    fieldsBase64,
    arguments: argumentsOf(type, values),
  };
}

/** A name begins where no name's character is before: otherwise a long word without `=` would be tried from each of its characters. */
const PAIR = /(?<![A-Za-z0-9_.[\]-])([A-Za-z0-9_.[\]-]{1,64})=("[^"]*"|'[^']*'|[^ \x1d]*)/g;

/** `name=value`, `name="a b"`, `name='...'`: programs put `op=... acct="x"` into `msg='...'`, whose pairs count as the record's. */
function* pairsOf(text: string): Generator<[string, string]> {
  for (const match of text.matchAll(PAIR)) {
    const [, name = '', raw = ''] = match;
    if (name === 'msg' && raw.startsWith("'")) yield* pairsOf(raw.slice(1, -1));
    else yield [name, raw];
  }
}

/** Which fields the kernel and programs write in hex when they hold a quote, a space or a control byte (audit_log_untrustedstring). */
const UNTRUSTED = new Set(
  'acct cmd comm cwd data device dir exe file grp key name new-chardev new_group ocomm old-chardev path proctitle sw unit vm watch'.split(
    ' ',
  ),
);

function isUntrusted(type: string, name: string): boolean {
  return (
    UNTRUSTED.has(name) ||
    (type === 'EXECVE' && /^a\d+(\[\d+\])?$/.test(name)) ||
    (type === 'SOCKADDR' && name === 'saddr')
  );
}

function decodeValue(type: string, name: string, raw: string): Buffer {
  const quoted = /^"([^"]*)"$/.exec(raw);
  if (quoted !== null) return fromLatin1(quoted[1] ?? '');
  const isHex = raw.length > 1 && raw.length % 2 === 0 && /^[0-9A-F]+$/.test(raw);
  // An address is binary: it stays as it is written.
  return isHex && name !== 'saddr' && isUntrusted(type, name) ? Buffer.from(raw, 'hex') : fromLatin1(raw);
}

/** EXECVE: a0, a1... (long ones in parts, a1[0]); PROCTITLE: what NULs part. */
function argumentsOf(type: string, values: ReadonlyMap<string, Buffer>): string[] | undefined {
  if (type === 'PROCTITLE') return wordsBetweenNuls(values.get('proctitle'));
  if (type !== 'EXECVE') return undefined;
  const found: string[] = [];
  for (let index = 0; index < MAX_FIELDS; index += 1) {
    const whole = values.get(`a${index}`) ?? joinParts(values, index);
    if (whole === undefined) break;
    found.push(whole.toString('utf8'));
  }
  return found;
}

function joinParts(values: ReadonlyMap<string, Buffer>, index: number): Buffer | undefined {
  const parts: Buffer[] = [];
  for (let part = values.get(`a${index}[0]`); part !== undefined; part = values.get(`a${index}[${parts.length}]`))
    parts.push(part);
  return parts.length === 0 ? undefined : Buffer.concat(parts);
}

function wordsBetweenNuls(title: Buffer | undefined): string[] | undefined {
  if (title === undefined) return undefined;
  const words = title.toString('utf8').split('\0');
  if (words.at(-1) === '') words.pop();
  return words;
}
