import { errnoOf } from '../../evidence/error.ts';
import type { VolumeClass } from '../../evidence/volumes.ts';
import { DirectoryPool } from '../host/directory.ts';
import { readHead } from '../host/file-head.ts';
import { reach } from '../host/host.ts';
import { LowerLayers } from '../host/lower.ts';
import { bytesOf } from '../host/mount-table.ts';
import { overlayClass } from '../host/overlay.ts';
import type { CollectContext, TextObject } from './collector.ts';
import { FindingLog } from './finding-log.ts';
import { judgeOnMount, type MountFacts, type MountMoments, type MountSubject, type Origin } from './finding-mount.ts';
import { HEAD_BYTES, type Judgement } from './finding-subject.ts';
import type { Stored } from './rootfs-member.ts';
import { join } from './rootfs-names.ts';
import type { Entry } from './rootfs-store.ts';
import { subjectOf } from './rootfs-subject.ts';
import type { Volume } from './volumes-find.ts';

type Context = Pick<CollectContext, 'fact' | 'host' | 'note' | 'now' | 'read' | 'signal' | 'target'>;

/** Called for every entry of one volume, parents first. A promise only when there is something to write. */
export type ExamineEntry = (entry: Entry, stored: Stored) => Promise<void> | undefined;

/** What the rules have to say about what is mounted, while it is walked. */
export class VolumeFindings {
  readonly #context: Context;
  readonly #log: FindingLog;
  readonly #moments: MountMoments;

  constructor(context: Context, output: Pick<TextObject, 'line'>) {
    this.#context = context;
    // An unpacked archive on a volume is nobody's news.
    this.#log = new FindingLog(output, ({ reasons }) => reasons?.includes('among-many') !== true);
    const { createdAt, podCreatedAt } = context.target;
    const containerNs = nanoseconds(createdAt);
    const sinceNs = nanoseconds(podCreatedAt) ?? containerNs;
    this.#moments = { nowNs: BigInt(context.now()) * MILLISECOND_NS, containerNs, sinceNs };
  }

  /** For one volume. `all` says where else the container has its files. */
  of(volume: Volume, all: readonly Volume[]): ExamineEntry {
    const mount = factsOf(volume, all);
    const root = bytesOf(volume.mount.mountPoint.replace(/^\//, ''));
    const nodeRoot = mount.origin === 'node' ? nodeRootOf(volume) : undefined;
    const writable = new WritableFolders();
    const devices = new RuntimeDevices(volume);
    return (entry, stored) => {
      const worldWritable = writable.holds(entry);
      if (devices.has(entry)) return undefined;
      const subject: MountSubject = {
        ...subjectOf(
          {
            entry,
            content: stored.content,
            sha256: stored.sha256,
            change: 'added',
            lower: undefined,
            lookup: undefined,
          },
          { worldWritable, memory: mount.memory },
        ),
        head: () => headOf(entry, stored),
        nodePath: nodeRoot && below(nodeRoot, entry.path, root),
      };
      const found = judgeOnMount(subject, this.#moments, mount);
      return found.length === 0 ? undefined : this.#write(found, subject, entry, volume);
    };
  }

  /** Judges what had to wait, writes it, and tells the numbers. */
  async finish(): Promise<void> {
    using pool = new DirectoryPool();
    await this.#log.finish(openImage(this.#context, pool), this.#context);
  }

  async #write(found: readonly Judgement[], subject: MountSubject, entry: Entry, { number }: Volume): Promise<void> {
    const extras = { inode: entry.node.stat.ino, volume: number, nodePath: subject.nodePath };
    for (const one of found) await this.#log.say(one, { ...subject, change: undefined }, extras);
  }
}

const MILLISECOND_NS = 1_000_000n;

function nanoseconds(time: string | undefined): bigint | undefined {
  const ms = Date.parse(time ?? '');
  // The epoch itself is what a runtime says that does not know.
  return Number.isNaN(ms) || ms <= 0 ? undefined : BigInt(ms) * MILLISECOND_NS;
}

const ORIGINS: Partial<Record<VolumeClass, Origin>> = {
  'host-path': 'node',
  'persistent-volume': 'data',
  'docker-volume': 'data',
  'config-map': 'kubelet',
  secret: 'kubelet',
  'downward-api': 'kubelet',
  projected: 'kubelet',
  'service-account-token': 'kubelet',
};

function factsOf(volume: Volume, all: readonly Volume[]): MountFacts {
  const { mount, classified, number } = volume;
  const has = (option: string): boolean => mount.options.includes(option);
  const readOnly = [volume, ...all.filter(({ sameAs }) => sameAs === number)].every(isReadOnly);
  // A part of a volume in memory is called a secret in doubt; those are never mounted to be written to.
  const isDoubt = classified.plugin === 'subpath' && !readOnly && classified.memoryBacked;
  return {
    origin: isDoubt ? 'pod' : (ORIGINS[classified.class] ?? 'pod'),
    memory: classified.memoryBacked,
    readOnly,
    noexec: has('noexec'),
    nosuid: has('nosuid'),
    nodev: has('nodev'),
  };
}

function isReadOnly({ mount }: Volume): boolean {
  return mount.options.includes('ro') || mount.superOptions.split(',').includes('ro');
}

function nodeRootOf({ classified }: Volume): Buffer | undefined {
  return classified.hostPath === undefined ? undefined : bytesOf(classified.hostPath.replace(/^\//, ''));
}

/** Where `path`, which is `root` or lies below it, is below `nodeRoot`. */
function below(nodeRoot: Buffer, path: Buffer, root: Buffer): Buffer {
  const rest = path.subarray(root.length === 0 ? 0 : root.length + 1);
  return rest.length === 0 ? nodeRoot : nodeRoot.length === 0 ? rest : join(nodeRoot, rest);
}

/**
 * The first bytes, where policy lets content be read: of a small file what was read already, which is copied because the
 * buffer is used again; a large one is opened once more, and so is one whose content was only too much.
 */
function headOf({ node }: Entry, { as, content, notStored }: Stored): Uint8Array | undefined {
  if (content?.body instanceof Uint8Array) return Uint8Array.from(content.body.subarray(0, HEAD_BYTES));
  const mayRead = as.kind === 'member' || notStored === 'budget' || notStored === 'file-size';
  return mayRead ? readHead(node, HEAD_BYTES) : undefined;
}

/** Whether an entry lies below a directory that anybody may write to: the top-most of the branch is remembered. */
class WritableFolders {
  #top: Buffer | undefined;

  holds({ path, node }: Entry): boolean {
    const top = this.#top;
    if (top !== undefined && path.length > top.length && top.equals(path.subarray(0, top.length))) return true;
    if (node.kind === 'directory' && (node.stat.mode & 0o002n) !== 0n) {
      this.#top = path.length === 0 ? path : Buffer.concat([path, SLASH]);
    }
    return false;
  }
}

const SLASH = Buffer.from('/');
/** A runtime makes its devices right after it has mounted /dev. */
const SETUP_NS = 2_000_000_000n;

/** Devices that the runtime gave to the container, all of the node's to a privileged one; and the node's own /dev. */
class RuntimeDevices {
  readonly #isKernels: boolean;
  readonly #isDev: boolean;
  #mountedNs: bigint | undefined;

  constructor({ mount, classified }: Pick<Volume, 'mount' | 'classified'>) {
    this.#isKernels = mount.type === 'devtmpfs';
    this.#isDev = mount.mountPoint === '/dev' && classified.class === 'tmpfs';
  }

  has({ node: { kind, stat } }: Entry): boolean {
    // Older kernels keep no birth on a tmpfs; then it is the last change.
    const madeNs = stat.birthtimeNs === 0n ? stat.ctimeNs : stat.birthtimeNs;
    this.#mountedNs ??= madeNs;
    if (kind !== 'character-device' && kind !== 'block-device') return false;
    return this.#isKernels || (this.#isDev && madeNs < this.#mountedNs + SETUP_NS);
  }
}

/** The image's layers, in which executables are looked for; undefined where there are none or they cannot be opened. */
function openImage({ host, target: { rootfs } }: Context, pool: DirectoryPool): LowerLayers | undefined {
  if (rootfs === undefined) return undefined;
  try {
    const paths = rootfs.lowers.map((lower) => reach(host, lower));
    return new LowerLayers(pool, paths, overlayClass(rootfs.userXattr));
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}
