import type { constants } from 'node:os';
import { z } from 'zod';
import { isErrno } from '../../evidence/error.ts';
import { childLines } from './bounded-child.ts';
import type { Host } from './host.ts';
import { type KernelLog, readKernelLog, tryKernelLog } from './kmsg.ts';
import { SystemError } from './libc.ts';

/** The last line of kmsg-child.ts. */
const end = z.union([
  z.object({ errno: z.string() }),
  z.object({ bytesRead: z.number(), overwritten: z.number(), cut: z.boolean() }),
]);
export type KernelLogEnd = z.infer<typeof end>;

const PROGRAM = new URL('./kmsg-child.ts', import.meta.url);

/** The log is in memory: what takes longer than the start of a program hangs. */
const LIMITS = { patienceMs: 5_000, totalMs: 20_000 } as const;

/**
 * `readKernelLog`, and where that is refused once more by a process outside of the agent's control group: the one of a container
 * does not let /dev/kmsg be opened, whatever the capabilities. Throws as `readKernelLog` does.
 */
export async function readNodeKernelLog(host: Host, signal: AbortSignal): Promise<KernelLog> {
  try {
    return readKernelLog(host);
  } catch (error) {
    if (!isErrno(error, 'EPERM')) throw error;
  }
  const { records, result } = await ask('read', host, signal);
  if ('errno' in result) throw new SystemError(result.errno as keyof typeof constants.errno, 'open');
  return { records, ...result };
}

/** `tryKernelLog`, in the same two ways: the errno, or undefined where it can be read. */
export async function tryNodeKernelLog(host: Host, signal: AbortSignal): Promise<string | undefined> {
  const errno = tryKernelLog(host);
  if (errno !== 'EPERM') return errno;
  const { result } = await ask('try', host, signal);
  return 'errno' in result ? result.errno : undefined;
}

async function ask(what: 'read' | 'try', host: Host, signal: AbortSignal) {
  const records: Buffer[] = [];
  let last = '';
  for await (const line of childLines(PROGRAM, [what, host.hostRoot], { ...LIMITS, signal })) {
    if (last !== '') records.push(Buffer.from(last, 'base64'));
    last = line;
  }
  return { records, result: end.parse(JSON.parse(last)) };
}
