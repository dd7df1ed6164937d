import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { resolveBelow } from './below.ts';
import { MIB } from './procfs.ts';

/**
 * The version of a program of the node without running it: on a node under suspicion no file of its own is started, and
 * what the program would do to the disk is left undone.
 */

/** Go programs have 10 to 60 MiB, criu has 2. */
const PROGRAM_BYTES = 64 * MIB;
/** Debian's status file has some 4 KiB a package. */
const STATUS_BYTES = 32 * MIB;

/** Reads at most `limitBytes` from the beginning; undefined when it cannot be read. */
async function beginningOf(file: string, limitBytes: number): Promise<Buffer | undefined> {
  try {
    await using handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    const sizeBytes = Math.min((await handle.stat()).size, limitBytes);
    const bytes = Buffer.alloc(sizeBytes);
    let filled = 0;
    while (filled < sizeBytes) {
      const { bytesRead } = await handle.read(bytes, filled, sizeBytes - filled, filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return bytes.subarray(0, filled);
  } catch {
    return undefined;
  }
}

/**
 * CRIU keeps its version as a constant of its own (CRIU_VERSION), in most builds right before the format it is printed with. Undefined
 * when the bytes are no such program, or the constant is elsewhere and more than one looks like a version: a C library that is linked
 * statically has its own.
 */
export function criuVersionIn(program: Buffer): string | undefined {
  const text = program.toString('latin1');
  if (!text.includes('Version: %s')) return undefined;
  const beside = /\0(\d{1,2}\.\d{1,2}(?:\.\d{1,2})?)\0Version: %s/.exec(text)?.[1];
  if (beside !== undefined) return beside;
  const versions = new Set([...text.matchAll(/\0(\d{1,2}\.\d{1,2}(?:\.\d{1,2})?)(?=\0)/g)].map((match) => match[1]));
  return versions.size === 1 ? [...versions][0] : undefined;
}

/** The version that Debian's package database (dpkg's status file) has of an installed package, without the packager's part. */
export function packageVersionIn(status: string, name: string): string | undefined {
  const at = status.startsWith(`Package: ${name}\n`) ? 0 : status.indexOf(`\nPackage: ${name}\n`);
  if (at < 0) return undefined;
  const entry = status.slice(at + 1).split('\n\n', 1)[0] ?? '';
  if (!/^Status: .* installed$/m.test(entry)) return undefined;
  return /^Version: (?:\d+:)?([^\s-]+)/m.exec(entry)?.[1];
}

/** The version of a program that was found in a system below `root`; undefined where only running it would tell. */
export async function programVersion(root: string, found: { name: string; file: string }): Promise<string | undefined> {
  const name = found.name.split('/').at(-1) ?? '';
  if (name === 'criu') {
    const program = await beginningOf(found.file, PROGRAM_BYTES);
    const version = program === undefined ? undefined : criuVersionIn(program);
    if (version !== undefined) return version;
  }
  // A file that somebody put into /usr/local is not the package's.
  if (!/^(\/usr)?\/s?bin\//.test(found.name)) return undefined;
  const status = await resolveBelow(root, '/var/lib/dpkg/status').catch(() => undefined);
  const bytes = status === undefined ? undefined : await beginningOf(status, STATUS_BYTES);
  return bytes === undefined ? undefined : packageVersionIn(bytes.toString('latin1'), name);
}
