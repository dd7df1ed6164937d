import { mkdir, readdir, rm, stat, statfs } from 'node:fs/promises';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { ExhibitError, explain, isErrno } from '../../evidence/error.ts';
import { asHostPath, type HostPath } from '../runtime/runtime.ts';
import { type Host, reach } from './host.ts';
import { makeRunDir, orphansIn, ownedName } from './owned-name.ts';
import type { MountAnswer, MountOrder } from './tmpfs-thread.ts';

const SUFFIX = 'tmpfs';
/** An inode of tmpfs takes about a kibibyte of kernel memory; a dump has some twenty files a process. */
const MOST_FILES = 200_000;

/** Memory with a bound of its own, seen under one path by the agent and by what runs on the node. Disposal gives it back. */
export interface Tmpfs extends AsyncDisposable {
  readonly path: HostPath;
  /** The same folder as the agent reaches it. */
  readonly folder: string;
}

/**
 * Mounts a tmpfs of `sizeBytes` at `<runDir>/<purpose>-….tmpfs` in the mount namespace of the node's process 1, for root
 * alone. Fails with `capture-failed`, naming the system call that was refused.
 * @param runDir a path of the node that the agent reaches
 */
export async function mountTmpfs(
  host: Host,
  runDir: HostPath,
  { purpose, id, sizeBytes }: { purpose: string; id: string; sizeBytes: number },
): Promise<Tmpfs> {
  const hostPath = asHostPath(path.posix.join(runDir, await ownedName(host, purpose, id, SUFFIX)));
  const folder = reach(host, hostPath);
  const options = `size=${sizeBytes},nr_inodes=${MOST_FILES},mode=0700`;
  try {
    await makeRunDir(reach(host, runDir));
    await mkdir(folder, { mode: 0o700 });
    const before = await stat(folder);
    await order({ do: 'mount', namespace: await namespaceOf(host), path: hostPath, options });
    // A runtime that sees another tree than process 1 would write to the folder below the mount.
    if ((await stat(folder)).dev === before.dev) throw new Error('the mount is not seen from the agent');
  } catch (cause) {
    await removeTmpfs(host, hostPath).catch(() => undefined);
    const what = `no tmpfs could be mounted at ${hostPath} on the node: ${explain(cause)}`;
    throw new ExhibitError('capture-failed', what, { cause });
  }
  return { path: hostPath, folder, [Symbol.asyncDispose]: () => removeTmpfs(host, hostPath) };
}

/** For the agent's start: gives back what dead agents left. Their paths. */
export async function cleanStaleTmpfs(host: Host, runDir: HostPath): Promise<HostPath[]> {
  const found: HostPath[] = [];
  for (const name of await orphansIn(host, runDir, SUFFIX)) {
    const hostPath = asHostPath(path.posix.join(runDir, name));
    await removeTmpfs(host, hostPath);
    found.push(hostPath);
  }
  return found;
}

/** What is in it goes first: a copy of the mount in some other namespace then holds no memory. */
export async function removeTmpfs(host: Host, hostPath: HostPath): Promise<void> {
  const folder = reach(host, hostPath);
  if (await isTmpfsOfItsOwn(folder)) {
    for (const name of await readdir(folder)) await rm(path.join(folder, name), { recursive: true, force: true });
    await order({ do: 'unmount', namespace: await namespaceOf(host), path: hostPath });
  }
  // Not only the folder: a runtime that does not see the mount has written below it.
  await rm(folder, { recursive: true, force: true });
}

/** statfs(2) f_type of tmpfs. */
const TMPFS_MAGIC = 0x01021994;

async function isTmpfsOfItsOwn(folder: string): Promise<boolean> {
  try {
    const [own, above] = await Promise.all([stat(folder), stat(path.dirname(folder))]);
    return own.dev !== above.dev && (await statfs(folder)).type === TMPFS_MAGIC;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false;
    throw error;
  }
}

/** The mount namespace of the node's process 1, or undefined where the agent is in it. */
async function namespaceOf({ procRoot, hostRoot }: Host): Promise<string | undefined> {
  const file = `${procRoot}/1/ns/mnt`;
  try {
    const [own, node] = await Promise.all([stat('/proc/self/ns/mnt'), stat(file)]);
    return own.ino === node.ino ? undefined : file;
  } catch (error) {
    // An agent right on the node needs no other namespace, and may not be shown that of process 1.
    if (hostRoot === '' && isErrno(error, 'EACCES', 'EPERM')) return undefined;
    throw error;
  }
}

async function order(what: MountOrder): Promise<void> {
  const thread = new Worker(new URL('./tmpfs-thread.ts', import.meta.url), { workerData: what });
  const { promise, resolve, reject } = Promise.withResolvers<MountAnswer>();
  thread.once('message', resolve);
  thread.once('error', reject);
  thread.once('exit', () => reject(new Error('the thread that mounts ended without an answer')));
  const answer = await promise;
  await thread.terminate();
  if (!answer.done) throw new Error(`${answer.syscall} ${what.path}: ${answer.code}`);
}
