import { closeSync, constants, fstatSync, open as openCallback } from 'node:fs';
import { lstat, open, unlink } from 'node:fs/promises';
import { Socket } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { ExhibitError, explain, isErrno } from '../../evidence/error.ts';
import { asHostPath, type HostPath } from '../runtime/runtime.ts';
import { type Host, reach } from './host.ts';
import { libc } from './libc.ts';
import { makeRunDir, orphansIn, ownedName } from './owned-name.ts';

/** What is written through a FIFO is for root alone. */
const FIFO_MODE = 0o600;

const openDescriptor = promisify(openCallback);

/** What a stuck writer may still have to say at an agent's start; what comes later is read in the background. */
export const STALE_DRAIN_MS = 10_000;

/** A FIFO with our end open for reading. Disposal closes our end and removes the name. */
export interface Fifo extends AsyncDisposable {
  /** For the other side, which opens it for writing. */
  readonly path: HostPath;
  /**
   * What is written, until the last writer has closed its end. Before the first writer came it waits, without holding a
   * thread: the descriptor is in epoll, as a socket would be. To be iterated once.
   */
  readonly bytes: AsyncIterable<Uint8Array>;
  /** Declares that nobody will open the FIFO any more: `bytes` ends now, or when the writers that are there have closed. */
  noMoreWriters(): Promise<void>;
}

/**
 * Makes `<runDir>/<purpose>-….fifo` and opens it for reading, so that its writer never waits for us.
 * @param runDir on a tmpfs; a path of the node that the agent reaches and the other side sees as well
 * @throws ExhibitError `capture-failed`
 */
export async function makeFifo(host: Host, runDir: HostPath, purpose: string, id: string): Promise<Fifo> {
  const hostPath = asHostPath(path.posix.join(runDir, await ownedName(host, purpose, id, 'fifo')));
  const file = reach(host, hostPath);
  try {
    await makeRunDir(reach(host, runDir));
    libc().mkfifo(Buffer.from(file), FIFO_MODE);
  } catch (cause) {
    throw new ExhibitError(
      'capture-failed',
      `cannot make the FIFO ${file}: ${explain(cause)}; check that stateDir is writable`,
      { cause },
    );
  }
  return await openFifo(hostPath, file);
}

/** A FIFO that a dead agent left, read to its end or for STALE_DRAIN_MS and removed. */
export interface StaleFifo {
  readonly path: string;
  /** Bytes that a writer was still waiting to get rid of. */
  readonly drainedBytes: number;
}

/**
 * For the agent's start. The runtime holds both ends of a FIFO, so one that the agent left while a checkpoint was written
 * blocks the runtime until somebody reads it. FIFOs of agents that live are left alone.
 */
export async function cleanStaleFifos(host: Host, runDir: HostPath): Promise<StaleFifo[]> {
  const folder = reach(host, runDir);
  const found: StaleFifo[] = [];
  for (const name of await orphansIn(host, runDir, 'fifo')) {
    const file = path.join(folder, name);
    const isFifo = (await lstat(file)).isFIFO();
    const drainedBytes = isFifo ? await drainStale(asHostPath(path.posix.join(runDir, name)), file) : 0;
    // A regular file is what the runtime made of the name after the FIFO had gone: half a checkpoint nobody reads. The name of
    // a FIFO goes when it is dry, for it is what another agent would find it by.
    if (!isFifo) await removeName(file);
    found.push({ path: file, drainedBytes });
  }
  return found;
}

/** Opens an existing FIFO for reading. O_NONBLOCK: open(2) does not wait for a writer, see fifo(7). */
async function openFifo(hostPath: HostPath, file: string): Promise<Fifo> {
  // A bare descriptor, because the socket closes it: a FileHandle would close the same number a second time.
  const fd = await openDescriptor(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  if (!fstatSync(fd).isFIFO()) {
    closeSync(fd);
    throw new ExhibitError('capture-failed', `${file} is not a FIFO any more; somebody else writes to that folder`);
  }
  const socket = new Socket({ fd, readable: true, writable: false });
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  return {
    path: hostPath,
    bytes: socket,
    async noMoreWriters() {
      if (socket.destroyed || socket.readableEnded) return;
      try {
        // The end of the last writer is what a reader sees as the end: without one before, be it for a moment.
        await using _ = await open(file, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
      } catch (error) {
        if (!isErrno(error, 'ENXIO', 'ENOENT')) throw error; // No reader, or no name: it has ended already.
      }
    },
    async [Symbol.asyncDispose]() {
      socket.destroy();
      await closed;
      await removeName(file);
    },
  };
}

async function drainStale(hostPath: HostPath, file: string): Promise<number> {
  const fifo = await openFifo(hostPath, file);
  let bytes = 0;
  const drained = (async () => {
    await fifo.noMoreWriters();
    for await (const chunk of fifo.bytes) bytes += chunk.length;
  })().finally(() => fifo[Symbol.asyncDispose]());
  drained.catch(() => {}); // Told to the race below while it lasts.
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(late.resolve, STALE_DRAIN_MS);
  await Promise.race([drained, late.promise]);
  clearTimeout(timer);
  return bytes;
}

/** How often a FIFO without a writer is looked at. */
const WRITER_POLL_MS = 100;
const DRAIN_BYTES = 64 * 1024;

/**
 * Reads a FIFO of another process' to the end of its last writer, and removes its name. One that nobody opens for writing
 * within `waitMs` is given up. What the runtime wrote to a file of that name is removed as well.
 */
export async function drainFifo(host: Host, hostPath: HostPath, waitMs: number): Promise<void> {
  const file = reach(host, hostPath);
  const bound = performance.now() + waitMs;
  const buffer = Buffer.alloc(DRAIN_BYTES);
  const flags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW;
  try {
    await using handle = await open(file, flags);
    for (let seen = false; ; ) {
      const got = await handle.read(buffer).catch((error: unknown) => {
        if (isErrno(error, 'EAGAIN')) return undefined;
        throw error;
      });
      const isOpen = got === undefined || got.bytesRead > 0;
      if (!isOpen && (seen || performance.now() > bound)) break;
      seen ||= isOpen;
      if (got === undefined || !isOpen) await sleep(WRITER_POLL_MS);
    }
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
  await removeName(file);
}

async function removeName(file: string): Promise<void> {
  try {
    await unlink(file);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}
