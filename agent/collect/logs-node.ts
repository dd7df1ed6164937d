import { errnoOf, explain } from '../../evidence/error.ts';
import {
  AUDIT_RECORDS,
  JOURNAL_RECORDS,
  KERNEL_RECORDS,
  type LogSource,
  NODE_LOGS_OBJECT,
} from '../../evidence/log-records.ts';
import { jsonLine } from '../host/decode.ts';
import type { Archive, CollectContext } from './collector.ts';
import { createLogParts, type LogParts } from './log-parts.ts';
import { takeAudit } from './logs-audit.ts';
import { takeFiles } from './logs-files.ts';
import { takeJournal } from './logs-journal.ts';
import { takeKernelLog } from './logs-kernel.ts';
import type { LogsOptions, NodeLogSource } from './logs-options.ts';
import { type Sought, whatIsSought } from './logs-sought.ts';

/** What each of the node's logs is taken with. */
export interface NodeLogs {
  readonly context: CollectContext;
  readonly archive: Archive;
  readonly sought: Sought;
  readonly room: Room;
  /** A member that is written as it grows; see log-parts.ts. */
  parts(name: string, extension: string): LogParts;
  source(source: LogSource): void;
}

/** What may still be stored. */
export interface Room {
  bytes: number;
}

/** In this order the bound is spent: what names the target's own processes first, what is about everybody last. */
const TAKERS: readonly (readonly [NodeLogSource, (logs: NodeLogs) => Promise<void>])[] = [
  ['audit', takeAudit],
  ['kernel', takeKernelLog],
  ['journal', takeJournal],
  ['files', takeFiles],
];

/**
 * What the node's own logs say about the target within the window around its life, from the runtime's, kubelet's and the kernel's
 * messages to the audit records that name its pids. `evidence/log-records.ts` has the shapes.
 */
export async function collectNodeLogs(context: CollectContext, options: LogsOptions): Promise<void> {
  const sought = await whatIsSought(context, options);
  const mtimeNs = BigInt(context.now()) * 1_000_000n;
  await using archive = await context.archive(NODE_LOGS_OBJECT);
  const sources: LogSource[] = [];
  const logs: NodeLogs = {
    context,
    archive,
    sought,
    room: { bytes: options.nodeBytes },
    parts: (name, extension) => createLogParts(archive, name, extension, mtimeNs),
    source: (source) => {
      sources.push(source);
      context.read(source.bytesRead, 1);
    },
  };
  for (const [name, take] of TAKERS) {
    if (options.node.includes(name)) await takeOne(logs, name, take);
  }
  const lines = Buffer.from(sources.map((source) => `${jsonLine(source)}\n`).join(''));
  await archive.add({ path: 'sources.jsonl', type: 'file', sizeBytes: lines.length, mtimeNs }, lines);
  await archive.commit();
  context.fact('nodeLogs', {
    fromUs: String(sought.fromUs),
    toUs: String(sought.toUs),
    pids: [...sought.pidsSinceUs.keys()],
    records: {
      [KERNEL_RECORDS]: count(sources, 'kernel'),
      [AUDIT_RECORDS]: count(sources, 'audit'),
      [JOURNAL_RECORDS]: count(sources, 'journal'),
    },
  });
}

/** One log that cannot be had must not cost the others. */
async function takeOne(logs: NodeLogs, name: NodeLogSource, take: (logs: NodeLogs) => Promise<void>): Promise<void> {
  try {
    await take(logs);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    logs.context.gap({ what: `${name} logs of the node`, why: `they cannot be read: ${explain(error)}`, errno });
  }
}

function count(sources: readonly LogSource[], kind: LogSource['kind']): number {
  return sources.filter((source) => source.kind === kind).reduce((total, { taken = 0 }) => total + taken, 0);
}
