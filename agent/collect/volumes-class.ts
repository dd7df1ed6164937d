import type { VolumeClass } from '../../evidence/volumes.ts';
import { hostPathOf, isWithin, type MountLine } from '../host/mount-table.ts';
import { mayWait } from '../host/preflight-files.ts';
import type { TargetMount } from '../runtime/runtime.ts';

/** What a mount is, told from the tables alone: nothing here asks a file system. Texts are Latin-1. */

/** All that is known of the others when one mount is judged. */
export interface Surroundings {
  /** What the container has at `/`. */
  readonly root: MountLine | undefined;
  /** The node's own mount table. */
  readonly nodeTable: readonly MountLine[];
  /** What the runtime says it mounted, by the path in the container. */
  readonly runtime: ReadonlyMap<string, TargetMount>;
  /** Of the target's pod. */
  readonly podUid: string | undefined;
}

export interface Classified {
  readonly class: VolumeClass;
  readonly memoryBacked: boolean;
  /** Nobody but this kernel and its devices has to answer for it. */
  readonly answers: boolean;
  readonly hostPath: string | undefined;
  readonly runtime: TargetMount | undefined;
  /** kubelet's plugin and its name for the volume. */
  readonly plugin?: string;
  readonly name?: string;
}

/** Doors into the kernel: nothing of theirs is a file. */
const KERNEL: ReadonlySet<string> = new Set([
  'proc',
  'sysfs',
  'cgroup',
  'cgroup2',
  'devpts',
  'mqueue',
  'debugfs',
  'tracefs',
  'securityfs',
  'bpf',
  'configfs',
  'binfmt_misc',
  'selinuxfs',
  'pstore',
  'efivarfs',
  'nsfs',
  'fusectl',
  'rpc_pipefs',
  'nfsd',
]);

const MEMORY: ReadonlySet<string> = new Set(['tmpfs', 'ramfs', 'hugetlbfs', 'devtmpfs']);

/** File systems of this node's own devices that answer by themselves. What is not among these may wait for somebody. */
const LOCAL: ReadonlySet<string> = new Set([
  'ext2',
  'ext3',
  'ext4',
  'xfs',
  'btrfs',
  'f2fs',
  'vfat',
  'exfat',
  'iso9660',
  'squashfs',
  'erofs',
]);

/** An overlay is as good as its lower directories, which the container chooses for one of its own; not for the node's root. */
function answersByItself({ type, device }: MountLine, nodeTable: readonly MountLine[]): boolean {
  if (type === 'overlay') return device === nodeTable.findLast(({ mountPoint }) => mountPoint === '/')?.device;
  return (MEMORY.has(type) || LOCAL.has(type)) && !mayWait(type);
}

/** Files that kubelet, containerd and Docker make for every container. */
const POD_FILES: ReadonlySet<string> = new Set([
  '/etc/hosts',
  '/etc/hostname',
  '/etc/resolv.conf',
  '/dev/termination-log',
]);

/** kubelet's plugins whose volumes are not claims; `kubernetes.io~NAME` in its folders. */
const PLUGINS: Readonly<Record<string, VolumeClass>> = {
  configmap: 'config-map',
  secret: 'secret',
  'downward-api': 'downward-api',
  projected: 'projected',
};

const TOKEN_FOLDER = '/var/run/secrets/kubernetes.io/serviceaccount';

/** Below kubelet's root: `pods/UID/volumes/PLUGIN/NAME`. */
const POD_VOLUME = /\/pods\/([^/]+)\/volumes\/([^/]+)\/([^/]+)/;
/** Of a volume's part alone: `pods/UID/volume-subpaths/NAME/CONTAINER/INDEX`. */
const SUBPATH = /\/pods\/([^/]+)\/volume-subpaths\/([^/]+)\//;
const POD_FILE = /\/pods\/[^/]+\/(?:etc-hosts$|containers\/[^/]+\/[^/]+$)/;
const DOCKER_VOLUME = /\/volumes\/([^/]+)\/_data(?:\/|$)/;

export function classify(mount: MountLine, around: Surroundings): Classified {
  const told = around.runtime.get(mount.mountPoint);
  const found = hostPathOf(mount, around.nodeTable);
  const hostPath = found ?? (told?.hostPath ? latin1Of(told.hostPath) : undefined);
  const answers = answersByItself(mount, around.nodeTable);
  const as = (verdict: VolumeClass, more: Pick<Classified, 'plugin' | 'name'> = {}): Classified => ({
    class: verdict,
    memoryBacked: MEMORY.has(mount.type),
    answers,
    hostPath,
    runtime: told,
    ...more,
  });
  if (isRoot(mount, around.root)) return as('root');
  if (KERNEL.has(mount.type)) return as('kernel');
  if (mount.type === 'overlay' && !answers) return as('overlay');
  const ofPod = hostPath === undefined ? undefined : podVolume(mount, hostPath, around.podUid);
  if (ofPod !== undefined) return as(ofPod.class, ofPod);
  const docker = told?.type === 'volume' || DOCKER_VOLUME.test(told?.hostPath ?? '');
  if (docker) return as('docker-volume', { name: DOCKER_VOLUME.exec(hostPath ?? '')?.[1] ?? '' });
  if (!answers) return as('remote');
  const perPod = hostPath !== undefined && POD_FILE.test(hostPath);
  if (perPod || (POD_FILES.has(mount.mountPoint) && told?.type === 'bind')) return as('pod-file');
  if (mount.mountPoint === '/dev/shm' && MEMORY.has(mount.type)) return as('shm');
  if (hostPath !== undefined) return as('host-path');
  return as(MEMORY.has(mount.type) ? 'tmpfs' : 'made-inside');
}

/**
 * The root itself, or a bind of some of it: an overlay has a device number of its own. A process that gave itself another
 * root has a mount at `/` as well, which is none.
 */
function isRoot(mount: MountLine, root: MountLine | undefined): boolean {
  if (mount.device !== root?.device) return false;
  return mount.type === 'overlay' || (mount.mountPoint === '/' && mount.root === root.root);
}

/** A volume of the target's own pod. That of another pod, seen through a mount of the node, is the node's. */
function podVolume(
  mount: MountLine,
  hostPath: string,
  podUid: string | undefined,
): (Pick<Classified, 'class'> & { plugin: string; name: string }) | undefined {
  const memory = MEMORY.has(mount.type);
  const [, uid, folder = '', name = ''] = POD_VOLUME.exec(hostPath) ?? [];
  if (uid !== undefined) {
    if (podUid !== undefined && uid !== podUid) return undefined;
    const plugin = folder.replace(/^kubernetes\.io~/, '');
    if (plugin === 'empty-dir') return { class: memory ? 'empty-dir-memory' : 'empty-dir', plugin, name };
    if (plugin === 'projected' && (name.startsWith('kube-api-access-') || isWithin(mount.mountPoint, TOKEN_FOLDER))) {
      return { class: 'service-account-token', plugin, name };
    }
    return { class: PLUGINS[plugin] ?? 'persistent-volume', plugin, name };
  }
  const [, part, partOf = ''] = SUBPATH.exec(hostPath) ?? [];
  if (part === undefined || (podUid !== undefined && part !== podUid)) return undefined;
  // Which plugin it is of is not told. In memory it may be a secret, and is treated as one.
  return { class: memory ? 'secret' : 'persistent-volume', plugin: 'subpath', name: partOf };
}

const latin1Of = (text: string): string => Buffer.from(text).toString('latin1');
