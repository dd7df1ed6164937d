import path from 'node:path';
import { errnoOf, explain, isErrno } from '../../evidence/error.ts';
import { type Directory, DirectoryPool, openNode } from '../host/directory.ts';
import { JournaldFile } from '../host/journald-file.ts';
import { WindowedFile } from '../host/windowed-file.ts';
import { asHostPath, type HostPath } from '../runtime/runtime.ts';
import type { CollectContext } from './collector.ts';
import { logFolder, type OpenLog, openLog } from './logs-folder.ts';
import type { NodeLogs } from './logs-node.ts';

/** systemd-journald(8): volatile and persistent; below are folders by machine id, with a namespace's name after a dot. */
const JOURNAL_FOLDERS = [asHostPath('/run/log/journal'), asHostPath('/var/log/journal')] as const;
const MAX_FOLDERS = 64;
/** journald keeps SystemMaxFiles, 100 by default, of each of system and users. All are held open. */
const MAX_FILES = 400;
/** A rotation takes a moment, and comes seldom. */
const MAX_LOOKS = 3;

export interface OpenJournal {
  readonly log: OpenLog;
  readonly file: WindowedFile;
  readonly journal: JournaldFile;
  /** Indexes of the entries to take, the newest first, and at the same place the reasons of each: there may be a million. */
  readonly taken: number[];
  readonly reasons: number[];
  seen: number;
}

/**
 * The journals within the window, held before any is read; a folder is looked at again until no new name has come, because journald
 * renames its file when it starts another. Undefined where there is no journal at all.
 */
export async function openJournals(logs: NodeLogs, stack: DisposableStack): Promise<OpenJournal[] | undefined> {
  const { context, sought } = logs;
  const pool = stack.use(new DirectoryPool());
  const found: OpenJournal[] = [];
  const inodes = new Set<string>();
  let [count, beyond] = [0, 0];
  for (const folder of await machineFolders(context, pool)) {
    for await (const { directory, name } of journalsIn(context, pool, folder)) {
      count += 1;
      if (found.length === MAX_FILES) {
        beyond += 1;
        continue;
      }
      const log = openLog(context, directory, folder, name);
      if (log === undefined) continue;
      const inode = `${log.node.stat.dev}:${log.node.stat.ino}`;
      const one = inodes.has(inode) ? undefined : openJournal(context, log);
      inodes.add(inode);
      if (one !== undefined && isWithin(one.journal, sought.fromUs, sought.toUs)) {
        found.push(one);
        stack.use(log);
      } else log[Symbol.dispose]();
    }
  }
  if (beyond > 0) context.gap({ what: 'the journal', why: `${beyond} of ${count} files are not looked at` });
  return count === 0 ? undefined : found;
}

async function* journalsIn(
  context: CollectContext,
  pool: DirectoryPool,
  folder: HostPath,
): AsyncGenerator<{ directory: Directory; name: string }> {
  const seen = new Set<string>();
  for (let look = 0; look < MAX_LOOKS; look += 1) {
    const listed = await logFolder(context, pool, folder);
    const names = listed?.names.filter((name) => /\.journal~?$/.test(name) && !seen.has(name)) ?? [];
    if (listed === undefined || names.length === 0) return;
    for (const name of names) {
      seen.add(name);
      yield { directory: listed.directory, name };
    }
  }
}

async function machineFolders(context: CollectContext, pool: DirectoryPool): Promise<HostPath[]> {
  const found: HostPath[] = [];
  for (const folder of JOURNAL_FOLDERS) {
    const listed = await logFolder(context, pool, folder);
    for (const name of listed?.names.filter((one) => /^[0-9a-f]{32}(\.[\w.-]+)?$/.test(one)) ?? []) {
      if (listed === undefined || found.length === MAX_FOLDERS) break;
      if (isFolder(listed.directory, name)) found.push(asHostPath(path.posix.join(folder, name)));
    }
  }
  return found;
}

function isFolder(directory: Directory, name: string): boolean {
  try {
    using node = openNode(directory, Buffer.from(name));
    return node.kind === 'directory';
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false;
    throw error;
  }
}

function openJournal(context: CollectContext, log: OpenLog): OpenJournal | undefined {
  const file = new WindowedFile(log.fd, log.sizeBytes);
  try {
    const journal = JournaldFile.open(file);
    file.drop();
    if (typeof journal !== 'string') return { log, file, journal, taken: [], reasons: [], seen: 0 };
    context.gap({ what: log.path, why: journal });
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    context.gap({ what: log.path, why: `it cannot be read: ${explain(error)}`, errno });
  }
  return undefined;
}

/** By the header, which journald keeps up to date. One without times is looked into. */
function isWithin({ header }: JournaldFile, fromUs: bigint, toUs: bigint): boolean {
  if (header.headRealtimeUs > toUs) return false;
  return header.tailRealtimeUs === 0n || header.tailRealtimeUs >= fromUs;
}
