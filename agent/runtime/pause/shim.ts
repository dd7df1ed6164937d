/**
 * A container's shim, asked directly over its own socket: it outlives containerd, and it is the one that knows whether the
 * container is paused. Used only while containerd does not answer. Protocol: ttrpc's PROTOCOL.md: a frame is a header of
 * ten bytes (length, stream id, type, flags; big endian) and a protobuf message.
 */
import { open, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import path from 'node:path';
import { status } from '@grpc/grpc-js';
import { ExhibitError } from '../../../evidence/error.ts';
import { loadShim } from '../../../proto/load.ts';
import type { Task } from '../tasks.ts';
import { RESUME_TIMEOUT_MS, type Route } from './resume.ts';

const HEADER_BYTES = 10;
/** ttrpc's own limit: 4 MiB. */
const MESSAGE_BYTES = 4 * 1024 * 1024;
const REQUEST = 1;
const RESPONSE = 2;
/** The client numbers its streams with odd numbers. */
const FIRST_STREAM = 1;

export interface Shim {
  /** Undefined when the shim does not know the container. */
  state(signal: AbortSignal): Promise<Task['status'] | undefined>;
  resume(signal: AbortSignal): Promise<void>;
}

export interface ShimAddress {
  /** The shim's socket as the agent reaches it. */
  readonly socket: string;
  /** containerd.task.v2.Task or containerd.task.v3.Task. */
  readonly service: string;
}

/** Where a containerd keeps what belongs to its shims, as the agent reaches it. */
export interface ShimFolders {
  /** Holds `io.containerd.runtime.v2.task`. */
  readonly state: string;
  /** Holds `s`, the folder of the shims' sockets. containerd's default folder, also where `state` is another. */
  readonly sockets: string;
}

/** Of a containerd whose socket lies in its own state folder. */
export function shimFoldersOf(socket: string): ShimFolders {
  const state = path.dirname(socket);
  return { state, sockets: state };
}

/**
 * Reads where the shim of a container listens, from the bundle that containerd keeps in its state folder. Undefined where
 * the folders are elsewhere, or the shim speaks gRPC.
 */
export async function findShim(
  { state, sockets }: ShimFolders,
  namespace: string,
  containerId: string,
): Promise<ShimAddress | undefined> {
  const bundle = path.join(state, 'io.containerd.runtime.v2.task', namespace, containerId);
  const bootstrap = await readFile(path.join(bundle, 'bootstrap.json'), 'utf8').catch(() => undefined);
  if (bootstrap !== undefined) return parseBootstrap(bootstrap, sockets);
  const address = await readFile(path.join(bundle, 'address'), 'utf8').catch(() => undefined);
  return address === undefined
    ? undefined
    : parseBootstrap(JSON.stringify({ version: 2, address, protocol: 'ttrpc' }), sockets);
}

/** `sockets`: see ShimFolders; the address is the node's own path. */
export function parseBootstrap(text: string, sockets: string): ShimAddress | undefined {
  let fields: unknown;
  try {
    fields = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof fields !== 'object' || fields === null || !('address' in fields)) return undefined;
  const address = String(fields.address);
  const version = 'version' in fields ? Number(fields.version) : 2;
  const protocol = 'protocol' in fields && fields.protocol !== '' ? fields.protocol : 'ttrpc';
  const match = /^unix:\/\/(\/.+)\/s\/([^/]+)$/.exec(address.trim());
  if (match === null || protocol !== 'ttrpc' || (version !== 2 && version !== 3)) return undefined;
  return { socket: path.join(sockets, 's', match[2] ?? ''), service: `containerd.task.v${version}.Task` };
}

export function shimClient(address: ShimAddress, containerId: string): Shim {
  const { task, frames } = loadShim();
  async function call(method: string, payload: Buffer, signal: AbortSignal): Promise<Buffer | undefined> {
    const request = frames.Call.requestSerialize({ service: address.service, method, payload });
    const answer = frames.Call.responseDeserialize(await exchange(address.socket, request, signal));
    const code = answer.status?.code ?? status.OK;
    if (code === status.NOT_FOUND) return undefined;
    if (code !== status.OK)
      throw new ExhibitError('runtime-failed', `the shim answered ${method}: ${answer.status?.message ?? code}`);
    return answer.payload;
  }
  return {
    async state(signal) {
      const payload = await call('State', task.State.requestSerialize({ id: containerId }), signal);
      return payload === undefined ? undefined : task.State.responseDeserialize(payload).status;
    },
    async resume(signal) {
      await call('Resume', task.Resume.requestSerialize({ id: containerId }), signal);
    },
  };
}

export const shimRoute = (shim: Shim): Route => ({
  name: 'its shim',
  status: () => shim.state(AbortSignal.timeout(RESUME_TIMEOUT_MS)),
  resume: () => shim.resume(AbortSignal.timeout(RESUME_TIMEOUT_MS)),
});

/** sun_path of unix(7), less its final zero. */
const SOCKET_PATH_BYTES = 107;

/** One request and its answer on a connection of its own. */
async function exchange(socket: string, request: Buffer, signal: AbortSignal): Promise<Buffer> {
  // A socket deep below a host root has a path too long for connect(2): go through its folder's descriptor.
  const folder = Buffer.byteLength(socket) > SOCKET_PATH_BYTES ? await open(path.dirname(socket), 'r') : undefined;
  const address = folder === undefined ? socket : `/proc/self/fd/${folder.fd}/${path.basename(socket)}`;
  const connection = connect(address);
  const cancel = () =>
    connection.destroy(new ExhibitError('runtime-unreachable', `the shim at ${socket} does not answer`));
  signal.addEventListener('abort', cancel, { once: true });
  try {
    if (signal.aborted) cancel();
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt32BE(request.byteLength, 0);
    header.writeUInt32BE(FIRST_STREAM, 4);
    header.writeUInt8(REQUEST, 8);
    connection.write(Buffer.concat([header, request]));
    let received = Buffer.alloc(0);
    for await (const chunk of connection as AsyncIterable<Buffer>) {
      received = Buffer.concat([received, chunk]);
      const message = frameOf(received);
      if (message !== undefined) return message;
    }
    throw new ExhibitError('runtime-unreachable', `the shim at ${socket} hung up`);
  } finally {
    signal.removeEventListener('abort', cancel);
    connection.destroy();
    await folder?.close();
  }
}

/** The first response in `received`, once it is whole. */
function frameOf(received: Buffer): Buffer | undefined {
  if (received.byteLength < HEADER_BYTES) return undefined;
  const length = received.readUInt32BE(0);
  if (length > MESSAGE_BYTES || received.readUInt8(8) !== RESPONSE) {
    throw new ExhibitError('runtime-failed', 'the shim answered with something that is no ttrpc response');
  }
  return received.byteLength < HEADER_BYTES + length
    ? undefined
    : received.subarray(HEADER_BYTES, HEADER_BYTES + length);
}
