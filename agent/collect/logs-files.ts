import { DirectoryPool } from '../host/directory.ts';
import { newOutcome, readExtents } from '../host/regular-file.ts';
import { asHostPath, type HostPath } from '../runtime/runtime.ts';
import { logFolder, type OpenLog, openLog } from './logs-folder.ts';
import type { NodeLogs } from './logs-node.ts';

const LOG_FOLDER = asHostPath('/var/log');
/** What syslog daemons write on Amazon Linux, RHEL, Debian and Ubuntu, and where kubelet and the runtimes are sent without systemd. */
const NAMES = ['messages', 'syslog', 'kern.log', 'daemon.log', 'kubelet.log', 'containerd.log', 'docker.log'] as const;
/** Of one file, its end: lines of a syslog do not say their year or zone, so the window's begin cannot be found in them. */
const MAX_FILE_BYTES = 32 * 1024 * 1024;
const MAX_FILES = 100;

/** `files/<name>`: the node's plain logs and their rotations that were written to since the window's begin, as they are. */
export async function takeFiles(logs: NodeLogs): Promise<void> {
  const { context, sought } = logs;
  using pool = new DirectoryPool();
  using stack = new DisposableStack();
  const folder = await logFolder(context, pool, LOG_FOLDER);
  const names = folder?.names.filter(isLog) ?? [];
  if (names.length > MAX_FILES)
    context.gap({ what: LOG_FOLDER, why: `only ${MAX_FILES} of ${names.length} logs are looked at` });
  const held: OpenLog[] = [];
  for (const name of names.slice(0, MAX_FILES)) {
    const log = folder === undefined ? undefined : openLog(context, folder.directory, LOG_FOLDER, name);
    if (log === undefined) continue;
    stack.use(log);
    if (log.mtimeUs >= sought.fromUs) held.push(log);
  }
  for (const log of held.sort((a, b) => (a.mtimeUs > b.mtimeUs ? -1 : 1))) await storeEnd(logs, log);
}

/** `messages-20261127`, `syslog.1`, `kern.log.2.gz`. */
function isLog(name: string): boolean {
  return NAMES.some(
    (known) =>
      name === known ||
      /^[-.]\d[\d.-]*(\.(gz|xz|zst|bz2))?$/.test(name.startsWith(known) ? name.slice(known.length) : ''),
  );
}

async function storeEnd(logs: NodeLogs, log: OpenLog): Promise<void> {
  const { context, archive, room } = logs;
  const isPacked = /\.(gz|xz|zst|bz2)$/.test(log.path);
  const limit = Math.min(room.bytes, MAX_FILE_BYTES);
  const sizeBytes = log.sizeBytes <= limit ? log.sizeBytes : isPacked ? 0 : limit;
  const left = log.sizeBytes - sizeBytes;
  if (left > 0) context.gap({ what: log.path, why: `only its last ${sizeBytes} of ${log.sizeBytes} bytes are stored` });
  if (sizeBytes <= 0) return;
  const member = memberOf(log.path);
  const outcome = newOutcome();
  const part = [{ offset: BigInt(left), sizeBytes: BigInt(sizeBytes) }];
  const { stat } = log.node;
  const header = {
    path: member,
    type: 'file',
    sizeBytes,
    mode: Number(stat.mode & 0o7777n),
    mtimeNs: stat.mtimeNs,
  } as const;
  await archive.add(header, readExtents(log.fd, part, outcome, context.signal));
  room.bytes -= sizeBytes;
  if (outcome.bytes < sizeBytes) {
    const errno = outcome.failure?.errno;
    context.gap({
      what: log.path,
      why: `it became shorter or unreadable while it was read: ${sizeBytes - outcome.bytes} of ${sizeBytes} bytes are zeros`,
      ...(errno !== undefined && { errno }),
    });
  }
  logs.source({ kind: 'file', path: log.path, sizeBytes: log.sizeBytes, bytesRead: outcome.bytes, member });
}

const memberOf = (path: HostPath): string => `files${path}`;
