/** Names of things in `stateDir` that say whose they are, so that what a killed agent left can be told from what is in use. */
import { chmod, lstat, readdir, readFile, readlink } from 'node:fs/promises';
import path from 'node:path';
import { isErrno } from '../../evidence/error.ts';
import type { HostPath } from '../runtime/runtime.ts';
import { makeFolder } from './folder.ts';
import { type Host, reach } from './host.ts';

const FOLDER_MODE = 0o700;

/** `<purpose>-<pid>-<start ticks>-<id>.<suffix>`: pid and start time, in `procRoot`, tell whether the maker still lives. */
const NAME = /^[a-z]+-(\d+)-(\d+)-[A-Za-z0-9._-]+\.([a-z]+)$/;

export async function ownedName(host: Host, purpose: string, id: string, suffix: string): Promise<string> {
  const { pid, startTicks } = await ownIdentity(host);
  return `${purpose}-${pid}-${startTicks}-${id}.${suffix}`;
}

/** Names in `runDir` with this suffix whose makers are dead. */
export async function orphansIn(host: Host, runDir: HostPath, suffix: string): Promise<string[]> {
  const orphans: string[] = [];
  for (const name of await namesIn(reach(host, runDir))) {
    const [, pid, startTicks, found] = NAME.exec(name) ?? [];
    if (pid === undefined || found !== suffix) continue;
    if ((await startTicksOf(host, pid)) !== startTicks) orphans.push(name);
  }
  return orphans;
}

/** For root alone: others could swap a name in it, and a folder that is theirs is not for us. */
export async function makeRunDir(folder: string): Promise<void> {
  await makeFolder(folder);
  const stat = await lstat(folder);
  if (!stat.isDirectory()) throw new Error(`${folder} is not a folder`);
  if (stat.uid !== process.geteuid?.()) throw new Error(`${folder} belongs to uid ${stat.uid}`);
  if ((stat.mode & 0o022) !== 0) await chmod(folder, FOLDER_MODE);
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

/** This process as `procRoot` shows it: its own pid may be another one there. */
async function ownIdentity(host: Host): Promise<{ pid: string; startTicks: string }> {
  const pid = await readlink(path.posix.join(host.procRoot, 'self')).catch(() => String(process.pid));
  return { pid, startTicks: (await startTicksOf(host, pid)) ?? '0' };
}

/** Field 22 of proc(5) stat, which with the pid names one process of this boot; undefined when there is none. */
async function startTicksOf(host: Host, pid: string): Promise<string | undefined> {
  try {
    const stat = await readFile(`${host.procRoot}/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}
