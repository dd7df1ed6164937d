/** Stands between a client and a server of ours, passes every message on as it is, and keeps it. */
import grpc from '@grpc/grpc-js';
import {
  type Ended,
  endAs,
  exhibitCodeOf,
  type RawCall,
  type RecordedCall,
  rawCall,
  type Said,
  startRawServer,
} from './recorded-call.ts';

export interface RecordingRelay extends AsyncDisposable {
  readonly port: number;
  /** Written into the calls that begin from now on. */
  during: string;
  readonly calls: readonly RecordedCall[];
}

export interface RelayOptions {
  readonly services: readonly grpc.ServiceDefinition[];
  /** Where it listens. */
  readonly address: string;
  readonly serverCredentials: grpc.ServerCredentials;
  readonly upstream: { readonly address: () => string; readonly credentials: grpc.ChannelCredentials };
}

export async function startRecordingRelay(options: RelayOptions): Promise<RecordingRelay> {
  const calls: RecordedCall[] = [];
  const relay = { during: '' };
  const server = await startRawServer({
    services: options.services,
    address: options.address,
    credentials: options.serverCredentials,
    onCall: (call) => void calls.push(passOn(call, relay.during, options.upstream)),
  });
  return Object.assign(relay, { port: server.port, calls, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() });
}

function passOn(call: RawCall, during: string, { address, credentials }: RelayOptions['upstream']): RecordedCall {
  const said: Said[] = [];
  const recorded: { -readonly [Key in keyof RecordedCall]: RecordedCall[Key] } = {
    ...{ during, path: call.getPath(), said, end: undefined },
  };
  const client = new grpc.Client(address(), credentials, { 'grpc.use_local_subchannel_pool': 1 });
  const upstream = rawCall(client, call.getPath());
  const keep = (by: Said['by']) => (bytes: Buffer) => {
    said.push({ by, bytes });
    if (by === 'client') upstream.write(bytes);
    else call.write(bytes);
  };
  call.on('data', keep('client'));
  call.on('end', () => upstream.end());
  call.on('cancelled', () => upstream.cancel());
  upstream.on('data', keep('server'));
  upstream.on('error', () => undefined);
  upstream.on('status', ({ code, details, metadata }) => {
    const end: Ended = { code, details, exhibitCode: exhibitCodeOf(metadata) };
    if (!call.cancelled) {
      recorded.end = end;
      endAs(call, end);
    }
    client.close();
  });
  return recorded;
}
