/** The kernel's own freezer, for a whole cgroup. Frozen tasks of version 2 can still be killed, those of version 1 cannot. */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ExhibitError, explain, isErrno } from '../../../evidence/error.ts';
import {
  awaitFreezer,
  type FreezerFile,
  type FreezerState,
  isEmpty,
  readFreezer,
  writeFreezer,
} from '../../host/cgroup.ts';
import { type Pause, RETRY_MS, THAW_BOUND_MS, type Thawed } from './pause.ts';

/** The kernel needs well under a millisecond to let a cgroup go. */
const THAW_WAIT_MS = 2_000;

type Spec = { readonly kind: 'cgroup-v1' | 'cgroup-v2'; readonly path: string };

const isGone = (error: unknown): boolean => isErrno(error, 'ENOENT', 'ENODEV');

export async function preparePause(spec: Spec): Promise<Pause> {
  const file: FreezerFile = { version: spec.kind === 'cgroup-v2' ? 2 : 1, folder: spec.path };
  await refuseOwn(file);
  let held = false;
  return {
    async freeze(signal) {
      const state = stateOf(file);
      const toldAt = performance.now();
      if (state !== 'thawed') {
        const notes = ['the cgroup was frozen already, by somebody else, and is left so'];
        return { by: 'found', toldAt, notes };
      }
      held = true;
      try {
        writeFreezer(file, 'frozen');
        await awaitFreezer(file, 'frozen', signal);
      } catch (error) {
        throw new ExhibitError('freeze-failed', `the cgroup ${spec.path} did not freeze`, { cause: error });
      }
      return { by: 'held', toldAt, notes: [] };
    },
    async thaw() {
      if (!held) return { outcome: 'left', notes: [] };
      const thawed = await thawCgroup(file);
      held = false;
      return thawed;
    },
    async [Symbol.asyncDispose]() {},
  };
}

function stateOf(file: FreezerFile): FreezerState {
  try {
    return readFreezer(file);
  } catch (cause) {
    throw new ExhibitError('freeze-failed', `the freezer of ${file.folder} cannot be read`, { cause });
  }
}

const ENDED = 'the processes of the cgroup ended while it was frozen';

/** Thaws until it is so, whoever froze it; ends quietly when the cgroup is gone. */
export async function thawCgroup(file: FreezerFile): Promise<Thawed> {
  const bound = performance.now() + THAW_BOUND_MS;
  for (let waitMs: number = RETRY_MS.first; ; waitMs = Math.min(waitMs * 2, RETRY_MS.last)) {
    try {
      const before = readFreezer(file);
      if (before === 'thawed') return { outcome: 'was-thawed', notes: ['the cgroup had been thawed by somebody else'] };
      writeFreezer(file, 'thawed');
      const after = readFreezer(file);
      if (after === 'held') return { outcome: 'thawed', notes: ['a cgroup above is frozen, by somebody else'] };
      await awaitFreezer(file, 'thawed', AbortSignal.timeout(THAW_WAIT_MS));
      // runc deletes no container whose empty cgroup reads frozen; containerd tries again after the thaw, with pauses.
      if (isEmpty(file)) return { outcome: 'gone', notes: [ENDED] };
      return { outcome: 'thawed', notes: [] };
    } catch (error) {
      if (isGone(error)) return { outcome: 'gone', notes: [ENDED] };
      if (performance.now() > bound) {
        throw new ExhibitError('freeze-failed', `the cgroup ${file.folder} cannot be thawed: ${explain(error)}`, {
          cause: error,
        });
      }
      await sleep(waitMs);
    }
  }
}

/** A guard that froze itself, or the agent it serves, could not thaw. */
async function refuseOwn(file: FreezerFile): Promise<void> {
  const name = file.version === 2 ? 'cgroup.freeze' : 'freezer.state';
  const own = new Set([process.pid, process.ppid].map(String));
  const found = await findPid(file.folder, own).catch((error: unknown) => {
    throw new ExhibitError('freeze-failed', `the cgroup ${file.folder} cannot be read`, { cause: error });
  });
  if (found)
    throw new ExhibitError('freeze-failed', `the agent itself runs in ${file.folder}: it cannot freeze itself`);
  await readFile(path.join(file.folder, name), 'utf8').catch((error: unknown) => {
    throw new ExhibitError('freeze-failed', `the cgroup ${file.folder} has no freezer`, { cause: error });
  });
}

async function findPid(folder: string, wanted: ReadonlySet<string>): Promise<boolean> {
  const text = await readFile(path.join(folder, 'cgroup.procs'), 'utf8').catch((error: unknown) => {
    if (isErrno(error, 'EOPNOTSUPP')) return '';
    throw error;
  });
  if (text.split('\n').some((pid) => wanted.has(pid))) return true;
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    const below = findPid(path.join(folder, entry.name), wanted);
    if (await below.catch((error: unknown) => (isGone(error) ? false : Promise.reject(error)))) return true;
  }
  return false;
}
