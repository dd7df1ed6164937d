import { stat, statfs } from 'node:fs/promises';
import path from 'node:path';
import { isErrno } from '../../evidence/error.ts';
import { asHostPath } from '../runtime/runtime.ts';
import { memoryFileSystem } from './folder-facts.ts';
import { type Host, reach } from './host.ts';

/** What is left of the file system under a folder. */
export interface DiskRoom {
  readonly folder: string;
  /** For whoever is not root. */
  readonly freeBytes: number;
  readonly totalBytes: number;
  /** The kubelet evicts pods when it fills: its own folder or the runtime's lies there too. */
  readonly isWatched: boolean;
}

/** nodefs and imagefs of the kubelet, as EKS has them. */
const WATCHED = ['/var/lib/kubelet', '/var/lib/containerd'];

/** Of `folder`, or the nearest one above it that exists; undefined where that is memory, or cannot be asked. */
export async function diskRoom(host: Host, folder: string): Promise<DiskRoom | undefined> {
  try {
    const there = await nearest(folder);
    if ((await memoryFileSystem(there)) !== undefined) return undefined;
    const [{ bavail, blocks, bsize }, { dev }] = await Promise.all([statfs(there), stat(there)]);
    const watched = await Promise.all(WATCHED.map((one) => deviceOf(reach(host, asHostPath(one)))));
    return {
      folder,
      freeBytes: bavail * bsize,
      totalBytes: blocks * bsize,
      // A node that is no node of Kubernetes has a containerd at most.
      isWatched: watched[0] !== undefined && watched.includes(dev),
    };
  } catch {
    // Whether it can be written to, the sink says.
    return undefined;
  }
}

async function nearest(folder: string): Promise<string> {
  try {
    await stat(folder);
    return folder;
  } catch (error) {
    if (!isErrno(error, 'ENOENT') || path.dirname(folder) === folder) throw error;
    return nearest(path.dirname(folder));
  }
}

async function deviceOf(folder: string): Promise<number | undefined> {
  return (await stat(folder).catch(() => undefined))?.dev;
}
