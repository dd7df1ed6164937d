/**
 * A thread that copies mounts of another mount namespace, and ends: setns(2) is of one thread, and one that has entered
 * another namespace sees other files, so nothing else may run on it. Everything is loaded before it enters.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { threadLibrary } from './thread-library.ts';

export interface CopyOrder {
  /** A descriptor of the mount namespace. */
  readonly namespaceFd: number;
  /** O_PATH descriptors of the mounts' roots, which lie in that namespace. */
  readonly mounts: readonly number[];
}

/** `quiet`: the copy is read-only and leaves access times alone, by the kernel's own means. */
export type CopyAnswer =
  | { readonly copies: ReadonlyArray<{ fd: number; quiet: boolean } | { code: string }> }
  | { readonly code: string; readonly syscall: string };

/** Numbers of system calls since 5.1 are the same on all machines: asm-generic/unistd.h. */
const OPEN_TREE = 428;
const MOUNT_SETATTR = 442;
const AT_EMPTY_PATH = 0x1000;
/** open_tree(2): OPEN_TREE_CLONE, and OPEN_TREE_CLOEXEC, which is O_CLOEXEC. */
const CLONE = 1;
const CLOEXEC = 0o2000000;
/** mount_setattr(2). */
const ATTR = { readOnly: 0x1n, noAtime: 0x10n, atimeMask: 0x70n } as const;
/** Mounts that are made later in the original are never shown in the copy. */
const MS_PRIVATE = 1n << 18n;
/** struct mount_attr: attr_set, attr_clr, propagation, userns_fd. */
const ATTR_BYTES = 32;

/** Tried in turn: a mount that came from a more privileged user namespace may have its access times locked. */
const QUIET: ReadonlyArray<readonly [set: bigint, clear: bigint]> = [
  [ATTR.readOnly | ATTR.noAtime, ATTR.atimeMask],
  [ATTR.readOnly, 0n],
];

function obey({ namespaceFd, mounts }: CopyOrder): CopyAnswer {
  const { library, errno, enter } = threadLibrary();
  const openTree = library.func('long syscall(long number, int fd, const void *path, unsigned int flags)');
  const setAttributes = library.func(
    'long syscall(long number, int fd, const void *path, unsigned int flags, void *attributes, size_t bytes)',
  );
  const here = Buffer.from([0]);
  const quieten = (fd: number): boolean =>
    QUIET.some(([set, clear]) => {
      const attributes = Buffer.alloc(ATTR_BYTES);
      attributes.writeBigUInt64LE(set, 0);
      attributes.writeBigUInt64LE(clear, 8);
      attributes.writeBigUInt64LE(MS_PRIVATE, 16);
      return Number(setAttributes(MOUNT_SETATTR, fd, here, AT_EMPTY_PATH, attributes, ATTR_BYTES)) === 0;
    });
  const refused = enter(namespaceFd);
  if (refused !== undefined) return { code: errno(), syscall: refused };
  const copies = mounts.map((mount) => {
    const fd = Number(openTree(OPEN_TREE, mount, here, AT_EMPTY_PATH | CLONE | CLOEXEC));
    return fd < 0 ? { code: errno() } : { fd, quiet: quieten(fd) };
  });
  return { copies };
}

parentPort?.postMessage(obey(workerData as CopyOrder));
