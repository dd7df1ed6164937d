import { CONTENT_CLASSES, type NotStored, type VolumeClass } from '../../evidence/volumes.ts';
import { isWithin } from '../host/mount-table.ts';
import type { Classified } from './volumes-class.ts';

/** What is taken of which mount, decided on data. */
export interface VolumesPolicy {
  /** Classes of which content is taken. */
  readonly content: readonly VolumeClass[];
  /** Content of all volumes together, and of one file. */
  readonly contentBytes: number;
  readonly fileBytes: number;
  /** Entries of one mount. */
  readonly entries: number;
  /** Of mounts that show these, or something above or below of them, no content is taken. */
  readonly nodePaths: readonly string[];
  /** Of network and FUSE file systems. `metadata`: by a process that is killed when it stands still. */
  readonly waiting: Waiting;
}

export const WAITING = ['listed', 'metadata'] as const;
export type Waiting = (typeof WAITING)[number];

/**
 * Not what kubelet writes for the API server, which still has it and where the container can change nothing: secrets,
 * tokens, config maps and the like are metadata only.
 */
const DEFAULT_CONTENT: readonly VolumeClass[] = [
  'shm',
  'tmpfs',
  'empty-dir-memory',
  'empty-dir',
  'pod-file',
  'docker-volume',
  'persistent-volume',
  'host-path',
];

/** The node's system, its runtimes' stores, and kubelet's folder with the secrets of all pods. */
const NODE_PATHS: readonly string[] = [
  '/bin',
  '/boot',
  '/dev',
  '/lib',
  '/lib64',
  '/proc',
  '/run/containerd',
  '/run/docker',
  '/sbin',
  '/sys',
  '/usr',
  '/var/lib/containerd',
  '/var/lib/docker',
  '/var/lib/etcd',
  '/var/lib/kubelet',
];

const MIB = 1024 * 1024;

/**
 * Two seconds of zstd on one core or ten of a slow network for the content; a file that is larger than a quarter of it
 * is a database's or a decoy. A million entries are some 700 MB of inventory before compression.
 */
export const VOLUMES_POLICY: VolumesPolicy = {
  content: DEFAULT_CONTENT,
  contentBytes: 1024 * MIB,
  fileBytes: 256 * MIB,
  entries: 1_000_000,
  nodePaths: NODE_PATHS,
  waiting: 'listed',
};

/** Of the node's own folders less is listed: a mount of the node's root has all of its system's files. */
export const NODE_PATH_ENTRIES = 100_000;

export interface Decision {
  readonly taken: 'content' | 'metadata' | 'listed';
  /** For the record; a sentence's end. */
  readonly why: string;
  /** Also a gap: the policy asks for more than could be taken. */
  readonly gap: boolean;
  /** Of the files that are not stored. */
  readonly notStored?: NotStored;
  readonly entries: number;
  /** It may block for ever whoever asks it for anything: for a process that can be killed. */
  readonly waits?: true;
}

/** How a mount came to the target. */
export interface Origin {
  readonly fileSystem: string;
  /** The target is no container, and the node has the mount at the same place. */
  readonly shared: boolean;
  /** The runtime was not asked for it: it lies inside of one that it was asked for, or the container made it. */
  readonly cameAlong: boolean;
}

export function decide(
  { class: of, hostPath, answers }: Pick<Classified, 'class' | 'hostPath' | 'answers'>,
  { fileSystem, shared, cameAlong }: Origin,
  policy: VolumesPolicy,
): Decision {
  const listed = (why: string, gap: boolean): Decision => ({ taken: 'listed', why, gap, entries: 0 });
  switch (of) {
    case 'root':
      return listed('the container’s own root is the artifact rootfs', false);
    case 'kernel':
      return listed('a file system of the kernel, in which nothing is a file', false);
    case 'overlay':
      return listed(
        'another overlay is not entered: its upper directory lies on a mount or a layer that is, and its lower ones may wait',
        true,
      );
    case 'remote':
      return whereItMayWait(fileSystem, policy);
    case 'made-inside':
      return listed('the container mounted a device that the node has nowhere: it is not entered', true);
  }
  if (shared) return listed('a mount of the node, which these processes share', false);
  if (!answers) return whereItMayWait(fileSystem, policy);
  if (!policy.content.includes(of)) {
    const why = `content of the class ${of} is not taken (volumes.content)`;
    return { taken: 'metadata', why, gap: false, notStored: 'class', entries: policy.entries };
  }
  if (of === 'host-path' && (cameAlong || isNodePath(hostPath ?? '/', policy.nodePaths))) {
    const why =
      'the node’s own folders (volumes.nodePaths, and what lies mounted inside), of whose files no content is taken';
    const entries = Math.min(policy.entries, NODE_PATH_ENTRIES);
    return { taken: 'metadata', why, gap: true, notStored: 'node-path', entries };
  }
  return { taken: 'content', why: `content of the class ${of} is taken`, gap: false, entries: policy.entries };
}

function whereItMayWait(fileSystem: string, { waiting, entries }: VolumesPolicy): Decision {
  const why = `a file system of type ${fileSystem} may wait for somebody for ever`;
  if (waiting === 'listed') {
    return { taken: 'listed', why: `${why}: it was not entered (volumes.waiting)`, gap: true, entries: 0 };
  }
  const asked = `${why}: names and metadata alone were asked for, within a time (volumes.waiting)`;
  return { taken: 'metadata', why: asked, gap: true, notStored: 'class', entries, waits: true };
}

export function isNodePath(hostPath: string, nodePaths: readonly string[]): boolean {
  return nodePaths.some((one) => isWithin(hostPath, one) || isWithin(one, hostPath));
}

/** In this order the budget is spent: what is gone first, first. Those that are not here come last. */
const ORDER: readonly VolumeClass[] = [
  'shm',
  'tmpfs',
  'empty-dir-memory',
  'pod-file',
  'empty-dir',
  'docker-volume',
  'persistent-volume',
];

export function rank({ class: of, memoryBacked }: Pick<Classified, 'class' | 'memoryBacked'>): number {
  const at = ORDER.indexOf(of);
  return (memoryBacked ? 0 : ORDER.length + CONTENT_CLASSES.length) + (at === -1 ? ORDER.length : at);
}
