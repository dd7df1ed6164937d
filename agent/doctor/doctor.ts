import { explain } from '../../evidence/error.ts';
import { effectiveCapabilities } from '../host/capabilities.ts';
import { cgroupNamespaces } from '../host/cgroup-namespace.ts';
import { surveyCgroups } from '../host/cgroup-survey.ts';
import { findDaemons } from '../host/daemon.ts';
import { folderObstacle, isSame, memoryFileSystem, placeObstacle } from '../host/folder-facts.ts';
import { reach } from '../host/host.ts';
import { readHostView } from '../host/host-view.ts';
import { hostIdentity } from '../host/identity.ts';
import { readKernelFacts } from '../host/kernel.ts';
import { memoryRoom } from '../host/memory-room.ts';
import { tryMountCopy } from '../host/mount-copy.ts';
import { tryNativeCalls } from '../host/native-calls.ts';
import { lookAtNodeLogs } from '../host/node-logs.ts';
import { seccompMode } from '../host/self.ts';
import { asHostPath } from '../runtime/runtime.ts';
import { tryAuthorities, tryKeys } from '../sign/trial.ts';
import {
  checkCapabilities,
  checkHostRoot,
  checkMemory,
  checkProcesses,
  checkSettings,
  checkState,
  checkSystemCalls,
} from './agent.ts';
import { checkNodeLogs, checkVolumes } from './artifacts.ts';
import { checkCgroupNamespace } from './cgroup-namespace.ts';
import { type Check, type Group, line } from './check.ts';
import { examineController } from './controller.ts';
import { checkAppendOnly, checkClock, checkSigning, checkSinks, checkTimestamp, ofSink } from './evidence.ts';
import { checkCgroup, checkKernel } from './kernel.ts';
import { examineCheckpoint, examineRuntime } from './node.ts';
import { inTime, type Patient, type Shared } from './patient.ts';
import { checkPolicy } from './policy.ts';
import { examineSpool } from './spool.ts';
import { examineExits, examineRequestFolder, examineSchedules } from './triggers.ts';

type Examination = (patient: Patient, shared: Shared) => Promise<readonly Check[]>;

/** A runtime is waited for 15 s, a sink retries for ten; what needs longer hangs. */
const EXAMINATION_MS = 20_000;
/** For what an examination has found by then and for its own words about who did not answer. */
const GRACE_MS = 2_000;

/** Predicts what would fail in a capture. Reads only; the sink's own check leaves nothing behind. Never throws. */
export async function examine(patient: Patient): Promise<Check[]> {
  const signal = AbortSignal.any([patient.signal, AbortSignal.timeout(EXAMINATION_MS)]);
  const bounded = { ...patient, signal };
  const shared = ask(bounded);
  const found = await Promise.all(
    EXAMINATIONS.map(async ([group, name, examination]) => {
      try {
        return await inTime(examination(bounded, shared), signal, GRACE_MS);
      } catch (error) {
        return [
          line(group, name).warning(
            explain(error),
            'this could not be examined',
            'see the log of the agent and of the node',
          ),
        ];
      }
    }),
  );
  return found.flat();
}

const EXAMINATIONS: ReadonlyArray<readonly [Group, name: string, Examination]> = [
  ['runtime', 'runtime', examineRuntime],
  ['checkpoint', 'checkpoint', examineCheckpoint],
  ['kernel', 'kernel', async ({ host }) => checkKernel(await readKernelFacts(host))],
  ['kernel', 'cgroup', async ({ host }) => [checkCgroup(await surveyCgroups(host))]],
  ['agent', 'processes', examineView],
  ['agent', 'cgroup-namespace', examineCgroupNamespace],
  ['agent', 'capabilities', async () => [checkCapabilities(await effectiveCapabilities())]],
  ['agent', 'system-calls', async () => [checkSystemCalls(tryNativeCalls(), await seccompMode())]],
  ['agent', 'volumes', async () => [checkVolumes(await tryMountCopy())]],
  ['agent', 'node-logs', async ({ host, signal }) => [checkNodeLogs(await lookAtNodeLogs(host, signal))]],
  ['agent', 'state', examineState],
  ['agent', 'memory', async ({ config }) => [checkMemory(await memoryRoom(), config.memory.bufferBytes)]],
  ['agent', 'settings', async ({ config }) => [checkSettings(config)]],
  ['agent', 'policy', async ({ config }) => [checkPolicy(config.policy)]],
  ['agent', 'request-folder', examineRequestFolder],
  ['agent', 'schedules', examineSchedules],
  ['agent', 'exits', examineExits],
  ['agent', 'controller', examineController],
  ['evidence', 'sink', examineSinks],
  ['evidence', 'append-only', examineRights],
  ['evidence', 'spool', examineSpool],
  ['evidence', 'signing', async ({ config, signal }) => [checkSigning(await tryKeys(config.signing, signal))]],
  ['evidence', 'timestamp', async (_patient, shared) => [checkTimestamp(await shared.authorities)]],
  ['evidence', 'clock', examineClock],
];

function ask({ runtime, host, config, sinks, signal }: Patient): Shared {
  const shared = {
    identity: inTime(runtime.identify(signal), signal),
    description: inTime(runtime.describe?.(signal) ?? Promise.resolve(undefined), signal),
    daemons: inTime(findDaemons(host, 'containerd', config.runtime.socket), signal),
    stores: Promise.all(
      sinks.map(async ({ name, sink }) => {
        const why = await inTime(sink.check(signal), signal).then(() => undefined, explain);
        return { name, url: sink.url, why };
      }),
    ),
    authorities: inTime(tryAuthorities(config.signing, signal), signal),
  };
  for (const asked of Object.values(shared)) asked.catch(() => undefined);
  return shared;
}

async function examineView({ host }: Patient): Promise<Check[]> {
  const view = await readHostView(host);
  return [checkProcesses(view, host.procRoot), checkHostRoot(view, host.hostRoot)];
}

async function examineCgroupNamespace({ host, waiting }: Patient): Promise<Check[]> {
  return [checkCgroupNamespace(await cgroupNamespaces(host), waiting !== undefined)];
}

async function examineState({ config, host, waiting }: Patient, shared: Shared): Promise<Check[]> {
  const folder = config.stateDir;
  const mine = reach(host, asHostPath(folder));
  // An agent that runs has made it.
  const obstacle = await (waiting === undefined ? placeObstacle : folderObstacle)(mine);
  if (obstacle !== undefined) return [checkState({ folder, memoryFileSystem: undefined, shared: undefined, obstacle })];
  const [daemon] = await shared.daemons.catch(() => []);
  const shares = daemon === undefined ? undefined : await isSame(mine, `${daemon.root}${folder}`);
  return [checkState({ folder, memoryFileSystem: await memoryFileSystem(mine), shared: shares })];
}

/** A sink that does not answer fails every capture, so here an overdue answer is a failure as well. */
async function examineSinks(_patient: Patient, { stores }: Shared): Promise<Check[]> {
  return checkSinks(await stores);
}

/** Whoever was asked has a clock too: those of S3 and of the authorities are better than a node's that nobody keeps. */
async function examineClock({ host, sinks }: Patient, { stores, authorities }: Shared): Promise<Check[]> {
  await stores;
  const told = [
    ...sinks.map(({ sink }) => sink.clock?.()),
    ...(await authorities.catch(() => [])).map(({ clock }) => clock),
  ];
  const others = told.filter((offset) => offset !== undefined);
  return [checkClock(hostIdentity(host, Date.now).clock, others)];
}

async function examineRights({ sinks, storedKey, signal }: Patient): Promise<Check[]> {
  const found = sinks.map(async ({ name, sink }) => {
    const rights = await sink.rights(storedKey(sink), signal);
    return ofSink(checkAppendOnly(sink.url, rights), name, sinks.length);
  });
  return await Promise.all(found);
}
