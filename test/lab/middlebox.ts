/**
 * Something between two hosts that passes TCP on, and does to it what a test wants: later, not at all, or a reset. Started in the
 * namespace of its host. With a path to listen on it lets this process, which is in no namespace of the lab, reach into one:
 * Unix sockets belong to the file system.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, connect as dial, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { NetHost } from './nets.ts';

/** What is done to every connection, from the next byte on. */
export interface Weather {
  /** In each direction. */
  readonly delayMs: number;
  /** Everything is taken and nothing passed on. */
  readonly stalled: boolean;
  /** A connection that has passed so many bytes on, both directions together, is reset; 0: never. */
  readonly resetAfterBytes: number;
}

const CALM: Weather = { delayMs: 0, stalled: false, resetAfterBytes: 0 };

export interface Middlebox extends AsyncDisposable {
  /** As gRPC takes it: ADDRESS:PORT, or `unix:PATH`. */
  readonly address: string;
  /** How many connections it has reset. */
  readonly resets: number;
  /** What is not said is calm again. */
  set(weather: Partial<Weather>): void;
}

/** The line that it prints for each. */
const RESET = 'reset';

const PROGRAM = fileURLToPath(import.meta.url);

/** Listens on a port of `host`, or on the Unix socket `path`, and passes on to `target`: HOST:PORT, or a Unix socket's path. */
export async function startMiddlebox(
  host: Pick<NetHost, 'name' | 'address' | 'enter'>,
  target: string,
  path?: string,
): Promise<Middlebox> {
  const argv = [...host.enter, process.execPath, PROGRAM, path ?? host.address, target];
  const child = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] });
  const gone = once(child, 'close');
  child.stdin.on('error', () => {}); // It has ended; `gone` tells.
  const lines = createInterface({ input: child.stdout });
  const first = once(lines, 'line') as Promise<[string]>;
  let resets = 0;
  lines.on('line', (line) => {
    if (line === RESET) resets += 1;
  });
  const line = await Promise.race([first, gone.then(() => undefined)]);
  if (line === undefined) throw new Error(`the middlebox of ${host.name} ended at its start`);
  return {
    address: path === undefined ? `${host.address}:${line[0]}` : `unix:${path}`,
    get resets() {
      return resets;
    },
    set: (weather) => void child.stdin.write(`${JSON.stringify({ ...CALM, ...weather })}\n`),
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      await gone;
    },
  };
}

/** More than this waits in no direction of a connection: the sender is held back. */
const MAX_WAITING_BYTES = 1 << 20;

const STALL_LOOK_MS = 20;

let weather = CALM;

function passOn(from: Socket, to: Socket, passed: (bytes: number) => void): void {
  let waiting = 0;
  let turn = Promise.resolve();
  const later = (work: () => void) => {
    const dueMs = Date.now() + weather.delayMs;
    turn = turn.then(async () => {
      if (dueMs > Date.now()) await sleep(dueMs - Date.now());
      while (weather.stalled && !to.destroyed) await sleep(STALL_LOOK_MS);
      if (!to.destroyed) work();
    });
  };
  from.on('data', (chunk: Buffer) => {
    waiting += chunk.length;
    if (waiting > MAX_WAITING_BYTES) from.pause();
    later(() => {
      to.write(chunk);
      waiting -= chunk.length;
      from.resume();
      passed(chunk.length);
    });
  });
  from.on('end', () => later(() => to.end()));
}

function between(client: Socket, server: Socket): void {
  let bytes = 0;
  const reset = () => {
    if (!client.destroyed) process.stdout.write(`${RESET}\n`);
    for (const socket of [client, server]) socket.resetAndDestroy();
  };
  const passed = (more: number) => {
    bytes += more;
    if (weather.resetAfterBytes > 0 && bytes >= weather.resetAfterBytes) reset();
  };
  for (const socket of [client, server]) {
    socket.setNoDelay(true);
    // One end that is gone takes the other with it.
    socket.on('error', () => {});
    socket.on('close', () => {
      client.destroy();
      server.destroy();
    });
  }
  passOn(client, server, passed);
  passOn(server, client, passed);
}

function placeOf(target: string): { host: string; port: number } | { path: string } {
  if (target.startsWith('/')) return { path: target };
  const colon = target.lastIndexOf(':');
  return { host: target.slice(0, colon), port: Number(target.slice(colon + 1)) };
}

async function serve(listen: string, target: string): Promise<void> {
  const to = { ...placeOf(target), allowHalfOpen: true };
  const server = createServer({ allowHalfOpen: true }, (client) => between(client, dial(to)));
  server.listen(listen.startsWith('/') ? { path: listen } : { host: listen, port: 0 });
  await once(server, 'listening');
  const address = server.address();
  process.stdout.write(`${typeof address === 'object' ? address?.port : listen}\n`);
  for await (const line of createInterface({ input: process.stdin })) weather = JSON.parse(line) as Weather;
  process.exit(0);
}

if (process.argv[1] === PROGRAM) await serve(process.argv[2] ?? '', process.argv[3] ?? '');
