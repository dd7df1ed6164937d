/** A Kubernetes node for tests: a real containerd with CRIU and runc, in namespaces of its own. */
import { chmodSync, createReadStream, createWriteStream, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { labRoot, oldRoot } from './cache.mjs';
import { type CriClient, connectCri } from './cri.ts';
import { imageFiles, PAUSE_IMAGE } from './image.ts';
import { removeCgroups, thawCgroups } from './leftovers.ts';
import { type ExecOptions, type ExecResult, type Machine, type Service, startMachine } from './machine.ts';
import { type LabPod, type PodSpec, runPod } from './pod.ts';

/** containerd answers 30-300 ms after its start. */
const CONTAINERD_TIMEOUT_MS = 30_000;

/** Where pods reach the lab node. */
export const NODE_ADDRESS = '10.88.0.1';

const LOG = '/var/log/containerd.log';

/** Lines of containerd that the lab has: the one of EKS, and Debian 12's own with its runc 1.1. */
export type Release = '2.1' | '1.6';

export interface NodeOptions {
  /** 2.1 unless told. */
  release?: Release;
  /** v2 as on EKS unless told; v1 uses the machine's own hierarchies. */
  cgroup?: 'v2' | 'v1';
  /** True keeps /var/lib/containerd on disk in place of memory. */
  disk?: boolean;
  hostname?: string;
  /** The debootstrapped root, which must have `release`; the cache's unless told. */
  root?: string;
}

export interface LabNode extends AsyncDisposable {
  hostname: string;
  /** Pid on this machine of the node's process 1. */
  initPid: number;
  /** The node's root folder as seen from outside: `/proc/<initPid>/root`. */
  hostRoot: string;
  /** proc(5) of the node's pid namespace as seen from outside. */
  procRoot: string;
  /** containerd's socket as seen from outside. */
  socket: string;
  /** Top of the node's pods in each cgroup hierarchy, without a slash. */
  cgroupParent: string;
  /** Pid of containerd on this machine. */
  readonly containerdPid: number;
  cri: CriClient;
  exec(argv: readonly string[], options?: ExecOptions): Promise<ExecResult>;
  /** The pid on this machine of a process that is `nsPid` inside. */
  hostPid(nsPid: number): number;
  runPod(spec: PodSpec): Promise<LabPod>;
  /** Imports the images of an OCI layout tar. */
  importImage(tar: string): Promise<void>;
  /** SIGKILLs containerd and waits until it is reaped; shims and containers go on. */
  killContainerd(): Promise<void>;
  startContainerd(): Promise<void>;
  /** What containerd has logged so far. */
  logs(): string;
}

const BARE_RUNC = '/usr/local/sbin/runc-bare';

const modernConfig = (runc: string) => `version = 3
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "${PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
      BinaryName = "${runc}"
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "/etc/cni/net.d"
`;

/** The same for one CRI plugin that does all. */
const oldConfig = (runc: string) => `version = 2
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
      BinaryName = "${runc}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
`;

const CONFIGS: Record<Release, (runc: string) => string> = { '2.1': modernConfig, '1.6': oldConfig };

const ROOTS: Record<Release, () => string> = { '2.1': labRoot, '1.6': oldRoot };

/** Words after `ctr images import`: containerd 2 would ask its transfer service, 1.6 has none. */
const IMPORT_LOCALLY: Record<Release, readonly string[]> = { '2.1': ['--local'], '1.6': [] };

/** Where the agent of EKS Pod Identity listens on a node: the one address beside the node's that pods have a way to. */
export const POD_IDENTITY_ADDRESS = '169.254.170.23';

/** A veth pair and an address for each pod; the node's end is NODE_ADDRESS for all of them. */
const CNI = {
  cniVersion: '1.0.0',
  name: 'lab',
  plugins: [
    {
      type: 'ptp',
      ipam: {
        type: 'host-local',
        subnet: '10.88.0.0/24',
        gateway: NODE_ADDRESS,
        routes: [{ dst: `${POD_IDENTITY_ADDRESS}/32` }],
      },
    },
  ],
};

function writeInside(hostRoot: string, path: string, text: string): void {
  mkdirSync(join(hostRoot, path, '..'), { recursive: true });
  writeFileSync(join(hostRoot, path), text);
}

/** Path of the runc to use: Debian's own, or runc-bare.sh where the v2 tree lacks the controllers (hybrid hosts). */
function installRunc(hostRoot: string, cgroup: 'v2' | 'v1'): string {
  if (cgroup === 'v1') return 'runc';
  const controllers = readFileSync(join(hostRoot, 'sys/fs/cgroup/cgroup.controllers'), 'utf8').trim().split(' ');
  if (controllers.includes('cpu') && controllers.includes('memory')) return 'runc';
  const script = readFileSync(new URL('runc-bare.sh', import.meta.url), 'utf8');
  writeInside(hostRoot, BARE_RUNC, script);
  chmodSync(join(hostRoot, BARE_RUNC), 0o755);
  return BARE_RUNC;
}

/** Copies an image tar into the node's memory, imports it, and drops the copy. */
async function importImage(machine: Machine, tar: string, release: Release): Promise<void> {
  const inside = `/tmp/${basename(tar)}`;
  await pipeline(createReadStream(tar), createWriteStream(join(machine.hostRoot, inside)));
  const { code, stderr } = await machine.exec([
    'ctr',
    '-n',
    'k8s.io',
    'images',
    'import',
    ...IMPORT_LOCALLY[release],
    inside,
  ]);
  if (code !== 0) throw new Error(`cannot import ${tar}: ${stderr}`);
  await machine.exec(['rm', inside]);
}

async function untilAnswers(cri: CriClient, service: Service, logs: () => string): Promise<void> {
  const deadline = Date.now() + CONTAINERD_TIMEOUT_MS;
  let ended = false;
  void service.exited.then(() => {
    ended = true;
  });
  for (;;) {
    try {
      await cri.call('Version', {});
      return;
    } catch (error) {
      if (ended || Date.now() > deadline) throw new Error(`containerd does not answer:\n${logs()}`, { cause: error });
      await sleep(20);
    }
  }
}

/**
 * Boots the node, starts containerd and imports the two images.
 * @throws Error naming what was refused, with containerd's log where that tells.
 */
export async function startNode(options: NodeOptions = {}): Promise<LabNode> {
  const { release = '2.1', cgroup = 'v2', disk = false, hostname = 'lab-node' } = options;
  const root = options.root ?? ROOTS[release]();
  const images = await imageFiles(root);
  const stateFolder = '/var/lib/containerd';
  const machine = await startMachine({ root, hostname, stateFolder, cgroup, disk, ownNetwork: true });
  const node = new RunningNode(machine, hostname, release);
  try {
    const runc = installRunc(machine.hostRoot, cgroup);
    writeInside(machine.hostRoot, '/etc/containerd/config.toml', CONFIGS[release](runc));
    writeInside(machine.hostRoot, '/etc/cni/net.d/10-lab.conflist', JSON.stringify(CNI));
    await node.startContainerd();
    await node.importImage(images.pause);
    await node.importImage(images.workload);
  } catch (error) {
    await node[Symbol.asyncDispose]();
    throw error;
  }
  return node;
}

class RunningNode implements LabNode {
  readonly hostname: string;
  readonly initPid: number;
  readonly hostRoot: string;
  readonly procRoot: string;
  readonly socket: string;
  readonly cgroupParent: string;
  readonly #machine: Machine;
  readonly #release: Release;
  readonly cri: CriClient;
  #containerd: Service | undefined;

  constructor(machine: Machine, hostname: string, release: Release) {
    this.#machine = machine;
    this.#release = release;
    this.hostname = hostname;
    this.initPid = machine.initPid;
    this.hostRoot = machine.hostRoot;
    this.procRoot = join(machine.hostRoot, 'proc');
    this.socket = join(machine.hostRoot, 'run/containerd/containerd.sock');
    this.cgroupParent = machine.name;
    this.cri = connectCri(this.socket);
  }

  get containerdPid(): number {
    if (this.#containerd === undefined) throw new Error('containerd is not running');
    return this.#containerd.pid;
  }

  exec(argv: readonly string[], options?: ExecOptions): Promise<ExecResult> {
    return this.#machine.exec(argv, options);
  }

  hostPid(nsPid: number): number {
    return this.#machine.hostPid(nsPid);
  }

  runPod(spec: PodSpec): Promise<LabPod> {
    return runPod(this.cri, spec, this.cgroupParent);
  }

  importImage(tar: string): Promise<void> {
    return importImage(this.#machine, tar, this.#release);
  }

  async startContainerd(): Promise<void> {
    if (this.#containerd !== undefined) return;
    const service = await this.#machine.start(LOG, ['containerd', '--config', '/etc/containerd/config.toml']);
    this.#containerd = service;
    await untilAnswers(this.cri, service, () => this.logs());
  }

  async killContainerd(): Promise<void> {
    if (this.#containerd === undefined) return;
    process.kill(this.#containerd.pid, 'SIGKILL');
    await this.#containerd.exited;
    this.#containerd = undefined;
  }

  logs(): string {
    return readFileSync(join(this.hostRoot, LOG), 'utf8');
  }

  /** Thaws first: frozen tasks of cgroup v1 do not die. Process 1 takes the whole pid namespace with it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.cri[Symbol.dispose]();
    thawCgroups(this.cgroupParent);
    await this.#machine[Symbol.asyncDispose]();
    await removeCgroups(this.cgroupParent);
  }
}
