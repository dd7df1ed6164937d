import { accessSync, closeSync, openSync } from 'node:fs';
import type { Pid } from '../runtime/runtime.ts';
import { latin1 } from './decode.ts';
import { type Host, procPath } from './host.ts';
import { type CodeStart, readCodeStarts } from './process-code.ts';
import { type DescriptorReading, readDescriptors } from './process-read-descriptors.ts';
import {
  type FileIdentity,
  type FileReading,
  failed,
  identify,
  LIMIT_BYTES,
  listNumbers,
  readBounded,
  readLink,
} from './procfs.ts';

/** Everything volatile of one process, as bytes. */
export interface ProcessReading {
  readonly pid: number;
  /** Names below /proc/PID. */
  readonly files: Readonly<Record<string, FileReading>>;
  /** `exe`, `cwd`, `root` and `ns/*`: the links' texts. */
  readonly links: Readonly<Record<string, FileReading>>;
  readonly executable: FileIdentity | { readonly errno: string } | undefined;
  /** Beginnings of executable memory without a file. */
  readonly codeStarts: ReadonlyMap<string, CodeStart>;
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
const PIECEWISE_FILES = ['mountinfo', 'timers'] as const;

/** As these. */
const ID_MAPS = ['uid_map', 'gid_map'] as const;

/** These read the process' memory or wait for its memory lock, so the process can make them block. */
const BLOCKING_FILES = ['cmdline', 'environ', 'maps'] as const;

const FILE_LIMITS: Readonly<Record<string, number>> = {
  cmdline: LIMIT_BYTES.arguments,
  environ: LIMIT_BYTES.arguments,
  maps: LIMIT_BYTES.maps,
  mountinfo: LIMIT_BYTES.mountinfo,
};

const THREAD_FILES = ['stat', 'status', 'comm', 'wchan', 'syscall', 'stack'] as const;

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

const LINKS = ['exe', 'cwd', 'root', ...NAMESPACES.map((type) => `ns/${type}`)];

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
  for (const name of LINKS) links[name] = readLink(`${base}/${name}`);
  Object.assign(files, readIdMaps(base, links['ns/user']));
  const hasExecutable = links.exe?.kind === 'read' && !careful;
  const threads = hasOneThread(files.stat) ? ONE_THREAD : readThreads(base);
  const descriptors = readDescriptors(base, careful);
  return {
    pid,
    files,
    links,
    executable: hasExecutable ? identify(`${base}/exe`) : undefined,
    codeStarts: files.maps?.kind === 'read' ? readCodeStarts(base, files.maps.bytes) : NO_CODE,
    threads: threads.threads,
    threadsTruncated: threads.truncated,
    threadsErrno: threads.errno,
    descriptors: descriptors.descriptors,
    descriptorsTruncated: descriptors.truncated,
    descriptorsErrno: descriptors.errno,
    vanished: hasEnded(base),
    careful,
  };
}

/**
 * The first user namespace of the machine, PROC_USER_INIT_INO of include/uapi/linux/nsfs.h: its maps never change. Of every other
 * the number may be that of one that has gone.
 */
const FIRST_USER_NAMESPACE = Buffer.from('user:[4026531837]');

type IdMaps = Readonly<Record<(typeof ID_MAPS)[number], FileReading>>;

let firstMaps: IdMaps | undefined;

function readIdMaps(base: string, namespace: FileReading | undefined): IdMaps {
  const isFirst = namespace?.kind === 'read' && namespace.bytes.equals(FIRST_USER_NAMESPACE);
  if (isFirst && firstMaps !== undefined) return firstMaps;
  const read = (name: string): FileReading => readBounded(`${base}/${name}`, LIMIT_BYTES.small);
  const maps = { uid_map: read('uid_map'), gid_map: read('gid_map') };
  if (isFirst && maps.uid_map.kind === 'read' && maps.gid_map.kind === 'read') firstMaps = maps;
  return maps;
}

/** Once it has been waited for, the kernel refuses its folder to everybody: ESRCH (proc_pid_permission). */
function hasEnded(base: string): boolean {
  try {
    accessSync(base);
    return false;
  } catch {
    return true;
  }
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

const NO_CODE: ReadonlyMap<string, CodeStart> = new Map();

function gone(pid: Pid, careful: boolean, reading: { kind: 'failed'; errno: string }): ProcessReading {
  return {
    pid,
    files: { status: reading },
    links: {},
    executable: undefined,
    codeStarts: NO_CODE,
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
