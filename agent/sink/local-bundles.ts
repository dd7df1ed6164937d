import { readdir, rmdir, unlink } from 'node:fs/promises';
import { validate as isUuid } from 'uuid';
import { isErrno } from '../../evidence/error.ts';
import { keySegment, MANIFEST_OBJECT, REQUEST_OBJECT, SEAL_OBJECT } from '../../evidence/layout.ts';
import { manifestSchema, type RequestRecord, requestSchema } from '../../evidence/manifest.ts';
import { type Directory, DirectoryPool, openIfThere } from '../host/directory.ts';
import { pathAt } from '../host/open-at.ts';
import { readWhole } from '../host/regular-file.ts';

/**
 * The bundles of one node in a folder sink, for a schedule that keeps only so many. Whatever is found there is not believed:
 * every step goes by descriptor and follows nothing, and a folder that holds anything but plain files is left alone.
 */

/** More folders are not looked at in one go. */
const MOST_FOLDERS = 100_000;
/** A request is some KiB, a manifest of full archives some MiB; a larger one is not looked into, and so not removed. */
const MOST_REQUEST_BYTES = 1024 * 1024;
const MOST_MANIFEST_BYTES = 16 * 1024 * 1024;
/** Objects of a bundle: some thirty. */
const MOST_FILES = 1000;

export interface LocalBundle {
  readonly captureId: string;
  readonly request: RequestRecord;
  /** As its manifest says. */
  readonly outcome: 'complete' | 'partial' | 'cancelled' | 'truncated';
}

export interface LocalNode {
  /** The sink's own folder. */
  readonly root: string;
  readonly cluster: string;
  readonly node: string;
}

/** Opens the folder of the node's bundles; undefined where there is none. */
function openNodeFolder(pool: DirectoryPool, { root, cluster, node }: LocalNode): Directory | undefined {
  try {
    let at = pool.root(root);
    for (const name of [keySegment(cluster), keySegment(node)]) {
      const next = openFolder(at, name);
      if (next === undefined) return undefined;
      at = next;
    }
    return at;
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined;
    throw error;
  }
}

function openFolder(parent: Directory, name: string): Directory | undefined {
  using node = openIfThere(parent, Buffer.from(name));
  return node?.kind === 'directory' ? parent.child(Buffer.from(name), node) : undefined;
}

/**
 * Sealed bundles that nobody encrypted, of which `isWanted`; ids in `passed` are not looked at, and those that are looked at and
 * are not wanted are added to it.
 */
export async function listLocalBundles(
  place: LocalNode,
  isWanted: (request: RequestRecord) => boolean,
  passed: Set<string>,
): Promise<LocalBundle[]> {
  using pool = new DirectoryPool();
  const folder = openNodeFolder(pool, place);
  if (folder === undefined) return [];
  const names = await readdir(pathAt(folder.fd, Buffer.from('.')));
  const found: LocalBundle[] = [];
  for (const captureId of names.slice(0, MOST_FOLDERS)) {
    if (!isUuid(captureId) || passed.has(captureId)) continue;
    await new Promise((resolve) => setImmediate(resolve));
    const bundle = readBundle(folder, captureId, place, isWanted);
    if (bundle === 'foreign') passed.add(captureId);
    else if (bundle !== undefined) found.push(bundle);
  }
  return found;
}

/** `foreign`: never one that is wanted. Undefined: not sealed (yet), or it cannot be read. */
function readBundle(
  folder: Directory,
  captureId: string,
  { cluster, node }: LocalNode,
  isWanted: (request: RequestRecord) => boolean,
): LocalBundle | 'foreign' | undefined {
  const bundle = openFolder(folder, captureId);
  if (bundle === undefined) return 'foreign';
  try {
    const request = requestSchema.safeParse(readJson(bundle, REQUEST_OBJECT, MOST_REQUEST_BYTES)).data;
    if (request === undefined) return undefined;
    const isOurs = request.captureId === captureId && request.cluster === cluster && request.node === node;
    if (!isOurs || !isWanted(request)) return 'foreign';
    const manifest = manifestSchema.safeParse(readJson(bundle, MANIFEST_OBJECT, MOST_MANIFEST_BYTES)).data;
    using seal = openIfThere(bundle, Buffer.from(SEAL_OBJECT));
    if (seal?.kind !== 'file' || manifest?.captureId !== captureId) return undefined;
    return { captureId, request, outcome: manifest.outcome };
  } finally {
    bundle.close();
  }
}

function readJson(bundle: Directory, name: string, mostBytes: number): unknown {
  using node = openIfThere(bundle, Buffer.from(name));
  if (node?.kind !== 'file' || node.stat.size > BigInt(mostBytes)) return undefined;
  const { content } = readWhole(node.open().fd, node.stat, Buffer.allocUnsafeSlow(Number(node.stat.size) + 1));
  try {
    return JSON.parse(content.toString('utf8'));
  } catch {
    return undefined;
  }
}

/**
 * Removes one bundle: its seal first, so that half of it never looks whole, and its request last, so that what is left is
 * known for what it is. False, and nothing is removed, where it holds anything but plain files.
 */
export async function removeLocalBundle(place: LocalNode, captureId: string): Promise<boolean> {
  using pool = new DirectoryPool();
  const folder = isUuid(captureId) ? openNodeFolder(pool, place) : undefined;
  const bundle = folder && openFolder(folder, captureId);
  if (folder === undefined || bundle === undefined) return false;
  const names = await readdir(pathAt(bundle.fd, Buffer.from('.')), { encoding: 'buffer' });
  if (names.length > MOST_FILES || !names.every((name) => isPlainFile(bundle, name))) return false;
  const order = names.toSorted((a, b) => rankOf(a) - rankOf(b));
  for (const name of order) await unlink(pathAt(bundle.fd, name));
  await rmdir(pathAt(folder.fd, Buffer.from(captureId)));
  return true;
}

function rankOf(name: Buffer): number {
  const text = name.toString('latin1');
  return text === SEAL_OBJECT ? 0 : text === REQUEST_OBJECT ? 2 : 1;
}

function isPlainFile(bundle: Directory, name: Buffer): boolean {
  using node = openIfThere(bundle, name);
  return node?.kind === 'file';
}
