import path from 'node:path';
import { errnoOf, explain, isErrno } from '../../evidence/error.ts';
import { type Directory, type Node, openNode, statNow } from '../host/directory.ts';
import { listNames } from '../host/listing.ts';
import type { HostPath } from '../runtime/runtime.ts';
import type { CollectContext } from './collector.ts';
import { reportGap } from './rootfs-store.ts';

/** kubelet keeps `containerLogMaxFiles` (5) a container; a folder with more is not kubelet's doing. Each is held open. */
export const MAX_LOG_FILES = 500;
/** Of names looked at to find them: some 100,000. */
const MAX_NAMES_BYTES = 8 * 1024 * 1024;
/** A rotation takes a moment and comes once in a while: a folder that changes at each look is not kubelet's doing. */
const MAX_LOOKS = 5;

/** A log file, held since before anything was read. */
export interface LogFile {
  readonly name: Buffer;
  readonly node: Node;
  /** After all were held: what one was given before its successor was found is in it. */
  readonly sizeBytes: number;
  readonly compressed: boolean;
}

export interface HeldLogs extends Disposable {
  readonly files: readonly LogFile[];
}

/** True for the log itself, its rotations, and the logs of the container's earlier runs with theirs. */
export function isLogOf(logName: string, name: string): boolean {
  if (name === logName || name.startsWith(`${logName}.`)) return true;
  return /^\d+\.log$/.test(logName) && /^\d+\.log(\..+)?$/.test(name);
}

/**
 * Opens all of a container's log files before any is read, and looks again until no new name has come: then a rotation, which
 * renames, compresses and deletes, takes nothing away any more. A file that is found under two names counts once.
 */
export async function heldLogs(context: CollectContext, folder: Directory, file: HostPath): Promise<HeldLogs> {
  const logName = path.posix.basename(file);
  using stack = new DisposableStack();
  const files: LogFile[] = [];
  const inodes = new Set<bigint>();
  const seen = new Set<string>();
  const vanished = new Set<string>();
  let [beyond, looks] = [0, 0];
  let isNew = true;
  for (; isNew && looks < MAX_LOOKS; looks += 1) {
    isNew = false;
    const { names } = await listNames(folder, (_, name) => name.toString('latin1') === logName, {
      bytes: MAX_NAMES_BYTES,
    });
    for (const name of names.filter((one) => isLogOf(logName, one) && !seen.has(one))) {
      isNew = true;
      seen.add(name);
      if (seen.size > MAX_LOG_FILES) {
        beyond += 1;
        continue;
      }
      const log = hold(context, folder, Buffer.from(name, 'latin1'));
      if (log === 'vanished') vanished.add(name);
      if (typeof log !== 'object') continue;
      stack.use(log.node);
      if (inodes.has(log.node.stat.ino)) continue;
      inodes.add(log.node.stat.ino);
      files.push(log);
    }
  }
  report(context, file, { beyond, seen, vanished, isSettled: !isNew });
  const held = stack.move();
  const sized = files.map((log) => ({ ...log, sizeBytes: Number(statNow(log.node).size) }));
  return { files: sized, [Symbol.dispose]: () => held.dispose() };
}

function hold(context: CollectContext, folder: Directory, name: Buffer): LogFile | 'vanished' | undefined {
  try {
    const node = openNode(folder, name);
    if (node.kind === 'file') {
      return { name, node, sizeBytes: Number(node.stat.size), compressed: isCompressed(name.toString('latin1')) };
    }
    node[Symbol.dispose]();
    reportGap(context, name, `a ${node.kind} where a log file should be; it is not read`, undefined);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    if (isErrno(error, 'ENOENT')) return 'vanished';
    reportGap(context, name, `the log file cannot be read: ${explain(error)}`, errno);
  }
  return undefined;
}

function isCompressed(name: string): boolean {
  return /\.(gz|zst|xz|bz2)$/.test(name);
}

interface Findings {
  readonly beyond: number;
  readonly seen: ReadonlySet<string>;
  readonly vanished: ReadonlySet<string>;
  /** The last look found nothing new. */
  readonly isSettled: boolean;
}

function report(context: CollectContext, file: HostPath, { beyond, seen, vanished, isSettled }: Findings): void {
  const isThere = seen.has(path.posix.basename(file));
  if (!isThere) context.gap({ what: file, why: 'there is no such log file', errno: 'ENOENT' });
  if (!isSettled) {
    const why = `new log files came each of the ${MAX_LOOKS} times that the folder was looked at: some may be missing`;
    context.gap({ what: path.posix.dirname(file), why });
  }
  if (beyond > 0) {
    const why = `only ${MAX_LOG_FILES} of ${seen.size} log files are stored`;
    context.gap({ what: path.posix.dirname(file), why });
  }
  for (const name of vanished) {
    // kubelet removes a rotation once it has compressed it.
    if (seen.has(`${name}.gz`)) context.note(`${name} was compressed while the folder was looked at`);
    else context.gap({ what: name, why: 'it was deleted or renamed before it could be opened', errno: 'ENOENT' });
  }
}
