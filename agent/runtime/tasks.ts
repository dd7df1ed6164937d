/** containerd's Tasks service, all that pausing needs: the guard loads this and nothing more of containerd. */
import { status } from '@grpc/grpc-js';
import type { Process__Output } from '../../proto/gen/containerd/v1/types/Process.ts';
import { loadTasks } from '../../proto/load.ts';
import { type CallLimits, type Endpoint, openEndpoint, statusOf, unary } from './call.ts';

export interface Task {
  readonly id: string;
  /** In containerd's pid namespace; 0 when there is no process. */
  readonly pid: number;
  readonly status: Process__Output['status'];
  /** Of one that is STOPPED. */
  readonly exitStatus: number;
  /** Seconds and nanoseconds since the epoch. */
  readonly exitedAt: Process__Output['exitedAt'];
}

/** Every call fails as `unary` says, save that a task which is gone is told by `undefined` or by no pids. */
export interface Tasks {
  get(containerId: string, limits: CallLimits): Promise<Task | undefined>;
  list(limits: CallLimits): Promise<Task[]>;
  pids(containerId: string, limits: CallLimits): Promise<number[]>;
  pause(containerId: string, limits: CallLimits): Promise<void>;
  resume(containerId: string, limits: CallLimits): Promise<void>;
}

/** containerd's namespaces are a gRPC header. */
export const openNamespace = (socket: string, namespace: string): Endpoint =>
  openEndpoint(socket, { 'containerd-namespace': namespace });

const taskOf = (process: Process__Output): Task => ({
  id: process.id || process.containerId,
  pid: process.pid,
  status: process.status,
  exitStatus: process.exitStatus,
  exitedAt: process.exitedAt,
});

/** Undefined in place of an error when what was asked for does not exist. */
export async function unlessGone<Value>(call: Promise<Value>): Promise<Value | undefined> {
  try {
    return await call;
  } catch (error) {
    if (statusOf(error) === status.NOT_FOUND) return undefined;
    throw error;
  }
}

export function tasksClient(endpoint: Endpoint): Tasks {
  const { Get, List, ListPids, Pause, Resume } = loadTasks().Tasks.service;
  return {
    async get(containerId, limits) {
      const process = (await unlessGone(unary(endpoint, Get, { containerId }, limits)))?.process;
      return process ? taskOf(process) : undefined;
    },
    async list(limits) {
      return (await unary(endpoint, List, {}, limits)).tasks.map(taskOf);
    },
    async pids(containerId, limits) {
      const answer = await unlessGone(unary(endpoint, ListPids, { containerId }, limits));
      return (answer?.processes ?? []).map(({ pid }) => pid).filter((pid) => pid > 0);
    },
    async pause(containerId, limits) {
      await unary(endpoint, Pause, { containerId }, limits);
    },
    async resume(containerId, limits) {
      await unary(endpoint, Resume, { containerId }, limits);
    },
  };
}
