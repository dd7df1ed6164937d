/** Pure: Docker's answers, checked at the edge, in the words of the runtime port. Docker Engine API 1.24 to 1.51. */
import { z } from 'zod';
import { ExhibitError } from '../../evidence/error.ts';
import type { EndedRecord } from '../../evidence/manifest.ts';
import { unescapeOctal } from '../host/decode.ts';
import {
  asContainerId,
  asHostPath,
  asPid,
  type ContainerSummary,
  type HostPath,
  type Pid,
  type RuntimeDescription,
  type TargetMount,
} from './runtime.ts';
import { jsonOf, type RootfsFinding, rootfsOf, type SnapshotMount } from './snapshot.ts';

const labels = z.record(z.string(), z.string()).nullish();

const listedSchema = z.object({
  Id: z.string().min(1),
  /** Each with a slash before it; links of another container have a second one. */
  Names: z.array(z.string()).nullish(),
  Image: z.string(),
  /** Seconds since the epoch. */
  Created: z.number(),
  Labels: labels,
  State: z.string(),
});

const mountSchema = z.object({
  Type: z.string(),
  Source: z.string().default(''),
  Destination: z.string(),
  RW: z.boolean().default(true),
});

const inspectedSchema = z.object({
  Id: z.string().min(1),
  Name: z.string(),
  /** RFC 3339. */
  Created: z.string(),
  Image: z.string(),
  State: z.object({
    Status: z.string(),
    Pid: z.number().int().nonnegative(),
    FinishedAt: z.string().optional(),
    ExitCode: z.number().int().optional(),
    OOMKilled: z.boolean().optional(),
  }),
  LogPath: z.string().default(''),
  ResolvConfPath: z.string().default(''),
  HostnamePath: z.string().default(''),
  HostsPath: z.string().default(''),
  /** `overlay2`; with containerd's image store the snapshotter: `overlayfs`. */
  Driver: z.string().default(''),
  GraphDriver: z.object({ Name: z.string(), Data: z.record(z.string(), z.string()).nullish() }).nullish(),
  Mounts: z.array(mountSchema).nullish(),
  HostConfig: z
    .object({
      LogConfig: z.object({ Type: z.string() }).nullish(),
      Runtime: z.string().nullish(),
      Tmpfs: z.record(z.string(), z.string()).nullish(),
    })
    .nullish(),
  Config: z.object({ Image: z.string().default(''), Tty: z.boolean().default(false), Labels: labels }),
});
export type Inspected = z.output<typeof inspectedSchema>;

const versionSchema = z.object({
  Version: z.string().min(1),
  ApiVersion: z.string(),
  Experimental: z.boolean().optional(),
});
const infoSchema = z.object({
  DockerRootDir: z.string().startsWith('/'),
  Driver: z.string().default(''),
  Containers: z.number().default(0),
  DriverStatus: z.array(z.array(z.string())).nullish(),
});
const topSchema = z.object({ Titles: z.array(z.string()), Processes: z.array(z.array(z.string())).nullish() });

/** Storage drivers whose upper folder can be found: Docker's own, and containerd's. */
const READABLE = ['overlay2', 'overlayfs'];

/** Fails with `runtime-failed`: another program than Docker may listen on the socket. */
function parsed<Schema extends z.ZodType>(schema: Schema, what: string, bytes: Uint8Array): z.output<Schema> {
  const result = schema.safeParse(jsonOf(bytes));
  if (result.success) return result.data;
  const where = result.error.issues[0]?.path.join('.') || 'it is no JSON of the expected kind';
  throw new ExhibitError('runtime-failed', `the answer to docker ${what} is not Docker's: ${where}`, {
    cause: result.error,
  });
}

export const parseList = (bytes: Uint8Array) => parsed(z.array(listedSchema), 'ps', bytes);
export const parseInspected = (bytes: Uint8Array): Inspected => parsed(inspectedSchema, 'inspect', bytes);
export const parseVersion = (bytes: Uint8Array) => parsed(versionSchema, 'version', bytes);

/** What of `docker info` matters here. */
export interface DockerFolders {
  /** `/var/lib/docker` unless configured. */
  readonly root: HostPath;
  /** True when overlay attributes are `user.overlay.*`: Docker without root. */
  readonly userXattr: boolean;
}

export function parseInfo(bytes: Uint8Array): DockerFolders {
  const { DockerRootDir, DriverStatus } = parsed(infoSchema, 'info', bytes);
  const userXattr = (DriverStatus ?? []).some(([key, value]) => key === 'userxattr' && value === 'true');
  return { root: asHostPath(DockerRootDir), userXattr };
}

/** For the doctor. Docker itself makes checkpoints only when it was started as experimental. */
export function describeDaemon(version: Uint8Array, info: Uint8Array): RuntimeDescription {
  const { Experimental = false } = parseVersion(version);
  const { Driver: name, Containers: containers } = parsed(infoSchema, 'info', info);
  const obstacle = READABLE.includes(name) ? {} : { obstacle: 'its layers cannot be told apart' };
  return {
    unmet: [],
    snapshotters: containers === 0 ? [] : [{ name, containers, ...obstacle }],
    programs: [],
    checkpoints: Experimental,
  };
}

/** The processes that `docker top` lists, as the node numbers them. */
export function parseTop(bytes: Uint8Array): Pid[] {
  const { Titles, Processes } = parsed(topSchema, 'top', bytes);
  const column = Titles.indexOf('PID');
  return (Processes ?? [])
    .map((row) => Number(row[column]))
    .filter((pid) => pid > 0)
    .map(asPid);
}

export function stateOf(state: string): ContainerSummary['state'] {
  switch (state) {
    case 'created':
    case 'running':
    case 'paused':
      return state;
    case 'restarting':
    case 'removing':
    case 'exited':
    case 'dead':
      return 'exited';
    default:
      return 'unknown';
  }
}

/** cri-dockerd's label of a container: `container`, or `podsandbox` for what holds only a pod's namespaces. */
const isSandbox = (given: z.output<typeof labels>): boolean => given?.['io.kubernetes.docker.type'] === 'podsandbox';

/** Sandboxes left out. */
export function summaries(bytes: Uint8Array): ContainerSummary[] {
  return parseList(bytes)
    .filter((one) => !isSandbox(one.Labels))
    .map((one) => {
      const given = new Map(Object.entries(one.Labels ?? {}));
      const own = (one.Names ?? []).find((name) => name.lastIndexOf('/') === 0)?.slice(1);
      const pod = podOf(given);
      return {
        id: asContainerId(one.Id),
        name: given.get('io.kubernetes.container.name') ?? own ?? one.Id,
        ...(pod === undefined ? {} : { pod }),
        labels: given,
        image: one.Image,
        state: stateOf(one.State),
        createdAt: new Date(one.Created * 1000).toISOString(),
      };
    });
}

/** kubelet's labels, as cri-dockerd hands them on. */
function podOf(given: ReadonlyMap<string, string>): ContainerSummary['pod'] {
  const namespace = given.get('io.kubernetes.pod.namespace');
  const name = given.get('io.kubernetes.pod.name');
  if (namespace === undefined || name === undefined) return undefined;
  const sandboxId = given.get('io.kubernetes.sandbox.id') ?? '';
  return { namespace, name, uid: given.get('io.kubernetes.pod.uid') ?? '', sandboxId };
}

/** Undefined while it runs: Docker then says the year 1. */
export function finishedAt({ State }: Inspected): string | undefined {
  const at = Date.parse(State.FinishedAt ?? '');
  return at > 0 ? new Date(at).toISOString() : undefined;
}

/** Undefined for one that runs, or never did. */
export function endOf(one: Inspected): EndedRecord | undefined {
  const { Pid, ExitCode, OOMKilled, Status } = one.State;
  const at = finishedAt(one);
  if (Pid !== 0 || Status === 'created' || at === undefined) return undefined;
  return {
    finishedAt: at,
    ...(ExitCode === undefined ? {} : { exitCode: ExitCode }),
    ...(OOMKilled === undefined ? {} : { oomKilled: OOMKilled }),
  };
}

/** The layers as the overlay2 driver tells them; `ask-mounts` where containerd's snapshotter holds them and Docker says nothing. */
export function rootfsOfDriver(one: Inspected, { userXattr }: DockerFolders): RootfsFinding | 'ask-mounts' {
  const name = one.GraphDriver?.Name ?? one.Driver;
  const data = one.GraphDriver?.Data ?? {};
  if (name === 'overlay2' && data.UpperDir !== undefined) {
    const options = [`lowerdir=${data.LowerDir ?? ''}`, `upperdir=${data.UpperDir}`];
    return rootfsOf([{ type: 'overlay', source: 'overlay', options: userXattr ? [...options, 'userxattr'] : options }]);
  }
  if (name === 'overlayfs' || name === '') return 'ask-mounts';
  return { note: `Docker keeps the container's files by its driver ${name}, whose layers cannot be told apart` };
}

/** The overlay that a /proc/PID/mountinfo shows at `mountPoint`, the last one where several lie on each other. */
export function overlayAt(mountinfo: string, mountPoint: string): SnapshotMount | undefined {
  let found: SnapshotMount | undefined;
  for (const line of mountinfo.split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    const [type = '', source = '', superOptions = ''] = after.split(' ');
    if (type !== 'overlay' || unescapeOctal(before.split(' ')[4] ?? '') !== mountPoint) continue;
    found = { type, source, options: superOptions.split(',').map(unescapeOctal) };
  }
  return found === undefined ? undefined : { ...found, options: found.options.map((one) => absolute(one, found)) };
}

/** containerd shortens many lower folders to names below the one that holds them all, `upperdir` as well. */
function absolute(option: string, { options }: SnapshotMount): string {
  const prefix = 'lowerdir=';
  const upper = options.find((one) => one.startsWith('upperdir=/'))?.slice('upperdir='.length);
  if (!option.startsWith(prefix) || upper === undefined) return option;
  const holder = upper.split('/').slice(0, -2).join('/');
  const lowers = option.slice(prefix.length).split(/(?<!\\):/);
  return prefix + lowers.map((lower) => (lower.startsWith('/') ? lower : `${holder}/${lower}`)).join(':');
}

/** Where Docker's data shows the root of a container whose layers are containerd's. */
export const mountPointOf = ({ Id, Driver }: Inspected, { root }: DockerFolders): string =>
  `${root}/rootfs/${Driver}/${Id}`;

/** Binds and volumes, and what Docker itself lays over the root. Less than the OCI spec has. */
export function mountsOf(one: Inspected): TargetMount[] {
  const given = (one.Mounts ?? []).map(({ Type, Source, Destination, RW }) => {
    return { containerPath: Destination, hostPath: Source, type: Type, readOnly: !RW };
  });
  const tmpfs = Object.entries(one.HostConfig?.Tmpfs ?? {}).map(([containerPath, options]) => {
    return { containerPath, hostPath: '', type: 'tmpfs', readOnly: options.split(',').includes('ro') };
  });
  const own = [
    { containerPath: '/etc/resolv.conf', hostPath: one.ResolvConfPath },
    { containerPath: '/etc/hostname', hostPath: one.HostnamePath },
    { containerPath: '/etc/hosts', hostPath: one.HostsPath },
  ];
  const taken = new Set(given.map(({ containerPath }) => containerPath));
  const added = own.filter(({ containerPath, hostPath }) => hostPath !== '' && !taken.has(containerPath));
  return [...given, ...tmpfs, ...added.map((bind) => ({ ...bind, type: 'bind', readOnly: false }))];
}
