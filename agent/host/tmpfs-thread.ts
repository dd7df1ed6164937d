/**
 * A thread that mounts and unmounts in the node's mount namespace, and ends: setns(2) is of one thread, and one that has
 * entered another namespace sees other files, so nothing else may run on it. Everything is loaded before it enters.
 */
import { openSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { threadLibrary } from './thread-library.ts';

export type MountOrder =
  /** `namespace`: the namespace's file in /proc; undefined stays in the agent's own. `path`: as that namespace has it. */
  | { do: 'mount'; namespace: string | undefined; path: string; options: string }
  | { do: 'unmount'; namespace: string | undefined; path: string };

export type MountAnswer = { done: true } | { done: false; code: string; syscall: string };

/** sys/mount.h: nosuid, nodev, noexec. */
const FLAGS = 2 | 4 | 8;
/** Never copied into the mount trees of containers that are made meanwhile: mount_namespaces(7). */
const MS_UNBINDABLE = 1 << 17;
/** Gone from the tree at once, from memory when CRIU has closed its files. Symbolic links are not followed. */
const MNT_DETACH_NOFOLLOW = 2 | 8;

function obey(order: MountOrder): MountAnswer {
  const { library, errno, enter } = threadLibrary();
  const mount = library.func('int mount(str source, str target, str type, unsigned long flags, str data)');
  const umount = library.func('int umount2(str target, int flags)');
  const failed = (syscall: string): MountAnswer => ({ done: false, code: errno(), syscall });
  if (order.namespace !== undefined) {
    const refused = enter(openSync(order.namespace, 'r'));
    if (refused !== undefined) return failed(refused);
  }
  if (order.do === 'unmount') return umount(order.path, MNT_DETACH_NOFOLLOW) === 0 ? { done: true } : failed('umount2');
  if (mount('exhibit', order.path, 'tmpfs', FLAGS, order.options) !== 0) return failed('mount');
  // Where it cannot be had the mount is as good.
  mount('', order.path, '', MS_UNBINDABLE, '');
  return { done: true };
}

parentPort?.postMessage(obey(workerData as MountOrder));
