import { explain, isExhibitError } from '../../evidence/error.ts';
import { findProgram } from '../host/below.ts';
import { readCriuSurroundings } from '../host/criu.ts';
import type { Daemon } from '../host/daemon.ts';
import { type Host, reach } from '../host/host.ts';
import { readCheckpointKernel } from '../host/kernel.ts';
import { memoryRoom } from '../host/memory-room.ts';
import { programVersion } from '../host/program-version.ts';
import { findRuntimeSockets, type RuntimeSocket } from '../host/runtime-sockets.ts';
import { asHostPath } from '../runtime/runtime.ts';
import type { Check } from './check.ts';
import {
  checkCheckpoint,
  checkCheckpointKernel,
  checkCheckpointRoom,
  checkCriu,
  checkCriuOptions,
  checkGraphics,
  remembersCriu,
} from './checkpoint.ts';
import { inTime, type Patient, type Shared } from './patient.ts';
import { checkRuntime, checkSnapshotter, type RuntimeFacts } from './runtime.ts';

/** The runtime and the programs of the node that it works with. */

export async function examineRuntime(patient: Patient, shared: Shared): Promise<Check[]> {
  const { runtime, config, host } = patient;
  const answer = await answerOf(patient, shared);
  const description = 'why' in answer ? undefined : await shared.description.catch(() => undefined);
  const programs = await versionsOf(host, await shared.daemons.catch(() => []), description?.programs ?? []);
  const sockets = 'why' in answer ? await runtimeSockets(patient) : [];
  const facts = { kind: runtime.kind, socket: config.runtime.socket, answer, description, programs, sockets };
  return [checkRuntime(facts), ...(description === undefined ? [] : [checkSnapshotter(description.snapshotters)])];
}

async function answerOf({ runtime, signal }: Patient, shared: Shared): Promise<RuntimeFacts['answer']> {
  try {
    const [identity, containers] = await Promise.all([shared.identity, inTime(runtime.list(signal), signal)]);
    return { identity, containers: containers.length };
  } catch (error) {
    return { why: unreachableWords(error) };
  }
}

/** What is on the node in place of a runtime that does not answer. */
export function runtimeSockets({ config, host }: Pick<Patient, 'config' | 'host'>): Promise<RuntimeSocket[]> {
  const { kind, socket: path } = config.runtime;
  return findRuntimeSockets(host, { kind: kind === 'docker' ? 'docker' : 'cri', path });
}

/** Its sentence says which errno it was; gRPC's own words about it say no more. */
export const unreachableWords = (error: unknown): string =>
  isExhibitError(error, 'runtime-unreachable') ? error.message : explain(error);

/** What systemd gives services without a PATH of their own, and shells too. */
const USUAL_PATH = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

interface Place {
  /** Where programs are looked for, below `root`. */
  readonly folders: readonly string[];
  readonly root: string;
  /** For people. */
  readonly whose: string;
}

/** Where containerd looks for programs: its own root and PATH; the node's root and the usual folders where it is not found. */
function searchPlace(host: Host, daemons: readonly Daemon[]): Place {
  const [daemon, ...others] = daemons;
  const usual = { folders: USUAL_PATH, root: reach(host, asHostPath('/')) };
  if (daemon === undefined)
    return { ...usual, whose: 'the usual folders of the node (no containerd process was found)' };
  if (daemon.path === undefined)
    return {
      ...usual,
      whose: `the usual folders of the node (the environment of containerd, pid ${daemon.pid}, cannot be read)`,
    };
  const among = others.length === 0 ? '' : `, the first of ${others.length + 1} of that name`;
  return { folders: daemon.path, root: daemon.root, whose: `the PATH of containerd (pid ${daemon.pid}${among})` };
}

async function versionsOf(
  host: Host,
  daemons: readonly Daemon[],
  names: readonly string[],
): Promise<RuntimeFacts['programs']> {
  const { root, folders } = searchPlace(host, daemons);
  return Promise.all(
    names.map(async (name) => {
      const found = await findProgram(root, folders, name);
      return {
        name: found?.name ?? name,
        version: found === undefined ? undefined : await programVersion(root, found),
      };
    }),
  );
}

export async function examineCheckpoint({ runtime, host, config }: Patient, shared: Shared): Promise<Check[]> {
  const identity = await shared.identity.catch(() => undefined);
  const description = await shared.description.catch(() => undefined);
  const rungs = runtime.rungs.map(({ name }) => name);
  const can = checkCheckpoint({ kind: runtime.kind, identity, rungs, switch: description?.checkpoints });
  if (rungs.length === 0) return [can];
  const place = searchPlace(host, await shared.daemons.catch(() => []));
  const found = await findProgram(place.root, place.folders, 'criu');
  const program = found && { name: found.name, version: await programVersion(place.root, found) };
  const around = await readCriuSurroundings(place.root);
  const kernel = await readCheckpointKernel(host);
  const graphics = checkGraphics(around);
  const { availableBytes } = await memoryRoom(host.procRoot);
  const room = checkCheckpointRoom({ offered: runtime.rungs, policy: config.checkpoint, availableBytes });
  return [
    can,
    checkCriu({ ...place, program, remembered: remembersCriu(identity), kernel: kernel.release }),
    checkCriuOptions(around),
    ...(graphics === undefined ? [] : [graphics]),
    ...(room === undefined ? [] : [room]),
    checkCheckpointKernel(kernel.checkpointRestore),
  ];
}
