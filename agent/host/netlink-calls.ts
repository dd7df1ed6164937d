import { closeSync, constants, fstatSync, openSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import type koffi from 'koffi';
import { errnoName } from '../../evidence/errno.ts';
import { type Host, procPath } from './host.ts';
import { SystemError } from './libc.ts';
import { messages, scanDump } from './netlink.ts';
import { type FileReading, failed, KIB } from './procfs.ts';

/**
 * Sockets that ask the kernel of one network namespace: netlink(7), and getsockopt(2) for the tables of iptables. Only the reader
 * process does this: it enters the namespace with its one thread (setns(2)) and goes back.
 */
export interface NetlinkCalls {
  readonly setns: (fd: number, type: number) => void;
  /** socket(2), close-on-exec. */
  readonly socket: (family: number, protocol: number) => number;
  readonly timeout: (fd: number) => void;
  readonly send: (fd: number, bytes: Buffer) => void;
  readonly receive: (fd: number, into: Buffer) => number;
  /** getsockopt(2): `value` is asked with and written to; returns how many of its bytes are used. */
  readonly getOption: (fd: number, level: number, name: number, value: Buffer) => number;
}

/** What came of one dump. `interrupted`: it changed while it was told, each time that it was asked for. */
export type DumpReading =
  | Extract<FileReading, { kind: 'failed' }>
  | (Extract<FileReading, { kind: 'read' }> & {
      readonly interrupted?: boolean;
      /** Of a dump that is sifted: messages that came, and were not all kept. */
      readonly seen?: number;
    });

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
/** A table that changes all the time is told three times, and then taken as it is. */
const ATTEMPTS = 3;

/** A network namespace: its inode number, and processes that were in it when they were looked at. */
export interface NamespacePlace {
  readonly inode: number;
  readonly pids: readonly number[];
}

/** Processes that are tried; those of a large pod may all have ended. */
const PIDS_TRIED_MAX = 64;

/**
 * As `inNetworkNamespace`, through the first of these processes that is still in it: a pid that was given to another process since
 * is known by the inode. Throws what the last one said.
 */
export function inNamespaceOf<Result>(host: Host, place: NamespacePlace, act: (calls: NetlinkCalls) => Result): Result {
  let last: unknown = new SystemError('ESRCH', 'open');
  for (const pid of place.pids.slice(0, PIDS_TRIED_MAX)) {
    const path = procPath(host, pid, 'ns', 'net');
    try {
      if (statSync(path).ino !== place.inode) continue;
    } catch (error) {
      last = error;
      continue;
    }
    return inNetworkNamespace(path, act, place.inode);
  }
  throw last;
}

/**
 * Does something in the network namespace at `path`, for example /proc/17/ns/net, and goes back. Throws what open(2) and
 * setns(2) say.
 */
export function inNetworkNamespace<Result>(path: string, act: (calls: NetlinkCalls) => Result, inode?: number): Result {
  const held: number[] = [];
  const open = (name: string): number => {
    const fd = openSync(name, constants.O_RDONLY);
    held.push(fd);
    return fd;
  };
  try {
    const home = open('/proc/self/ns/net');
    const there = open(path);
    if (inode !== undefined && fstatSync(there).ino !== inode) throw new SystemError('ESRCH', 'open');
    const calls = netlinkCalls();
    calls.setns(there, CLONE_NEWNET);
    try {
      return act(calls);
    } finally {
      calls.setns(home, CLONE_NEWNET);
    }
  } finally {
    for (const fd of held) closeSync(fd);
  }
}

export interface DumpRequest {
  /** NETLINK_ROUTE, …: netlink(7). */
  readonly protocol: number;
  readonly request: Buffer;
  readonly limitBytes: number;
  /** Which messages are kept; all when absent. Then `limitBytes` is of those, and `scanBytes` of all. */
  readonly keep?: (body: Buffer) => boolean;
  readonly scanBytes?: number;
}

/** One dump to its end, again when it was interrupted or the socket's buffer ran over (ENOBUFS). Never throws. */
export function readDump(calls: NetlinkCalls, dump: DumpRequest): DumpReading {
  for (let attempt = 1; ; attempt += 1) {
    const reading = readOnce(calls, dump);
    const again = reading.kind === 'failed' ? reading.errno === 'ENOBUFS' : reading.interrupted;
    if (!again || attempt === ATTEMPTS) return reading;
  }
}

function readOnce(calls: NetlinkCalls, { protocol, request, limitBytes, keep, scanBytes }: DumpRequest): DumpReading {
  let fd = -1;
  try {
    fd = calls.socket(AF_NETLINK, protocol);
    calls.timeout(fd);
    calls.send(fd, request);
    const parts: Buffer[] = [];
    const buffer = Buffer.alloc(BUFFER_BYTES);
    let [sizeBytes, scanned, seen, interrupted] = [0, 0, 0, false];
    for (;;) {
      const count = calls.receive(fd, buffer);
      const part = buffer.subarray(0, count);
      const state = scanDump(part);
      if (state.errno !== 0) return { kind: 'failed', errno: errnoName(state.errno) };
      interrupted ||= state.interrupted;
      scanned += count;
      const kept = keep === undefined ? [part] : sift(part, keep, () => (seen += 1));
      for (const bytes of kept) {
        parts.push(Buffer.from(bytes));
        sizeBytes += bytes.length;
      }
      const truncated = !state.done && (sizeBytes > limitBytes || scanned > (scanBytes ?? Number.POSITIVE_INFINITY));
      if (!state.done && !truncated && count > 0) continue;
      const sifted = keep === undefined ? {} : { seen };
      return { kind: 'read', bytes: Buffer.concat(parts), truncated, interrupted, ...sifted };
    }
  } catch (error) {
    return failed(error);
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

/** The end of the dump (NLMSG_DONE) is kept as well, as what is kept is a dump again. */
function sift(part: Buffer, keep: (body: Buffer) => boolean, count: () => void): Buffer[] {
  const kept: Buffer[] = [];
  for (const { type, body, bytes } of messages(part)) {
    const data = type >= NLMSG_MIN_TYPE;
    if (data) count();
    if (!data || keep(body)) kept.push(bytes);
  }
  return kept;
}

/** include/uapi/linux/netlink.h: types below are netlink's own. */
const NLMSG_MIN_TYPE = 0x10;

let bound: NetlinkCalls | undefined;

/** Throws where the FFI library or the C library cannot be loaded. */
export function netlinkCalls(): NetlinkCalls {
  if (bound) return bound;
  // Not an import: koffi's own library is made for some platforms only, and its absence must not stop the agent.
  const ffi: typeof koffi = createRequire(import.meta.url)('koffi');
  // The C library that Node runs on, whichever it is.
  const library = ffi.load(null);
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
  const getsockopt = call('getsockopt', 'int fd, int level, int name, void *value, void *size');
  const send = call('send', 'int fd, const void *bytes, size_t size, int flags');
  const recv = call('recv', 'int fd, void *bytes, size_t size, int flags');
  const timeval = Buffer.alloc(16);
  timeval.writeBigInt64LE(TIMEOUT_SECONDS);
  bound = {
    setns: (fd, type) => void setns(fd, type),
    socket: (family, protocol) => socket(family, SOCK_RAW | SOCK_CLOEXEC, protocol),
    timeout: (fd) => void setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeval, timeval.length),
    send: (fd, bytes) => void send(fd, bytes, bytes.length, 0),
    receive: (fd, into) => recv(fd, into, into.length, 0),
    getOption(fd, level, name, value) {
      const size = Buffer.alloc(4);
      size.writeUInt32LE(value.length);
      getsockopt(fd, level, name, value, size);
      return Math.min(size.readUInt32LE(0), value.length);
    },
  };
  return bound;
}
