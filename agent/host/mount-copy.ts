import { closeSync, constants, openSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { errnoOf } from '../../evidence/error.ts';
import { O_PATH } from './directory.ts';
import type { CopyAnswer, CopyOrder } from './mount-copy-thread.ts';

/**
 * A detached copy of a mount, without what is mounted inside of it: open_tree(2). What it shows stays in place whatever the
 * container does to its mounts; what lies beneath mounts inside is seen; the container's own unmounting is not held up;
 * and it is read-only, for us, by the kernel's own means.
 */
export interface MountCopy extends Disposable {
  /** An O_PATH descriptor of its root. */
  readonly fd: number;
  /** False where the kernel would not make it read-only and keep its access times. */
  readonly quiet: boolean;
}

/**
 * Copies mounts of a namespace; in the order of `mounts`, with the errno's name for what could not be copied. Whoever asks
 * needs CAP_SYS_ADMIN and CAP_SYS_CHROOT. EINVAL: the mount has mounts inside that its user namespace may not look below.
 * Throws where the namespace cannot be entered or no C library be called.
 */
export async function copyMounts(
  namespaceFd: number,
  mounts: readonly number[],
): Promise<Array<MountCopy | { readonly errno: string }>> {
  if (mounts.length === 0) return [];
  const order: CopyOrder = { namespaceFd, mounts };
  const thread = new Worker(new URL('./mount-copy-thread.ts', import.meta.url), { workerData: order });
  const { promise, resolve, reject } = Promise.withResolvers<CopyAnswer>();
  thread.once('message', resolve);
  thread.once('error', reject);
  thread.once('exit', () => reject(new Error('the thread that copies mounts ended without an answer')));
  const answer = await promise;
  await thread.terminate();
  if ('code' in answer) {
    throw Object.assign(new Error(`${answer.syscall}: ${answer.code}`), { code: answer.code, syscall: answer.syscall });
  }
  return answer.copies.map((copy) =>
    'code' in copy
      ? { errno: copy.code }
      : { fd: copy.fd, quiet: copy.quiet, [Symbol.dispose]: () => closeSync(copy.fd) },
  );
}

/** Whether mounts can be copied here, tried on the agent's own root: nothing of it stays. An errno where not. */
export async function tryMountCopy(): Promise<'quiet' | 'writable' | { readonly errno: string }> {
  const namespace = openSync('/proc/self/ns/mnt', constants.O_RDONLY);
  const root = openSync('/', O_PATH | constants.O_DIRECTORY);
  try {
    const [copy] = await copyMounts(namespace, [root]);
    if (copy === undefined || 'errno' in copy) return { errno: copy?.errno ?? 'EIO' };
    using one = copy;
    return one.quiet ? 'quiet' : 'writable';
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    return { errno };
  } finally {
    closeSync(root);
    closeSync(namespace);
  }
}
