import path from 'node:path';
import { ExhibitError, errnoOf, explain } from '../../evidence/error.ts';
import { type Directory, DirectoryPool, openForReading, openNode, readLink } from '../host/directory.ts';
import { reach } from '../host/host.ts';
import { newOutcome, readExtents } from '../host/regular-file.ts';
import { asHostPath, type HostPath } from '../runtime/runtime.ts';
import type { Archive, CollectContext } from './collector.ts';
import { heldLogs, type LogFile } from './logs-held.ts';
import { type Share, shareOut } from './logs-share.ts';
import { reportGap } from './rootfs-store.ts';

/** A log path that is a link, as in /var/log/containers, leads to the file within so many steps. */
const MAX_LINKS = 4;

/**
 * The container's log files: kubelet's `/var/log/pods/<namespace>_<pod>_<uid>/<container>/` holds `<restarts>.log` of the
 * running and of the last terminated container, and their rotations `<restarts>.log.<time>` and `.gz`
 * (pkg/kubelet/logs/container_log_manager.go). They are stored by name; the bound is spent on the newest first.
 */
export async function collectContainerLogs(context: CollectContext, limitBytes: number): Promise<void> {
  const { logPath } = context.target;
  await using archive = await context.archive('logs.tar.zst');
  if (logPath === undefined) context.note('the runtime names no log file for this target, so the archive is empty');
  else await collectFolder(context, archive, logPath, limitBytes);
  await archive.commit();
}

async function collectFolder(
  context: CollectContext,
  archive: Archive,
  logPath: HostPath,
  limitBytes: number,
): Promise<void> {
  using pool = new DirectoryPool();
  const file = followLog(context, pool, logPath);
  const folder = openFolder(context, pool, file);
  if (folder === undefined) return;
  const logName = path.posix.basename(file);
  using held = await heldLogs(context, folder, file);
  const { shares, left } = shareOut(held.files, logName, limitBytes);
  let doneBytes = 0;
  for (const share of shares) {
    context.signal.throwIfAborted();
    doneBytes += await storeShare(context, archive, share);
    context.progress(doneBytes);
  }
  for (const one of left) {
    const why = `beyond logs.containerBytes: ${one.sizeBytes} bytes, last written ${writtenAt(one)}, are not stored`;
    reportGap(context, one.name, why, undefined);
  }
  noteRotation(context, folder, logName, held.files);
  context.fact('directory', path.posix.dirname(file));
  context.fact('files', shares.length);
  const packed = shares.filter(({ log }) => log.compressed).length;
  if (packed > 0) context.note(`${packed} of the log files are compressed rotations, stored as they are`);
}

const writtenAt = ({ node }: LogFile): string => new Date(Number(node.stat.mtimeNs / 1_000_000n)).toISOString();

/** /var/log/containers has links; the rotations lie beside the file that they lead to. */
function followLog(context: CollectContext, pool: DirectoryPool, logPath: HostPath): HostPath {
  let file = logPath;
  for (let step = 0; step < MAX_LINKS; step += 1) {
    const target = linkTarget(context, pool, file);
    if (target === undefined) break;
    file = asHostPath(path.posix.resolve(path.posix.dirname(file), target));
  }
  if (file !== logPath) context.note(`${logPath} is a link to ${file}`);
  return file;
}

function linkTarget(context: CollectContext, pool: DirectoryPool, file: HostPath): string | undefined {
  try {
    const folder = pool.root(reach(context.host, asHostPath(path.posix.dirname(file))));
    const name = Buffer.from(path.posix.basename(file));
    using node = openNode(folder, name);
    return node.kind === 'symlink' ? readLink(node, folder, name).toString() : undefined;
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    // What is wrong is said when the folder or the file itself is opened.
    return undefined;
  }
}

function openFolder(context: CollectContext, pool: DirectoryPool, file: HostPath): Directory | undefined {
  const folder = path.posix.dirname(file);
  try {
    return pool.root(reach(context.host, asHostPath(folder)));
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined)
      throw new ExhibitError('internal', `the log folder ${folder} cannot be opened`, { cause: error });
    context.gap({ what: folder, why: `the log folder cannot be opened: ${explain(error)}`, errno });
    return undefined;
  }
}

/** Stores what the file held when it was opened; what is appended meanwhile is not of this capture. Bytes stored. */
async function storeShare(context: CollectContext, archive: Archive, share: Share): Promise<number> {
  const { name, node } = share.log;
  try {
    const readable = openForReading(node);
    return await storeFile(context, archive, share, readable.fd);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    reportGap(context, name, `the log file cannot be read: ${explain(error)}`, errno);
    return 0;
  }
}

async function storeFile(context: CollectContext, archive: Archive, share: Share, fd: number): Promise<number> {
  const { offset, sizeBytes } = share;
  const { name, node } = share.log;
  const { stat } = node;
  const outcome = newOutcome();
  const part = [{ offset: BigInt(offset), sizeBytes: BigInt(sizeBytes) }];
  await archive.add(
    {
      path: name,
      type: 'file',
      sizeBytes,
      mode: Number(stat.mode & 0o7777n),
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      mtimeNs: stat.mtimeNs,
      atimeNs: stat.atimeNs,
      ctimeNs: stat.ctimeNs,
    },
    readExtents(fd, part, outcome, context.signal),
  );
  context.read(outcome.bytes, 1);
  if (offset > 0) {
    const why = `beyond logs.containerBytes: its first ${offset} of ${offset + sizeBytes} bytes are not stored`;
    reportGap(context, name, why, undefined);
  }
  const rest = `${sizeBytes - outcome.bytes} of ${sizeBytes} bytes are zeros`;
  if (outcome.failure !== undefined) reportGap(context, name, `reading failed: ${rest}`, outcome.failure.errno);
  else if (outcome.bytes < sizeBytes)
    reportGap(context, name, `the log became shorter while it was read: ${rest}`, undefined);
  else if (outcome.changed)
    context.note(`${name.toString()} was written to while it was read; its first ${offset + sizeBytes} bytes count`);
  return sizeBytes;
}

/** Nothing is lost by a rotation, since every file was held before it; but whoever compares with the node should know. */
function noteRotation(context: CollectContext, folder: Directory, logName: string, files: readonly LogFile[]): void {
  const running = files.find(({ name }) => name.toString() === logName);
  if (running === undefined) return;
  try {
    using now = openNode(folder, running.name);
    if (now.stat.ino === running.node.stat.ino) return;
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
  }
  context.note(`${logName} was rotated while it was read: the member of that name is the file that had it before`);
}
