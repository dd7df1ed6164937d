import { isDeletedName } from './process-maps.ts';
import { type FileIdentity, identify, LIMIT_BYTES, listNumbers, readLinkText, readText } from './procfs.ts';

/** There are many of these, so they are small: text is Latin-1, one character a byte. */
export interface DescriptorReading {
  readonly fd: number;
  /** The link's text; undefined where it could not be read, and `errno` says why. */
  readonly target: string | undefined;
  readonly errno: string | undefined;
  readonly info: string | undefined;
  /** Of targets that have a path; sockets, pipes and anonymous inodes say in their text what they are. An errno otherwise. */
  readonly file: DescriptorFile | string | undefined;
}

/** Type, device, inode, links, size in bytes. */
export type DescriptorFile = readonly [FileIdentity['type'], bigint, bigint, number, bigint];

/** 20 µs each: about a second. A process may have 1,048,576 (fs.nr_open). */
export const DESCRIPTORS_MAX = 65_536;

/** `careful`: without stat(2), which may wait for a file system. */
export function readDescriptors(
  base: string,
  careful: boolean,
): { descriptors: DescriptorReading[]; truncated: boolean; errno: string | undefined } {
  const listed = listNumbers(`${base}/fd`, DESCRIPTORS_MAX);
  if (listed.kind === 'failed') return { descriptors: [], truncated: false, errno: listed.errno };
  const descriptors: DescriptorReading[] = [];
  for (const fd of listed.numbers) {
    const target = readLinkText(`${base}/fd/${fd}`);
    // Closed since it was listed: nothing was missed.
    if (target.errno === 'ENOENT') continue;
    const info = readText(`${base}/fdinfo/${fd}`, LIMIT_BYTES.small);
    const earlier = careful ? undefined : lastByFd.get(fd);
    if (earlier !== undefined && isSameFile(earlier, target.text, info)) {
      descriptors.push(earlier);
      continue;
    }
    const asked = target.text?.startsWith('/') === true && !careful;
    const file = asked ? fileOf(`${base}/fd/${fd}`) : undefined;
    const reading = { fd, target: target.text, errno: target.errno, info, file };
    descriptors.push(reading);
    if (!careful && isRemembered(reading)) lastByFd.set(fd, reading);
  }
  return { descriptors, truncated: listed.truncated, errno: undefined };
}

/**
 * The last process' reading of each descriptor. Workers inherit most of theirs, and what is the same need not be asked for
 * again, nor analysed, nor written as JSON: whoever sees the same object knows that.
 */
const lastByFd = new Map<number, DescriptorReading>();
/** Descriptors below this number. */
const REMEMBERED_DESCRIPTORS_MAX = 4096;
/** In characters; that of an epoll or inotify descriptor may have a megabyte. */
const REMEMBERED_INFO_MAX = 1024;

function isRemembered({ fd, info = '' }: DescriptorReading): boolean {
  return fd < REMEMBERED_DESCRIPTORS_MAX && info.length <= REMEMBERED_INFO_MAX;
}

/**
 * The same text of the link, and the same position, flags, mount and inode. A file without a name is asked for each time: its
 * text says too little.
 */
function isSameFile(earlier: DescriptorReading, target: string | undefined, info: string | undefined): boolean {
  if (info === undefined || target === undefined || earlier.info !== info || earlier.target !== target) return false;
  const { file } = earlier;
  if (file === undefined) return !target.startsWith('/');
  return typeof file === 'object' && file[3] > 0 && !isDeletedName(target) && info.includes('\nino:');
}

function fileOf(path: string): DescriptorFile | string {
  const found = identify(path);
  if ('errno' in found) return found.errno;
  return [found.type, found.device, found.inode, found.links, found.sizeBytes];
}
