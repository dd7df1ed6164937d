import { readFile } from 'node:fs/promises';
import os from 'node:os';
import { hurryIo } from './io-priority.ts';

/**
 * Bytes that this process has caused to be written to block devices so far (`write_bytes` in proc(5) io); tmpfs and
 * sockets do not count. 0 where it cannot be read.
 */
export async function agentDiskWriteBytes(): Promise<number> {
  const io = await readFile('/proc/self/io', 'utf8').catch(() => '');
  return Number(/^write_bytes: (\d+)/m.exec(io)?.[1] ?? 0);
}

/**
 * Puts the agent's main thread, which copies, in front of the node's workload; returns how to step back. For the moments
 * in which a target stands still only: on a busy node every wait for a core lengthens the pause. Without the right
 * (CAP_SYS_NICE) its processor time stays as it is. What the agent reads from disks comes as soon as anybody's, too.
 */
export function hurry(): () => void {
  const before = os.getPriority();
  const calmIo = hurryIo();
  try {
    os.setPriority(os.constants.priority.PRIORITY_HIGHEST);
  } catch {
    return calmIo;
  }
  return () => {
    os.setPriority(before);
    calmIo();
  };
}

/** seccomp(2), by proc(5) status: calls that a filter refuses fail with an error nobody expects. Undefined: not told. */
export async function seccompMode(): Promise<'none' | 'strict' | 'filter' | undefined> {
  const status = await readFile('/proc/self/status', 'utf8').catch(() => '');
  return (['none', 'strict', 'filter'] as const)[Number(/^Seccomp:\s*(\d)/m.exec(status)?.[1] ?? Number.NaN)];
}
