/** A Docker node for tests: a real dockerd with CRIU and runc, in namespaces of its own. */
import {
  chmodSync,
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { dockerRoot, labRoot } from './cache.mjs';
import { imageFiles, WORKLOAD_IMAGE } from './image.ts';
import { removeCgroups, thawCgroups } from './leftovers.ts';
import { type ExecOptions, type ExecResult, type Machine, type Service, startMachine } from './machine.ts';

/** dockerd answers after a second, for it starts a containerd of its own first. */
const DOCKERD_TIMEOUT_MS = 60_000;

const LOG = '/var/log/dockerd.log';
const STATE = '/var/lib/docker';
const SOCKET = '/run/docker.sock';
const BARE_RUNC = '/usr/local/sbin/runc-bare';

export interface DockerOptions {
  /** v2 unless told; v1 uses the machine's own hierarchies. */
  cgroup?: 'v2' | 'v1';
  /** True keeps /var/lib/docker on disk in place of memory. */
  disk?: boolean;
  hostname?: string;
  /** False starts dockerd without --experimental: it then refuses checkpoints. */
  experimental?: boolean;
  /** True lets containers live on when dockerd starts again after a crash; without it dockerd ends them then. */
  liveRestore?: boolean;
  /** False shares this machine's network, for builds that fetch; dockerd changes nothing in it. */
  ownNetwork?: boolean;
  /** True gives images and layers to containerd's snapshotter, as a fresh Docker 29 does; `overlay2` unless told. */
  containerdStore?: boolean;
}

export interface LabDocker extends AsyncDisposable {
  hostname: string;
  /** Pid on this machine of the node's process 1. */
  initPid: number;
  /** The node's root folder as seen from outside: `/proc/<initPid>/root`. */
  hostRoot: string;
  /** proc(5) of the node's pid namespace as seen from outside. */
  procRoot: string;
  /** Docker's socket as seen from outside. */
  socket: string;
  /** Top of the node's containers in each cgroup hierarchy, without a slash. */
  cgroupParent: string;
  /** Pid of dockerd on this machine. */
  readonly dockerdPid: number;
  exec(argv: readonly string[], options?: ExecOptions): Promise<ExecResult>;
  /** Runs `docker ARGV` on the node; its output without the last newline. Throws with its words when it fails. */
  docker(...argv: string[]): Promise<string>;
  /** The pid on this machine of a process that is `nsPid` inside. */
  hostPid(nsPid: number): number;
  /** SIGKILLs dockerd and waits until it is reaped; its containerd, shims and containers go on. */
  killDockerd(): Promise<void>;
  startDockerd(): Promise<void>;
  /** What dockerd has logged so far. */
  logs(): string;
}

function writeInside(hostRoot: string, path: string, text: string): void {
  mkdirSync(join(hostRoot, path, '..'), { recursive: true });
  writeFileSync(join(hostRoot, path), text);
}

/** Debian's own runc, or runc-bare.sh where the v2 tree lacks the controllers (hybrid hosts). */
function installRunc(hostRoot: string, cgroup: 'v2' | 'v1'): 'runc' | 'bare' {
  if (cgroup === 'v1') return 'runc';
  const controllers = readFileSync(join(hostRoot, 'sys/fs/cgroup/cgroup.controllers'), 'utf8').trim().split(' ');
  if (controllers.includes('cpu') && controllers.includes('memory')) return 'runc';
  writeInside(hostRoot, BARE_RUNC, readFileSync(new URL('runc-bare.sh', import.meta.url), 'utf8'));
  chmodSync(join(hostRoot, BARE_RUNC), 0o755);
  return 'bare';
}

function daemonConfig(machine: Machine, options: DockerOptions, runtime: 'runc' | 'bare'): object {
  const { experimental = true, liveRestore = false, containerdStore = false, ownNetwork = true } = options;
  return {
    // No bridge and no rules: the node's containers have no network, or the node's.
    bridge: 'none',
    iptables: false,
    ip6tables: false,
    // A setting of the network, which may be this machine's.
    'ip-forward': ownNetwork,
    experimental,
    'live-restore': liveRestore,
    'cgroup-parent': `/${machine.name}`,
    'exec-opts': ['native.cgroupdriver=cgroupfs'],
    'default-runtime': runtime,
    runtimes: { bare: { path: BARE_RUNC } },
    ...(containerdStore ? { features: { 'containerd-snapshotter': true } } : { 'storage-driver': 'overlay2' }),
  };
}

/** True when a GET of /_ping is answered. */
async function answers(socketPath: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const asked = request({ socketPath, path: '/_ping', agent: false }, (response) => {
    response.resume();
    resolve(response.statusCode === 200);
  });
  asked.on('error', () => resolve(false));
  asked.end();
  return promise;
}

/**
 * Boots the node, starts dockerd and loads the workload's image.
 * @throws Error naming what was refused, with dockerd's log where that tells.
 */
export async function startDocker(options: DockerOptions = {}): Promise<LabDocker> {
  const { cgroup = 'v2', disk = false, hostname = 'lab-docker', ownNetwork = true } = options;
  const images = await imageFiles(labRoot());
  const machine = await startMachine({
    root: dockerRoot(),
    hostname,
    stateFolder: STATE,
    cgroup,
    disk,
    ownNetwork,
  });
  const node = new RunningDocker(machine, hostname);
  try {
    const config = daemonConfig(machine, options, installRunc(machine.hostRoot, cgroup));
    writeInside(machine.hostRoot, '/etc/docker/daemon.json', JSON.stringify(config));
    await node.startDockerd();
    await pipeline(createReadStream(images.workload), createWriteStream(join(machine.hostRoot, 'tmp/workload.tar')));
    await node.docker('load', '--quiet', '--input', '/tmp/workload.tar');
    await machine.exec(['rm', '/tmp/workload.tar']);
    await node.docker('image', 'inspect', WORKLOAD_IMAGE);
  } catch (error) {
    await node[Symbol.asyncDispose]();
    throw error;
  }
  return node;
}

class RunningDocker implements LabDocker {
  readonly hostname: string;
  readonly initPid: number;
  readonly hostRoot: string;
  readonly procRoot: string;
  readonly socket: string;
  readonly cgroupParent: string;
  readonly #machine: Machine;
  #dockerd: Service | undefined;

  constructor(machine: Machine, hostname: string) {
    this.#machine = machine;
    this.hostname = hostname;
    this.initPid = machine.initPid;
    this.hostRoot = machine.hostRoot;
    this.procRoot = join(machine.hostRoot, 'proc');
    this.socket = join(machine.hostRoot, SOCKET);
    this.cgroupParent = machine.name;
  }

  get dockerdPid(): number {
    if (this.#dockerd === undefined) throw new Error('dockerd is not running');
    return this.#dockerd.pid;
  }

  exec(argv: readonly string[], options?: ExecOptions): Promise<ExecResult> {
    return this.#machine.exec(argv, options);
  }

  async docker(...argv: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.#machine.exec(['docker', ...argv]);
    if (code !== 0) throw new Error(`docker ${argv.join(' ')}: ${stderr.trim()}`);
    return stdout.toString().trimEnd();
  }

  hostPid(nsPid: number): number {
    return this.#machine.hostPid(nsPid);
  }

  async startDockerd(): Promise<void> {
    if (this.#dockerd !== undefined) return;
    // A dockerd that was killed leaves its pid file, and another process may have that pid by now.
    await this.#machine.exec(['rm', '-f', '/run/docker.pid']);
    const service = await this.#machine.start(LOG, ['dockerd']);
    this.#dockerd = service;
    let ended = false;
    void service.exited.then(() => {
      ended = true;
    });
    const deadline = Date.now() + DOCKERD_TIMEOUT_MS;
    while (!existsSync(this.socket) || !(await answers(this.socket))) {
      if (ended || Date.now() > deadline) throw new Error(`dockerd does not answer:\n${this.logs()}`);
      await sleep(20);
    }
  }

  async killDockerd(): Promise<void> {
    if (this.#dockerd === undefined) return;
    process.kill(this.#dockerd.pid, 'SIGKILL');
    await this.#dockerd.exited;
    this.#dockerd = undefined;
  }

  logs(): string {
    return readFileSync(join(this.hostRoot, LOG), 'utf8');
  }

  /** Thaws first: frozen tasks of cgroup v1 do not die. Process 1 takes the whole pid namespace with it. */
  async [Symbol.asyncDispose](): Promise<void> {
    thawCgroups(this.cgroupParent);
    await this.#machine[Symbol.asyncDispose]();
    await removeCgroups(this.cgroupParent);
  }
}
