import fs from 'node:fs';
import { open } from 'node:fs/promises';
import type { Pid } from '../runtime/runtime.ts';
import { type Host, procPath } from './host.ts';
import { PF_KTHREAD, type ProcessStat, parseStat } from './process-stat.ts';

/**
 * A process' memory and the small facts that go with it, read from /proc (proc(5)). Errors are the system's own
 * (ESRCH when the process ended, EACCES without CAP_SYS_PTRACE); callers turn them into gaps.
 */

export interface ProcessMemory extends Disposable {
  /** The open /proc/PID/mem, for threads that read it by themselves. */
  readonly fd: number;
  /**
   * Reads from `address` on; fewer bytes than asked when a page in between cannot be read. 0 when the address space is
   * gone: the process ended or ran another program. Throws EIO when the page at `address` cannot be read.
   */
  readSync(address: bigint, into: Uint8Array): number;
  /** The same on the thread pool, for pages whose reading may wait for somebody else (FUSE, userfaultfd). */
  read(address: bigint, into: Uint8Array): Promise<number>;
}

/** Opens /proc/PID/mem. The open file stays with the address space it was opened on, also across execve(2). */
export function openMemory(host: Host, pid: Pid): ProcessMemory {
  return openFdMemory(fs.openSync(procPath(host, pid, 'mem'), 'r'));
}

/** Takes over an open file whose offsets are addresses. */
export function openFdMemory(fd: number): ProcessMemory {
  return {
    fd,
    readSync: (address, into) => fs.readSync(fd, into, 0, into.byteLength, address),
    read: (address, into) =>
      new Promise((resolve, reject) => {
        fs.read(fd, into, 0, into.byteLength, address, (error, bytes) =>
          error === null ? resolve(bytes) : reject(error),
        );
      }),
    [Symbol.dispose]: () => fs.closeSync(fd),
  };
}

/** proc(5) clear_refs: 4 clears the soft-dirty bits of all pages. */
export function clearSoftDirty(host: Host, pid: Pid): void {
  fs.writeFileSync(procPath(host, pid, 'clear_refs'), '4');
}

/** One read of a file in /proc; seq files give a page or so at a time. */
const TEXT_CHUNK_BYTES = 256 * 1024;

/** Bytes of maps or smaps that are parsed: 350,000 mappings of smaps; vm.max_map_count is 65,530 by default. */
export const MAX_TEXT_BYTES = 256 * 1024 * 1024;

export interface ProcText {
  /** One character a byte. */
  readonly text: string;
  /** True when there was more than MAX_TEXT_BYTES. */
  readonly cut: boolean;
}

/** Reads a text file of a process at once, blocking: for the moment in which the target stands still. */
export function readTextSync(host: Host, pid: Pid, ...segments: string[]): ProcText {
  const fd = fs.openSync(procPath(host, pid, ...segments), 'r');
  try {
    const chunk = Buffer.allocUnsafe(TEXT_CHUNK_BYTES);
    let text = '';
    while (text.length < MAX_TEXT_BYTES) {
      const got = fs.readSync(fd, chunk, 0, chunk.byteLength, null);
      if (got === 0) return { text, cut: false };
      text += chunk.toString('latin1', 0, got);
    }
    return { text, cut: true };
  } finally {
    fs.closeSync(fd);
  }
}

/** The same without blocking the agent. */
export async function readText(host: Host, pid: Pid, ...segments: string[]): Promise<ProcText> {
  await using file = await open(procPath(host, pid, ...segments), 'r');
  const chunk = Buffer.allocUnsafe(TEXT_CHUNK_BYTES);
  let text = '';
  while (text.length < MAX_TEXT_BYTES) {
    const { bytesRead } = await file.read(chunk, 0, chunk.byteLength, null);
    if (bytesRead === 0) return { text, cut: false };
    text += chunk.toString('latin1', 0, bytesRead);
  }
  return { text, cut: true };
}

/** Why a process has no memory to read, or undefined when it has. */
export function memorylessReason(stat: ProcessStat): string | undefined {
  if ((stat.flags & PF_KTHREAD) !== 0) return 'a kernel thread has no memory of its own';
  if (stat.state === 'Z') return 'a zombie: the process ended and gave its memory back';
  if (stat.state === 'X') return 'the process is dead';
  return undefined;
}

/** What /proc/PID/task/TID/syscall says (proc_pid_syscall(5)). */
export type ThreadPosition =
  | { readonly kind: 'running' }
  | {
      readonly kind: 'stopped';
      readonly programCounter: bigint;
      readonly stackPointer: bigint;
      readonly call?: { readonly number: bigint; readonly args: readonly bigint[] };
    };

export function parseSyscall(text: string): ThreadPosition | undefined {
  const words = text.trim().split(' ');
  if (words[0] === 'running') return { kind: 'running' };
  const call = words[0];
  if (call === undefined || !/^-?[0-9]+$/.test(call)) return undefined;
  if (!words.slice(1).every((word) => /^0x[0-9a-f]{1,16}$/.test(word))) return undefined;
  const numbers = words.slice(1).map((word) => BigInt(word));
  const [stackPointer, programCounter] = numbers.slice(-2);
  if (stackPointer === undefined || programCounter === undefined) return undefined;
  if (numbers.length === 2) return { kind: 'stopped', programCounter, stackPointer };
  if (numbers.length !== 8) return undefined;
  return { kind: 'stopped', programCounter, stackPointer, call: { number: BigInt(call), args: numbers.slice(0, 6) } };
}

export interface ThreadState {
  readonly tid: number;
  /** Undefined when it could not be read: the thread ended, or the kernel has no such file. */
  readonly position: ThreadPosition | undefined;
}

/** Threads that a core tells of; the rest is counted. */
export const MAX_THREADS = 8192;

/** The thread ids of a process, its main thread first, and how many were left out. */
export function readThreadIds(host: Host, pid: Pid): { tids: number[]; leftOut: number } {
  const tids = fs
    .readdirSync(procPath(host, pid, 'task'))
    .map(Number)
    .filter((tid) => Number.isSafeInteger(tid))
    .sort((a, b) => Number(b === pid) - Number(a === pid) || a - b);
  return { tids: tids.slice(0, MAX_THREADS), leftOut: Math.max(0, tids.length - MAX_THREADS) };
}

/** Where a thread stands, some 15 us; undefined when that cannot be read. */
export function readPosition(host: Host, pid: Pid, tid: number): ThreadPosition | undefined {
  try {
    return parseSyscall(readTextSync(host, pid, 'task', String(tid), 'syscall').text);
  } catch {
    return undefined;
  }
}

export function readStatSync(host: Host, pid: Pid): ProcessStat | undefined {
  return parseStat(Buffer.from(readTextSync(host, pid, 'stat').text, 'latin1'));
}

/** Another program in the same process (execve(2)) lies elsewhere, or at least has another stack. */
export function isSameProgram(a: ProcessStat, b: ProcessStat): boolean {
  return (
    a.startTicks === b.startTicks &&
    a.startCode === b.startCode &&
    a.endCode === b.endCode &&
    a.startStack === b.startStack
  );
}

/** Effective user and group of a /proc/PID/status; undefined where the lines are missing. */
export function parseOwner(status: string): { uid: number; gid: number } | undefined {
  const uid = /^Uid:\t[0-9]+\t([0-9]+)/m.exec(status)?.[1];
  const gid = /^Gid:\t[0-9]+\t([0-9]+)/m.exec(status)?.[1];
  return uid === undefined || gid === undefined ? undefined : { uid: Number(uid), gid: Number(gid) };
}

/** File systems whose pages come from another program or another machine: reading one may wait for ever. */
const WAITING_FILE_SYSTEM = /^(fuse|fuseblk|fuse\..*|nfs|nfs4|cifs|smb3|9p|ceph|afs|lustre|virtiofs|ocfs2|gfs2)$/;

/** Devices (`major:minor` in the hex of /proc/PID/maps) of such file systems, from a /proc/PID/mountinfo. */
export function waitingDevices(mountinfo: string): ReadonlySet<string> {
  const devices = new Set<string>();
  for (const line of mountinfo.split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    const type = after.split(' ')[0] ?? '';
    const [major, minor] = (before.split(' ')[2] ?? '').split(':').map(Number);
    if (major === undefined || minor === undefined || !WAITING_FILE_SYSTEM.test(type)) continue;
    devices.add(`${major.toString(16).padStart(2, '0')}:${minor.toString(16).padStart(2, '0')}`);
  }
  return devices;
}

/** AT_PAGESZ of an auxiliary vector (getauxval(3)): pairs of 64-bit type and value. */
export function pageBytesOf(auxv: Uint8Array): number | undefined {
  const AT_PAGESZ = 6n;
  const view = new DataView(auxv.buffer, auxv.byteOffset, auxv.byteLength);
  for (let at = 0; at + 16 <= auxv.byteLength; at += 16) {
    if (view.getBigUint64(at, true) === AT_PAGESZ) return Number(view.getBigUint64(at + 8, true));
  }
  return undefined;
}

/** The page size of this node's kernel: 4 KiB on x86-64; 4, 16 or 64 KiB on arm64. */
export function kernelPageBytes(): number {
  try {
    return pageBytesOf(fs.readFileSync('/proc/self/auxv')) ?? 4096;
  } catch {
    return 4096;
  }
}
