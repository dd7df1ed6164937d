import { readFile } from 'node:fs/promises';

/**
 * Bytes that this process has caused to be written to block devices so far (`write_bytes` in proc(5) io); tmpfs and
 * sockets do not count. 0 where it cannot be read.
 */
export async function agentDiskWriteBytes(): Promise<number> {
  const io = await readFile('/proc/self/io', 'utf8').catch(() => '');
  return Number(/^write_bytes: (\d+)/m.exec(io)?.[1] ?? 0);
}
