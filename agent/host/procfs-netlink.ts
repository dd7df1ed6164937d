import { closeSync, constants, openSync } from 'node:fs';
import { createRequire } from 'node:module';
import type koffi from 'koffi';
import { errnoName, SystemError } from './libc.ts';
import { dumpRequest, NETLINK_DUMPS, type NetlinkDump, scanDump } from './network-netlink.ts';
import { type FileReading, failed, KIB, LIMIT_BYTES } from './procfs.ts';

/**
 * Asks the kernel of one network namespace what /proc does not tell: the state of interfaces, IPv6 neighbours, routes of all
 * tables, peers of unix sockets. Only the reader process does this: it enters the namespace with its one thread (setns(2))
 * and goes back. Asking for unix sockets may make the kernel load its module `unix_diag`, as ss(8) does.
 */
export type NetlinkReading = Readonly<Partial<Record<NetlinkDump, FileReading>>>;

/** netlink(7) and setns(2), of x86-64 and arm64 alike. */
const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const CLONE_NEWNET = 0x40000000;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
/** The kernel answers at once, so this only guards against one that does not. */
const TIMEOUT_SECONDS = 2n;
/** The kernel sends at most 32 KiB at a time in a dump. */
const BUFFER_BYTES = 64 * KIB;

interface Calls {
  readonly setns: (fd: number, type: number) => void;
  readonly socket: (protocol: number) => number;
  readonly timeout: (fd: number) => void;
  readonly send: (fd: number, bytes: Buffer) => void;
  readonly receive: (fd: number, into: Buffer) => number;
}

/** `namespace`: path of a net namespace, for example /proc/17/ns/net. */
export function readNetlink(namespace: string, wanted: readonly NetlinkDump[] = ALL_DUMPS): NetlinkReading {
  const open = (path: string): number => openSync(path, constants.O_RDONLY);
  let home = -1;
  let there = -1;
  try {
    home = open('/proc/self/ns/net');
    there = open(namespace);
    const calls = bind();
    calls.setns(there, CLONE_NEWNET);
    try {
      return dumps(wanted, (dump) => readDump(calls, dump));
    } finally {
      calls.setns(home, CLONE_NEWNET);
    }
  } catch (error) {
    return dumps(wanted, () => failed(error));
  } finally {
    for (const fd of [home, there]) if (fd >= 0) closeSync(fd);
  }
}

const ALL_DUMPS = ['link', 'address', 'neighbour', 'route', 'unix'] as const;

function dumps(wanted: readonly NetlinkDump[], read: (dump: NetlinkDump) => FileReading): NetlinkReading {
  return Object.fromEntries(wanted.map((dump) => [dump, read(dump)]));
}

function readDump(calls: Calls, dump: NetlinkDump): FileReading {
  let fd = -1;
  try {
    fd = calls.socket(NETLINK_DUMPS[dump].protocol);
    calls.timeout(fd);
    calls.send(fd, dumpRequest(dump));
    const parts: Buffer[] = [];
    let sizeBytes = 0;
    const buffer = Buffer.alloc(BUFFER_BYTES);
    for (;;) {
      const count = calls.receive(fd, buffer);
      const part = Buffer.from(buffer.subarray(0, count));
      const { done, errno } = scanDump(part);
      if (errno !== 0) return { kind: 'failed', errno: errnoName(errno) };
      parts.push(part);
      sizeBytes += count;
      const truncated = sizeBytes > LIMIT_BYTES.network;
      if (done || truncated || count === 0) return { kind: 'read', bytes: Buffer.concat(parts), truncated };
    }
  } catch (error) {
    return failed(error);
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

let bound: Calls | undefined;

function bind(): Calls {
  if (bound) return bound;
  // Not an import: koffi's own library is made for some platforms only, and its absence must not stop the agent.
  const ffi: typeof koffi = createRequire(import.meta.url)('koffi');
  const library = ffi.load('libc.so.6');
  const call = (name: string, signature: string): ((...args: unknown[]) => number) => {
    const foreign: (...args: unknown[]) => unknown = library.func(`intptr_t ${name}(${signature})`);
    return (...args) => {
      const result = Number(foreign(...args));
      // An int result fills only half of the register.
      if (result === -1 || result === 0xffffffff) throw new SystemError(ffi.errno(), name);
      return result;
    };
  };
  const [setns, socket] = [call('setns', 'int fd, int type'), call('socket', 'int family, int type, int protocol')];
  const setsockopt = call('setsockopt', 'int fd, int level, int name, const void *value, unsigned int size');
  const send = call('send', 'int fd, const void *bytes, size_t size, int flags');
  const recv = call('recv', 'int fd, void *bytes, size_t size, int flags');
  const timeval = Buffer.alloc(16);
  timeval.writeBigInt64LE(TIMEOUT_SECONDS);
  bound = {
    setns: (fd, type) => void setns(fd, type),
    socket: (protocol) => socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol),
    timeout: (fd) => void setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeval, timeval.length),
    send: (fd, bytes) => void send(fd, bytes, bytes.length, 0),
    receive: (fd, into) => recv(fd, into, into.length, 0),
  };
  return bound;
}
