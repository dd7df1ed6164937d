import { affordBuffer } from '../collect/memory-strategy.ts';
import type { Config } from '../config.ts';
import { type CapabilityName, NEEDED_CAPABILITIES } from '../host/capabilities.ts';
import type { HostView } from '../host/host-view.ts';
import { LEAST_HEAVY_BYTES, leastRoomBytes, type MemoryRoom } from '../host/memory-room.ts';
import type { NativeCalls } from '../host/native-calls.ts';
import { type Check, line, size } from './check.ts';
import { type GrantId, granted } from './grants.ts';

/** What the agent may do and see from where it runs. */

export function checkProcesses({ init, initPids, ownPids }: HostView, procRoot: string): Check {
  const say = line('agent', 'processes');
  if (init === undefined) {
    return say.failure(
      `${procRoot} shows no process 1`,
      'no process can be found',
      `set runtime.procRoot to a /proc of the node: ${granted('hostPID', 'mount:/host')}`,
    );
  }
  const found = `process 1 below ${procRoot} is ${JSON.stringify(init)}`;
  if (initPids === undefined) {
    return say.warning(
      `${found}; its namespaces cannot be read`,
      'processes of other users will be gaps',
      `run the agent as root with CAP_SYS_PTRACE: ${granted('cap:SYS_PTRACE')}`,
    );
  }
  if (procRoot === '/proc' && ownPids !== initPids) {
    return say.failure(
      `${found}, in another pid namespace than the agent`,
      'pids from the runtime would name the wrong processes',
      `set hostPID: true in the DaemonSet, or runtime.procRoot: ${granted('hostPID')}`,
    );
  }
  if (ownPids !== initPids) {
    return say.warning(
      `${found}, in another pid namespace than the agent`,
      'registers are not read, and processes cannot be stopped by signals',
      `set hostPID: true in the DaemonSet: ${granted('hostPID')}`,
    );
  }
  return say.ok(found, 'pids from the runtime are found there');
}

export function checkHostRoot({ system }: HostView, hostRoot: string): Check {
  const say = line('agent', 'host-root');
  const where = hostRoot === '' ? '/' : hostRoot;
  if (system === undefined) {
    return say.warning(
      `no os-release below ${where}`,
      'the writable layer and logs may not be found',
      `set runtime.hostRoot to where the node is mounted: ${granted('mount:/host')}`,
    );
  }
  return say.ok(`${system.name} at ${where}`, 'layers and logs of the node can be reached');
}

/** `held`: CapEff of proc(5) status. */
export function checkCapabilities(held: bigint): Check {
  const say = line('agent', 'capabilities');
  const missing = NEEDED_CAPABILITIES.filter(({ bit }) => (held & (1n << BigInt(bit))) === 0n);
  if (missing.length === 0) {
    return say.ok(
      NEEDED_CAPABILITIES.map(({ name }) => name).join(' '),
      'memory, layers and logs of every user can be read',
    );
  }
  return say.warning(
    `missing ${missing.map(({ name, use }) => `${name} (${use})`).join('; ')}`,
    'what they are for will be gaps',
    `run as root, or add them in the securityContext: ${granted(...missing.map(({ name }) => grantIdOf(name)))}`,
  );
}

const grantIdOf = (name: CapabilityName): GrantId => `cap:${name.replace('CAP_', '') as Bare<CapabilityName>}`;
type Bare<Name> = Name extends `CAP_${infer Rest}` ? Rest : never;

export function checkSystemCalls({ libc, readProcess }: NativeCalls, seccomp: string | undefined): Check {
  const say = line('agent', 'system-calls');
  const filter = seccomp === 'filter' ? 'a seccomp filter is in force; ' : '';
  if (!libc) {
    return say.warning(
      `${filter}the C library cannot be called`,
      'extended attributes, registers, guards of pages and checkpoints through a FIFO will be missing',
      'run the agent on Linux x86-64 or arm64 with glibc or musl',
    );
  }
  if (readProcess !== 'works') {
    return say.warning(
      `${filter}process_vm_readv is ${readProcess === 'missing' ? 'missing' : `refused (${readProcess})`}`,
      'memory is read through /proc/PID/mem, at half the speed: freezes are longer',
      'run the agent with seccompProfile.type RuntimeDefault or Unconfined',
    );
  }
  return say.ok(`${filter}what the agent calls is allowed`, 'memory is read at full speed');
}

export interface StateFacts {
  readonly folder: string;
  /** `tmpfs`, `ramfs`; undefined: a disk. */
  readonly memoryFileSystem: string | undefined;
  /** Whether the runtime sees the same folder under the same path; undefined: not known. */
  readonly shared: boolean | undefined;
  /** See folderObstacle in host/folder-facts.ts. */
  readonly obstacle?: string | undefined;
}

/** Of `folderObstacle`, for people. */
export const OBSTACLES: Readonly<Record<string, string>> = {
  ENOENT: 'is not there',
  ENOTDIR: 'is no folder',
  EROFS: 'is read-only',
  ENOSPC: 'is full',
};

export function checkState({ folder, memoryFileSystem, shared, obstacle }: StateFacts): Check {
  const say = line('agent', 'state');
  if (obstacle !== undefined) {
    return say.failure(
      `${folder} ${OBSTACLES[obstacle] ?? `cannot be written (${obstacle})`}`,
      'no capture can be noted before it begins, so none begins',
      obstacle === 'ENOSPC'
        ? `make room on the file system of stateDir (${folder})`
        : `set stateDir to a folder on a tmpfs that root can write, and mount it read-write: ${granted('mount:/run/exhibit')}`,
    );
  }
  const found = `${folder} is on ${memoryFileSystem ?? 'a disk'}`;
  if (shared === false) {
    return say.warning(
      `${found}; the runtime has another folder there`,
      'checkpoints cannot come through a FIFO: the checkpoint artifact will fail',
      `mount the same folder of the node into the agent under the same path, or set runtime.hostRoot: ${granted('mount:/run/exhibit', 'mount:/host')}`,
    );
  }
  if (memoryFileSystem === undefined) {
    return say.warning(
      found,
      'the journal writes a few KiB a capture over what may be evidence',
      'put stateDir on a tmpfs such as /run',
    );
  }
  return say.ok(found, 'the journal does not touch the disk');
}

export function checkMemory(room: MemoryRoom, askedBytes: number): Check {
  const say = line('agent', 'memory');
  const limit =
    room.cgroupRoomBytes === undefined ? '' : `, ${size(room.cgroupRoomBytes)} left below the agent's own limit`;
  const found = `buffer of ${size(askedBytes)}; ${size(room.availableBytes)} available on the node${limit}`;
  if (leastRoomBytes(room) < LEAST_HEAVY_BYTES) {
    const isLimit = room.cgroupRoomBytes !== undefined && room.cgroupRoomBytes <= room.availableBytes;
    return say.failure(
      found,
      `a capture needs ${size(LEAST_HEAVY_BYTES)} more than the agent has now: the kernel would end it in the middle`,
      isLimit ? "raise the memory limit of the agent's container" : 'free memory on the node',
    );
  }
  const { bytes } = affordBuffer({ askedBytes, ...room });
  if (bytes >= askedBytes) return say.ok(found, 'targets up to the buffer are copied while they stand still');
  const byLimit = room.cgroupRoomBytes !== undefined && room.cgroupRoomBytes < room.availableBytes / 2;
  return say.warning(
    found,
    `a capture would take ${size(bytes)} only: larger targets are copied in rounds, or as memory.whenLarger says`,
    byLimit
      ? "raise the memory limit of the agent's container, or lower memory.bufferBytes"
      : 'lower memory.bufferBytes, or free memory on the node',
  );
}

/** kubelet's defaults: a probe every 10 s, three failures: docs/freezing.md. */
const SAFE_DEADLINE_MS = 20_000;
/** Above it zstd gets slow for little. */
const FAST_LEVEL = 9;

/** What in a valid configuration is seldom meant. */
export function checkSettings(config: Config): Check {
  const say = line('agent', 'settings');
  const doubts: [found: string, meaning: string, mend: string][] = [];
  if (config.cluster === 'local' && config.runtime.kind === 'cri')
    doubts.push(['cluster is "local"', 'evidence of several clusters would lie in one folder', 'set cluster']);
  if (config.freeze.deadlineMs > SAFE_DEADLINE_MS) {
    doubts.push([
      `freeze.deadlineMs is ${config.freeze.deadlineMs}`,
      'kubelet may restart a pod that stands still for so long',
      `lower it to ${SAFE_DEADLINE_MS} or less`,
    ]);
  }
  if (config.compression.level > FAST_LEVEL) {
    doubts.push([
      `compression.level is ${config.compression.level}`,
      'a capture takes many times longer for a few percent',
      `lower it to ${FAST_LEVEL} or less`,
    ]);
  }
  const [first] = doubts;
  const { consistency, whenLarger } = config.memory;
  const found = `cluster ${config.cluster}, node ${config.node}; memory ${consistency}, ${whenLarger} when larger; scope ${config.scope}`;
  if (first === undefined) return say.ok(found, 'nothing that is seldom meant');
  const [founds, meanings, mends] = [0, 1, 2].map((index) => doubts.map((doubt) => doubt[index]).join('; '));
  return say.warning(founds ?? '', meanings ?? '', mends ?? '');
}
