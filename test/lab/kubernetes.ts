/**
 * Kubernetes' own control plane: etcd, API server, controller manager and scheduler, and a kubelet for a lab node. The programs are
 * nobody's package on Debian and no registry is reachable, so they are put into a folder by hand (docs/lab.md); without them the
 * tests are skipped.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, closeSync, constants, openSync, readFileSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import { cacheFolder } from './cache.mjs';
import { findKubectl, kubectlObstacle } from './kubectl.ts';
import { apiFlags, etcdFlags, managerFlags, schedulerFlags } from './kubernetes-flags.ts';
import { identities, kubeconfig, OF_KUBELETS } from './kubernetes-identity.ts';
import { ownedName } from './leftovers.ts';
import { type ExecResult, run } from './machine.ts';
import type { Skippable } from './requires.ts';

/** An empty etcd takes 5 s to become a cluster's, on a machine with other work several times that. */
const START_TIMEOUT_MS = 180_000;
const KUBECTL_TIMEOUT_MS = 120_000;
const POLL_MS = 200;

/** What has to be in the folder; kubelet only where a node is wanted. */
const PROGRAMS = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'] as const;
type Program = (typeof PROGRAMS)[number];

/** Where the programs are. */
export const kubernetesFolder = (): string => process.env.EXHIBIT_KUBERNETES || join(cacheFolder(), 'lab-kubernetes');

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Why no control plane, or with `kubelet` no node of one, can be started here; undefined when it can. */
export function kubernetesObstacle(more: readonly 'kubelet'[] = []): string | undefined {
  const missing = [...PROGRAMS, ...more].find((name) => !isProgram(join(kubernetesFolder(), name)));
  if (missing !== undefined)
    return `needs ${missing} of a Kubernetes release in ${kubernetesFolder()}: docs/lab.md says how`;
  return findKubectl() === undefined ? kubectlObstacle : undefined;
}

/** Skips the test, with the reason, where no control plane can be started. */
export function requireKubernetes(context: Skippable, more: readonly 'kubelet'[] = []): void {
  const reason = kubernetesObstacle(more);
  if (reason !== undefined) context.skip(reason);
}

export interface ClusterOptions {
  /** Where it listens; the loopback unless told. */
  readonly address?: string;
  /** 0, a free one, unless told. In a network namespace of its own there is no way to look for one. */
  readonly port?: number;
  /** Words before a command that enter the network in which `address` is. */
  readonly enter?: readonly string[];
}

export interface Cluster extends AsyncDisposable {
  readonly address: string;
  readonly url: string;
  /** Of the API server, PEM. */
  readonly caFile: string;
  /** Who signs clients' certificates, PEM. */
  readonly clientCaFile: string;
  /** `v1.36.2`. */
  readonly version: string;
  /** With every right there is (system:masters). */
  readonly kubeconfig: string;
  /** Of another user that the API server knows by a token. @returns the file's path */
  kubeconfigOf(user: string): Promise<string>;
  /** kubectl as it is told; fails with its words unless it ends with 0. @returns what it printed */
  kubectl(...argv: readonly string[]): Promise<string>;
  /** The same to its end, whatever that is. */
  tryKubectl(argv: readonly string[], options?: { input?: string; env?: Record<string, string> }): Promise<ExecResult>;
  /** `kubectl apply` of objects; a field that the API server does not know is refused. @returns its exit code and all its words */
  tryApply(objects: readonly object[], ...argv: readonly string[]): Promise<{ code: number; said: string }>;
  /** The same; fails with kubectl's words. */
  apply(...objects: readonly object[]): Promise<void>;
  /** Parsed `kubectl get ... -o json`. */
  get<T>(...argv: readonly string[]): Promise<T>;
  /** Asks again until `isDone` of what `kubectl get` prints; throws with the last answer. */
  until<T>(isDone: (answer: T) => boolean, timeoutMs: number, ...argv: readonly string[]): Promise<T>;
  /** The last words of each of its programs. */
  logs(): string;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** A program of the control plane, which ends with this process. */
function startProgram(program: Program, enter: readonly string[], log: string, argv: readonly string[]): ChildProcess {
  const out = openSync(log, 'a');
  const words = ['--pdeathsig', 'KILL', '--', ...enter, join(kubernetesFolder(), program), ...argv];
  const child = spawn('setpriv', words, { stdio: ['ignore', out, out], env: { PATH: process.env.PATH ?? '' } });
  closeSync(out);
  return child;
}

async function stopProgram(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

/** Starts a control plane without nodes. @throws Error with the programs' last words when it does not get ready */
export async function startCluster({
  address = '127.0.0.1',
  port = 0,
  enter = [],
}: ClusterOptions = {}): Promise<Cluster> {
  const folder = join(tmpdir(), ownedName());
  await mkdir(folder, { mode: 0o700 });
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const who = await identities(folder, address);
  stack.use(who.pki);
  const free = async (inNamespace: number) => (port === 0 ? await freePort() : inNamespace);
  const ports = { api: await free(port), etcd: await free(2379), peer: await free(2380) };
  const url = `https://${address}:${ports.api}`;
  const logOf = (program: string) => join(folder, `${program}.log`);
  const start = (program: Program, flags: readonly string[]) => {
    const child = startProgram(program, enter, logOf(program), flags);
    stack.defer(() => stopProgram(child));
  };
  const logs = () => PROGRAMS.map((name) => `${name}: ${lastWords(logOf(name))}`).join('\n');
  const configOf = (user: string) => kubeconfig(folder, url, who, user);

  const admin = configOf('admin');
  start('etcd', etcdFlags(folder, ports));
  // In a network of its own it answers at the address of its service as well.
  start('kube-apiserver', apiFlags(folder, address, enter.length === 0 ? address : '0.0.0.0', ports, who));
  const kubectl = kubectlOf(admin, enter);
  await untilReady(kubectl.tryKubectl, logs);
  start('kube-controller-manager', managerFlags(configOf('system:kube-controller-manager'), who));
  start('kube-scheduler', schedulerFlags(configOf('system:kube-scheduler')));
  // What kubelet asks of a client's certificate; installers bind it to the API server's.
  const rights = ['create', 'clusterrolebinding', 'lab-kubelets', '--clusterrole=system:kubelet-api-admin'];
  await kubectl.kubectl(...rights, `--user=${OF_KUBELETS}`);
  // Made by the controller manager; without it no pod is admitted.
  await kubectl.until<unknown>(() => true, START_TIMEOUT_MS, 'serviceaccount', 'default');
  const { gitVersion } = JSON.parse(await kubectl.kubectl('get', '--raw', '/version')) as { gitVersion: string };
  const open = stack.move();
  return {
    address,
    url,
    caFile: who.pki.caFile('controller'),
    clientCaFile: who.pki.caFile('operators'),
    version: gitVersion,
    kubeconfig: admin,
    kubeconfigOf: async (user) => configOf(user),
    ...kubectl,
    logs,
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  };
}

function lastWords(file: string): string {
  try {
    return readFileSync(file, 'utf8').slice(-2000);
  } catch {
    return 'did not start';
  }
}

async function untilReady(tryKubectl: Cluster['tryKubectl'], logs: () => string): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    const { code, stderr } = await tryKubectl(['get', '--raw', '/readyz']);
    if (code === 0) return;
    if (Date.now() > deadline) throw new Error(`the API server does not get ready: ${stderr}\n${logs()}`);
    await sleep(POLL_MS);
  }
}

/** What kubectl reads with `--filename=-`. */
export const manifestOf = (objects: readonly object[]): string =>
  objects.map((one) => stringify(one, { aliasDuplicateObjects: false })).join('---\n');

/** kubectl with this cluster and nobody's configuration. */
function kubectlOf(
  config: string,
  enter: readonly string[],
): Pick<Cluster, 'tryKubectl' | 'kubectl' | 'tryApply' | 'apply' | 'get' | 'until'> {
  const program = join(findKubectl()?.folder ?? '', 'kubectl');
  const [first = program, ...rest] = [...enter, program];
  const tryKubectl: Cluster['tryKubectl'] = (argv, { input, env } = {}) =>
    run(first, [...rest, ...argv], {
      env: { KUBECONFIG: config, HOME: dirname(config), ...env },
      timeoutMs: KUBECTL_TIMEOUT_MS,
      ...(input === undefined ? {} : { input }),
    });
  const kubectl: Cluster['kubectl'] = async (...argv) => {
    const { code, stdout, stderr } = await tryKubectl(argv);
    if (code !== 0) throw new Error(`kubectl ${argv.join(' ')} ended with ${code}: ${stderr}${stdout}`);
    return stdout.toString();
  };
  const tryApply: Cluster['tryApply'] = async (objects, ...argv) => {
    const words = ['apply', '--validate=strict', ...argv, '--filename=-'];
    const { code, stdout, stderr } = await tryKubectl(words, { input: manifestOf(objects) });
    return { code, said: stdout.toString() + stderr };
  };
  return {
    tryKubectl,
    kubectl,
    tryApply,
    async apply(...objects) {
      const { code, said } = await tryApply(objects);
      if (code !== 0) throw new Error(said);
    },
    get: async <T>(...argv: readonly string[]) => JSON.parse(await kubectl('get', ...argv, '--output=json')) as T,
    async until<T>(isDone: (answer: T) => boolean, timeoutMs: number, ...argv: readonly string[]) {
      const deadline = Date.now() + timeoutMs;
      for (;;) {
        const { code, stdout, stderr } = await tryKubectl(['get', ...argv, '--output=json']);
        if (code === 0) {
          const answer = JSON.parse(stdout.toString()) as T;
          if (isDone(answer)) return answer;
        }
        if (Date.now() > deadline) throw new Error(`kubectl get ${argv.join(' ')} stays at: ${stdout}${stderr}`);
        await sleep(POLL_MS);
      }
    },
  };
}
