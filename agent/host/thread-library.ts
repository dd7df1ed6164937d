import { createRequire } from 'node:module';
import type koffi from 'koffi';
import type { LibraryHandle } from 'koffi';
import { errnoName } from '../../evidence/errno.ts';
import { LIBRARIES } from './libc.ts';

/** The C library for a thread that enters another mount namespace: loaded before it does, since afterwards the files are others. */
export interface ThreadLibrary {
  readonly library: LibraryHandle;
  /** The errno's name of the last call that failed. */
  errno(): string;
  /** Enters the mount namespace of `fd`; undefined, or the call that failed. */
  enter(fd: number): 'unshare' | 'setns' | undefined;
}

/** sched.h */
const CLONE_FS = 0x200;
const CLONE_NEWNS = 0x20000;

/** Throws an AggregateError where no C library can be loaded. */
export function threadLibrary(): ThreadLibrary {
  const ffi: typeof koffi = createRequire(import.meta.url)('koffi');
  const library = firstOf(LIBRARIES, (name) => ffi.load(name));
  const unshare = library.func('int unshare(int flags)');
  const setns = library.func('int setns(int fd, int type)');
  return {
    library,
    errno: () => errnoName(ffi.errno()),
    enter(fd) {
      // The agent's threads share their root and working folder; one that enters a mount namespace must have its own.
      if (unshare(CLONE_FS) !== 0) return 'unshare';
      return setns(fd, CLONE_NEWNS) === 0 ? undefined : 'setns';
    },
  };
}

function firstOf<Value>(names: readonly string[], load: (name: string) => Value): Value {
  const causes: unknown[] = [];
  for (const name of names) {
    try {
      return load(name);
    } catch (cause) {
      causes.push(cause);
    }
  }
  throw new AggregateError(causes, `no C library could be loaded (tried ${names.join(', ')})`);
}
