import { readFileSync } from 'node:fs';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { asHostPath, asPid, type Pid } from '../runtime/runtime.ts';
import { resolveBelow } from './below.ts';
import { isSame } from './folder-facts.ts';
import { type Host, procPath, reach } from './host.ts';

/** A container runtime's own process, as /proc shows it. */
export interface Daemon {
  readonly pid: Pid;
  /** Where its root is, as the agent reaches it. */
  readonly root: string;
  /** Folders of its PATH (environ(7)), which is what it and all it starts look for programs in; undefined: not readable. */
  readonly path: readonly string[] | undefined;
  /** Its folder for temporary files, below its root: TMPDIR, else /tmp. */
  readonly temporary: string;
}

interface Socket {
  readonly inode: string;
  /** As it was bound, in the mount namespace of whoever did. */
  readonly path: string;
}

/** unix(7), /proc/net/unix: SO_ACCEPTCON, set for sockets that listen. */
const ACCEPTS = 0x10000;

/** The sockets with a path that listen, from the text of a /proc/PID/net/unix. */
export function listeningSockets(text: string): Socket[] {
  const sockets: Socket[] = [];
  for (const line of text.split('\n')) {
    // Num: RefCount Protocol Flags Type St Inode Path
    const match = /^[0-9a-f]+: \w+ \w+ ([0-9A-F]+) \w+ \w+ +(\d+) (\/.*)$/.exec(line);
    if (match === null) continue;
    const [, flags = '0', inode = '', path = ''] = match;
    if ((Number.parseInt(flags, 16) & ACCEPTS) !== 0) sockets.push({ inode, path });
  }
  return sockets;
}

/**
 * Who serves `socket`, a path as the agent reaches it: the process called `name` that listens on this very file. Where no
 * such process is found, those of that name that have the node's root. Names alone prove nothing: a process in a container
 * may call itself what it likes and listen on a path of the same name.
 */
export async function findDaemons(host: Host, name: string, socket: string): Promise<Daemon[]> {
  const named: Daemon[] = [];
  for (const entry of await readdir(host.procRoot)) {
    if (!/^\d+$/.test(entry)) continue;
    const pid = asPid(Number(entry));
    if (commOf(host, pid) === name)
      named.push({ pid, root: procPath(host, pid, 'root'), ...(await environmentOf(host, pid)) });
  }
  const serving = await only(named, (daemon) => serves(host, daemon, socket));
  if (serving.length > 0) return serving;
  const nodeRoot = reach(host, asHostPath('/'));
  return only(named, async ({ root }) => (await isSame(`${root}/`, nodeRoot)) === true);
}

/** Synchronous: a node has thousands, and each is answered from memory in ten microseconds. */
function commOf(host: Host, pid: Pid): string {
  try {
    return readFileSync(procPath(host, pid, 'comm'), 'utf8').trimEnd();
  } catch {
    return '';
  }
}

async function only(daemons: readonly Daemon[], is: (daemon: Daemon) => Promise<boolean>): Promise<Daemon[]> {
  const fits = await Promise.all(daemons.map(is));
  return daemons.filter((_, index) => fits[index]);
}

async function environmentOf(host: Host, pid: Pid): Promise<Pick<Daemon, 'path' | 'temporary'>> {
  const text = await readFile(procPath(host, pid, 'environ'), 'latin1').catch(() => undefined);
  const variable = (name: string): string | undefined =>
    text
      ?.split('\0')
      .find((one) => one.startsWith(`${name}=`))
      ?.slice(name.length + 1);
  const temporary = variable('TMPDIR');
  return {
    path: variable('PATH')
      ?.split(':')
      .filter((folder) => folder.startsWith('/')),
    temporary: temporary?.startsWith('/') ? temporary : '/tmp',
  };
}

async function serves(host: Host, { pid, root }: Daemon, socket: string): Promise<boolean> {
  const listening = listeningSockets(await readFile(procPath(host, pid, 'net', 'unix'), 'latin1').catch(() => ''));
  for (const { inode, path } of listening) {
    const file = await resolveBelow(root, path).catch(() => undefined);
    if (file !== undefined && (await isSame(file, socket)) && (await holds(host, pid, inode))) return true;
  }
  return false;
}

async function holds(host: Host, pid: Pid, inode: string): Promise<boolean> {
  const folder = procPath(host, pid, 'fd');
  for (const fd of await readdir(folder).catch(() => [])) {
    if ((await readlink(`${folder}/${fd}`).catch(() => '')) === `socket:[${inode}]`) return true;
  }
  return false;
}
