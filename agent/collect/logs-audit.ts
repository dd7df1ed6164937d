import { isErrno } from '../../evidence/error.ts';
import { type AuditRecord, microsecondTime } from '../../evidence/log-records.ts';
import { type Attribution, type Attributor, createAttributor } from '../host/audit-attribution.ts';
import { auditStamp, parseAuditLine } from '../host/audit-record.ts';
import { fromLatin1, jsonLine } from '../host/decode.ts';
import { DirectoryPool } from '../host/directory.ts';
import { type LineReader, readLines } from '../host/line-reader.ts';
import { asHostPath } from '../runtime/runtime.ts';
import { logFolder, type OpenLog, openLog } from './logs-folder.ts';
import type { NodeLogs } from './logs-node.ts';

/** auditd.conf(5), log_file. */
const AUDIT_FOLDER = asHostPath('/var/log/audit');
/** auditd.conf(5): num_logs is 999 at most. */
const MAX_FILES = 1000;
/** auditd keeps 5 files of 8 MiB by default; what is older than this much is not looked at. Read three times. */
export const MAX_AUDIT_BYTES = 512 * 1024 * 1024;

interface AuditFile {
  readonly log: OpenLog;
  /** Where reading begins: 0 but for the one that is only partly within the bound. */
  readonly offset: number;
  bytesRead: number;
  seen: number;
  taken: number;
}

/** `audit.log`, the lines as they are, and `audit.jsonl`. See audit-attribution.ts for which. */
export async function takeAudit(logs: NodeLogs): Promise<void> {
  const { context, sought } = logs;
  using stack = new DisposableStack();
  const files = await openFiles(logs, stack);
  if (files === undefined) return context.note(`the node has no audit log in ${AUDIT_FOLDER}`);
  const attributor = createAttributor(sought);
  for await (const { file, lines } of linesOf(logs, files)) {
    for (const line of lines) if (attributor.see(line) !== undefined) file.seen += 1;
  }
  let totalBytes = 0;
  for await (const { lines } of linesOf(logs, files)) {
    for (const line of lines) if (attributor.attribute(line) !== undefined) totalBytes += costOf(line);
  }
  if (totalBytes > 0) await store(logs, files, attributor, totalBytes);
  for (const { log, bytesRead, seen, taken } of files) {
    logs.source({ kind: 'audit', path: log.path, sizeBytes: log.sizeBytes, bytesRead, seen, taken });
  }
  report(logs, attributor);
}

/** Those within the window, the oldest first. Undefined where there is no such log at all. */
async function openFiles(logs: NodeLogs, stack: DisposableStack): Promise<AuditFile[] | undefined> {
  const { context, sought } = logs;
  const pool = stack.use(new DirectoryPool());
  const folder = await logFolder(context, pool, AUDIT_FOLDER);
  const names = folder?.names.filter((name) => /^audit\.log(\.\d{1,3})?$/.test(name)).slice(0, MAX_FILES) ?? [];
  if (folder === undefined || names.length === 0) return undefined;
  const packed = folder.names.filter((name) => /^audit\.log\..*\.(gz|xz|zst|bz2)$/.test(name)).length;
  if (packed > 0) context.gap({ what: AUDIT_FOLDER, why: `${packed} compressed audit logs are not read` });
  const held: OpenLog[] = [];
  for (const name of names) {
    const log = openLog(context, folder.directory, AUDIT_FOLDER, name);
    if (log === undefined) continue;
    stack.use(log);
    // Renamed in between, it would come twice.
    const isKnown = held.some(({ node }) => node.stat.ino === log.node.stat.ino);
    if (!isKnown && log.mtimeUs >= sought.fromUs) held.push(log);
  }
  return withinBound(logs, held);
}

function withinBound({ context }: NodeLogs, held: readonly OpenLog[]): AuditFile[] {
  const newestFirst = held.toSorted((a, b) => (a.mtimeUs > b.mtimeUs ? -1 : 1));
  let room = MAX_AUDIT_BYTES;
  const files: AuditFile[] = [];
  for (const log of newestFirst) {
    const offset = Math.max(0, log.sizeBytes - room);
    if (offset > 0)
      context.gap({ what: log.path, why: `only the newest ${MAX_AUDIT_BYTES} bytes of audit logs are looked at` });
    if (room > 0) files.push({ log, offset, bytesRead: 0, seen: 0, taken: 0 });
    room = Math.max(0, room - log.sizeBytes);
  }
  return files.reverse();
}

interface Batch {
  readonly file: AuditFile;
  readonly lines: readonly string[];
}

async function* linesOf({ context }: NodeLogs, files: readonly AuditFile[]): AsyncGenerator<Batch> {
  for (const file of files) {
    const { log, offset } = file;
    const reader: LineReader = { bytesRead: 0, overlong: 0 };
    try {
      for await (const lines of readLines(log.fd, offset, log.sizeBytes - offset, reader, context.signal))
        yield { file, lines };
    } catch (error) {
      if (!isErrno(error, 'EIO')) throw error;
      context.gap({ what: log.path, why: 'reading failed', errno: 'EIO' });
    }
    file.bytesRead += reader.bytesRead;
  }
}

/** The line itself, and the record, which is about twice as long. */
const costOf = (line: string): number => 3 * line.length + 400;

async function store(
  logs: NodeLogs,
  files: readonly AuditFile[],
  attributor: Attributor,
  totalBytes: number,
): Promise<void> {
  const { context, room } = logs;
  const text = logs.parts('audit', '.log');
  const records = logs.parts('audit', '.jsonl');
  let [toSkip, skipped] = [totalBytes - room.bytes, 0];
  for await (const batch of linesOf(logs, files)) {
    for (const { line, why } of attributed(batch, attributor)) {
      if (toSkip > 0) {
        toSkip -= costOf(line);
        skipped += 1;
        continue;
      }
      await text.add(fromLatin1(`${line}\n`));
      const record = recordOf(line, batch.file.log.path, why);
      if (record !== undefined) await records.add(Buffer.from(`${jsonLine(record)}\n`));
      batch.file.taken += 1;
    }
  }
  await text.end();
  await records.end();
  room.bytes = Math.max(0, room.bytes - totalBytes);
  if (skipped > 0)
    context.gap({ what: AUDIT_FOLDER, why: `logs.nodeBytes is spent: the oldest ${skipped} records are not stored` });
}

function* attributed({ lines }: Batch, attributor: Attributor): Generator<{ line: string; why: Attribution }> {
  for (const line of lines) {
    const why = attributor.attribute(line);
    if (why !== undefined) yield { line, why };
  }
}

function recordOf(line: string, file: string, why: Attribution): AuditRecord | undefined {
  const stamp = auditStamp(line);
  const parsed = parseAuditLine(line);
  const at = stamp === undefined ? undefined : microsecondTime(stamp.realtimeUs);
  if (stamp === undefined || parsed === undefined || at === undefined) return undefined;
  return {
    at,
    realtimeUs: String(stamp.realtimeUs),
    serial: stamp.serial,
    type: parsed.type,
    file,
    because: [why],
    fields: parsed.fields,
    ...(parsed.node !== undefined && { node: parsed.node }),
    ...(Object.keys(parsed.fieldsBase64).length > 0 && { fieldsBase64: parsed.fieldsBase64 }),
    ...(parsed.arguments !== undefined && { arguments: parsed.arguments }),
  };
}

function report({ context }: NodeLogs, { learned, forgotten, overflow }: Attributor): void {
  if (learned > 0) context.note(`audit records named ${learned} more processes that known ones started`);
  if (forgotten > 0)
    context.note(`${forgotten} of these pids were given to other processes later, whose records are not taken`);
  if (overflow > 0) context.gap({ what: AUDIT_FOLDER, why: `${overflow} records of further events are not stored` });
}
