/** gRPC calls as bytes: what a recording of a release holds, and how one is made and read. No message is understood here. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import grpc from '@grpc/grpc-js';

export const RECORDED = join(import.meta.dirname, '../recorded');

/** The releases of which there is a recording, oldest first: folders of RECORDED. */
export const RELEASES = ['0.1'] as const;
export type Release = (typeof RELEASES)[number];

export interface Said {
  readonly by: 'client' | 'server';
  /** One message as protobuf wrote it, without the five bytes that gRPC puts before it. */
  readonly bytes: Buffer;
}

export interface RecordedCall {
  /** What was going on, for whoever reads the recording: a command line, or a name. */
  readonly during: string;
  /** /package.Service/Method. */
  readonly path: string;
  /** In the order in which the relay between both had them. */
  readonly said: readonly Said[];
  /** Undefined: the call was cut. */
  readonly end: Ended | undefined;
}

export interface Ended {
  readonly code: grpc.status;
  readonly details: string;
  /** The trailer by which a refusal has our own code. */
  readonly exhibitCode: string;
}

/** A call in the file: messages are base64. */
interface Written {
  readonly during: string;
  readonly path: string;
  readonly said: readonly { readonly by: Said['by']; readonly bytes: string }[];
  readonly end?: Ended | undefined;
}

export function writtenCall({ during, path, said, end }: RecordedCall): Written {
  return { during, path, said: said.map(({ by, bytes }) => ({ by, bytes: bytes.toString('base64') })), end };
}

export function readCalls(release: Release, file: 'link' | 'agent' | 'controller'): RecordedCall[] {
  const text = readFileSync(join(RECORDED, release, `${file}-calls.json`), 'utf8');
  return (JSON.parse(text) as Written[]).map(({ said, end, ...rest }) => ({
    ...rest,
    said: said.map(({ by, bytes }) => ({ by, bytes: Buffer.from(bytes, 'base64') })),
    end,
  }));
}

export type RawCall = grpc.ServerDuplexStream<Buffer, Buffer>;
export type RawClientCall = grpc.ClientDuplexStream<Buffer, Buffer>;

const asIs = (bytes: Buffer): Buffer => bytes;

/** Every call of the service as a stream of bytes both ways: that is what each kind of call is on the wire (gRPC over HTTP/2). */
export function rawService(service: grpc.ServiceDefinition): grpc.ServiceDefinition {
  const raw = { requestStream: true, responseStream: true, requestSerialize: asIs, requestDeserialize: asIs };
  const whole = { ...raw, responseSerialize: asIs, responseDeserialize: asIs };
  return Object.fromEntries(Object.entries(service).map(([name, { path }]) => [name, { path, ...whole }]));
}

export const rawCall = (client: grpc.Client, path: string): RawClientCall =>
  client.makeBidiStreamRequest(path, asIs, asIs);

export const exhibitCodeOf = (metadata: grpc.Metadata | undefined): string =>
  String(metadata?.get('exhibit-code')[0] ?? '');

/** Ends a call at the server as a recorded one ended. */
export function endAs(call: RawCall, { code, details, exhibitCode }: Ended): void {
  if (code === grpc.status.OK) {
    call.end();
    return;
  }
  const metadata = new grpc.Metadata();
  if (exhibitCode !== '') metadata.set('exhibit-code', exhibitCode);
  call.emit('error', { code, details, metadata });
}

/** A server of these services whose calls are all given to `onCall`. */
export async function startRawServer(options: {
  readonly services: readonly grpc.ServiceDefinition[];
  readonly address: string;
  readonly credentials: grpc.ServerCredentials;
  readonly onCall: (call: RawCall) => void;
}): Promise<{ readonly port: number } & AsyncDisposable> {
  const server = new grpc.Server({ 'grpc.max_receive_message_length': 32 * 1024 * 1024 });
  for (const service of options.services) {
    const raw = rawService(service);
    server.addService(raw, Object.fromEntries(Object.keys(raw).map((name) => [name, options.onCall])));
  }
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(options.address, options.credentials, (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return { port, [Symbol.asyncDispose]: async () => server.forceShutdown() };
}
