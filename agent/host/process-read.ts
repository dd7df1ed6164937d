import { closeSync, openSync, readlinkSync } from 'node:fs';
import type { Pid } from '../runtime/runtime.ts';
import { latin1 } from './decode.ts';
import { type Host, procPath } from './host.ts';
import { isDeletedName } from './process-maps.ts';
import {
  type FileIdentity,
  type FileReading,
  failed,
  identify,
  LIMIT_BYTES,
  listNumbers,
  readBounded,
  readLink,
  readText,
} from './procfs.ts';

/** Everything volatile of one process, as bytes. */
export interface ProcessReading {
  readonly pid: number;
  /** Names below /proc/PID. */
  readonly files: Readonly<Record<string, FileReading>>;
  /** `exe`, `cwd`, `root` and `ns/*`: the links' texts. */
  readonly links: Readonly<Record<string, FileReading>>;
  readonly executable: FileIdentity | { readonly errno: string } | undefined;
  readonly threads: readonly ThreadReading[];
  readonly threadsTruncated: boolean;
  readonly descriptors: readonly DescriptorReading[];
  readonly descriptorsTruncated: boolean;
  /** Why the list of descriptors or threads is missing. */
  readonly descriptorsErrno: string | undefined;
  readonly threadsErrno: string | undefined;
  /** The process ended before the last file was read. */
  readonly vanished: boolean;
  /** Read without what can block: memory, mappings, and stat of open files. */
  readonly careful: boolean;
}

export interface ThreadReading {
  readonly tid: number;
  readonly files: Readonly<Record<string, FileReading>>;
}

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

/** The kernel answers these from its own memory, and makes each in one piece. */
const FILES = [
  ...[
    'status',
    'stat',
    'comm',
    'cgroup',
    'limits',
    'wchan',
    'stack',
    'syscall',
    'io',
    'sched',
    'auxv',
    'loginuid',
    'sessionid',
  ],
  ...['oom_score', 'oom_score_adj', 'timerslack_ns', 'personality', 'attr/current'],
] as const;

/** As these, but in pieces. */
const PIECEWISE_FILES = ['mountinfo', 'timers', 'uid_map', 'gid_map'] as const;

/** These read the process' memory or wait for its memory lock, so the process can make them block. */
const BLOCKING_FILES = ['cmdline', 'environ', 'maps'] as const;

const FILE_LIMITS: Readonly<Record<string, number>> = {
  cmdline: LIMIT_BYTES.arguments,
  environ: LIMIT_BYTES.arguments,
  maps: LIMIT_BYTES.maps,
  mountinfo: LIMIT_BYTES.mountinfo,
};

const THREAD_FILES = ['stat', 'status', 'comm', 'wchan', 'syscall'] as const;

/** namespaces(7). */
const NAMESPACES = [
  'cgroup',
  'ipc',
  'mnt',
  'net',
  'pid',
  'pid_for_children',
  'time',
  'time_for_children',
  'user',
  'uts',
];

/** 20 µs each: about a second. A process may have 1,048,576 (fs.nr_open). */
export const DESCRIPTORS_MAX = 65_536;
/** 100 µs each. The kernel allows 32,768 and more in all. */
export const THREADS_MAX = 4096;

/** O_PATH of open(2): a handle on the file without opening it. Not in Node's list. */
export const O_PATH = 0o10000000;

/**
 * The folder of the process is held by a descriptor, so that every file is of the same process: when it ends and its pid
 * is given to another, reads fail instead of mixing two processes.
 */
export function readProcess(host: Host, pid: Pid, careful: boolean, enter: Enter = enterByDescriptor): ProcessReading {
  try {
    return enter(procPath(host, pid), (base) => readFolder(base, pid, careful));
  } catch (error) {
    return gone(pid, careful, failed(error));
  }
}

/** Holds a folder while `work` uses it by the path that it is given. Throws what open(2) or chdir(2) says. */
export type Enter = <Result>(folder: string, work: (base: string) => Result) => Result;

export const enterByDescriptor: Enter = (folder, work) => {
  const held = openSync(folder, O_PATH);
  try {
    return work(`/proc/self/fd/${held}`);
  } finally {
    closeSync(held);
  }
};

/** Half the path to walk for each file, but only for a process with one thread and nothing else to do. */
export const enterByWorkingDirectory: Enter = (folder, work) => {
  process.chdir(folder);
  try {
    return work('.');
  } finally {
    process.chdir('/');
  }
};

function readFolder(base: string, pid: Pid, careful: boolean): ProcessReading {
  const files: Record<string, FileReading> = {};
  for (const name of FILES) files[name] = readBounded(`${base}/${name}`, LIMIT_BYTES.small, true);
  const names = careful ? PIECEWISE_FILES : [...PIECEWISE_FILES, ...BLOCKING_FILES];
  for (const name of names) files[name] = readBounded(`${base}/${name}`, FILE_LIMITS[name] ?? LIMIT_BYTES.small);

  const links: Record<string, FileReading> = {};
  for (const name of ['exe', 'cwd', 'root', ...NAMESPACES.map((type) => `ns/${type}`)]) {
    links[name] = readLink(`${base}/${name}`);
  }
  const hasExecutable = links.exe?.kind === 'read' && !careful;
  const threads = hasOneThread(files.stat) ? ONE_THREAD : readThreads(base);
  const descriptors = readDescriptors(base, careful);
  return {
    pid,
    files,
    links,
    executable: hasExecutable ? identify(`${base}/exe`) : undefined,
    threads: threads.threads,
    threadsTruncated: threads.truncated,
    threadsErrno: threads.errno,
    descriptors: descriptors.descriptors,
    descriptorsTruncated: descriptors.truncated,
    descriptorsErrno: descriptors.errno,
    vanished: readBounded(`${base}/stat`, LIMIT_BYTES.small, true).kind === 'failed',
    careful,
  };
}

/** Field 20 of stat; the name before it may hold anything, but no `)` comes after it. */
function hasOneThread(stat: FileReading | undefined): boolean {
  if (stat?.kind !== 'read') return false;
  const text = latin1(stat.bytes);
  return text.slice(text.lastIndexOf(')') + 2).split(' ', 18)[17] === '1';
}

/** It has in task/ what it has above it. */
const ONE_THREAD = { threads: [], truncated: false, errno: undefined };

function readThreads(base: string): { threads: ThreadReading[]; truncated: boolean; errno: string | undefined } {
  const listed = listNumbers(`${base}/task`, THREADS_MAX);
  if (listed.kind === 'failed') return { threads: [], truncated: false, errno: listed.errno };
  if (listed.numbers.length < 2) return { threads: [], truncated: false, errno: undefined };
  const threads = listed.numbers.map((tid) => {
    const files: Record<string, FileReading> = {};
    for (const name of THREAD_FILES) files[name] = readBounded(`${base}/task/${tid}/${name}`, LIMIT_BYTES.small, true);
    return { tid, files };
  });
  return { threads, truncated: listed.truncated, errno: undefined };
}

function readDescriptors(
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
    if (!careful && fd < REMEMBERED_DESCRIPTORS_MAX) lastByFd.set(fd, reading);
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

function readLinkText(path: string): { text?: string; errno?: string } {
  try {
    return { text: readlinkSync(path, { encoding: 'latin1' }) };
  } catch (error) {
    return { errno: failed(error).errno };
  }
}

function fileOf(path: string): DescriptorFile | string {
  const found = identify(path);
  if ('errno' in found) return found.errno;
  return [found.type, found.device, found.inode, found.links, found.sizeBytes];
}

function gone(pid: Pid, careful: boolean, reading: { kind: 'failed'; errno: string }): ProcessReading {
  return {
    pid,
    files: { status: reading },
    links: {},
    executable: undefined,
    threads: [],
    threadsTruncated: false,
    threadsErrno: undefined,
    descriptors: [],
    descriptorsTruncated: false,
    descriptorsErrno: undefined,
    vanished: true,
    careful,
  };
}
