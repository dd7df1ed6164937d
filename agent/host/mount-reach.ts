import { closeSync, statfsSync } from 'node:fs';
import { errnoOf, explain } from '../../evidence/error.ts';
import { copyMounts, type MountCopy } from './mount-copy.ts';
import { type MountSpace, Unreachable } from './mount-space.ts';
import type { MountLine } from './mount-table.ts';

/** A copy of the mount, or why there is none. */
export type Reached = MountCopy | { readonly why: string; readonly errno: string | undefined };

/** Holds each mount where the container has it, and copies it; in the order of `mounts`. */
export async function reachMounts(
  space: MountSpace,
  mounts: readonly MountLine[],
  mayPass: (mount: MountLine) => boolean,
): Promise<Reached[]> {
  const held = mounts.map((mount) => holdOrWhy(space, mount, mayPass));
  const fds = held.filter((one) => typeof one === 'number');
  try {
    const copies = await copyOrWhy(space, fds);
    return held.map((one) => (typeof one === 'number' ? (copies.shift() ?? NO_ANSWER) : one));
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}

const NO_ANSWER: Reached = { why: 'it was not copied', errno: undefined };

function holdOrWhy(
  space: MountSpace,
  mount: MountLine,
  mayPass: (mount: MountLine) => boolean,
): number | Exclude<Reached, MountCopy> {
  try {
    return space.hold(mount, mayPass);
  } catch (error) {
    if (!(error instanceof Unreachable)) throw error;
    return { why: error.message, errno: error.errno };
  }
}

async function copyOrWhy(space: MountSpace, fds: readonly number[]): Promise<Reached[]> {
  try {
    const copies = await copyMounts(space.namespaceFd, fds);
    return copies.map((copy) => ('errno' in copy ? { why: 'the kernel will not copy it', errno: copy.errno } : copy));
  } catch (error) {
    const why = `its mount namespace cannot be entered for a copy of it: ${explain(error)}`;
    return fds.map(() => ({ why, errno: errnoOf(error) }));
  }
}

export interface Space {
  readonly totalBytes: number;
  readonly freeBytes: number;
  readonly files: number;
  readonly freeFiles: number;
}

/** statfs(2) of a file system that answers by itself; undefined when it will not. */
export function spaceOf({ fd }: MountCopy): Space | undefined {
  try {
    const { bsize, blocks, bfree, files, ffree } = statfsSync(`/proc/self/fd/${fd}`, { bigint: true });
    // Some file systems say 2^64-1 for "no limit".
    const exact = (value: bigint): number => Number(value < SAFE ? value : SAFE);
    return {
      totalBytes: exact(blocks * bsize),
      freeBytes: exact(bfree * bsize),
      files: exact(files),
      freeFiles: exact(ffree),
    };
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}

const SAFE = BigInt(Number.MAX_SAFE_INTEGER);
