/** A kubelet's view of containerd: calls over the CRI socket, with the lab's own proto. */
import { fileURLToPath } from 'node:url';
import { Client, credentials } from '@grpc/grpc-js';
import { loadSync, type ServiceDefinition } from '@grpc/proto-loader';

/** Starting a pod on a loaded machine; a checkpoint of a large container. */
const CALL_TIMEOUT_MS = 120_000;

/** containerd is up 30 ms after its start; gRPC's own back-off begins at a second. */
const RECONNECT = { 'grpc.initial_reconnect_backoff_ms': 20, 'grpc.max_reconnect_backoff_ms': 200 };

/** Requests and answers as cri-lab.proto has them; fields that are not given take proto3's defaults. */
export interface CriCalls {
  Version: [Record<string, never>, { runtime_name: string; runtime_version: string }];
  RunPodSandbox: [{ config: object }, { pod_sandbox_id: string }];
  StopPodSandbox: [{ pod_sandbox_id: string }, object];
  RemovePodSandbox: [{ pod_sandbox_id: string }, object];
  PodSandboxStatus: [{ pod_sandbox_id: string }, { status: { network: { ip: string } | null } }];
  CreateContainer: [{ pod_sandbox_id: string; config: object; sandbox_config: object }, { container_id: string }];
  StartContainer: [{ container_id: string }, object];
  StopContainer: [{ container_id: string; timeout: number }, object];
  RemoveContainer: [{ container_id: string }, object];
  ContainerStatus: [
    { container_id: string; verbose: boolean },
    { status: { state: number; exit_code: number; reason: string }; info: Record<string, string> },
  ];
  ExecSync: [
    { container_id: string; cmd: readonly string[]; timeout: number },
    { stdout: Buffer; stderr: Buffer; exit_code: number },
  ];
  CheckpointContainer: [{ container_id: string; location: string; timeout?: number }, object];
}

export interface CriClient extends Disposable {
  call<Name extends keyof CriCalls>(name: Name, request: CriCalls[Name][0]): Promise<CriCalls[Name][1]>;
}

function loadService(): ServiceDefinition {
  const file = fileURLToPath(new URL('cri-lab.proto', import.meta.url));
  const definition = loadSync(file, { keepCase: true, longs: String, defaults: true, enums: String });
  return definition['runtime.v1.RuntimeService'] as ServiceDefinition;
}

/** Opens no connection until the first call; `socket` is an absolute path. */
export function connectCri(socket: string): CriClient {
  const service = loadService();
  const client = new Client(`unix:${socket}`, credentials.createInsecure(), RECONNECT);
  return {
    call<Name extends keyof CriCalls>(name: Name, request: CriCalls[Name][0]): Promise<CriCalls[Name][1]> {
      const method = service[name];
      if (method === undefined) throw new Error(`cri-lab.proto has no ${name}`);
      const { path, requestSerialize, responseDeserialize } = method;
      const deadline = Date.now() + CALL_TIMEOUT_MS;
      return new Promise((resolve, reject) => {
        client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, { deadline }, (error, answer) => {
          if (error) reject(new Error(`${name}: ${error.message}`, { cause: error }));
          else resolve(answer as CriCalls[Name][1]);
        });
      });
    },
    [Symbol.dispose]: () => client.close(),
  };
}
