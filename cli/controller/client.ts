import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import grpc from '@grpc/grpc-js';
import type { MethodDefinition } from '@grpc/proto-loader';
import { type ErrorCode, ExhibitError } from '../../evidence/error.ts';
import type { CaptureUpdate__Output } from '../../proto/gen/exhibit/controller/v1/CaptureUpdate.ts';
import type { ControllerDefinition } from '../../proto/gen/exhibit/controller/v1/Controller.ts';
import { loadController } from '../../proto/load.ts';
import { isErrorCode } from '../../proto/wire-error.ts';
import type { Context } from '../contexts.ts';

type Methods = {
  [Name in keyof ControllerDefinition as string extends Name ? never : Name]: ControllerDefinition[Name];
};
type Calls = {
  [Name in Exclude<keyof Methods, 'WatchCapture'> & string]: Methods[Name] extends MethodDefinition<
    infer Request,
    infer _Response,
    infer _RequestOutput,
    infer Response
  >
    ? { request: Request; response: Response }
    : never;
};

/** The controller's API. Every failure is an `ExhibitError`; an aborted signal rejects with its reason. */
export interface ControllerClient extends Disposable {
  readonly address: string;
  call<Name extends keyof Calls>(
    name: Name,
    request: Calls[Name]['request'],
    signal: AbortSignal,
  ): Promise<Calls[Name]['response']>;
  /** The updates in order; the last shows the capture ended. */
  watch(captureId: string, signal: AbortSignal): AsyncGenerator<CaptureUpdate__Output, void, undefined>;
}

/** The first answer of a controller that is there, over an ocean and a cold TLS session. */
const CONNECT_TIMEOUT_MS = 10_000;
/** Asking thousands of agents whether they have a target is bounded by the controller itself. */
const CALL_TIMEOUT_MS = 60_000;
/** A page of the largest lists is some MiB. */
const MAX_MESSAGE_BYTES = 32 * 1024 * 1024;
/** Half of what load balancers take for silence. */
const KEEPALIVE_MS = 30_000;

export async function connectController(
  options: Omit<Context, 'name'>,
  signal: AbortSignal,
): Promise<ControllerClient> {
  const address = options.controller;
  const credentials = await channelCredentials(options);
  const metadata = new grpc.Metadata();
  const token = await tokenOf(options, signal);
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
  const client = new (loadController().Controller)(address, credentials, {
    'grpc.enable_retries': 0,
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.keepalive_time_ms': KEEPALIVE_MS,
    ...(options.serverName === undefined
      ? {}
      : { 'grpc.ssl_target_name_override': options.serverName, 'grpc.default_authority': options.serverName }),
  });
  try {
    await ready(client, address, signal);
  } catch (error) {
    client.close();
    throw error;
  }
  const service: Methods = loadController().Controller.service;

  return {
    address,
    call(name, request, callSignal) {
      const method = service[name];
      return new Promise((resolve, reject) => {
        if (callSignal.aborted) return reject(callSignal.reason);
        const call = client.makeUnaryRequest(
          method.path,
          // The table of methods does not know that one name's request goes with its own serializer.
          method.requestSerialize as (value: typeof request) => Buffer,
          method.responseDeserialize as (bytes: Buffer) => Calls[typeof name]['response'],
          request,
          metadata,
          { deadline: Date.now() + CALL_TIMEOUT_MS },
          (error, answer) => {
            callSignal.removeEventListener('abort', hangUp);
            if (error === null && answer !== undefined) resolve(answer);
            else if (callSignal.aborted) reject(callSignal.reason);
            else
              reject(
                error === null
                  ? new ExhibitError('internal', 'The controller answered nothing.')
                  : controllerError(error, address),
              );
          },
        );
        const hangUp = () => call.cancel();
        callSignal.addEventListener('abort', hangUp, { once: true });
      });
    },
    async *watch(captureId, callSignal) {
      callSignal.throwIfAborted();
      const call = client.watchCapture({ captureId }, metadata);
      const hangUp = () => call.cancel();
      callSignal.addEventListener('abort', hangUp, { once: true });
      try {
        yield* call as AsyncIterable<CaptureUpdate__Output>;
      } catch (error) {
        callSignal.throwIfAborted();
        throw isServiceError(error) ? controllerError(error, address) : error;
      } finally {
        callSignal.removeEventListener('abort', hangUp);
        call.on('error', () => undefined);
        call.cancel();
      }
    },
    [Symbol.dispose]: () => client.close(),
  };
}

function ready(client: grpc.Client, address: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    client.waitForReady(Date.now() + CONNECT_TIMEOUT_MS, (error) => {
      signal.removeEventListener('abort', onAbort);
      if (error === undefined) resolve();
      else
        reject(
          new ExhibitError(
            'controller-unreachable',
            `No controller answers on ${address}, or it and this side do not trust each other's certificates: check the address, --ca, --cert and --key.`,
            { cause: error },
          ),
        );
    });
  });
}

async function channelCredentials({
  caFile,
  certFile,
  keyFile,
}: Omit<Context, 'name'>): Promise<grpc.ChannelCredentials> {
  if ((certFile === undefined) !== (keyFile === undefined)) {
    throw new ExhibitError('usage', 'A certificate goes with its key: give both --cert and --key, or neither.');
  }
  const [ca, cert, key] = await Promise.all([
    pem(caFile, 'authority'),
    pem(certFile, 'certificate'),
    pem(keyFile, 'key'),
  ]);
  try {
    return grpc.credentials.createSsl(ca, key, cert);
  } catch (cause) {
    throw new ExhibitError('config', `The certificate ${certFile ?? caFile ?? ''} and its key cannot be used`, {
      cause,
    });
  }
}

async function pem(file: string | undefined, what: string): Promise<Buffer | null> {
  if (file === undefined) return null;
  try {
    return await readFile(file);
  } catch (cause) {
    throw new ExhibitError('config', `Cannot read the ${what} ${file}`, { cause });
  }
}

/** A token is some KiB; a program that prints more prints something else. */
const MAX_TOKEN_BYTES = 64 * 1024;
/** It may open a browser. */
const TOKEN_TIMEOUT_MS = 120_000;

async function tokenOf(
  { tokenFile, tokenCommand }: Omit<Context, 'name'>,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (tokenFile !== undefined) return oneToken((await pem(tokenFile, 'token'))?.toString() ?? '', tokenFile);
  const [program, ...args] = tokenCommand ?? [];
  if (program === undefined) return undefined;
  try {
    const run = await promisify(execFile)(program, args, {
      signal,
      timeout: TOKEN_TIMEOUT_MS,
      maxBuffer: MAX_TOKEN_BYTES,
    });
    return oneToken(run.stdout, program);
  } catch (cause) {
    signal.throwIfAborted();
    if (cause instanceof ExhibitError) throw cause;
    // What it printed may be half a token.
    throw new ExhibitError('config', `The program ${program} gave no token: run it by hand to see why.`);
  }
}

function oneToken(text: string, from: string): string {
  const token = text.trim();
  if (/^[\x21-\x7e]{1,65536}$/.test(token)) return token;
  throw new ExhibitError('config', `${from} holds no token: one word is expected.`);
}

function isServiceError(error: unknown): error is grpc.ServiceError {
  return error instanceof Error && 'details' in error && 'metadata' in error;
}

function controllerError(error: grpc.ServiceError, address: string): ExhibitError {
  const say = (code: ErrorCode, words: string) => new ExhibitError(code, words, { cause: error });
  const ours = error.metadata?.get('exhibit-code')[0];
  if (isErrorCode(ours)) return say(ours, error.details);
  switch (error.code) {
    case grpc.status.UNAVAILABLE:
    case grpc.status.CANCELLED:
      return say(
        'controller-unreachable',
        `The controller on ${address} went away: what it has stored goes on, ask it again in a moment.`,
      );
    case grpc.status.DEADLINE_EXCEEDED:
      return say('controller-unreachable', `The controller on ${address} did not answer in time: try again.`);
    case grpc.status.UNIMPLEMENTED:
      return say('internal', `The controller on ${address} has no such call: it is older than this program.`);
    default:
      return say('internal', `The controller on ${address} failed (${error.details || error.message}).`);
  }
}
