import path from 'node:path';
import { errnoOf, explain, isErrno } from '../../evidence/error.ts';
import {
  type Directory,
  type DirectoryPool,
  type Node,
  openForReading,
  openNode,
  type Readable,
} from '../host/directory.ts';
import { reach } from '../host/host.ts';
import { listNames } from '../host/listing.ts';
import { asHostPath, type HostPath } from '../runtime/runtime.ts';
import type { CollectContext } from './collector.ts';

/** Of names that are looked at in a folder of logs: some 10,000. */
const MAX_NAMES_BYTES = 1024 * 1024;

/** A regular file of the node, held open for reading. */
export interface OpenLog extends Disposable {
  readonly path: HostPath;
  readonly node: Node;
  readonly fd: number;
  /** When it was opened: what comes after that is not of this capture. */
  readonly sizeBytes: number;
  readonly mtimeUs: bigint;
}

/** A folder of the node and the names in it; undefined, without a gap, where there is none. */
export async function logFolder(
  context: CollectContext,
  pool: DirectoryPool,
  folder: HostPath,
): Promise<{ directory: Directory; names: string[] } | undefined> {
  try {
    const directory = pool.root(reach(context.host, folder));
    const { names, left } = await listNames(directory, () => false, { bytes: MAX_NAMES_BYTES });
    if (left > 0) context.gap({ what: folder, why: `only ${names.length} of its names are looked at` });
    return { directory, names };
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    if (!isErrno(error, 'ENOENT')) context.gap({ what: folder, why: `it cannot be read: ${explain(error)}`, errno });
    return undefined;
  }
}

/** Undefined, with a gap, for what is no regular file or cannot be opened; without one where it has gone. */
export function openLog(
  context: CollectContext,
  directory: Directory,
  folder: HostPath,
  name: string,
): OpenLog | undefined {
  const file = asHostPath(path.posix.join(folder, Buffer.from(name, 'latin1').toString('utf8')));
  try {
    using stack = new DisposableStack();
    const node = stack.use(openNode(directory, Buffer.from(name, 'latin1')));
    if (node.kind !== 'file') {
      context.gap({ what: file, why: `a ${node.kind} where a log file should be; it is not read` });
      return undefined;
    }
    const readable: Readable = openForReading(node);
    const held = stack.move();
    return {
      path: file,
      node,
      fd: readable.fd,
      sizeBytes: Number(node.stat.size),
      mtimeUs: node.stat.mtimeNs / 1000n,
      [Symbol.dispose]: () => held.dispose(),
    };
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    if (!isErrno(error, 'ENOENT')) context.gap({ what: file, why: `it cannot be read: ${explain(error)}`, errno });
    return undefined;
  }
}
