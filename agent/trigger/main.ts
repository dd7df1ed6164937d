import type { Logger } from 'pino';
import { ARTIFACTS } from '../../evidence/layout.ts';
import type { Captures } from '../capture/captures.ts';
import type { Incidents } from '../capture/incidents.ts';
import type { Config } from '../config.ts';
import type { Check } from '../doctor/check.ts';
import { type Host, reach } from '../host/host.ts';
import { hostIdentity } from '../host/identity.ts';
import type { LogLevels } from '../log-level.ts';
import { dockerExits } from '../runtime/docker-exits.ts';
import { containerdExits, type ExitEvents } from '../runtime/exits.ts';
import { asHostPath, type Runtime } from '../runtime/runtime.ts';
import { folderOf } from '../sink/local.ts';
import type { LocalNode } from '../sink/local-bundles.ts';
import { type ControllerStatus, openControllerTrigger } from './controller.ts';
import { serveExec } from './exec.ts';
import { type ExitStatus, startExitTrigger } from './exit.ts';
import { openRequestFolder } from './folder.ts';
import { openSchedules, type ScheduleStatus } from './schedule.ts';
import { createKeeper } from './schedule-keep.ts';
import type { WireOptions } from './wire.ts';

/** Everything that captures begin by: the socket always, the others where the configuration has them. */
export interface Triggers extends AsyncDisposable {
  readonly socket: string;
  readonly status: TriggerStatus;
}

/** How they stand, for the doctor; of those alone that the configuration has. */
export interface TriggerStatus {
  schedules?: () => readonly ScheduleStatus[];
  exits?: () => ExitStatus | undefined;
  controller?: () => ControllerStatus | undefined;
}

interface TriggersOptions extends WireOptions {
  readonly config: Config;
  readonly host: Host;
  readonly captures: Captures;
  readonly incidents: Incidents;
  /** The first one lists containers and tells of those that ended. */
  readonly runtimes: readonly [Runtime, ...Runtime[]];
  readonly version: string;
  readonly examine: (signal: AbortSignal, status: TriggerStatus) => Promise<Check[]>;
  /** A bundle that later captures name; absent where nothing is compared. */
  readonly isBaseline: ((captureId: string) => boolean) | undefined;
  readonly levels: LogLevels;
  readonly log: Logger;
}

/** Kubernetes kills 30 s after SIGTERM by default; a cancelled capture must still be sealed within that. */
const SHUTDOWN_GRACE_MS = 20_000;

/**
 * Starts them. Disposal first hears of no more containers that end, then takes no more captures and lets the running ones end
 * within the grace time, and only then closes what tells callers how those ended; the socket last, for as long as it is there
 * no other agent starts on this node.
 */
export async function openTriggers(options: TriggersOptions): Promise<Triggers> {
  await using stack = new AsyncDisposableStack();
  const { config, host, captures, incidents, runtimes, problemOf, levels, log } = options;
  const { cluster, node, pod, socket } = config;
  const [runtime] = runtimes;
  const now = Date.now;
  const asking = {
    captures,
    problemOf,
    defaults: { artifacts: config.artifacts, consistency: config.memory.consistency, scope: config.scope },
    sinks: config.sinks.map(({ name }) => name),
  };
  const status: TriggerStatus = {};
  const examine = (signal: AbortSignal) => options.examine(signal, status);
  stack.use(await serveExec({ ...asking, socket, runtime, examine, levels, log }));
  if (config.controller !== undefined) {
    const { bootId } = hostIdentity(host, now);
    const able = { artifacts: [...ARTIFACTS], sinks: asking.sinks };
    const self = { cluster, node, pod, bootId, agentVersion: options.version, ...able };
    const dial = { config: config.controller, runtimes, self, now, random: Math.random, log };
    const controller = stack.use(openControllerTrigger({ ...asking, ...dial }));
    status.controller = () => controller.status();
  }
  if (config.schedules.length > 0) {
    const { schedules, scheduleBudget: budget } = config;
    const stateDir = reach(host, asHostPath(config.stateDir));
    const tidy = createKeeper({ places: placesOf(config), isNeeded: options.isBaseline, log });
    const given = { schedules, budget, node, stateDir, tidy };
    const opened = stack.use(await openSchedules({ ...given, captures, runtime, incidents, now, log }));
    status.schedules = () => opened.status();
  }
  const { requestFolder: folder } = config;
  if (folder !== undefined) stack.use(await openRequestFolder({ ...asking, folder, node, host, now, log }));
  stack.defer(() => captures.drain(SHUTDOWN_GRACE_MS));
  const events = config.exits.rules.length > 0 ? exitEvents(config) : undefined;
  if (events !== undefined) {
    // Closed before the drain, which waits for the captures that it has begun: it begins no more while they end.
    const exits = stack.use(startExitTrigger({ config: config.exits, events, runtime, captures, now, log }));
    status.exits = () => exits.status();
  }
  const running = stack.move();
  return { socket, status, [Symbol.asyncDispose]: () => running.disposeAsync() };
}

/** Where bundles of schedules can be removed by the agent itself. */
function placesOf({ sinks, cluster, node }: Config): LocalNode[] {
  const folders = sinks.flatMap(({ sink }) => (sink.url.startsWith('file:') ? [folderOf(sink.url)] : []));
  return folders.map((root) => ({ root, cluster, node }));
}

/** Undefined where there are no containers. */
function exitEvents({ runtime: { kind, socket, namespace } }: Config): ExitEvents | undefined {
  if (kind === 'host') return undefined;
  return kind === 'docker' ? dockerExits(socket) : containerdExits(socket, namespace);
}
