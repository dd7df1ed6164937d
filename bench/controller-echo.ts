/**
 * The floor of the controller's bench: a bare grpc-js server over mutual TLS that welcomes agents and answers their heartbeats, and knows
 * nothing else. `node bench/controller-echo.ts`, told what to do over IPC. To dispatch it inserts one row and writes one message.
 */
import { readFileSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import grpc from '@grpc/grpc-js';
import type { AgentCall } from '../controller/link/session.ts';
import type { CaptureCommand } from '../proto/gen/exhibit/controller/v1/CaptureCommand.ts';
import { loadLink } from '../proto/load.ts';

export interface EchoFiles {
  readonly certFile: string;
  readonly keyFile: string;
  readonly caFile: string;
  readonly database: string;
}

export type EchoOrder =
  | { kind: 'listen'; files: EchoFiles }
  | { kind: 'dispatch'; node: string; captureId: string; command: CaptureCommand };
export type EchoReport = { kind: 'port'; port: number } | { kind: 'begun'; captureId: string; atMs: number };

const calls = new Map<string, AgentCall>();
let insert: (captureId: string, command: string) => void = () => undefined;

function accept(call: AgentCall): void {
  call.on('error', () => undefined);
  call.on('end', () => call.end());
  call.on('data', ({ hello, heartbeat }) => {
    if (hello) {
      calls.set(hello.node, call);
      call.write({ welcome: { protocol: 1, controllerVersion: 'echo', heartbeatMs: 15_000 } });
    } else if (heartbeat) call.write({ heartbeat });
  });
}

function listen({ certFile, keyFile, caFile, database }: EchoFiles): void {
  const connection = new DatabaseSync(database);
  connection.exec(
    'pragma journal_mode = wal; pragma synchronous = full; create table commands (id text primary key, command text)',
  );
  const statement = connection.prepare('insert into commands values (?, ?)');
  insert = (captureId, command) => void statement.run(captureId, command);
  const server = new grpc.Server({ 'grpc.enable_channelz': 0 });
  server.addService(loadLink().AgentLink.service, { Connect: accept });
  const pair = { cert_chain: readFileSync(certFile), private_key: readFileSync(keyFile) };
  const credentials = grpc.ServerCredentials.createSsl(readFileSync(caFile), [pair], true);
  server.bindAsync('127.0.0.1:0', credentials, (error, port) => {
    if (error !== null) throw error;
    process.send?.({ kind: 'port', port } satisfies EchoReport);
  });
}

process.on('message', (order: EchoOrder) => {
  if (order.kind === 'listen') listen(order.files);
  else {
    const atMs = Number(process.hrtime.bigint()) / 1e6;
    insert(order.captureId, JSON.stringify(order.command));
    calls.get(order.node)?.write({ capture: order.command });
    process.send?.({ kind: 'begun', captureId: order.captureId, atMs } satisfies EchoReport);
  }
});
