import { type ChildProcessByStdio, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { type VolumesOptions, volumesCollector } from '../../../agent/collect/volumes.ts';
import { asPid, type Runtime, type Target } from '../../../agent/runtime/runtime.ts';
import { type InventoryLine, inventoryLineSchema } from '../../../evidence/inventory.ts';
import { type VolumeRecord, volumeSchema } from '../../../evidence/volumes.ts';
import { type BundleContext, bundleContext, makeTarget, TARGET_RECORD } from './bundle-context.ts';

/** Why no process with mounts of its own can be started here. */
export const mountObstacle = (): string | undefined =>
  process.platform !== 'linux' || process.getuid?.() !== 0
    ? 'needs Linux and root: file systems are mounted in a mount namespace of a process'
    : existsSync('/usr/bin/unshare') && existsSync('/usr/bin/nsenter')
      ? undefined
      : 'needs unshare and nsenter (Debian’s util-linux)';

/** A process in a mount namespace of its own, which ends with it. */
export interface MountVictim extends AsyncDisposable {
  readonly pid: number;
  /** Runs a shell script in its mount namespace. */
  run(script: string): string;
}

/** Runs `script` in a new mount namespace, and stays there; `user`: and in a user namespace, as root of that. */
export async function startVictim(script: string, { user = false } = {}): Promise<MountVictim> {
  const own = user ? ['--user', '--map-root-user'] : [];
  const argv = [...own, '--mount', '--propagation', 'private', 'sh', '-ec', `${script}\necho ready; exec cat`];
  const child: ChildProcessByStdio<Writable, Readable, null> = spawn('unshare', argv, {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  await Promise.race([
    once(child.stdout, 'data'),
    ended.then(() => Promise.reject(new Error('the victim ended at its start'))),
  ]);
  return {
    pid: child.pid ?? 0,
    run: (inside) =>
      execFileSync('nsenter', [`--mount=/proc/${child.pid}/ns/mnt`, 'sh', '-ec', inside], { encoding: 'utf8' }),
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

export interface TakenVolumes extends BundleContext {
  readonly volumes: readonly VolumeRecord[];
  readonly inventory: readonly InventoryLine[];
  volumeAt(containerPath: string): VolumeRecord;
  line(path: string): InventoryLine | undefined;
}

/**
 * The volumes of a process. It is no container unless told, so that what it shares with this machine is listed only.
 */
export async function takeVolumes(
  folder: string,
  { pid }: Pick<MountVictim, 'pid'>,
  options: VolumesOptions = {},
  target: Partial<Target> = {},
): Promise<TakenVolumes> {
  const record: Target['record'] = { ...TARGET_RECORD, kind: 'process-tree', initPid: pid, pids: [pid] };
  const bundle = bundleContext(folder, makeTarget({ record, ...target }));
  const runtime = { pids: async () => [asPid(pid)] } as Partial<Runtime> as Runtime;
  await volumesCollector(options).collect({ ...bundle.context, runtime });
  const lines = (name: string): unknown[] => {
    const text = bundle.content(name).toString();
    return text === ''
      ? []
      : text
          .trimEnd()
          .split('\n')
          .map((line) => JSON.parse(line));
  };
  const volumes = lines('volumes.jsonl.zst').map((line) => volumeSchema.parse(line));
  const inventory = lines('volumes.inventory.jsonl.zst').map((line) => inventoryLineSchema.parse(line));
  return {
    ...bundle,
    volumes,
    inventory,
    volumeAt(containerPath) {
      const found = volumes.findLast((one) => one.containerPath === containerPath);
      if (found === undefined) throw new Error(`no mount at ${containerPath}`);
      return found;
    },
    line: (path) => inventory.find((one) => (one.overlayPath ?? one.path) === path),
  };
}
