import { z } from 'zod';
import type { TarEntry } from '../tar-reader.ts';
import { archiveSource, isPartOf } from './archive.ts';
import { createTally, jsonBatches } from './lines.ts';
import { parseMoment } from './moment.ts';
import {
  cutText,
  type TimelineBundle,
  type TimelineEntry,
  type TimelineFields,
  type TimelineObject,
} from './timeline.ts';

/**
 * What the node's own logs say: `journal.jsonl`, `kmsg.jsonl` and `audit.jsonl`. The shapes ask for a time and little more,
 * so that lines of older and newer writers count.
 */

const text = z.string();
const scalar = z.union([z.number(), text]);
const recordSchema = z.looseObject({
  at: text.optional(),
  realtimeUs: z.union([z.string().regex(/^\d{1,20}$/), z.number().int().nonnegative()]).optional(),
  unit: text.optional(),
  identifier: text.optional(),
  pid: z.number().optional(),
  priority: z.number().optional(),
  message: text.optional(),
  type: text.optional(),
  serial: scalar.optional(),
  fields: z.record(z.string(), z.unknown()).optional(),
  arguments: z.array(text).optional(),
});
type NodeRecord = z.infer<typeof recordSchema>;

/** A journal field may be large; the writer bounds it lower than this. */
const MAX_LINE_BYTES = 16 * 1024 * 1024;

type Words = Pick<TimelineEntry, 'dataType' | 'message' | 'fields'>;

/** Which members there are, and how a record of each is told. */
const MEMBERS: readonly { readonly name: string; readonly tell: (record: NodeRecord) => Words }[] = [
  { name: 'journal', tell: journalWords },
  { name: 'kmsg', tell: kernelWords },
  { name: 'audit', tell: auditWords },
];

export const nodeLogsSource = archiveSource('node-logs.tar.zst', (member, object, bundle) => {
  const known = MEMBERS.find(({ name }) => isPartOf(name, member.path));
  return known === undefined ? undefined : recordsOf(member, object, bundle, known.tell);
});

async function* recordsOf(
  member: TarEntry,
  object: TimelineObject,
  bundle: TimelineBundle,
  tell: (record: NodeRecord) => Words,
): AsyncGenerator<Iterable<TimelineEntry>> {
  const tally = createTally();
  const where = { artifact: object.artifact, object: object.name, member: member.path };
  for await (const batch of jsonBatches(member.body, recordSchema, MAX_LINE_BYTES, tally)) {
    yield (function* (): Generator<TimelineEntry> {
      for (const { line, value } of batch) {
        const ns = momentOf(value);
        if (ns === undefined) tally.bad(line, 'has no time');
        else yield { ...where, line, kind: 'log', ...tell(value), times: [{ ns, meaning: 'recorded' }] };
      }
    })();
  }
  tally.tell(bundle, object, member.path);
}

function momentOf({ realtimeUs, at }: NodeRecord): bigint | undefined {
  if (realtimeUs !== undefined) return BigInt(realtimeUs) * 1000n;
  return at === undefined ? undefined : parseMoment(at);
}

function journalWords(record: NodeRecord): Words {
  const { unit, identifier, pid, message = '(no message)' } = record;
  const who = identifier ?? unit ?? 'journal';
  return {
    dataType: 'systemd:journal',
    message: `journal ${who}${pid === undefined ? '' : `[${pid}]`}: ${cutText(message)}`,
    fields: commonFields(record),
  };
}

function kernelWords(record: NodeRecord): Words {
  const { message = '(no message)' } = record;
  return { dataType: 'linux:kernel:message', message: `kernel: ${cutText(message)}`, fields: commonFields(record) };
}

/** Fields of an audit record that tell most, in this order; the rest is in the bundle. */
const AUDIT_FIELDS = [
  'success',
  'exit',
  'pid',
  'ppid',
  'auid',
  'uid',
  'comm',
  'exe',
  'key',
  'name',
  'cwd',
  'proctitle',
  'msg',
  'op',
  'res',
];

function auditWords(record: NodeRecord): Words {
  const { type = 'record', fields = {}, serial } = record;
  const facts = AUDIT_FIELDS.flatMap((name) => {
    const value = fields[name];
    return typeof value === 'string' || typeof value === 'number' ? [`${name}=${value}`] : [];
  });
  const commandLine = record.arguments?.join(' ');
  const words = [...facts, ...(commandLine === undefined ? [] : [`command: ${commandLine}`])].join(' ');
  const pid = /^\d{1,10}$/.test(String(fields.pid)) ? Number(fields.pid) : undefined;
  return {
    dataType: 'linux:audit',
    message: `audit ${type}${serial === undefined ? '' : ` ${serial}`}: ${cutText(words)}`,
    fields: {
      ...commonFields(record),
      record_type: cutText(type),
      pid,
      executable: typeof fields.exe === 'string' ? cutText(fields.exe) : undefined,
      command_line: cut(commandLine),
    },
  };
}

function commonFields({ unit, identifier, pid, priority }: NodeRecord): TimelineFields {
  return { pid, unit: cut(unit), identifier: cut(identifier), priority };
}

function cut(words: string | undefined): string | undefined {
  return words === undefined ? undefined : cutText(words);
}
