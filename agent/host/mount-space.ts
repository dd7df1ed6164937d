import { closeSync, constants, openSync, readlinkSync } from 'node:fs';
import { errnoOf } from '../../evidence/error.ts';
import type { Pid } from '../runtime/runtime.ts';
import { O_PATH } from './directory.ts';
import { type Host, procPath } from './host.ts';
import { SystemError } from './libc.ts';
import { bytesOf, type MountLine, mountIdOf, mountPlaces, readMountTable } from './mount-table.ts';

/**
 * A mount namespace as one process sees it. The process' folder is held, so a pid that is given to another process is
 * never mistaken for it.
 */
export interface MountSpace extends Disposable {
  readonly pid: Pid;
  /** The text of the namespace's link: `mnt:[4026532201]`. */
  readonly namespace: string;
  readonly table: readonly MountLine[];
  /** The table was longer than what is read of one. */
  readonly truncated: boolean;
  /** A descriptor of the namespace. */
  readonly namespaceFd: number;
  /**
   * An O_PATH descriptor of a mount's root, which the caller closes. Nothing is asked of any file system on the way but
   * those that the path leads through, which `mayPass` must allow. Throws `Unreachable`.
   */
  hold(mount: MountLine, mayPass: (mount: MountLine) => boolean): number;
}

/** Why a mount cannot be reached, in words that continue "it cannot be reached: ". */
export class Unreachable extends Error {
  readonly errno: string | undefined;

  constructor(why: string, errno?: string) {
    super(why);
    this.name = 'Unreachable';
    this.errno = errno;
  }
}

/** Text of the link of a process' mount namespace; undefined when it is gone or may not be asked. */
export function mountNamespaceOf(host: Host, pid: Pid | number): string | undefined {
  try {
    return readlinkSync(procPath(host, pid, 'ns', 'mnt'));
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}

/** Throws a system error: ENOENT or ESRCH when the process is gone, EACCES without the right to trace it. */
export function openMountSpace(host: Host, pid: Pid): MountSpace {
  using held = new DisposableStack();
  const hold = (path: string, flags: number): number => {
    const fd = openSync(path, flags);
    held.defer(() => closeSync(fd));
    return fd;
  };
  const base = `/proc/self/fd/${hold(procPath(host, pid), O_PATH | constants.O_DIRECTORY)}`;
  const namespace = readlinkSync(`${base}/ns/mnt`);
  const namespaceFd = hold(`${base}/ns/mnt`, constants.O_RDONLY);
  const rootFd = hold(`${base}/root`, O_PATH | constants.O_DIRECTORY);
  const reading = readMountTable(base);
  if ('errno' in reading) throw new SystemError(reading.errno === 'ESRCH' ? 'ESRCH' : 'EACCES', 'read');
  const { table, truncated } = reading;
  const owned = held.move();
  return {
    pid,
    namespace,
    table,
    truncated,
    namespaceFd,
    hold: (mount, mayPass) => descend(rootFd, table, mount, mayPass),
    [Symbol.dispose]: () => owned.dispose(),
  };
}

/**
 * From the root to the mount, one component after the other. Each is opened with O_PATH and O_NOFOLLOW below the one that
 * is held, and must be on the mount that the table has there: so no link is followed, and a mount that was put on the
 * way meanwhile is seen before anything is asked of it (stat(2) of a FUSE mount may never come back).
 */
function descend(
  rootFd: number,
  table: readonly MountLine[],
  mount: MountLine,
  mayPass: (mount: MountLine) => boolean,
): number {
  const places = mountPlaces(table);
  const byId = new Map(table.map((line) => [line.id, line]));
  const components = mount.mountPoint.split('/').filter((name) => name !== '');
  let at = openSync(`/proc/self/fd/${rootFd}`, O_PATH | constants.O_DIRECTORY);
  let path = '';
  try {
    check(at, places.at('/'));
    for (const name of components) {
      passes(mountIdOf(at), byId, mayPass);
      path = `${path}/${name}`;
      const next = openSync(
        Buffer.concat([Buffer.from(`/proc/self/fd/${at}/`), bytesOf(name)]),
        O_PATH | constants.O_NOFOLLOW,
      );
      closeSync(at);
      at = next;
      check(at, places.at(path));
    }
    if (mountIdOf(at) !== mount.id) throw new Unreachable('it is hidden below another mount');
    return at;
  } catch (error) {
    closeSync(at);
    if (error instanceof Unreachable) throw error;
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    throw new Unreachable('the way to it is hidden, or was changed meanwhile', errno);
  }
}

function check(fd: number, expected: number | undefined): void {
  if (mountIdOf(fd) !== expected) throw new Unreachable('the mounts on the way to it were changed meanwhile');
}

function passes(
  id: number | undefined,
  byId: ReadonlyMap<number, MountLine>,
  mayPass: (mount: MountLine) => boolean,
): void {
  const line = id === undefined ? undefined : byId.get(id);
  if (line === undefined || !mayPass(line)) {
    throw new Unreachable('the way to it leads through a file system that is not entered');
  }
}
