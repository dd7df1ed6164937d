import { closeSync, constants, fstatSync, openSync, readlinkSync, statfsSync } from 'node:fs';
import { errnoOf, isErrno } from '../../evidence/error.ts';
import { O_PATH } from './process-read.ts';
import { type FileIdentity, identityOf } from './procfs.ts';

/** Why a file was not opened: the kernel's errno, or our own reason. */
export class Refused extends Error {
  readonly errno: string | undefined;

  constructor(why: string, errno?: string, options?: { cause?: unknown }) {
    super(why, options);
    this.name = 'Refused';
    this.errno = errno;
  }
}

/**
 * File systems whose regular files are doors into the kernel: reading one may block (kmsg, trace_pipe), wait for events or
 * change state. Magic numbers of statfs(2).
 */
const KERNEL_FILE_SYSTEMS: ReadonlyMap<number, string> = new Map([
  [0x9fa0, 'proc'],
  [0x62656572, 'sysfs'],
  [0x64626720, 'debugfs'],
  [0x74726163, 'tracefs'],
  [0x73636673, 'securityfs'],
  [0x27e0eb, 'cgroup'],
  [0x63677270, 'cgroup2'],
  [0xcafe4a11, 'bpf'],
  [0x1cd1, 'devpts'],
  [0x19800202, 'mqueue'],
  [0x62656570, 'configfs'],
  [0x42494e4d, 'binfmt_misc'],
  [0xf97cff8c, 'selinuxfs'],
  [0x6165676c, 'pstore'],
  [0xde5e81e4, 'efivarfs'],
  [0x6e736673, 'nsfs'],
  [0x65735543, 'fusectl'],
  [0x5345434d, 'secretmem'],
]);

/**
 * A handle on what `path` names, through a magic link of /proc if it is one, without opening it: no driver, FIFO or socket
 * notices. It keeps an unlinked file alive. Throws `Refused`.
 */
export function hold(path: string): number {
  try {
    return openSync(path, O_PATH);
  } catch (error) {
    throw new Refused('it cannot be reached', errnoOf(error), { cause: error });
  }
}

/**
 * Opens for reading the regular file that `handle` holds; everything else is refused, decided on the handle and checked
 * again on the opened file, so nothing can be swapped in between. The access time is left alone where the kernel permits.
 */
export function openRegular(handle: number): { fd: number; identity: FileIdentity } {
  const held = identityOf(fstatSync(handle, { bigint: true }));
  if (held.type !== 'file') throw new Refused(`it is a ${held.type}, which is never opened`);
  const own = `/proc/self/fd/${handle}`;
  const kernelFile = KERNEL_FILE_SYSTEMS.get(statfsSync(own).type);
  if (kernelFile !== undefined) throw new Refused(`it is a file of the kernel's ${kernelFile}, which is never opened`);
  const fd = openQuietly(own);
  const identity = identityOf(fstatSync(fd, { bigint: true }));
  if (identity.inode === held.inode && identity.device === held.device) return { fd, identity };
  closeSync(fd);
  throw new Refused('it was exchanged while it was opened');
}

/** O_NOATIME is for the owner and CAP_FOWNER only (open(2)): EPERM without, also under a foreign user namespace. */
function openQuietly(path: string): number {
  const flags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;
  try {
    return openSync(path, flags | constants.O_NOATIME);
  } catch (error) {
    if (!isErrno(error, 'EPERM')) throw new Refused('it cannot be opened', errnoOf(error), { cause: error });
  }
  try {
    return openSync(path, flags);
  } catch (error) {
    throw new Refused('it cannot be opened', errnoOf(error), { cause: error });
  }
}

/** As the kernel's MAXSYMLINKS. */
const LINKS_MAX = 40;
/** Components walked in all; links may expand. */
const STEPS_MAX = 400;

/**
 * A handle on `path` inside the tree below `root` (for example /proc/PID/root), resolved here and not by the kernel: each
 * component is opened with O_NOFOLLOW below the folder that is already held, links are read and their text is walked in
 * the same way, an absolute one from `root` again, and `..` ends at `root`. So a container's links cannot lead out of its
 * root, also while it changes them. Throws `Refused`.
 */
export function holdInside(root: string, path: string): number {
  const held: number[] = [hold(`${root}/.`)];
  const waiting = componentsOf(Buffer.from(path));
  let links = 0;
  try {
    for (let steps = 0; waiting.length > 0; steps += 1) {
      if (steps > STEPS_MAX) throw new Refused('its path has too many components', 'ELOOP');
      const name = waiting.shift();
      const folder = held.at(-1);
      if (name === undefined || folder === undefined || name.equals(DOT)) continue;
      if (name.equals(DOT_DOT)) {
        if (held.length > 1) closeSync(held.pop() ?? -1);
        continue;
      }
      const entry = Buffer.concat([Buffer.from(`/proc/self/fd/${folder}/`), name]);
      const handle = openSync(entry, O_PATH | constants.O_NOFOLLOW);
      held.push(handle);
      if ((fstatSync(handle).mode & constants.S_IFMT) !== constants.S_IFLNK) continue;
      closeSync(held.pop() ?? -1);
      links += 1;
      if (links > LINKS_MAX) throw new Refused('it has too many links', 'ELOOP');
      const text = readlinkSync(entry, { encoding: 'buffer' });
      waiting.unshift(...componentsOf(text));
      if (text[0] === 0x2f) while (held.length > 1) closeSync(held.pop() ?? -1);
    }
    return held.pop() ?? hold(`${root}/.`);
  } catch (error) {
    if (error instanceof Refused) throw error;
    throw new Refused('it cannot be reached', errnoOf(error), { cause: error });
  } finally {
    for (const handle of held) closeSync(handle);
  }
}

const DOT = Buffer.from('.');
const DOT_DOT = Buffer.from('..');

function componentsOf(path: Uint8Array): Buffer[] {
  return Buffer.from(path)
    .toString('latin1')
    .split('/')
    .filter((name) => name !== '')
    .map((name) => Buffer.from(name, 'latin1'));
}
