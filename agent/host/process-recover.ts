import { DELETED_SUFFIX } from './process-maps.ts';
import type { ScannedProcess } from './process-scanned.ts';
import type { ContentSource } from './procfs-request.ts';

/** A file that has lost its name but is still held by a process. */
export interface Recoverable {
  readonly source: ContentSource;
  /** In the archive. */
  readonly member: string;
  readonly kind: 'executable' | 'descriptor' | 'mapping';
  /** As the kernel names it, without its mark. */
  readonly path: string;
  readonly pathBase64?: string;
  readonly memfd: boolean;
  /** Apparent size in bytes as first seen; undefined for mappings. */
  readonly sizeBytes: bigint | undefined;
  /** Who holds it: `17/exe`, `17/fd/3`. */
  readonly heldBy: string[];
}

/** Holders listed for one file. */
const HOLDERS_MAX = 64;

/**
 * Every deleted executable, deleted open file, memfd and deleted executable mapping, each inode once: first executables,
 * then mapped code, then open files, so that a byte budget is spent on code before data.
 */
export function findRecoverable(
  processes: readonly Pick<ScannedProcess, 'pid' | 'executable' | 'nameless' | 'code'>[],
): Recoverable[] {
  const found = new Map<string, Recoverable>();
  const add = (key: string, holder: string, make: () => Omit<Recoverable, 'heldBy'>): void => {
    const known = found.get(key);
    if (known === undefined) found.set(key, { ...make(), heldBy: [holder] });
    else if (known.heldBy.length < HOLDERS_MAX) known.heldBy.push(holder);
  };
  for (const { pid, executable } of processes) {
    if (executable === undefined || !(executable.deleted || executable.memfd)) continue;
    add(keyOf(executable) ?? `${pid}/exe`, `${pid}/exe`, () => ({
      source: { pid, name: 'exe', ...expected(executable) },
      member: `recovered/${pid}/exe`,
      kind: 'executable',
      ...nameOf(executable.path, executable.pathBase64),
      memfd: executable.memfd,
      sizeBytes: executable.sizeBytes,
    }));
  }
  for (const { pid, code } of processes) {
    for (const file of code) {
      if (!file.deleted) continue;
      // The device in maps is not always that of stat (overlayfs), so only the inode number can tell it from an executable.
      if ([...found.values()].some(({ source }) => source.inode === BigInt(file.inode))) continue;
      add(`map ${file.device} ${file.inode}`, `${pid}/map_files/${file.range}`, () => ({
        source: { pid, name: `map_files/${file.range}` },
        member: `recovered/${pid}/map_files/${file.range}`,
        kind: 'mapping',
        ...nameOf(file.path, file.pathBase64),
        memfd: file.memfd === true,
        sizeBytes: undefined,
      }));
    }
  }
  for (const { pid, nameless } of processes) {
    for (const descriptor of nameless) {
      add(keyOf(descriptor) ?? `${pid}/fd/${descriptor.fd}`, `${pid}/fd/${descriptor.fd}`, () => ({
        source: { pid, name: `fd/${descriptor.fd}`, ...expected(descriptor) },
        member: `recovered/${pid}/fd/${descriptor.fd}`,
        kind: 'descriptor',
        ...nameOf(descriptor.target, descriptor.targetBase64),
        memfd: descriptor.type === 'memfd',
        sizeBytes: descriptor.sizeBytes,
      }));
    }
  }
  return [...found.values()];
}

interface Inode {
  readonly device?: bigint;
  readonly inode?: bigint | number;
}

function keyOf({ device, inode }: Inode): string | undefined {
  return device === undefined || inode === undefined ? undefined : `${device} ${inode}`;
}

function expected({ device, inode }: Inode): { device?: bigint; inode?: bigint } {
  return device === undefined || inode === undefined ? {} : { device, inode: BigInt(inode) };
}

function nameOf(path: string, pathBase64: string | undefined): { path: string; pathBase64?: string } {
  const bare = path.endsWith(DELETED_SUFFIX) ? path.slice(0, -DELETED_SUFFIX.length) : path;
  return pathBase64 === undefined ? { path: bare } : { path: bare, pathBase64 };
}
