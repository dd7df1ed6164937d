import type { BpfReading } from './bpf-read.ts';
import type { ModuleReading } from './modules-read.ts';
import type { NetfilterReading } from './netfilter-read.ts';
import type { NamespacePlace } from './netlink-calls.ts';
import type { FileReading } from './procfs.ts';

/** What the agent asks its reader process about the kernel that the node and its containers share. */
export type NodeAsk =
  /** One `netfilter` each dump: packet filters of a network namespace, and its connections where wanted. */
  | { readonly about: 'netfilter'; readonly place: NamespacePlace; readonly connections: boolean }
  /** One `netfilter`: connections of a network namespace that have one of these addresses, of 4 or 16 bytes. */
  | { readonly about: 'connections'; readonly place: NamespacePlace; readonly addresses: readonly Uint8Array[] }
  /** One `netfilter` each protocol: what sock_diag tells of the sockets in a network namespace. */
  | { readonly about: 'sockets'; readonly place: NamespacePlace }
  /** One `netfilter` each: `links`, `qdiscs` and `filters` of the interfaces in a network namespace. */
  | { readonly about: 'trafficControl'; readonly place: NamespacePlace }
  /** One `file` each, in this order: of the node's proc(5) and sysfs. */
  | { readonly about: 'files'; readonly names: readonly NodeFile[]; readonly limitBytes: number }
  /** One `names`: of a folder of sysfs. */
  | { readonly about: 'names'; readonly folder: string; readonly limit: number }
  /** One `module` each, in this order. */
  | { readonly about: 'modules'; readonly names: readonly string[] }
  /** `bpf` readings: programs, maps, links, what is attached to the control groups (folders as the agent reaches them), pins. */
  | { readonly about: 'bpf'; readonly cgroups: readonly string[]; readonly pinFolders: readonly string[] }
  /** One `holders`: which processes hold eBPF objects. */
  | { readonly about: 'bpfHolders' };

/** Below the node's proc(5), or an absolute path of the node below /sys. */
export type NodeFile = { readonly proc: string } | { readonly sys: string };

export type NodeAnswer =
  | { readonly about: 'netfilter'; readonly netfilter: NetfilterReading }
  | { readonly about: 'file'; readonly name: string; readonly reading: FileReading }
  | { readonly about: 'names'; readonly names: readonly string[]; readonly truncated: boolean; readonly errno?: string }
  | { readonly about: 'module'; readonly module: ModuleReading }
  | { readonly about: 'bpf'; readonly bpf: BpfReading }
  | { readonly about: 'holders'; readonly holders: readonly BpfHolder[]; readonly truncated: boolean };

/** A descriptor on an eBPF object: `kind` is `prog`, `map`, `link` or `btf`. */
export interface BpfHolder {
  readonly kind: string;
  readonly id: number;
  readonly pid: number;
  readonly fd: number;
}
