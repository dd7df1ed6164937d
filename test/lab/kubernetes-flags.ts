/** What the programs of a control plane are started with. */
import { join } from 'node:path';
import type { Identities } from './kubernetes-identity.ts';

/** Of services; SERVICE_ADDRESS is its first. */
const SERVICES = '10.96.0.0/16';

export interface Ports {
  readonly api: number;
  readonly etcd: number;
  readonly peer: number;
}

export const etcdFlags = (folder: string, { etcd, peer }: Ports) => [
  `--data-dir=${join(folder, 'etcd')}`,
  `--listen-client-urls=http://127.0.0.1:${etcd}`,
  `--advertise-client-urls=http://127.0.0.1:${etcd}`,
  `--listen-peer-urls=http://127.0.0.1:${peer}`,
  `--initial-advertise-peer-urls=http://127.0.0.1:${peer}`,
  `--initial-cluster=default=http://127.0.0.1:${peer}`,
  '--unsafe-no-fsync',
  '--log-level=warn',
];

/** Admission as an installer leaves it: the defaults, which have PodSecurity and Priority, and NodeRestriction. */
export const apiFlags = (folder: string, address: string, bind: string, ports: Ports, who: Identities) => [
  `--etcd-servers=http://127.0.0.1:${ports.etcd}`,
  `--bind-address=${bind}`,
  `--advertise-address=${address}`,
  `--secure-port=${ports.api}`,
  `--cert-dir=${folder}`,
  `--tls-cert-file=${who.pki.server.certFile}`,
  `--tls-private-key-file=${who.pki.server.keyFile}`,
  `--client-ca-file=${who.pki.caFile('operators')}`,
  `--token-auth-file=${who.tokenFile}`,
  '--authorization-mode=Node,RBAC',
  '--enable-admission-plugins=NodeRestriction',
  `--service-cluster-ip-range=${SERVICES}`,
  '--service-account-issuer=https://kubernetes.default.svc',
  `--service-account-key-file=${who.accountPublic}`,
  `--service-account-signing-key-file=${who.accountKey}`,
  `--kubelet-client-certificate=${who.toKubelets.certFile}`,
  `--kubelet-client-key=${who.toKubelets.keyFile}`,
  '--kubelet-preferred-address-types=InternalIP',
  '--endpoint-reconciler-type=none',
];

/** Nodes that are nothing but objects send no heartbeats: for an hour nobody minds. */
export const managerFlags = (config: string, who: Identities) => [
  `--kubeconfig=${config}`,
  `--service-account-private-key-file=${who.accountKey}`,
  `--root-ca-file=${who.pki.caFile('controller')}`,
  // Each controller as an installer lets it be: the name in the kubeconfig alone has few rights.
  '--use-service-account-credentials',
  '--leader-elect=false',
  '--secure-port=0',
  '--node-monitor-grace-period=1h',
];

export const schedulerFlags = (config: string) => [`--kubeconfig=${config}`, '--leader-elect=false', '--secure-port=0'];
