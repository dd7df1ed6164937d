import { fileURLToPath } from 'node:url';
import type { Logger } from 'pino';
import { ExhibitError } from '../../evidence/error.ts';
import type { ArtifactName } from '../../evidence/layout.ts';
import { diskRoom } from '../host/disk-room.ts';
import type { Host } from '../host/host.ts';
import { memoryRoom } from '../host/memory-room.ts';
import { memoryPressurePercent } from '../host/pressure.ts';
import { openTreeCpu } from '../host/tree-cpu.ts';
import { isHeavy, type LimitNumbers, type Limits, type Scarce } from '../limits.ts';
import type { Bandwidth } from '../sink/bandwidth.ts';
import type { NamedSink } from '../sink/several.ts';
import type { CaptureRequest } from './captures.ts';
import { createHeavyLine, NO_TURN, type Turn } from './heavy-line.ts';
import { createPacer, type Pacer } from './pacer.ts';
import { findShortages, type RoomFacts } from './room.ts';

/**
 * The agent as a neighbour of the node's own work: whether there is room for a capture, whose turn it is, and how fast it may
 * go. One for an agent.
 */
export interface Neighbour {
  readonly pacer: Pacer;
  /**
   * After the policy, before anything of the target is read. The turn is the caller's to dispose of.
   * @throws ExhibitError `refused`, with what is short
   */
  admit(captureId: string, request: CaptureRequest, what: Admitted): Promise<Entrance>;
  /** What a capture that takes everything would be refused for now; empty: nothing. For readiness. */
  shortages(): Promise<string[]>;
  numbers(): LimitNumbers;
}

export interface Admitted {
  readonly artifacts: readonly ArtifactName[];
  readonly sinks: readonly NamedSink[];
}

export interface Entrance {
  readonly turn: Turn;
  /** What was short, and the request was allowed to pass. */
  readonly overridden: readonly string[];
  /** For a capture that waited: why there is no room any more for what is heavy; undefined: there is, or it may pass. */
  stillShort(): Promise<string | undefined>;
}

export interface NeighbourParts {
  readonly limits: Limits;
  readonly host: Host;
  /** All of the agent's. */
  readonly sinks: readonly NamedSink[];
  /** A folder on a disk where evidence waits. */
  readonly spoolFolder?: string | undefined;
  readonly upload?: Bandwidth | undefined;
  readonly pacer?: Pacer;
  readonly log: Logger;
}

export function openNeighbour(parts: NeighbourParts): Neighbour {
  const { limits, log } = parts;
  const pacer = parts.pacer ?? createPacer({ ...limits, cpuMs: openTreeCpu(parts.host) });
  const line = createHeavyLine(limits.queue);
  const refusals: Record<Scarce, number> = { memory: 0, pressure: 0, disk: 0, queue: 0 };
  let passedCount = 0;

  const mayForce = ({ requester }: CaptureRequest) => limits.override.some((one) => one === requester.trigger);
  const isForced = (request: CaptureRequest) => request.force === true && mayForce(request);

  async function passRoom(captureId: string, request: CaptureRequest, what: Admitted): Promise<string[]> {
    const short = findShortages(limits, what.artifacts, await factsFor(parts, what.sinks));
    const [first] = short;
    if (first === undefined) return [];
    const why = short.map((one) => one.why);
    if (isForced(request)) {
      log.warn({ captureId, requester: request.requester, why }, 'capture begins in spite of a limit');
      passedCount += 1;
      return why;
    }
    refusals[first.of] += 1;
    log.warn({ captureId, requester: request.requester, why }, 'capture refused for want of room');
    throw new ExhibitError(
      'refused',
      `There is no room for this capture: ${why.join('; ')}. ${wayOut(mayForce(request))}`,
    );
  }

  async function stillShort(captureId: string, request: CaptureRequest, what: Admitted): Promise<string | undefined> {
    if (isForced(request)) return undefined;
    const short = findShortages(limits, what.artifacts, await factsFor(parts, what.sinks));
    if (short.length === 0) return undefined;
    const why = short.map((one) => one.why).join('; ');
    log.warn({ captureId, why }, 'what is heavy is left out for want of room, after a wait');
    return `there was no room left when its turn came: ${why}`;
  }

  return {
    pacer,
    async admit(captureId, request, what) {
      const overridden = await passRoom(captureId, request, what);
      const rest = { overridden, stillShort: () => stillShort(captureId, request, what) };
      if (!what.artifacts.some(isHeavy)) return { turn: NO_TURN, ...rest };
      try {
        return { turn: line.join(request.requester.trigger === 'schedule' ? 'scheduled' : 'asked'), ...rest };
      } catch (error) {
        refusals.queue += 1;
        log.warn(
          { captureId, requester: request.requester, waiting: line.waiting },
          'capture refused: the line is full',
        );
        throw error;
      }
    },
    async shortages() {
      const short = findShortages(limits, ['memory'], await factsFor(parts, parts.sinks));
      return short.map(({ why }) => why);
    },
    numbers: () => ({
      heavyRunning: line.running,
      heavyWaiting: line.waiting,
      pacedSeconds: {
        cpu: pacer.pacedMs.cpu / 1000,
        read: pacer.pacedMs.read / 1000,
        upload: (parts.upload?.waitedMs ?? 0) / 1000,
      },
      queuedSeconds: line.queuedMs / 1000,
      refusals: { ...refusals },
      overridden: passedCount,
    }),
  };
}

function wayOut(isAllowed: boolean): string {
  return isAllowed
    ? 'Ask again with --force to begin all the same'
    : "Free some, lower the limit in the agent's configuration, or let it be passed by --force there (limits.override)";
}

async function factsFor({ host, spoolFolder }: NeighbourParts, sinks: readonly NamedSink[]): Promise<RoomFacts> {
  const folders = sinks.flatMap(({ sink }) => (sink.url.startsWith('file:') ? [fileURLToPath(sink.url)] : []));
  const [memory, pressurePercent, ...disks] = await Promise.all([
    memoryRoom(host.procRoot),
    memoryPressurePercent(host.procRoot),
    ...[...folders, ...(spoolFolder === undefined ? [] : [spoolFolder])].map((folder) => diskRoom(host, folder)),
  ]);
  return { memory, pressurePercent, disks: disks.flatMap((one) => one ?? []) };
}

/** Nothing is limited, but that one heavy capture goes after the other: for a rehearsal, and for tests of the spine. */
export function carefreeNeighbour(): Neighbour {
  const line = createHeavyLine({ length: Number.POSITIVE_INFINITY, waitMs: 2 ** 31 - 1 });
  return {
    pacer: createPacer({ cpuPercent: 0, readBytesPerSecond: 0 }),
    admit: async (_captureId, { requester }, { artifacts }) => ({
      turn: artifacts.some(isHeavy) ? line.join(requester.trigger === 'schedule' ? 'scheduled' : 'asked') : NO_TURN,
      overridden: [],
      stillShort: async () => undefined,
    }),
    shortages: async () => [],
    numbers: () => ({
      heavyRunning: line.running,
      heavyWaiting: line.waiting,
      pacedSeconds: { cpu: 0, read: 0, upload: 0 },
      queuedSeconds: line.queuedMs / 1000,
      refusals: { memory: 0, pressure: 0, disk: 0, queue: 0 },
      overridden: 0,
    }),
  };
}
