import type { BaseImage } from '../../evidence/base-image.ts';
import type { DumpOptions } from '../../evidence/dump.ts';
import type { EndedRecord, TargetRecord } from '../../evidence/manifest.ts';
import type { SCOPES } from '../../evidence/request-words.ts';

declare const brand: unique symbol;
type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** A process id in the pid namespace that `procRoot` shows. */
export type Pid = Brand<number, 'Pid'>;
export type ContainerId = Brand<string, 'ContainerId'>;
/** An absolute path as the node's own init sees it. The agent reaches it below its `hostRoot`, see host/host.ts. */
export type HostPath = Brand<string, 'HostPath'>;

export const asPid = (value: number): Pid => value as Pid;
export const asContainerId = (value: string): ContainerId => value as ContainerId;
export const asHostPath = (value: string): HostPath => value as HostPath;

/** What a person can point at. */
export type Selector =
  | { kind: 'pod'; namespace: string; pod: string; container?: string }
  | { kind: 'container'; id: string }
  /** A container by the name that people gave it: Docker's, nerdctl's. */
  | { kind: 'name'; name: string }
  | { kind: 'labels'; labels: ReadonlyMap<string, string>; container?: string }
  | { kind: 'pid'; pid: Pid }
  | { kind: 'cgroup'; path: string }
  | { kind: 'unit'; unit: string };

export interface ContainerSummary {
  readonly id: ContainerId;
  readonly name: string;
  /** Absent for containers outside Kubernetes. */
  readonly pod?: { namespace: string; name: string; uid: string; sandboxId: string };
  /** The pod's labels and the container's, the container's winning. */
  readonly labels: ReadonlyMap<string, string>;
  readonly image: string;
  readonly state: 'created' | 'running' | 'paused' | 'exited' | 'unknown';
  readonly createdAt: string;
  /** When it ended, as far as the runtime was asked. */
  readonly finishedAt?: string;
}

/** What a capture stops and reads together: one container, or every container of its pod. */
export type Scope = (typeof SCOPES)[number];

/** How a target can be stopped; plain data, so that the guard process and the journal can hold it. */
export type FreezeSpec =
  | SingleFreezeSpec
  /** Several that are stopped and let go together, the target's own first. At least one. */
  | { kind: 'group'; members: SingleFreezeSpec[] };

export type SingleFreezeSpec =
  | {
      kind: 'containerd';
      socket: string;
      namespace: string;
      containerId: string;
      /** The container's own cgroup, for a thaw when neither containerd nor its shim answers. */
      cgroup?: { version: 1 | 2; path: string };
    }
  | {
      kind: 'docker';
      socket: string;
      containerId: string;
      /** The same, for when neither Docker nor the container's shim answers. */
      cgroup?: { version: 1 | 2; path: string };
    }
  /** `path`: the cgroup's folder as the agent reaches it. */
  | { kind: 'cgroup-v2'; path: string }
  | { kind: 'cgroup-v1'; path: string }
  /**
   * SIGSTOP and SIGCONT, the last resort: the target's parent can see it. `pids` are the processes known at the time and,
   * in the same order, their start times in clock ticks since boot (proc(5) stat, field 22), so that a pid that was given to
   * another process is left alone. Their descendants are stopped as well. A /proc in the agent's own pid namespace.
   */
  | { kind: 'signal'; pids: number[]; startTicks?: number[]; procRoot?: string };

/** Where the container's file system is on the node. */
export interface OverlayRootfs {
  readonly kind: 'overlay';
  readonly upper: HostPath;
  /** Top-most first, as in overlayfs' lowerdir. */
  readonly lowers: readonly HostPath[];
  /** True when overlay attributes are `user.overlay.*` (mount option userxattr). */
  readonly userXattr: boolean;
}

export interface TargetMount {
  readonly containerPath: string;
  readonly hostPath: string;
  readonly type: string;
  readonly readOnly: boolean;
}

/** A document to keep verbatim in the `spec` artifact. */
export interface SpecDocument {
  /** File name, for example `oci-spec.json`. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** One resolved target. Pids are those of the moment it was resolved; ask `Runtime.pids` again when it matters. */
export interface Target {
  readonly record: TargetRecord;
  /** RFC 3339; absent where the runtime does not say. */
  readonly createdAt?: string;
  /** Of its pod, which may have had other containers before this one; RFC 3339. */
  readonly podCreatedAt?: string;
  /** What runs it, as the runtime names it: `io.containerd.runc.v2`. */
  readonly ociRuntime?: string;
  readonly freeze: FreezeSpec | undefined;
  readonly rootfs: OverlayRootfs | undefined;
  /** What the writable layer lies on; absent for what has no image. */
  readonly image?: BaseImage | undefined;
  readonly mounts: readonly TargetMount[];
  /** The container's log file as kubelet configured it; rotations lie beside it. */
  readonly logPath: HostPath | undefined;
  readonly documents: readonly SpecDocument[];
  /** What could not be learned about the target, for the manifest. */
  readonly notes: readonly string[];
  /**
   * The other running containers of the pod, each a target of its own, when the capture's scope is the pod: `freeze` then
   * stops them all, and `record` lists theirs. Everything else is of this one container. See pod.ts.
   */
  readonly companions: readonly Target[];
}

/** Where a rung that leaves CRIU's own files puts them; both on the node, seen under the same path by the runtime. */
export interface DumpFolders {
  /** The image files. It does not exist yet; the folder above does. */
  readonly images: HostPath;
  /** CRIU's log and statistics, where the runtime lets one choose. An empty folder. */
  readonly work: HostPath;
}

/**
 * One way of making a CRIU checkpoint. No deadline and no signal: cutting the call off in mid-dump can leave the task paused
 * (docs/decisions/0005). Fails with `runtime-unsupported` where the runtime turns out to have no such call, else as every call.
 */
export type CheckpointRung =
  | {
      readonly name: 'cri';
      /** The runtime writes a whole archive to `location`, a FIFO on the node that the caller already reads. */
      readonly delivers: 'archive';
      checkpoint(target: Target, location: HostPath): Promise<void>;
      /**
       * Removes what the runtime should have removed itself of checkpoints of this container since then (milliseconds since
       * the epoch), and says what that was. Fails as every call when nobody answers.
       */
      clean(containerId: string, sinceMs: number): Promise<string[]>;
    }
  | {
      readonly name: 'tasks' | 'docker';
      /** The runtime leaves CRIU's files in folders that the caller reads afterwards. */
      readonly delivers: 'images';
      /** It makes the folder of the images, and refuses one that is there. */
      readonly makesFolder?: true;
      /** Which options reach CRIU by this way. */
      readonly passes: readonly (keyof DumpOptions)[];
      checkpoint(target: Target, folders: DumpFolders, options: DumpOptions): Promise<void>;
      /** The same, for a runtime that has folders of its own on the way. */
      clean?(containerId: string, sinceMs: number): Promise<string[]>;
    };

export interface RuntimeIdentity {
  readonly name: string;
  readonly version: string;
}

/** What a runtime says of itself that decides how much of its containers can be captured. */
export interface RuntimeDescription {
  /** Of CRI: `v1`. */
  readonly apiVersion?: string;
  /** containerd's namespace in which the containers are. */
  readonly namespace?: string;
  /** Conditions of its own that it says are not met, in its words. */
  readonly unmet: readonly string[];
  /** Who keeps the containers' files, those with the most containers first. */
  readonly snapshotters: readonly SnapshotterFinding[];
  /** What it starts containers with: names to be found in its PATH, or absolute paths. Empty: not told. */
  readonly programs: readonly string[];
  /** False where its own configuration forbids checkpoints; undefined where it does not say. */
  readonly checkpoints?: boolean;
}

export interface SnapshotterFinding {
  readonly name: string;
  readonly containers: number;
  /** Why the writable layer of a container that was tried cannot be read; undefined: it can. */
  readonly obstacle?: string;
}

/**
 * A source of targets on this node. Implementations: cri.ts, containerd.ts, docker.ts, host.ts.
 * Every call takes a signal and fails with an `ExhibitError`: `runtime-unreachable` when nothing answers on the socket,
 * `runtime-failed` when it answers with an error.
 */
export interface Runtime extends AsyncDisposable {
  readonly kind: 'cri' | 'containerd' | 'docker' | 'host';
  identify(signal: AbortSignal): Promise<RuntimeIdentity>;
  /** More than the name, for `exhibit doctor`; absent where there is nothing more to ask. */
  describe?(signal: AbortSignal): Promise<RuntimeDescription>;
  /** Running and exited containers, the pod's sandbox containers left out. */
  list(signal: AbortSignal): Promise<ContainerSummary[]>;
  /**
   * Exactly one target, or `target-not-found`, `target-ambiguous` (the message lists the candidates),
   * `target-not-running`. A runtime that cannot serve this kind of selector answers `target-not-found`.
   */
  resolve(selector: Selector, signal: AbortSignal): Promise<Target>;
  /**
   * The container that ended last among those that the selector fits, as far as the runtime keeps it: without processes, and
   * with `record.ended`. For when `resolve` says `target-not-running`; fails in the same words. Absent where nothing is kept
   * of what has ended.
   */
  resolveEnded?(selector: Selector, signal: AbortSignal): Promise<Target>;
  /** How a container ended; undefined when it runs, or there is no such container. */
  endOf?(id: string, signal: AbortSignal): Promise<EndedRecord | undefined>;
  /** True when the runtime no longer keeps the target's writable layer: whoever still reads it sees it vanish. */
  isRemoved?(target: Target, signal: AbortSignal): Promise<boolean>;
  /** The processes of the target now, container by container, each one's init process first; empty when it has ended. */
  pids(target: Target, signal: AbortSignal): Promise<Pid[]>;
  /**
   * A blob of the node's content store (`sha256:HEX`), in chunks, unchecked; absent where the runtime keeps none. Fails with
   * `runtime-failed` when it is gone.
   */
  blob?(digest: string, signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** The ways in which a CRIU checkpoint can be asked for; empty where there is none. The order says nothing. */
  readonly rungs: readonly CheckpointRung[];
  /**
   * Why no rung can work on this node, as far as that is seen without asking for a dump; undefined where nothing is seen. Never
   * rejects.
   */
  dumpObstacle?(): Promise<string | undefined>;
  /** The runtime's own pause of the target, as data: what the journal keeps while a checkpoint is made. Undefined where it has none. */
  pauseOf(target: Target): SingleFreezeSpec | undefined;
  /** After a failed checkpoint: resumes the target if the runtime shows it paused. True when it had to. */
  resumeIfPaused(target: Target): Promise<boolean>;
}
