import { readFile, readlink } from 'node:fs/promises';
import { asHostPath } from '../runtime/runtime.ts';
import { resolveBelow } from './below.ts';
import { type Host, procPath, reach } from './host.ts';

/** What the agent sees of the node through the two roots it was given. */
export interface HostView {
  /** Name of process 1 below procRoot, as proc(5) comm has it; undefined: there is none. */
  readonly init: string | undefined;
  /** pid_namespaces(7): identities of process 1's and of the agent's own; undefined: not readable. */
  readonly initPids: string | undefined;
  readonly ownPids: string | undefined;
  /** os-release(5) below hostRoot; undefined: there is none. */
  readonly system: { readonly id: string; readonly name: string } | undefined;
}

export async function readHostView(host: Host): Promise<HostView> {
  const [init, initPids, ownPids, release] = await Promise.all([
    readFile(procPath(host, 1, 'comm'), 'utf8').catch(() => undefined),
    readlink(procPath(host, 1, 'ns', 'pid')).catch(() => undefined),
    readlink('/proc/self/ns/pid').catch(() => undefined),
    releaseText(host),
  ]);
  return { init: init?.trimEnd(), initPids, ownPids, system: release === undefined ? undefined : systemOf(release) };
}

/** The second place is for systems whose /etc is no place for it, as os-release(5) says. */
async function releaseText(host: Host): Promise<string | undefined> {
  const root = reach(host, asHostPath('/'));
  for (const file of ['/etc/os-release', '/usr/lib/os-release']) {
    const text = await resolveBelow(root, file)
      .then((where) => readFile(where, 'utf8'))
      .catch(() => undefined);
    if (text !== undefined) return text;
  }
  return undefined;
}

/** os-release(5): `NAME=value`, quoted or not. */
export function systemOf(release: string): { id: string; name: string } {
  const value = (key: string) => new RegExp(`^${key}=["']?([^"'\\n]*)`, 'm').exec(release)?.[1];
  const id = value('ID') ?? '';
  return { id, name: value('PRETTY_NAME') ?? (id === '' ? 'an unnamed system' : id) };
}
