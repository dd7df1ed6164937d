import type { Recoverable } from '../host/process-recover.ts';
import { type FileIdentity, MIB } from '../host/procfs.ts';
import { openContent } from '../host/procfs-content.ts';
import type { ProcfsReader } from '../host/procfs-reader.ts';
import type { Archive, CollectContext } from './collector.ts';

/** In bytes. */
export interface RecoveryBudget {
  /** All recovered content together. */
  readonly totalBytes: number;
  /** One file; a sparse giant is cut here. */
  readonly fileBytes: number;
  /** Executables and mapped code that are read to be hashed, together. */
  readonly hashBytes: number;
}

/** Deleted malware is small; deleted temporary files of databases are not. 1 GiB is some two seconds of zstd on one core. */
export const RECOVERY_BUDGET: RecoveryBudget = { totalBytes: 1024 * MIB, fileBytes: 256 * MIB, hashBytes: 8192 * MIB };

/** A member is always stored as 0400: whoever extracts it should not run it by accident. Its own mode is here. */
export type RecoveredLine = Omit<Recoverable, 'source' | 'sizeBytes'> & RecoveryResult;

interface RecoveryResult extends Partial<Omit<FileIdentity, 'device' | 'inode' | 'type' | 'links' | 'rdev'>> {
  /** Of the member. */
  readonly sha256?: string;
  /** Content bytes in the archive. */
  readonly storedBytes?: number;
  readonly truncated?: true;
  readonly refused?: string;
}

/** Writes what has lost its name, in its order; a line each, also for what was refused. */
export async function recover(
  context: CollectContext,
  reader: ProcfsReader,
  archive: Archive,
  recoverable: readonly Recoverable[],
  budget: RecoveryBudget,
): Promise<RecoveredLine[]> {
  const lines: RecoveredLine[] = [];
  let leftBytes = budget.totalBytes;
  for (const item of recoverable) {
    const { source: _, sizeBytes: __, ...known } = item;
    const limitBytes = Math.min(budget.fileBytes, leftBytes);
    const result =
      limitBytes > 0
        ? await recoverOne(context, reader, archive, item, limitBytes)
        : refuse(context, item, `the budget of ${budget.totalBytes} bytes for recovered files is spent`);
    leftBytes -= result.storedBytes ?? 0;
    lines.push({ ...known, ...result });
  }
  return lines;
}

async function recoverOne(
  context: CollectContext,
  reader: ProcfsReader,
  archive: Archive,
  item: Recoverable,
  limitBytes: number,
): Promise<RecoveryResult> {
  const content = await openContent(reader, item.source, limitBytes, context.signal);
  if (content.kind === 'refused') return refuse(context, item, content.why, content.errno);
  const { identity } = content;
  const truncated = identity.sizeBytes > BigInt(limitBytes);
  const sizeBytes = truncated ? limitBytes : Number(identity.sizeBytes);
  const written = await archive.add(
    { path: item.member, type: 'file', sizeBytes, mode: 0o400, mtimeNs: identity.modifiedNs },
    content.chunks,
  );
  await content.chunks.return(undefined);
  const { pid } = item.source;
  const failure = content.failure();
  if (truncated) {
    context.gap({ what: item.member, pid, why: `cut after ${limitBytes} of ${identity.sizeBytes} bytes` });
  }
  if (written.bodyBytes < sizeBytes) {
    const why = `${failure?.why ?? 'the file shrank while it was read'}; zeros from byte ${written.bodyBytes} to ${sizeBytes}`;
    context.gap({ what: item.member, pid, why, ...(failure?.errno ? { errno: failure.errno } : {}) });
  }
  return {
    storedBytes: sizeBytes,
    sizeBytes: identity.sizeBytes,
    allocatedBytes: identity.allocatedBytes,
    mode: identity.mode,
    uid: identity.uid,
    gid: identity.gid,
    modifiedNs: identity.modifiedNs,
    changedNs: identity.changedNs,
    ...(written.member.sha256 === undefined ? {} : { sha256: written.member.sha256 }),
    ...(truncated ? { truncated } : {}),
  };
}

function refuse(context: CollectContext, item: Recoverable, why: string, errno?: string): RecoveryResult {
  const held = `${item.path} held by ${item.heldBy[0]}`;
  context.gap({
    what: `${item.member} (${held})`,
    pid: item.source.pid,
    why,
    ...(errno === undefined ? {} : { errno }),
  });
  return { refused: why };
}
