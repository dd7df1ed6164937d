/** The runtime port for containers that Docker runs, alone or below cri-dockerd. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { ExhibitError, isExhibitError } from '../../evidence/error.ts';
import type { EndedRecord } from '../../evidence/manifest.ts';
import { missingCriu } from '../host/criu.ts';
import type { Host } from '../host/host.ts';
import { containerdClient } from './containerd-client.ts';
import { cleanDumpFolders, type Place } from './cri-leftovers.ts';
import { type DockerClient, dockerClient } from './docker-client.ts';
import {
  describeDaemon,
  endOf,
  finishedAt,
  parseInspected,
  parseTop,
  parseVersion,
  summaries,
} from './docker-inspect.ts';
import { describeDocker } from './docker-target.ts';
import { endedTarget, noMoreProcesses, settledEnd } from './ended.ts';
import { chooseFreeze, type FreezeMethod, pidsOf, withFreezer } from './inspect.ts';
import { ownerOfCgroup, ownerOfPid, requireProcess } from './owner.ts';
import { DOCKER_NAMESPACE } from './pause/docker.ts';
import { AFTER_DUMP_MS, thawAfterDump } from './pause/dump.ts';
import type { DockerSpec } from './pause/resume.ts';
import { isNaming, pickContainer, pickEnded, withEnds } from './pick.ts';
import type { CheckpointRung, ContainerSummary, Pid, Runtime, Selector, Target } from './runtime.ts';
import { selectorText } from './select.ts';
import { openNamespace } from './tasks.ts';
import { tasksRung } from './tasks-rung.ts';

export interface DockerOptions {
  /** Docker's socket as the agent reaches it. */
  readonly socket: string;
  readonly host: Host;
  /** Who stops a container; `auto` unless told. */
  readonly freeze?: FreezeMethod;
  /** Of the containerd that Docker uses; looked for beside Docker's socket unless told. */
  readonly containerdSocket?: string | undefined;
}

/** Connects with the first call. */
export function openDocker({ socket, host, freeze, containerdSocket }: DockerOptions): Runtime {
  const client = dockerClient(socket);
  const below = containerdSocketBeside(socket, containerdSocket);
  const containerd = below === undefined ? undefined : openNamespace(below, DOCKER_NAMESPACE);
  const images = containerd && containerdClient(containerd);
  const list = async (signal: AbortSignal) => summaries(await client.containers({ signal }));
  const pause = (target: Target): DockerSpec => pauseOf(socket, target);
  return {
    kind: 'docker',
    async identify(signal) {
      return { name: 'docker', version: parseVersion(await client.version({ signal })).Version };
    },
    async describe(signal) {
      const [version, info] = await Promise.all([client.version({ signal }), client.info({ signal })]);
      return describeDaemon(version, info);
    },
    list,
    async resolve(selector, signal) {
      const containers = await withEnds(selector, await list(signal), async (id) => {
        const bytes = await client.inspect(id, { signal });
        return bytes === undefined ? undefined : finishedAt(parseInspected(bytes));
      });
      const summary = await find(client, host, selector, containers, signal);
      const { target, cgroup } = await describeDocker(client, host, summary, signal, images);
      const pids = await dockerPids(client, host, target, signal);
      const choice = await chooseFreeze(host, freeze, { id: summary.id, pids, cgroup }, pause(target));
      const notes = [...target.notes, ...choice.notes];
      return { ...target, record: { ...target.record, pids }, freeze: choice.freeze, notes };
    },
    async resolveEnded(selector, signal) {
      if (!isNaming(selector)) throw noMoreProcesses(selector);
      const ends = async (id: string) => (await endOfId(client, id, signal))?.finishedAt;
      const summary = pickEnded(selector, await withEnds(selector, await list(signal), ends));
      const ended = (await settledEnd(() => endOfId(client, summary.id, signal), signal)) ?? {};
      return endedTarget((await describeDocker(client, host, summary, signal, images, true)).target, ended);
    },
    endOf: (id, signal) => endOfId(client, id, signal),
    isRemoved: async ({ record }, signal) => (await client.inspect(record.id, { signal })) === undefined,
    pids: (target, signal) => dockerPids(client, host, target, signal),
    ...(images && { blob: images.blobChunks }),
    rungs: [
      ...(containerd === undefined ? [] : [tasksRung(containerd)]),
      dockerRung(client, { host, socket: below ?? '' }),
    ],
    dumpObstacle: async () => (below === undefined ? undefined : missingCriu(host, below)),
    pauseOf: pause,
    async resumeIfPaused(target) {
      return thawAfterDump(pause(target), host.procRoot, AFTER_DUMP_MS);
    },
    async [Symbol.asyncDispose]() {
      client[Symbol.dispose]();
      containerd?.client.close();
    },
  };
}

async function endOfId(client: DockerClient, id: string, signal: AbortSignal): Promise<EndedRecord | undefined> {
  const bytes = await client.inspect(id, { signal });
  return bytes === undefined ? undefined : endOf(parseInspected(bytes));
}

function pauseOf(socket: string, { record, freeze }: Target): DockerSpec {
  if (freeze?.kind === 'docker') return freeze;
  return withFreezer({ kind: 'docker', socket, containerId: record.id }, freeze);
}

/** From the container's cgroup, as everywhere; Docker would run ps(1) on the node. */
function dockerPids(client: DockerClient, host: Host, target: Target, signal: AbortSignal): Promise<Pid[]> {
  return pidsOf(host, target, async () => {
    try {
      return parseTop(await client.top(target.record.id, '-eo pid', { signal }));
    } catch (error) {
      // A container that has ended has no processes, however Docker words it.
      if (isExhibitError(error, 'runtime-failed')) return [];
      throw error;
    }
  });
}

/** The one container that a selector of any kind means. */
async function find(
  client: DockerClient,
  host: Host,
  selector: Selector,
  containers: readonly ContainerSummary[],
  signal: AbortSignal,
): Promise<ContainerSummary> {
  if (isNaming(selector)) return pickContainer(selector, containers);
  const named = (paths: readonly string[]) =>
    containers.filter(({ id }) => paths.some((one) => one.split('/').some((segment) => segment.includes(id))));
  switch (selector.kind) {
    case 'pid': {
      const paths = (await requireProcess(host, selector.pid)).map((one) => one.path);
      const id = await ownerOfPid(host, selector.pid, await owners(client, named(paths), signal));
      return pickContainer({ kind: 'container', id }, containers);
    }
    case 'cgroup': {
      const id = await ownerOfCgroup(host, selector.path, await owners(client, named([selector.path]), signal));
      return pickContainer({ kind: 'container', id }, containers);
    }
    case 'unit':
      throw new ExhibitError(
        'target-not-found',
        `A container runtime knows no systemd units: ${selectorText(selector)} is not here`,
      );
    default:
      return selector satisfies never;
  }
}

/** Docker's list has no pids; only containers whose id is in the path are asked for theirs. */
async function owners(client: DockerClient, candidates: readonly ContainerSummary[], signal: AbortSignal) {
  const found: { id: string; pid: number }[] = [];
  for (const { id } of candidates) {
    const bytes = await client.inspect(id, { signal });
    if (bytes !== undefined) found.push({ id, pid: parseInspected(bytes).State.Pid });
  }
  return found;
}

/**
 * Docker passes CRIU none of the options. It first has containerd write everything into folders and blobs of its own, on the
 * node's disk, and unpacks it from there into the given folder; what it had there is gone afterwards.
 */
function dockerRung(client: DockerClient, place: Place): CheckpointRung {
  return {
    name: 'docker',
    delivers: 'images',
    makesFolder: true,
    passes: [],
    async checkpoint({ record }, { images }) {
      const [folder, name] = [path.posix.dirname(images), path.posix.basename(images)];
      try {
        await client.createCheckpoint(record.id, folder, name);
      } catch (error) {
        // Docker removes a folder it did not fill; one that it half filled is there still. Its reason is what counts.
        if (!isExhibitError(error, 'runtime-unsupported'))
          await client.removeCheckpoint(record.id, folder, name, {}).catch(() => undefined);
        throw error;
      }
    },
    /** When dockerd dies in the middle, so does its containerd, and never looks at its folder in /tmp again. */
    async clean(_, sinceMs) {
      // Only a dockerd that runs again tells which folders are nobody's.
      await client.version({});
      return cleanDumpFolders(place, sinceMs);
    },
  };
}

/** The socket of the containerd that runs Docker's containers: one that dockerd started for itself, else the node's. */
export function containerdSocketBeside(socket: string, configured?: string): string | undefined {
  const run = path.dirname(socket);
  const usual = ['docker/containerd/containerd.sock', 'containerd/containerd.sock'].map((one) => path.join(run, one));
  return configured ?? usual.find((one) => existsSync(one));
}
