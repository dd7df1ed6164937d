import { closeSync, constants, openSync, readlinkSync } from 'node:fs';
import { O_PATH } from './directory.ts';
import { tryLibc } from './libc.ts';

/** Links below one process' folder. There are thousands of them, and the way to the folder is most of the time that one takes. */
export interface Links extends Disposable {
  /** A link's text in Latin-1; undefined when it is gone. */
  read(name: string): string | undefined;
}

export function linksBelow(base: string): Links {
  const libc = tryLibc();
  const fd = libc === undefined ? undefined : openFolder(base);
  const read = (name: string): string =>
    libc === undefined || fd === undefined ? readlinkSync(`${base}/${name}`, 'latin1') : libc.readlinkAt(fd, name);
  return {
    read(name) {
      try {
        return read(name);
      } catch {
        return undefined;
      }
    },
    [Symbol.dispose]() {
      if (fd !== undefined) closeSync(fd);
    },
  };
}

function openFolder(folder: string): number | undefined {
  try {
    return openSync(folder, O_PATH | constants.O_DIRECTORY);
  } catch {
    return undefined;
  }
}
