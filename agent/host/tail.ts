import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { HostPath } from '../runtime/runtime.ts';
import { type Host, reach } from './host.ts';

/** The last `limitBytes` bytes of a regular file of the node, for logs whose reason is at the end. Follows no link, never blocks. */
export async function readTail(host: Host, hostPath: HostPath, limitBytes: number): Promise<Buffer> {
  await using handle = await open(
    reach(host, hostPath),
    constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
  );
  const stat = await handle.stat();
  if (!stat.isFile()) throw new Error(`${hostPath} is not a regular file`);
  const tail = Buffer.alloc(Math.min(stat.size, limitBytes));
  const { bytesRead } = await handle.read(tail, 0, tail.length, stat.size - tail.length);
  return tail.subarray(0, bytesRead);
}
