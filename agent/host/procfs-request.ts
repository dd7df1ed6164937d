import type { NetlinkDump } from './network-netlink.ts';
import type { NodeAnswer, NodeAsk } from './node-request.ts';
import type { Namespaces, ScannedProcess } from './process-scanned.ts';
import type { BootClock } from './process-stat.ts';
import type { FileIdentity, FileReading } from './procfs.ts';
import type { NetlinkReading } from './procfs-netlink.ts';

/** What the agent asks its reader process, and what that answers. One request at a time; `end` ends each answer. */
export type Request =
  /** One `process` each, in this order. */
  | ({ readonly kind: 'processes'; readonly pids: readonly number[]; readonly careful: boolean } & ScanFacts)
  /** One `sockets` each, in this order. */
  | { readonly kind: 'sockets'; readonly pids: readonly number[] }
  /** One `file` each name below /proc/PID, in this order. */
  | { readonly kind: 'files'; readonly pid: number; readonly names: readonly string[]; readonly limitBytes: number }
  /** One `rootFile` each path below /proc/PID/root, in this order. */
  | { readonly kind: 'rootFiles'; readonly pid: number; readonly paths: readonly string[]; readonly limitBytes: number }
  /** One `netlink`: what the kernel says of the process' network namespace; all of it, or these dumps only. */
  | { readonly kind: 'netlink'; readonly pid: number; readonly dumps?: readonly NetlinkDump[] }
  /** `node` answers: about the kernel that the node and its containers share. */
  | { readonly kind: 'node'; readonly ask: NodeAsk }
  /** Some `progress`, so that a slow disk is not taken for one that blocks; then one `digest`, or `refused`. */
  | { readonly kind: 'digest'; readonly source: ContentSource; readonly limitBytes: number }
  /** One `opened`, then `chunk`s, or `refused`. */
  | { readonly kind: 'content'; readonly source: ContentSource; readonly limitBytes: number };

/** What a scan knows beside /proc. */
export interface ScanFacts {
  readonly clock: BootClock;
  /** First processes of containers. */
  readonly starts: readonly number[];
  /** Of the last process of an earlier answer, where this one goes on. */
  readonly reference: Namespaces | undefined;
}

/** A file that a process still holds: `exe`, `fd/7`, `map_files/7f…-7f…`. */
export interface ContentSource {
  readonly pid: number;
  readonly name: string;
  /** Only this inode will do: the process may have closed the file and opened another. */
  readonly device?: bigint;
  readonly inode?: bigint;
}

export type Reply =
  | { readonly kind: 'process'; readonly process: ScannedProcess }
  | { readonly kind: 'sockets'; readonly reading: SocketsReading }
  | { readonly kind: 'file'; readonly name: string; readonly reading: FileReading }
  | { readonly kind: 'rootFile'; readonly path: string; readonly result: RootFileReading }
  | { readonly kind: 'netlink'; readonly reading: NetlinkReading }
  | { readonly kind: 'node'; readonly answer: NodeAnswer }
  | ({ readonly kind: 'digest' } & DigestReading)
  | { readonly kind: 'progress'; readonly bytes: number }
  | { readonly kind: 'opened'; readonly identity: FileIdentity }
  | { readonly kind: 'chunk'; readonly bytes: Uint8Array }
  | { readonly kind: 'refused'; readonly why: string; readonly errno: string | undefined }
  | { readonly kind: 'end'; readonly counts: ReaderCounts };

/** `sizeBytes`: as much as was read. `truncated`: the file goes on after that. */
export interface DigestReading {
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly truncated: boolean;
  readonly identity: FileIdentity;
}

/** Since the reader process began. */
export interface ReaderCounts {
  readonly bytes: number;
  readonly opens: number;
  readonly cpuMs: number;
}

/** The sockets of one process and the network namespace it is in. */
export interface SocketsReading {
  readonly pid: number;
  /** Text of /proc/PID/ns/net, ns/mnt and root. */
  readonly namespace: FileReading;
  readonly mountNamespace: FileReading;
  readonly root: FileReading;
  readonly sockets: readonly { readonly fd: number; readonly inode: number }[];
  readonly truncated: boolean;
  readonly errno: string | undefined;
}

export type RootFileReading =
  | { readonly kind: 'read'; readonly bytes: Buffer; readonly truncated: boolean; readonly identity: FileIdentity }
  | { readonly kind: 'refused'; readonly why: string; readonly errno: string | undefined };
