import { createHash } from 'node:crypto';
import { closeSync, readSync } from 'node:fs';
import os from 'node:os';
import { asPid } from '../runtime/runtime.ts';
import { latin1 } from './decode.ts';
import { type Host, procPath } from './host.ts';
import { answerNode } from './node-serve.ts';
import { createMountParser } from './process.ts';
import { isDeletedName } from './process-maps.ts';
import { type Enter, enterByDescriptor, type ProcessReading, readProcess } from './process-read.ts';
import { DESCRIPTORS_MAX } from './process-read-descriptors.ts';
import { describeProcess, type ScanMemory } from './process-scanned.ts';
import {
  type FileIdentity,
  listNumbers,
  MIB,
  readBounded,
  readDescriptor,
  readerCounts,
  readLink,
  useNativeCalls,
} from './procfs.ts';
import { readNetlink } from './procfs-netlink.ts';
import { hold, holdInside, openRegular, Refused } from './procfs-open.ts';
import type { ContentSource, ReaderCounts, Reply, Request, RootFileReading, SocketsReading } from './procfs-request.ts';

/** Handles on deleted files, kept from the moment they were seen, so that they can be recovered when their process has ended. */
const HELD_MAX = 512;
/** So many processes are worth the time that loading the C library takes. */
const NATIVE_PROCESSES_MIN = 100;
/** One read of content; larger reads are not faster. */
const CHUNK_BYTES = MIB;

/** Answers requests; everything is synchronous. Runs in the reader process, and in tests right in the test. */
export interface Server extends Disposable {
  serve(request: Request): Generator<Reply>;
}

export function createServer(host: Host, enter: Enter = enterByDescriptor): Server {
  const held = new Map<string, number>();
  return {
    *serve(request) {
      yield* answer(host, held, request, enter);
      yield { kind: 'end', counts: counts() };
    },
    [Symbol.dispose]() {
      for (const handle of held.values()) closeSync(handle);
      held.clear();
    },
  };
}

function counts(): ReaderCounts {
  const cpu = process.cpuUsage();
  return { ...readerCounts, cpuMs: (cpu.user + cpu.system) / 1000 };
}

function* answer(host: Host, held: Map<string, number>, request: Request, enter: Enter): Generator<Reply> {
  switch (request.kind) {
    case 'processes':
      yield* scan(host, held, request, enter);
      return;
    case 'sockets':
      for (const pid of request.pids) yield { kind: 'sockets', reading: readSockets(host, pid) };
      return;
    case 'files':
      for (const name of request.names) {
        const reading = readBounded(procPath(host, request.pid, name), request.limitBytes);
        yield { kind: 'file', name, reading };
      }
      return;
    case 'rootFiles':
      for (const path of request.paths) {
        const result = readRootFile(procPath(host, request.pid, 'root'), path, request.limitBytes);
        yield { kind: 'rootFile', path, result };
      }
      return;
    case 'netlink':
      yield { kind: 'netlink', reading: readNetlink(procPath(host, request.pid, 'ns', 'net'), request.dumps) };
      return;
    case 'node':
      for (const given of answerNode(host, request.ask)) yield { kind: 'node', answer: given };
      return;
    case 'digest':
    case 'content':
      yield* refusable(() => withContent(host, held, request));
      return;
    default:
      request satisfies never;
  }
}

function* scan(
  host: Host,
  held: Map<string, number>,
  { pids, careful, clock, starts, reference }: Extract<Request, { kind: 'processes' }>,
  enter: Enter,
): Generator<Reply> {
  if (pids.length >= NATIVE_PROCESSES_MIN) useNativeCalls();
  const analysis = { clock, machine: os.machine(), mountsOf: createMountParser() };
  const memory: ScanMemory = { analysis, starts: new Set(starts), reference, mountTables: [] };
  for (const pid of pids) {
    const reading = readProcess(host, asPid(pid), careful, enter);
    if (!careful) holdDeleted(host, held, reading);
    yield { kind: 'process', process: describeProcess(reading, memory) };
  }
}

/** Ends with `refused` when the file was refused or reading it failed. */
function* refusable(replies: () => Generator<Reply>): Generator<Reply> {
  try {
    yield* replies();
  } catch (error) {
    yield refusal(error);
  }
}

function refusal(error: unknown): { kind: 'refused'; why: string; errno: string | undefined } {
  if (error instanceof Refused) return { kind: 'refused', why: error.message, errno: error.errno };
  const errno = error instanceof Error && 'code' in error ? String(error.code) : undefined;
  return { kind: 'refused', why: 'reading it failed', errno };
}

function* withContent(
  host: Host,
  held: ReadonlyMap<string, number>,
  request: Extract<Request, { kind: 'digest' | 'content' }>,
): Generator<Reply> {
  const { source } = request;
  const kept = held.get(`${source.pid}/${source.name}`);
  const handle = kept ?? hold(procPath(host, source.pid, source.name));
  let fd = -1;
  try {
    const opened = openRegular(handle);
    fd = opened.fd;
    if (!isExpected(opened.identity, source)) throw new Refused('the process has another file there by now');
    readerCounts.opens += 1;
    if (request.kind === 'digest') {
      yield* digestOf(fd, opened.identity, request.limitBytes);
    } else {
      yield { kind: 'opened', identity: opened.identity };
      for (const bytes of chunks(fd, request.limitBytes)) yield { kind: 'chunk', bytes };
    }
  } finally {
    if (fd >= 0) closeSync(fd);
    if (kept === undefined) closeSync(handle);
  }
}

function isExpected(identity: FileIdentity, source: ContentSource): boolean {
  return (
    (source.inode === undefined || source.inode === identity.inode) &&
    (source.device === undefined || source.device === identity.device)
  );
}

/** Up to the limit, however long the file says it is. The buffer is reused: use a chunk before asking for the next. */
function* chunks(fd: number, limitBytes: number): Generator<Uint8Array> {
  const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, Math.max(1, limitBytes)));
  for (let at = 0; at < limitBytes; ) {
    const count = readSync(fd, buffer, 0, Math.min(buffer.length, limitBytes - at), at);
    if (count === 0) return;
    readerCounts.bytes += count;
    at += count;
    yield buffer.subarray(0, count);
  }
}

function* digestOf(fd: number, identity: FileIdentity, limitBytes: number): Generator<Reply> {
  const hash = createHash('sha256');
  let sizeBytes = 0;
  for (const bytes of chunks(fd, limitBytes)) {
    hash.update(bytes);
    sizeBytes += bytes.length;
    if (sizeBytes % (16 * CHUNK_BYTES) === 0) yield { kind: 'progress', bytes: sizeBytes };
  }
  const truncated = sizeBytes === limitBytes && readSync(fd, Buffer.alloc(1), 0, 1, sizeBytes) > 0;
  yield { kind: 'digest', sha256: hash.digest('hex'), sizeBytes, truncated, identity };
}

function holdDeleted(host: Host, held: Map<string, number>, reading: ProcessReading): void {
  const deleted: string[] = [];
  const { executable, links } = reading;
  const exe = links.exe;
  if (executable && 'links' in executable && exe?.kind === 'read') {
    if (executable.links === 0 || isDeletedName(latin1(exe.bytes))) deleted.push('exe');
  }
  for (const { fd, target, file } of reading.descriptors) {
    if (typeof file !== 'object' || file[0] !== 'file' || target === undefined) continue;
    if (file[3] === 0 || isDeletedName(target)) deleted.push(`fd/${fd}`);
  }
  for (const name of deleted) {
    if (held.size >= HELD_MAX) return;
    try {
      held.set(`${reading.pid}/${name}`, hold(procPath(host, reading.pid, name)));
    } catch {
      // It has ended already; recovery will say so.
    }
  }
}

function readSockets(host: Host, pid: number): SocketsReading {
  const links = {
    namespace: readLink(procPath(host, pid, 'ns', 'net')),
    mountNamespace: readLink(procPath(host, pid, 'ns', 'mnt')),
    root: readLink(procPath(host, pid, 'root')),
  };
  const listed = listNumbers(procPath(host, pid, 'fd'), DESCRIPTORS_MAX);
  if (listed.kind === 'failed') return { pid, ...links, sockets: [], truncated: false, errno: listed.errno };
  const sockets: { fd: number; inode: number }[] = [];
  for (const fd of listed.numbers) {
    const target = readLink(procPath(host, pid, 'fd', String(fd)));
    const inode = target.kind === 'read' ? /^socket:\[(\d{1,15})\]$/.exec(latin1(target.bytes))?.[1] : undefined;
    if (inode !== undefined) sockets.push({ fd, inode: Number(inode) });
  }
  return { pid, ...links, sockets, truncated: listed.truncated, errno: undefined };
}

/** One file of a container, resolved inside `root`; see procfs-open.ts. */
export function readRootFile(root: string, path: string, limitBytes: number): RootFileReading {
  let handle = -1;
  let fd = -1;
  try {
    handle = holdInside(root, path);
    const opened = openRegular(handle);
    fd = opened.fd;
    readerCounts.opens += 1;
    const reading = readDescriptor(fd, limitBytes);
    if (reading.kind === 'failed') return { kind: 'refused', why: 'reading it failed', errno: reading.errno };
    return { kind: 'read', bytes: reading.bytes, truncated: reading.truncated, identity: opened.identity };
  } catch (error) {
    return refusal(error);
  } finally {
    if (fd >= 0) closeSync(fd);
    if (handle >= 0) closeSync(handle);
  }
}
