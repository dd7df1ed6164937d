/**
 * A kubelet on a lab node, beside the node's own containerd, as a node of a cluster whose control plane runs in the node's network.
 * There is no kube-proxy and no DNS: pods reach the API server by its service address, which the node itself has, and each other by
 * their own addresses.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type Cluster, kubernetesFolder, startCluster } from './kubernetes.ts';
import { SERVICE_ADDRESS } from './kubernetes-identity.ts';
import { removeCgroups } from './leftovers.ts';
import { type LabNode, startNode } from './node.ts';

/** Of the node, on its loopback: that of the pods' network is there only while there are pods. */
export const KUBELET_ADDRESS = '10.99.0.1';

/** Of API servers within a cluster; in a network of its own the port is free. */
const API_PORT = 443;

const READY_TIMEOUT_MS = 120_000;

/**
 * What kubelet sets of the kernel at its start (pkg/kubelet/cm, setupKernelTunables). They are of the whole machine, which is not the
 * lab's to change, so kubelet finds them set: files are mounted over them.
 */
const TUNABLES: Readonly<Record<string, string>> = {
  'vm/overcommit_memory': '1',
  'vm/panic_on_oom': '0',
  'kernel/panic': '10',
  'kernel/panic_on_oops': '1',
  'kernel/keys/root_maxkeys': '1000000',
  'kernel/keys/root_maxbytes': '25000000',
};

export interface KubeNode extends AsyncDisposable {
  readonly node: LabNode;
  readonly cluster: Cluster;
  /** Words before a command that enter the node's network: API server, kubelet and pods are there. */
  readonly enter: readonly string[];
  kubeletLog(): string;
}

/** Whether kubelet can make a cgroup for each pod: on hybrid machines the v2 tree lacks the controllers that it sets. */
function hasControllers(hostRoot: string): boolean {
  const controllers = readFileSync(join(hostRoot, 'sys/fs/cgroup/cgroup.controllers'), 'utf8').trim().split(' ');
  return ['cpu', 'memory', 'pids'].every((name) => controllers.includes(name));
}

const kubeletConfig = (perPod: boolean, cgroupRoot: string) => ({
  apiVersion: 'kubelet.config.k8s.io/v1beta1',
  kind: 'KubeletConfiguration',
  address: '0.0.0.0',
  authentication: {
    anonymous: { enabled: false },
    webhook: { enabled: true },
    x509: { clientCAFile: '/etc/kubernetes/clients.pem' },
  },
  authorization: { mode: 'Webhook' },
  containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
  cgroupDriver: 'cgroupfs',
  cgroupRoot,
  cgroupsPerQOS: perPod,
  enforceNodeAllocatable: perPod ? ['pods'] : [],
  // The lab's files are in memory: what is free there says nothing.
  evictionHard: {
    'memory.available': '1Mi',
    'nodefs.available': '0%',
    'nodefs.inodesFree': '0%',
    'imagefs.available': '0%',
  },
  imageGCHighThresholdPercent: 100,
  localStorageCapacityIsolation: false,
  failSwapOn: false,
  makeIPTablesUtilChains: false,
  resolvConf: '',
  clusterDomain: 'cluster.local',
  protectKernelDefaults: true,
  registerNode: true,
  shutdownGracePeriod: '0s',
});

function writeInside(hostRoot: string, path: string, text: string): void {
  mkdirSync(join(hostRoot, path, '..'), { recursive: true });
  writeFileSync(join(hostRoot, path), text, { mode: 0o600 });
}

async function must(node: LabNode, ...argv: readonly string[]): Promise<void> {
  const { code, stderr } = await node.exec(argv);
  if (code !== 0) throw new Error(`${argv.join(' ')} on the node: ${stderr}`);
}

/** Pods of the lab have a way to the node's end of their network alone; these get one to the API server as well. */
function routeToNode({ hostRoot }: LabNode): void {
  const file = join(hostRoot, 'etc/cni/net.d/10-lab.conflist');
  const network = cniSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
  const routes = [KUBELET_ADDRESS, SERVICE_ADDRESS].map((address) => ({ dst: `${address}/32` }));
  for (const plugin of network.plugins) plugin.ipam.routes = routes;
  writeFileSync(file, JSON.stringify(network));
}

const cniSchema = z.looseObject({
  plugins: z.array(
    z.looseObject({ ipam: z.looseObject({ routes: z.array(z.object({ dst: z.string() })).optional() }) }),
  ),
});

async function coverTunables(node: LabNode): Promise<void> {
  for (const [name, value] of Object.entries(TUNABLES)) {
    const file = `/run/lab-tunables/${name}`;
    writeInside(node.hostRoot, file, `${value}\n`);
    if (existsSync(join(node.procRoot, 'sys', name))) await must(node, 'mount', '--bind', file, `/proc/sys/${name}`);
  }
}

/**
 * Containers that are in no pod's cgroup, since kubelet makes none here: containerd puts them below /k8s.io, which is not the lab's.
 * @returns their ids
 */
async function withoutPodCgroup(node: LabNode): Promise<string[]> {
  if (hasControllers(node.hostRoot)) return [];
  const { stdout } = await node.exec(['ctr', '--namespace', 'k8s.io', 'containers', 'list', '--quiet']);
  return stdout.toString().split('\n').filter(Boolean);
}

async function startKubelet(node: LabNode, cluster: Cluster): Promise<ChildProcess> {
  const perPod = hasControllers(node.hostRoot);
  const top = join(node.hostRoot, 'sys/fs/cgroup', node.cgroupParent);
  if (perPod) {
    mkdirSync(top, { recursive: true });
    const all = readFileSync(join(top, 'cgroup.controllers'), 'utf8').trim().split(' ');
    writeFileSync(join(top, 'cgroup.subtree_control'), all.map((name) => `+${name}`).join(' '));
  }
  await coverTunables(node);
  await copyFile(join(kubernetesFolder(), 'kubelet'), join(node.hostRoot, 'usr/local/bin/kubelet'));
  writeInside(node.hostRoot, '/etc/kubernetes/clients.pem', readFileSync(cluster.clientCaFile, 'utf8'));
  const kubeconfig = await cluster.kubeconfigOf(`system:node:${node.hostname}`);
  writeInside(node.hostRoot, '/etc/kubernetes/kubelet.conf', readFileSync(kubeconfig, 'utf8'));
  const config = kubeletConfig(perPod, perPod ? `/${node.cgroupParent}` : '/');
  writeInside(node.hostRoot, '/etc/kubernetes/kubelet.json', JSON.stringify(config));
  const flags = [
    '--config=/etc/kubernetes/kubelet.json',
    '--kubeconfig=/etc/kubernetes/kubelet.conf',
    `--node-ip=${KUBELET_ADDRESS}`,
  ];
  const log = openSync(join(node.hostRoot, 'var/log/kubelet.log'), 'a');
  const namespaces = ['--mount', '--uts', '--ipc', '--net', '--pid', '--root', '--wd'];
  const enter = ['--pdeathsig', 'KILL', '--', 'nsenter', '--target', String(node.initPid), ...namespaces, '--'];
  const env = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' };
  const child = spawn('setpriv', [...enter, '/usr/local/bin/kubelet', ...flags], { stdio: ['ignore', log, log], env });
  closeSync(log);
  return child;
}

interface NodeObject {
  status: { conditions?: { type: string; status: string }[] };
}

const isReady = ({ status }: NodeObject) =>
  status.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') ?? false;

/**
 * A node of containerd 2.1 with the images of `tars`, a control plane in its network, and a kubelet that has registered it, ready.
 * kubelet ends with the node. @throws Error with the log of what did not start
 */
export async function startKubeNode(tars: readonly string[]): Promise<KubeNode> {
  await using stack = new AsyncDisposableStack();
  const ids: string[] = [];
  stack.defer(async () => void (await Promise.all(ids.map((id) => removeCgroups(`k8s.io/${id}`)))));
  const node = stack.use(await startNode());
  stack.defer(async () => void ids.push(...(await withoutPodCgroup(node))));
  // Images first: kubelet has no registry to ask, and the manifests' imagePullPolicy takes what is there.
  for (const tar of tars) await node.importImage(tar);
  for (const address of [KUBELET_ADDRESS, SERVICE_ADDRESS])
    await must(node, 'ip', 'address', 'add', `${address}/32`, 'dev', 'lo');
  routeToNode(node);
  const enter = ['nsenter', `--net=/proc/${node.initPid}/ns/net`, '--'];
  const cluster = stack.use(await startCluster({ address: KUBELET_ADDRESS, port: API_PORT, enter }));
  const kubelet = await startKubelet(node, cluster);
  const kubeletLog = () => readFileSync(join(node.hostRoot, 'var/log/kubelet.log'), 'utf8');
  const ended = once(kubelet, 'exit').then(() => {
    throw new Error(`kubelet has ended: ${kubeletLog().slice(-3000)}`);
  });
  ended.catch(() => {}); // After the start it is the node's end.
  await Promise.race([ended, cluster.until(isReady, READY_TIMEOUT_MS, 'node', node.hostname)]);
  const open = stack.move();
  return { node, cluster, enter, kubeletLog, [Symbol.asyncDispose]: () => open.disposeAsync() };
}
