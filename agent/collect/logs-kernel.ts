import { errnoOf, explain, isErrno } from '../../evidence/error.ts';
import { type KernelRecord, microsecondTime } from '../../evidence/log-records.ts';
import { jsonLine, worded } from '../host/decode.ts';
import { wallMinusMonotonicUs } from '../host/identity.ts';
import { type KernelLog, type KernelMessage, KMSG_PATH, parseKernelMessage } from '../host/kmsg.ts';
import { readNodeKernelLog } from '../host/kmsg-outside.ts';
import type { NodeLogs } from './logs-node.ts';

/** `kmsg.txt` and `kmsg.jsonl`: all that the kernel's ring buffer still has, from before the window too, for it is small. */
export async function takeKernelLog(logs: NodeLogs): Promise<void> {
  const { context, sought, room } = logs;
  const log = await readLog(logs);
  if (log === undefined) return;
  const offsetUs = wallMinusMonotonicUs(context.now);
  const text = logs.parts('kmsg', '.txt');
  const lines = logs.parts('kmsg', '.jsonl');
  const taken = newest(log.records, room.bytes);
  for (const record of taken) {
    await text.add(record);
    const message = parseKernelMessage(record);
    const line = message === undefined ? undefined : lineOf(message, offsetUs, sought.mentions);
    if (line === undefined) continue;
    await lines.add(line);
    room.bytes -= record.length + line.length;
  }
  await text.end();
  await lines.end();
  report(logs, log, taken.length);
}

async function readLog({ context }: NodeLogs): Promise<KernelLog | undefined> {
  try {
    return await readNodeKernelLog(context.host, context.signal);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    const why = isErrno(error, 'ENODEV')
      ? 'it is not the kernel log'
      : `the kernel log cannot be read: ${explain(error)}`;
    context.gap({ what: KMSG_PATH, why, errno });
    return undefined;
  }
}

/** A record is stored as it is and as a line of about twice its size. */
function newest(records: readonly Buffer[], roomBytes: number): readonly Buffer[] {
  let room = roomBytes;
  let from = records.length;
  while (from > 0) {
    room -= 3 * (records[from - 1]?.length ?? 0);
    if (room < 0) break;
    from -= 1;
  }
  return records.slice(from);
}

function lineOf(message: KernelMessage, offsetUs: bigint, mentions: readonly string[]): Buffer | undefined {
  const realtimeUs = message.monotonicUs + offsetUs;
  const at = microsecondTime(realtimeUs);
  if (at === undefined) return undefined;
  const record: KernelRecord = {
    at,
    realtimeUs: String(realtimeUs),
    monotonicUs: String(message.monotonicUs),
    sequence: String(message.sequence),
    priority: message.priority,
    facility: message.facility,
    because: mentions.some((id) => message.message.includes(id)) ? ['kernel', 'mention'] : ['kernel'],
    ...worded('message', message.message),
    ...(message.dictionary.size > 0 && { dictionary: Object.fromEntries(message.dictionary) }),
  };
  return Buffer.from(`${jsonLine(record)}\n`);
}

function report({ context, source }: NodeLogs, log: KernelLog, taken: number): void {
  const notes = [
    ...(log.overwritten > 0 ? [`${log.overwritten} times records were overwritten before they were read`] : []),
    ...(log.cut ? ['more records came than are read'] : []),
  ];
  if (taken < log.records.length) {
    context.gap({
      what: KMSG_PATH,
      why: `logs.nodeBytes is spent: its oldest ${log.records.length - taken} records are not stored`,
    });
  }
  for (const note of notes) context.gap({ what: KMSG_PATH, why: note });
  source({
    kind: 'kernel',
    path: KMSG_PATH,
    bytesRead: log.bytesRead,
    seen: log.records.length,
    taken,
    ...(notes.length > 0 && { notes }),
  });
}
