import { constants } from 'node:fs';
import { access, readdir } from 'node:fs/promises';
import path from 'node:path';
import { hierarchies } from './cgroup.ts';
import type { Host } from './host.ts';

/** Which control groups a node has, and whether the agent may freeze in them. */
export interface CgroupSurvey {
  /** `hybrid`: both are mounted, and the controllers are in version 1 (systemd.unified_cgroup_hierarchy=0). */
  readonly mode: 'v2' | 'v1' | 'hybrid' | 'none';
  /** The freezer that captures would use; undefined: none is mounted. `writable` as access(2) says of a cgroup's own file. */
  readonly freezer: { readonly version: 1 | 2; readonly folder: string; readonly writable: boolean } | undefined;
}

export async function surveyCgroups(host: Host): Promise<CgroupSurvey> {
  const mounted = await hierarchies(host);
  const [has1, has2] = [1, 2].map((version) => mounted.some((one) => one.version === version));
  const withControllers = mounted.some(
    (one) => one.version === 1 && one.controllers.some((name) => !/^name=/.test(name)),
  );
  const mode = !has1 ? (has2 ? 'v2' : 'none') : has2 ? (withControllers ? 'hybrid' : 'v2') : 'v1';
  const freezer =
    mounted.find((one) => one.version === 1 && one.controllers.includes('freezer')) ??
    mounted.find((one) => one.version === 2);
  if (freezer === undefined) return { mode, freezer: undefined };
  const { version, folder } = freezer;
  return { mode, freezer: { version, folder, writable: await canFreeze(folder, version) } };
}

/** The root has no freezer; any cgroup below it tells how the hierarchy is mounted. */
async function canFreeze(folder: string, version: 1 | 2): Promise<boolean> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  const child = entries.find((entry) => entry.isDirectory())?.name;
  const file =
    child === undefined ? folder : path.join(folder, child, version === 2 ? 'cgroup.freeze' : 'freezer.state');
  return access(file, constants.W_OK).then(
    () => true,
    () => false,
  );
}
