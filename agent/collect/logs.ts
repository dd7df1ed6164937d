import path from 'node:path';
import { ExhibitError, errnoOf, explain } from '../../evidence/error.ts';
import { type Directory, DirectoryPool, type Node, openForReading, openNode, readLink } from '../host/directory.ts';
import { reach } from '../host/host.ts';
import { listNames } from '../host/listing.ts';
import { newOutcome, readExtents } from '../host/regular-file.ts';
import { asHostPath, type HostPath } from '../runtime/runtime.ts';
import type { Archive, CollectContext, Collector } from './collector.ts';
import { reportGap } from './rootfs-store.ts';

/**
 * The container's log files: kubelet's `/var/log/pods/<namespace>_<pod>_<uid>/<container>/` holds `<restarts>.log` of the
 * running and of the last terminated container, and their rotations `<restarts>.log.<time>` and `.gz`
 * (pkg/kubelet/logs/container_log_manager.go). All of them are taken, oldest name first.
 */
export const logsCollector: Collector = { artifact: 'logs', collect: collectLogs };

/** kubelet keeps `containerLogMaxFiles` (5) a container; a folder with more is not kubelet's doing. */
export const MAX_LOG_FILES = 1000;
/** Of names looked at to find them: some 100,000. */
const MAX_NAMES_BYTES = 8 * 1024 * 1024;
/** A log path that is a link, as in /var/log/containers, leads to the file within so many steps. */
const MAX_LINKS = 4;

/** True for the log itself, its rotations, and the logs of the container's earlier runs with theirs. */
export function isLogOf(logName: string, name: string): boolean {
  if (name === logName || name.startsWith(`${logName}.`)) return true;
  return /^\d+\.log$/.test(logName) && /^\d+\.log(\..+)?$/.test(name);
}

async function collectLogs(context: CollectContext): Promise<void> {
  const { logPath } = context.target;
  await using archive = await context.archive('logs.tar.zst');
  if (logPath === undefined) context.note('the runtime names no log file for this target, so the archive is empty');
  else await collectFolder(context, archive, logPath);
  await archive.commit();
}

async function collectFolder(context: CollectContext, archive: Archive, logPath: HostPath): Promise<void> {
  using pool = new DirectoryPool();
  const file = followLog(context, pool, logPath);
  const folder = openFolder(context, pool, file);
  if (folder === undefined) return;
  const logName = path.posix.basename(file);
  const { names } = await listNames(folder, () => false, { bytes: MAX_NAMES_BYTES });
  const logs = names.filter((name) => isLogOf(logName, name));
  if (!logs.includes(logName)) context.gap({ what: file, why: 'there is no such log file', errno: 'ENOENT' });
  if (logs.length > MAX_LOG_FILES) {
    context.gap({
      what: path.posix.dirname(file),
      why: `only ${MAX_LOG_FILES} of ${logs.length} log files are stored`,
    });
  }
  let doneBytes = 0;
  for (const name of logs.slice(0, MAX_LOG_FILES)) {
    context.signal.throwIfAborted();
    doneBytes += await storeLog(context, archive, folder, Buffer.from(name, 'latin1'));
    context.progress(doneBytes);
  }
  context.fact('directory', path.posix.dirname(file));
  context.fact('files', Math.min(logs.length, MAX_LOG_FILES));
}

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

/** Stores what the file holds at this moment; what is appended meanwhile is not of this capture. Bytes stored. */
async function storeLog(context: CollectContext, archive: Archive, folder: Directory, name: Buffer): Promise<number> {
  try {
    using node = openNode(folder, name);
    if (node.kind === 'file') return await storeFile(context, archive, node, name);
    reportGap(context, name, `a ${node.kind} where a log file should be; it is not read`, undefined);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    reportGap(context, name, `the log file cannot be read: ${explain(error)}`, errno);
  }
  return 0;
}

async function storeFile(context: CollectContext, archive: Archive, node: Node, name: Buffer): Promise<number> {
  const readable = openForReading(node);
  const { stat } = node;
  const sizeBytes = Number(stat.size);
  const outcome = newOutcome();
  const all = [{ offset: 0n, sizeBytes: stat.size }];
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
    readExtents(readable.fd, all, outcome, context.signal),
  );
  context.read(outcome.bytes, 1);
  const rest = `${sizeBytes - outcome.bytes} of ${sizeBytes} bytes are zeros`;
  if (outcome.failure !== undefined) reportGap(context, name, `reading failed: ${rest}`, outcome.failure.errno);
  else if (outcome.bytes < sizeBytes)
    reportGap(context, name, `the log became shorter while it was read: ${rest}`, undefined);
  else if (outcome.changed)
    context.note(`${name.toString()} was written to while it was read; its first ${sizeBytes} bytes are stored`);
  return sizeBytes;
}
