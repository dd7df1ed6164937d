/** A client of the controller's API over gRPC, as a test wants one: promises, and errors with our code. */
import { readFileSync } from 'node:fs';
import grpc from '@grpc/grpc-js';
import type { Files } from '../../cli/pki/folder.ts';
import type { CaptureUpdate__Output } from '../../proto/gen/exhibit/controller/v1/CaptureUpdate.ts';
import type { ControllerClient } from '../../proto/gen/exhibit/controller/v1/Controller.ts';
import { loadController } from '../../proto/load.ts';

type Unary = Exclude<keyof ControllerClient & Capitalize<string>, 'WatchCapture'>;
type Answer<Name extends Unary> = ControllerClient[Name] extends (
  argument: infer Request,
  callback: grpc.requestCallback<infer Response>,
) => grpc.ClientUnaryCall
  ? { request: Request; response: Response }
  : never;

export interface ApiClient extends Disposable {
  readonly raw: ControllerClient;
  call<Name extends Unary>(
    name: Name,
    request: Answer<Name>['request'],
    options?: grpc.CallOptions,
  ): Promise<Answer<Name>['response']>;
  watch(captureId: string): grpc.ClientReadableStream<CaptureUpdate__Output>;
}

export interface ClientOptions {
  readonly caFile: string;
  readonly files?: Pick<Files, 'certFile' | 'keyFile'>;
  readonly authorization?: string;
}

export function apiClient(address: string, { caFile, files, authorization }: ClientOptions): ApiClient {
  const read = (file: string | undefined) => (file === undefined ? null : readFileSync(file));
  const credentials = grpc.credentials.createSsl(read(caFile), read(files?.keyFile), read(files?.certFile));
  const raw = new (loadController().Controller)(address, credentials, {
    // Addresses are no names for TLS (RFC 6066, 3).
    'grpc.ssl_target_name_override': 'localhost',
  });
  const metadata = new grpc.Metadata();
  if (authorization !== undefined) metadata.set('authorization', authorization);
  return {
    raw,
    call: (name, request, options = {}) =>
      new Promise((resolve, reject) => {
        type Call = (
          request: unknown,
          metadata: grpc.Metadata,
          options: grpc.CallOptions,
          callback: grpc.requestCallback<never>,
        ) => void;
        const whole = { deadline: Date.now() + 15_000, ...options };
        // One cast for sixteen overloads; `Answer` holds the types together.
        (raw[name] as unknown as Call).call(raw, request, metadata, whole, (error, response) =>
          error === null ? resolve(response as never) : reject(error),
        );
      }),
    watch: (captureId) => raw.WatchCapture({ captureId }, metadata),
    [Symbol.dispose]: () => raw.close(),
  };
}

/** How a call failed: the status of gRPC, our own code, the sentence. */
export async function refusal(work: Promise<unknown>): Promise<{ status: string; code: string; details: string }> {
  try {
    await work;
  } catch (error) {
    const { code, details, metadata } = error as grpc.ServiceError;
    return { status: grpc.status[code] ?? '', code: String(metadata?.get('exhibit-code')[0] ?? ''), details };
  }
  throw new Error('the call did not fail');
}
