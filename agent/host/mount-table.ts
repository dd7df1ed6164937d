import { readFileSync } from 'node:fs';
import { errnoOf } from '../../evidence/error.ts';
import { fromLatin1, latin1, type Worded } from './decode.ts';
import { parseMountinfo } from './process-small.ts';
import { LIMIT_BYTES, readBounded } from './procfs.ts';

/** One line of proc_pid_mountinfo(5). Texts are Latin-1, one character a byte, with the octal escapes undone. */
export interface MountLine {
  readonly id: number;
  readonly parentId: number;
  /** `MAJOR:MINOR`, decimal. */
  readonly device: string;
  readonly type: string;
  /** What of the file system is mounted. */
  readonly root: string;
  /** Seen from the process' root. */
  readonly mountPoint: string;
  readonly source: string;
  readonly options: readonly string[];
  readonly superOptions: string;
  readonly propagation: readonly string[];
}

/** The kernel's mark on a root whose directory entry is gone. */
const GONE = '//deleted';

export function mountLines(bytes: Uint8Array): MountLine[] {
  return parseMountinfo(bytes).map((mount) => ({
    id: mount.id,
    parentId: mount.parentId,
    device: mount.device,
    type: mount.type,
    root: exact(mount, 'root'),
    mountPoint: exact(mount, 'mountPoint'),
    source: exact(mount, 'source'),
    options: mount.options,
    superOptions: mount.superOptions,
    propagation: mount.propagation,
  }));
}

/** The Latin-1 of a text that was turned into words. */
function exact<Name extends string>(worded: Worded<Name>, name: Name): string {
  const fields = worded as Readonly<Record<string, string | undefined>>;
  const kept = fields[`${name}Base64`];
  return latin1(Buffer.from(kept ?? fields[name] ?? '', kept === undefined ? 'utf8' : 'base64'));
}

export const bytesOf = (text: string): Buffer => fromLatin1(text);

/** A root without the mark, and whether it had it. A directory may really be called so: then both are told of it. */
export function sourceOf({ root }: Pick<MountLine, 'root'>): { root: string; deleted: boolean } {
  return root.endsWith(GONE) ? { root: root.slice(0, -GONE.length), deleted: true } : { root, deleted: false };
}

/** `path` is `folder` or below it; both absolute. */
export function isWithin(path: string, folder: string): boolean {
  return folder === '/' || path === folder || path.startsWith(`${folder}/`);
}

/**
 * Where another mount table (the node's) has what `mount` shows: by device, through the mount that shows the most of the
 * file system. Undefined where it has it nowhere. Mounts of the same device may cover that place: it is a name, not a way.
 */
export function hostPathOf(mount: MountLine, nodeTable: readonly MountLine[]): string | undefined {
  const { root } = sourceOf(mount);
  let best: MountLine | undefined;
  for (const line of nodeTable) {
    if (line.device !== mount.device || !isWithin(root, line.root)) continue;
    if (best === undefined || line.root.length < best.root.length) best = line;
  }
  if (best === undefined) return undefined;
  const below = best.root === '/' ? root : root.slice(best.root.length);
  return `${best.mountPoint === '/' ? '' : best.mountPoint}${below === '/' ? '' : below}` || '/';
}

/** What is mounted where, as the kernel would find it: the last mount of a place covers the others. */
export interface MountPlaces {
  /** The mount that a path ends in when it is looked up from the root. */
  readonly at: (path: string) => number | undefined;
}

/** The mounts by id and place. A mount at a place counts only where its parent is what a lookup finds just above it. */
export function mountPlaces(table: readonly MountLine[]): MountPlaces {
  const byPlace = new Map<string, MountLine[]>();
  for (const line of table) byPlace.set(line.mountPoint, [...(byPlace.get(line.mountPoint) ?? []), line]);
  const known = new Map<string, number | undefined>();
  const at = (path: string): number | undefined => {
    if (known.has(path)) return known.get(path);
    const above = path === '/' ? undefined : at(path.slice(0, path.lastIndexOf('/')) || '/');
    const here = byPlace.get(path) ?? [];
    let found =
      path === '/' ? here.find((line) => !here.some(({ id }) => id === line.parentId && id !== line.id))?.id : above;
    // Mounts that lie on each other: each is the child of the one below it.
    for (let covered = true; covered; ) {
      const next = here.find(({ id, parentId }) => parentId === found && id !== found);
      covered = next !== undefined;
      if (next !== undefined) found = next.id;
    }
    known.set(path, found);
    return found;
  };
  return { at };
}

/** `base` is a process' folder in /proc. */
export function readMountTable(
  base: string,
): { readonly table: MountLine[]; readonly truncated: boolean } | { readonly errno: string } {
  const reading = readBounded(`${base}/mountinfo`, LIMIT_BYTES.mountinfo);
  if (reading.kind === 'failed') return { errno: reading.errno };
  return { table: mountLines(reading.bytes), truncated: reading.truncated };
}

/** The mount that a descriptor is on, of an O_PATH descriptor too: `mnt_id` of proc_pid_fdinfo(5). Asks no file system. */
export function mountIdOf(fd: number): number | undefined {
  try {
    const id = /^mnt_id:\s*(\d{1,10})$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1];
    return id === undefined ? undefined : Number(id);
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}
