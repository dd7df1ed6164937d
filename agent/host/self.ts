import { readFile } from 'node:fs/promises';

/**
 * Bytes that this process has caused to be written to block devices so far (`write_bytes` in proc(5) io); tmpfs and
 * sockets do not count. 0 where it cannot be read.
 */
export async function agentDiskWriteBytes(): Promise<number> {
  const io = await readFile('/proc/self/io', 'utf8').catch(() => '');
  return Number(/^write_bytes: (\d+)/m.exec(io)?.[1] ?? 0);
}

/** seccomp(2), by proc(5) status: calls that a filter refuses fail with an error nobody expects. Undefined: not told. */
export async function seccompMode(): Promise<'none' | 'strict' | 'filter' | undefined> {
  const status = await readFile('/proc/self/status', 'utf8').catch(() => '');
  return (['none', 'strict', 'filter'] as const)[Number(/^Seccomp:\s*(\d)/m.exec(status)?.[1] ?? Number.NaN)];
}
