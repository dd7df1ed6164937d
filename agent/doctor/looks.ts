import { explain, isExhibitError } from '../../evidence/error.ts';
import type { Config } from '../config.ts';
import { folderObstacle, memoryFileSystem } from '../host/folder-facts.ts';
import { type Host, reach } from '../host/host.ts';
import { readHostView } from '../host/host-view.ts';
import { readMemoryOfOthers } from '../host/kernel.ts';
import { memoryRoom } from '../host/memory-room.ts';
import type { Look } from '../readiness.ts';
import { asHostPath, type Runtime } from '../runtime/runtime.ts';
import { configuredKeys } from '../sign/open.ts';
import { tryKeys } from '../sign/trial.ts';
import { waitsForNobody } from '../sink/s3-away.ts';
import type { NamedSink } from '../sink/several.ts';
import { lookAtSpool } from '../sink/spool-look.ts';
import { spoolFolder } from '../sink/vault-place.ts';
import { checkMemory, checkProcesses, checkState } from './agent.ts';
import { type Check, line } from './check.ts';
import { checkSigning, checkSinks } from './evidence.ts';
import { checkMemoryOfOthers } from './kernel.ts';
import { runtimeSockets, unreachableWords } from './node.ts';
import { checkRuntime } from './runtime.ts';
import { checkSpoolFolder, SPOOL_LEAST_BYTES, spoolRoomBytes } from './spool.ts';

/**
 * What of the doctor's examination decides whether a capture would work, made cheap enough to be looked at for as long as the agent
 * lives: docs/doctor.md#readiness.
 */

/** Files in memory and one call to the runtime. */
const NEAR_MS = 5_000;
/** A loaded node gets the benefit of the doubt, and kubelet asks every ten seconds. */
const NEAR_TIMEOUT_MS = 5_000;
/** What opens files of other processes or reads a key. */
const SELDOM_MS = 60_000;
/** A question to S3 or a KMS costs money, and a line in CloudTrail: of a thousand nodes one a second. */
const FAR_MS = 15 * 60_000;
/** Soon enough for whoever mends it. */
const FAR_FAILING_MS = 30_000;
/** A sink retries for ten seconds. */
const FAR_TIMEOUT_MS = 20_000;

const near = { everyMs: NEAR_MS, failingMs: NEAR_MS, timeoutMs: NEAR_TIMEOUT_MS };
const seldom = { everyMs: SELDOM_MS, failingMs: NEAR_MS, timeoutMs: NEAR_TIMEOUT_MS };
const far = { everyMs: FAR_MS, failingMs: FAR_FAILING_MS, timeoutMs: FAR_TIMEOUT_MS };

export interface LookParts {
  readonly config: Config;
  readonly host: Host;
  readonly runtime: Runtime;
  readonly sinks: readonly NamedSink[];
  /** What a capture that takes everything would be refused for now, in words. */
  readonly shortages: () => Promise<readonly string[]>;
}

export function captureLooks(parts: LookParts): Look[] {
  const { config, host } = parts;
  return [
    ...(parts.runtime.kind === 'host' ? [] : [runtimeLook(parts)]),
    { ...near, name: 'processes', ask: async () => [checkProcesses(await readHostView(host), host.procRoot)] },
    { ...seldom, name: 'process-memory', ask: async () => [checkMemoryOfOthers(await readMemoryOfOthers(host))] },
    { ...near, name: 'state', ask: async () => [await stateNow(config, host)] },
    { ...near, name: 'spool', ask: () => spoolNow(config, host) },
    { ...near, name: 'memory', ask: async () => [checkMemory(await memoryRoom(), config.memory.bufferBytes)] },
    { ...near, name: 'room', ask: async () => (await parts.shortages()).map(checkRoom) },
    sinkLook(parts),
    signingLook(config),
  ];
}

/** The words of an error of these codes, for a look that is about them. */
const about =
  (...codes: Parameters<typeof isExhibitError>[1][]) =>
  (failure: unknown): string | undefined =>
    codes.some((code) => isExhibitError(failure, code)) ? explain(failure) : undefined;

function runtimeLook(parts: LookParts): Look {
  const { config, runtime } = parts;
  const facts = { kind: runtime.kind, socket: config.runtime.socket, description: undefined, programs: [] };
  return {
    ...near,
    name: 'runtime',
    async ask(signal) {
      const why = await runtime.identify(signal).then(() => undefined, unreachableWords);
      return why === undefined
        ? []
        : [checkRuntime({ ...facts, answer: { why }, sockets: await runtimeSockets(parts) })];
    },
    concerns: (failure) => (isExhibitError(failure, 'runtime-unreachable') ? failure.message : undefined),
  };
}

/** The agent's own limits: what the node has to be left with. */
const checkRoom = (why: string): Check =>
  line('agent', 'room').failure(
    why,
    'a capture of more than processes and network would be refused',
    "free some, or lower the limit in the agent's configuration (limits, docs/good-neighbour.md)",
  );

async function stateNow(config: Config, host: Host): Promise<Check> {
  const folder = reach(host, asHostPath(config.stateDir));
  const obstacle = await folderObstacle(folder);
  const fileSystem = obstacle === undefined ? await memoryFileSystem(folder) : undefined;
  return checkState({ folder: config.stateDir, memoryFileSystem: fileSystem, shared: undefined, obstacle });
}

/** Every capture notes there what it has stored, also where its sinks are well. One that is not there is the agent's to make. */
async function spoolNow(config: Config, host: Host): Promise<Check[]> {
  const folder = spoolFolder(config.spool, reach(host, asHostPath(config.stateDir)));
  const obstacle = await folderObstacle(folder);
  return obstacle === undefined || obstacle === 'ENOENT' ? [] : [checkSpoolFolder(folder, obstacle)];
}

/** A sink that is away and comes back by itself is no reason as long as evidence can wait for it. */
function sinkLook({ config, host, sinks }: LookParts): Look {
  return {
    ...far,
    name: 'sink',
    async ask(signal) {
      const found = await Promise.all(
        sinks.map(async ({ name, sink }) => {
          const error: unknown = await sink.check(signal).catch((reason: unknown) => reason);
          return { name, url: sink.url, error, why: error === undefined ? undefined : explain(error) };
        }),
      );
      if (!found.some(({ error }) => comesBack(error))) return checkSinks(found);
      const look = await lookAtSpool(config.spool, reach(host, asHostPath(config.stateDir)));
      if (spoolRoomBytes(look) < SPOOL_LEAST_BYTES) return checkSinks(found);
      // It takes evidence by way of the spool, so another one that takes none spoils nothing.
      return checkSinks(found.map((one) => (comesBack(one.error) ? { ...one, why: undefined } : one)));
    },
    concerns: about('sink-failed', 'spool-full'),
  };
}

const comesBack = (error: unknown): boolean => isExhibitError(error, 'cancelled') || waitsForNobody(error);

/** Keys in files cost nothing; a KMS is asked for a signature. */
function signingLook({ signing }: Config): Look {
  const isFar = configuredKeys(signing).some((key) => 'kms' in key);
  return {
    ...(isFar ? far : seldom),
    name: 'signing',
    ask: async (signal) => [checkSigning(await tryKeys(signing, signal))],
  };
}
