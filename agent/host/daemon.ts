import { readdir, readFile, readlink } from 'node:fs/promises';
import { asPid, type Pid } from '../runtime/runtime.ts';
import { type Host, procPath } from './host.ts';

/** A container runtime's own process, as /proc shows it. */
export interface Daemon {
  readonly pid: Pid;
  /** Where its root is, as the agent reaches it. */
  readonly root: string;
  /** Folders of its PATH (environ(7)), which is what it and all it starts look for programs in; undefined: not readable. */
  readonly path: readonly string[] | undefined;
  /** Whether it is the one that listens on the socket that was asked for. */
  readonly listens: boolean;
}

/** unix(7), /proc/net/unix: SO_ACCEPTCON, set for sockets that listen. */
const ACCEPTS = 0x10000;

/** Inodes of the sockets that listen on `socket`, from the text of a /proc/PID/net/unix. */
export function listeningInodes(text: string, socket: string): string[] {
  const inodes: string[] = [];
  for (const line of text.split('\n')) {
    // Num: RefCount Protocol Flags Type St Inode Path
    const match = /^[0-9a-f]+: \w+ \w+ ([0-9A-F]+) \w+ \w+ +(\d+) (\/.*)$/.exec(line);
    if (match === null) continue;
    const [, flags = '0', inode = '', bound = ''] = match;
    if ((Number.parseInt(flags, 16) & ACCEPTS) !== 0 && samePlace(bound, socket)) inodes.push(inode);
  }
  return inodes;
}

/** /var/run is a link to /run on every system of this decade, and either name may be in a configuration. */
const samePlace = (one: string, other: string): boolean => plain(one) === plain(other);
const plain = (file: string): string => file.replace(/^\/var\/run\//, '/run/');

/**
 * The processes called `name`: the one that listens on `socket`, a path on the node; without one, all of that name.
 * A process that cannot be looked into (no right, just ended) is there with what is known of it.
 */
export async function findDaemons(host: Host, name: string, socket: string): Promise<Daemon[]> {
  const pids = (await readdir(host.procRoot))
    .filter((entry) => /^\d+$/.test(entry))
    .map((entry) => asPid(Number(entry)));
  const called: Pid[] = [];
  for (const pid of pids) {
    const comm = await readFile(procPath(host, pid, 'comm'), 'utf8').catch(() => '');
    if (comm.trimEnd() === name) called.push(pid);
  }
  const daemons = await Promise.all(called.map((pid) => look(host, pid, socket)));
  const listening = daemons.filter((one) => one.listens);
  return listening.length > 0 ? listening : daemons;
}

async function look(host: Host, pid: Pid, socket: string): Promise<Daemon> {
  const environment = await readFile(procPath(host, pid, 'environ'), 'latin1').catch(() => undefined);
  const path = environment
    ?.split('\0')
    .find((one) => one.startsWith('PATH='))
    ?.slice('PATH='.length)
    .split(':')
    .filter((folder) => folder.startsWith('/'));
  const inodes = listeningInodes(await readFile(procPath(host, pid, 'net', 'unix'), 'latin1').catch(() => ''), socket);
  const listens = inodes.length > 0 && (await holds(host, pid, inodes));
  return { pid, root: procPath(host, pid, 'root'), path, listens };
}

async function holds(host: Host, pid: Pid, inodes: readonly string[]): Promise<boolean> {
  const folder = procPath(host, pid, 'fd');
  for (const fd of await readdir(folder).catch(() => [])) {
    const link = await readlink(`${folder}/${fd}`).catch(() => '');
    if (inodes.some((inode) => link === `socket:[${inode}]`)) return true;
  }
  return false;
}
