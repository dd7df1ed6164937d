import { readFileSync, readlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Socket } from 'node:net';
import path from 'node:path';
import type koffi from 'koffi';
import { LIBRARIES } from './libc.ts';

/** Who is at the other end of a Unix socket, as the kernel noted it when it connected (unix(7), SO_PEERCRED). */
export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** sys/socket.h of Linux on x86-64 and arm64. */
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
/** struct ucred: pid, uid, gid, four bytes each. */
const UCRED_BYTES = 12;

type GetSockOpt = (fd: number, level: number, name: number, value: Buffer, length: Buffer) => unknown;
let getsockopt: GetSockOpt | undefined;

/** Undefined where libc cannot be called, and for a socket that is closed or of another kind. */
export function peerCredentials(socket: Socket): PeerCredentials | undefined {
  const fd = descriptorOf(socket);
  getsockopt ??= bind();
  if (fd === undefined || getsockopt === undefined) return undefined;
  const value = Buffer.alloc(UCRED_BYTES);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(UCRED_BYTES);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, value, length) !== 0) return undefined;
  const peer = { pid: value.readInt32LE(0), uid: value.readUInt32LE(4), gid: value.readUInt32LE(8) };
  // What the kernel says of a socket that is not a Unix one, and of a peer in a pid namespace that we cannot see.
  return peer.uid === 0xffffffff ? undefined : peer;
}

/** audit(7): nobody has logged in above this process. */
const NO_LOGIN = '4294967295';

/** `uid 0, gid 0, pid 4711 (node), login uid 1000`. The program and the login are those of now, as /proc has them. */
export function describePeer({ pid, uid, gid }: PeerCredentials, procRoot: string): string {
  if (pid === 0) return `uid ${uid}, gid ${gid}, a process outside of the agent's pid namespace`;
  const ids = `uid ${uid}, gid ${gid}, pid ${pid}`;
  const program = attempt(() => path.basename(readlinkSync(path.join(procRoot, String(pid), 'exe'))));
  const login = attempt(() => readFileSync(path.join(procRoot, String(pid), 'loginuid'), 'latin1').trim());
  const named = program === undefined ? ids : `${ids} (${program})`;
  return login === undefined || login === NO_LOGIN ? named : `${named}, login uid ${login}`;
}

/** The process may be gone, or hidden from us. */
function attempt(read: () => string): string | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** Node keeps the descriptor in its handle; there is no public way to it. */
function descriptorOf(socket: Socket): number | undefined {
  const handle: unknown = Reflect.get(socket, '_handle');
  const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined;
  return typeof fd === 'number' && fd >= 0 ? fd : undefined;
}

function bind(): GetSockOpt | undefined {
  for (const name of LIBRARIES) {
    try {
      // Not an import: koffi's own library is made for some platforms only, and its absence must not stop the agent.
      const ffi: typeof koffi = createRequire(import.meta.url)('koffi');
      return ffi.load(name).func('int getsockopt(int fd, int level, int name, void *value, void *length)');
    } catch {
      // Another libc, or no libc that can be loaded.
    }
  }
  return undefined;
}
