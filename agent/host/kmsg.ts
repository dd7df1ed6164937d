import { closeSync, constants, openSync, readSync } from 'node:fs';
import path from 'node:path';
import { errnoOf, isErrno } from '../../evidence/error.ts';
import { asHostPath } from '../runtime/runtime.ts';
import { fromLatin1, latin1 } from './decode.ts';
import { DirectoryPool, deviceNumbers, openNode } from './directory.ts';
import { type Host, reach } from './host.ts';
import { SystemError } from './libc.ts';

/**
 * The kernel's log, /dev/kmsg (Documentation/ABI/testing/dev-kmsg). A read takes a record at this descriptor's own place and
 * leaves it for everybody else; /proc/kmsg, which takes it away, is never touched.
 */
export const KMSG_PATH = asHostPath('/dev/kmsg');

/** Documentation/admin-guide/devices.txt: 1 char, 11 = /dev/kmsg. */
const KMSG_DEVICE = { major: 1, minor: 11 } as const;
/** PRINTK_MESSAGE_MAX is 2 KiB and was 8 KiB; a shorter buffer gives EINVAL. */
const RECORD_BYTES = 16 * 1024;
/** CONFIG_LOG_BUF_SHIFT is 25 at most: 32 MiB. Programs that write meanwhile must not keep the reader. */
const MAX_RECORDS = 500_000;

export interface KernelLog {
  /** As read, each ended by a newline. */
  readonly records: Buffer[];
  readonly bytesRead: number;
  /** How often the kernel had to say that records were overwritten before they were read. */
  readonly overwritten: number;
  /** More came than is read. */
  readonly cut: boolean;
}

/** All that the kernel still has. Throws a system error: EPERM without CAP_SYSLOG where dmesg_restrict is set. */
export function readKernelLog(host: Host): KernelLog {
  const fd = openKernelLog(host);
  try {
    return drain((into) => readSync(fd, into, 0, into.length, null));
  } finally {
    closeSync(fd);
  }
}

/** Opens it and reads nothing: the errno, or undefined where it can be read. */
export function tryKernelLog(host: Host): string | undefined {
  try {
    closeSync(openKernelLog(host));
    return undefined;
  } catch (error) {
    return errnoOf(error) ?? 'EIO';
  }
}

/** `read` as read(2), a record at a time. Exported for its tests. */
export function drain(read: (into: Buffer) => number): KernelLog {
  const records: Buffer[] = [];
  const into = Buffer.alloc(RECORD_BYTES);
  let [bytesRead, overwritten] = [0, 0];
  while (records.length + overwritten < MAX_RECORDS) {
    try {
      const length = read(into);
      if (length === 0) return { records, bytesRead, overwritten, cut: false };
      bytesRead += length;
      records.push(Buffer.from(into.subarray(0, length)));
    } catch (error) {
      if (isErrno(error, 'EAGAIN')) return { records, bytesRead, overwritten, cut: false };
      if (!isErrno(error, 'EPIPE')) throw error;
      overwritten += 1;
    }
  }
  return { records, bytesRead, overwritten, cut: true };
}

/** What is opened is the very device that was looked at. */
function openKernelLog(host: Host): number {
  using pool = new DirectoryPool();
  using node = openNode(pool.root(reach(host, asHostPath(path.posix.dirname(KMSG_PATH)))), Buffer.from('kmsg'));
  const { major, minor } = deviceNumbers(node.stat.rdev);
  const isKmsg = node.kind === 'character-device' && major === KMSG_DEVICE.major && minor === KMSG_DEVICE.minor;
  if (!isKmsg) throw new SystemError('ENODEV', 'open');
  const { O_RDONLY, O_NONBLOCK, O_NOCTTY } = constants;
  return openSync(`/proc/self/fd/${node.fd}`, O_RDONLY | O_NONBLOCK | O_NOCTTY);
}

export interface KernelMessage {
  readonly priority: number;
  readonly facility: number;
  readonly sequence: bigint;
  readonly monotonicUs: bigint;
  readonly message: Buffer;
  readonly dictionary: ReadonlyMap<string, string>;
}

/** `6,339,5140900,-,caller=T1;text`, then lines ` KEY=value`. Undefined for what is none. */
export function parseKernelMessage(record: Uint8Array): KernelMessage | undefined {
  const [line = '', ...rest] = latin1(record).split('\n');
  const match = /^(\d{1,9}),(\d{1,20}),(\d{1,20})[^;]*;(.*)$/s.exec(line);
  if (match === null) return undefined;
  const level = Number(match[1]);
  const dictionary = new Map<string, string>();
  for (const pair of rest) {
    const [, key, value = ''] = /^ ([^=]+)=(.*)$/s.exec(pair) ?? [];
    if (key !== undefined) dictionary.set(key, unescapeHex(value).toString('utf8'));
  }
  return {
    priority: level & 7,
    facility: level >> 3,
    sequence: BigInt(match[2] ?? 0),
    monotonicUs: BigInt(match[3] ?? 0),
    message: unescapeHex(match[4] ?? ''),
    dictionary,
  };
}

/** The kernel writes bytes that are not printable ASCII, and the backslash, as `\xHH`. */
function unescapeHex(text: string): Buffer {
  return fromLatin1(
    text.replaceAll(/\\x([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
  );
}
