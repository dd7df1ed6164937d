/** An agent's certificate in the hands of whoever wants to say anything with it. */
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import grpc from '@grpc/grpc-js';
import type { AgentMessage } from '../../../../proto/gen/exhibit/controller/v1/AgentMessage.ts';
import type { ControllerMessage__Output } from '../../../../proto/gen/exhibit/controller/v1/ControllerMessage.ts';
import type { Hello } from '../../../../proto/gen/exhibit/controller/v1/Hello.ts';
import { loadLink } from '../../../../proto/load.ts';
import type { ControllerLab } from './lab.ts';

export interface RawAgent extends Disposable {
  readonly call: grpc.ClientDuplexStream<AgentMessage, ControllerMessage__Output>;
  readonly heard: readonly ControllerMessage__Output[];
  /** What the controller ended the stream with. */
  readonly end: Promise<{ readonly code: grpc.status; readonly details: string }>;
  say(message: AgentMessage): void;
}

/** `files`: instead of those of node n1. */
export async function rawAgent(
  lab: ControllerLab,
  files?: { readonly certFile: string; readonly keyFile: string },
): Promise<RawAgent> {
  const { certFile, keyFile } = files ?? (await lab.pki.agent('prod', 'n1'));
  const ca = readFileSync(lab.pki.caFile('controller'));
  const { AgentLink } = loadLink();
  const credentials = grpc.credentials.createSsl(ca, readFileSync(keyFile), readFileSync(certFile));
  const client = new AgentLink(`localhost:${lab.controller.listener.port}`, credentials, {
    'grpc.use_local_subchannel_pool': 1,
  });
  const call = client.Connect();
  const heard: ControllerMessage__Output[] = [];
  const end = Promise.withResolvers<{ code: grpc.status; details: string }>();
  call.on('data', (message: ControllerMessage__Output) => heard.push(message));
  call.on('error', () => undefined);
  call.on('status', ({ code, details }) => end.resolve({ code, details }));
  return {
    call,
    heard,
    end: end.promise,
    say: (message) => void call.write(message),
    [Symbol.dispose]: () => {
      call.cancel();
      client.close();
    },
  };
}

/** Greets as node n1 and then leaves everything on the connection, as HTTP/2 lets it. grpc-js as a client always reads. */
export async function slowAgent(lab: ControllerLab): Promise<Disposable> {
  const { certFile, keyFile } = await lab.pki.agent('prod', 'n1');
  const session = http2.connect(`https://localhost:${lab.controller.listener.port}`, {
    ...{ cert: readFileSync(certFile), key: readFileSync(keyFile), ca: readFileSync(lab.pki.caFile('controller')) },
  });
  session.on('error', () => undefined);
  const { path, requestSerialize } = loadLink().AgentLink.service.Connect;
  const headers = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' };
  const stream = session.request(headers);
  stream.on('error', () => undefined);
  const message = requestSerialize({ hello: hello() });
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  message.copy(frame, 5);
  stream.write(frame);
  return { [Symbol.dispose]: () => session.destroy() };
}

export const hello = (over: Partial<Hello> = {}): Hello => ({
  ...{ protocol: 1, cluster: 'prod', node: 'n1', agentVersion: '1', bootId: 'b', clockMs: Date.now() },
  ...over,
});
