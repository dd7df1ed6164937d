/**
 * Loads the .proto files with the types that generate.ts made of them. Everybody who speaks gRPC here, agent, CLI and
 * controller, loads through this file, so that types and run time agree on one set of options.
 */
import path from 'node:path';
import { loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync, type Options } from '@grpc/proto-loader';
import type { ProtoGrpcType as AgentTypes } from './gen/agent.ts';
import type { ProtoGrpcType as CriTypes } from './gen/api.ts';
import type { ProtoGrpcType as ContainerdTypes } from './gen/containerd.ts';
import type { ProtoGrpcType as ControllerTypes } from './gen/controller.ts';
import type { ProtoGrpcType as LinkTypes } from './gen/link.ts';

/** 64-bit integers and enums as strings; every field present, with its default where the message had none. */
export const LOADER_OPTIONS = {
  keepCase: false,
  longs: String,
  enums: String,
  defaults: true,
  arrays: true,
  objects: true,
  oneofs: true,
} as const satisfies Options;

export const PROTO_FOLDER = import.meta.dirname;

/** One parse a file and process: the definitions are constants. */
const loaded = new Map<string, unknown>();

function load<Types>(file: string): Types {
  let types = loaded.get(file);
  if (types === undefined) {
    const definition = loadSync(path.join(PROTO_FOLDER, file), { ...LOADER_OPTIONS, includeDirs: [PROTO_FOLDER] });
    types = loadPackageDefinition(definition);
    loaded.set(file, types);
  }
  // The one cast of the edge: `generate.ts --check` in CI holds the types to the files.
  return types as Types;
}

/** Our own API: the agent's socket. */
export const loadExhibit = (): AgentTypes['exhibit']['v1'] => load<AgentTypes>('exhibit/v1/agent.proto').exhibit.v1;

/** The controller's API. */
export const loadController = (): ControllerTypes['exhibit']['controller']['v1'] =>
  load<ControllerTypes>('exhibit/controller/v1/controller.proto').exhibit.controller.v1;

/** The stream between agents and the controller. */
export const loadLink = (): LinkTypes['exhibit']['controller']['v1'] =>
  load<LinkTypes>('exhibit/controller/v1/link.proto').exhibit.controller.v1;

/** CRI v1. */
export const loadCri = (): CriTypes['runtime']['v1'] => load<CriTypes>('runtime/v1/api.proto').runtime.v1;

/** All that we use of containerd's services. */
export const loadContainerd = (): ContainerdTypes['containerd']['services'] =>
  load<ContainerdTypes>('containerd/containerd.proto').containerd.services;

/** Only the Tasks service, for the guard, which has to be up soon. */
export const loadTasks = (): ContainerdTypes['containerd']['services']['tasks']['v1'] =>
  load<ContainerdTypes>('containerd/tasks.proto').containerd.services.tasks.v1;

/** What Events.Subscribe tells of tasks, packed in Any. */
export const loadTaskEvents = (): ContainerdTypes['containerd']['events'] =>
  load<ContainerdTypes>('containerd/task-events.proto').containerd.events;

/** Options of the runc shim, which containerd hands on as they are. */
export const loadRunc = (): ContainerdTypes['containerd']['runc']['v1'] =>
  load<ContainerdTypes>('containerd/runc.proto').containerd.runc.v1;

/** The shim's service and the frames it is spoken in. */
export const loadShim = () => ({
  task: load<ContainerdTypes>('containerd/shim.proto').containerd.task.v2.Task.service,
  frames: load<ContainerdTypes>('containerd/ttrpc.proto').ttrpc.Frames.service,
});
