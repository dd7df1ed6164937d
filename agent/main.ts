import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { type Logger, pino } from 'pino';
import type { Encrypt } from '../evidence/age-writer.ts';
import { ExhibitError, explain, isErrno, isExhibitError } from '../evidence/error.ts';
import { MANIFEST_OBJECT, storedName } from '../evidence/layout.ts';
import { openAdmission } from './capture/admission.ts';
import { openBaselines } from './capture/baselines.ts';
import { captureExecutor } from './capture/capture.ts';
import { type Captures, createCaptures, type Execute } from './capture/captures.ts';
import { createChain } from './capture/chain.ts';
import { openDelivery } from './capture/delivery.ts';
import { readDrafts } from './capture/drafts.ts';
import { startFreezer } from './capture/freeze.ts';
import { openGuardReserve, spawnGuard } from './capture/guard-link.ts';
import { countIncidents } from './capture/incidents.ts';
import { openJournal } from './capture/journal.ts';
import { openNeighbour } from './capture/neighbour.ts';
import { recover, tidyDumps } from './capture/recover.ts';
import { recoverDrafts } from './capture/recover-drafts.ts';
import { REHEARSAL_BYTES, startRehearsal } from './capture/rehearsal.ts';
import { allCollectors } from './collect/all.ts';
import { type Config, loadConfig } from './config.ts';
import { checkCgroupNamespace } from './doctor/cgroup-namespace.ts';
import { type Check, reasonOf } from './doctor/check.ts';
import { examine } from './doctor/doctor.ts';
import { type GrantId, granted } from './doctor/grants.ts';
import { captureLooks } from './doctor/looks.ts';
import { openEncryption } from './encryption.ts';
import { cgroupNamespaces } from './host/cgroup-namespace.ts';
import { openThreadReserve, rehearseThreads } from './host/copy-threads.ts';
import { cleanStaleFifos } from './host/fifo.ts';
import { makeFolder } from './host/folder.ts';
import { memoryFileSystem } from './host/folder-facts.ts';
import { type Host, reach } from './host/host.ts';
import { setIoPriority } from './host/io-priority.ts';
import { leastRoomBytes, memoryRoom } from './host/memory-room.ts';
import { runOwnCommand } from './host/own-command.ts';
import { followedBy, refillWithin } from './host/reserve.ts';
import { codeCacheOf } from './host/small-process.ts';
import { cleanStaleTmpfs } from './host/tmpfs.ts';
import { openLogLevels } from './log-level.ts';
import { type MachinePort, openMachinePort } from './machine-port.ts';
import { openAgentMetrics } from './metrics/agent.ts';
import { s3SinksOf, spoolRoom } from './metrics/sources.ts';
import { openReadiness, type Readiness } from './readiness.ts';
import { openContainerd } from './runtime/containerd.ts';
import { openCri } from './runtime/cri.ts';
import { openDocker } from './runtime/docker.ts';
import { openHostRuntime } from './runtime/host.ts';
import { asHostPath, type Runtime } from './runtime/runtime.ts';
import { openSealer } from './sign/open.ts';
import { Bandwidth } from './sink/bandwidth.ts';
import { openSink } from './sink/open.ts';
import type { NamedSink } from './sink/several.ts';
import type { Sink } from './sink/sink.ts';
import type { Vault } from './sink/vault.ts';
import { openSpoolVault } from './sink/vault-place.ts';
import { type EarlierListener, stopSignal } from './stop-signals.ts';
import { tryController } from './trigger/controller-probe.ts';
import { claimSocket } from './trigger/exec.ts';
import { openTriggers } from './trigger/main.ts';

/**
 * The composition root: configuration -> adapters -> triggers (trigger/main.ts) -> shutdown.
 */

export interface Agent extends AsyncDisposable {
  readonly socket: string;
  readonly readiness: Readiness;
  /** Of metrics and probes, where the configuration has one. */
  readonly machinePort: MachinePort | undefined;
}

/** Starts everything; disposal stops taking captures, lets the running ones end within the grace time, and closes. */
export async function startAgent(config: Config, log: Logger): Promise<Agent> {
  await using stack = new AsyncDisposableStack();
  // Before anything of an earlier agent is opened or tidied up: it might still be there.
  await claimSocket(config.socket).catch(forWantOf('mount:/run/exhibit'));
  const host: Host = { procRoot: config.runtime.procRoot, hostRoot: config.runtime.hostRoot };
  const stateDir = asHostPath(config.stateDir);
  await makeFolder(reach(host, stateDir)).catch((cause: unknown) => {
    const what = `Cannot make stateDir ${config.stateDir}; set it to a folder on a tmpfs that root can write`;
    return forWantOf('mount:/host', 'mount:/run/exhibit')(new ExhibitError('config', what, { cause }));
  });

  const version = agentVersion();
  const metrics =
    config.metrics &&
    stack.use(
      await openAgentMetrics({
        version,
        sinks: config.sinks.map(({ name }) => name),
        s3Sinks: s3SinksOf(config.sinks),
      }),
    );
  const encrypt = await openEncryption(config.encryption);
  const vault = await openSpoolVault(config.spool, reach(host, stateDir));
  if (await isLostAtReboot(vault, config, reach(host, stateDir))) {
    log.warn({ folder: vault.folder }, 'the spool is on a disk and its key in memory: a reboot loses what waits there');
  }
  const { uploadBytesPerSecond } = config.limits;
  const upload = uploadBytesPerSecond === undefined ? undefined : new Bandwidth(uploadBytesPerSecond);
  const sinks = config.sinks.map(({ name, sink }) => ({
    name,
    sink: stack.use(
      openSink(sink, {
        ...{ name, log, vault, spoolBytes: config.spool.bytes, upload },
        onAttempt: metrics?.s3Attempts(name),
      }),
    ),
  }));
  if (config.limits.ioPriority !== 'normal' && !setIoPriority(config.limits.ioPriority))
    log.warn('limits.ioPriority cannot be set here');
  const spoolFolder = vault.inMemory ? undefined : vault.folder;
  const neighbour = openNeighbour({ limits: config.limits, host, sinks, spoolFolder, upload, log });
  const hostRuntime = stack.use(openHostRuntime({ host }));
  const [runtime = hostRuntime, ...others] = [
    ...containerRuntimes(config, host).map((one) => stack.use(one)),
    hostRuntime,
  ];
  const runtimes = [runtime, ...others] as const;
  await tellCgroupNamespace(host, log);
  const journal = await openJournal(reach(host, stateDir), (file, error) =>
    log.warn({ file, error: explain(error) }, 'journal entry set aside'),
  );
  await recover(journal, { now: Date.now, log, procRoot: host.procRoot });
  await cleanStaleFifos(host, stateDir);
  await cleanStaleTmpfs(host, stateDir);
  const rungs = runtimes.flatMap((one) => one.rungs);
  await tidyDumps(journal, rungs, log);

  const sealer = stack.use(await openSealer(config.signing, log));
  const chain = createChain({ vault, log });
  const drafts = await readDrafts({ vault, now: Date.now, log });
  await recoverDrafts(drafts, { journal, chain, version, log });
  const delivery = openDelivery({
    ...{ sinks, sealer, chain, version, now: Date.now, log },
    onDelivered: (news) => captures.delivered(news),
    onSeal: metrics?.onSeal,
  });
  stack.use(delivery);

  const codeCache = codeCacheOf(host, stateDir);
  const [guards, threads] = [stack.use(openGuardReserve({ codeCache })), stack.use(openThreadReserve({ codeCache }))];
  const refill = refillWithin([guards, threads], {
    // They take 51 MiB while nothing is captured (docs/decisions/0021-ready-guard.md).
    hasRoom: async () => leastRoomBytes(await memoryRoom()) >= REHEARSAL_BYTES,
    onFailure: (error) => log.warn({ error: explain(error) }, 'no guard and no threads wait for the next capture'),
  });
  const collectors = allCollectors(stateDir, { ...config, takeThread: threads.take });
  const baselines = config.baselines.enabled
    ? await openBaselines({ config: config.baselines, vault, log })
    : undefined;
  const capture = captureExecutor({
    config,
    host,
    admission: openAdmission({
      config,
      host,
      sinks,
      runtimes,
      journal,
      now: Date.now,
      log,
      onRefused: metrics?.onRefused,
    }),
    sinks,
    encrypt,
    runtimes,
    collectors,
    sealer,
    vault,
    delivery,
    neighbour,
    baselines,
    startFreezer: (spec, signal, options) => startFreezer(spec, signal, { guard: guards.take, ...options }),
    version,
    now: Date.now,
    log,
  });
  const readiness = stack.use(
    openReadiness(captureLooks({ config, host, runtime, sinks, shortages: neighbour.shortages }), {
      onChange: (state) => tellReadiness(log, state),
    }),
  );
  const rehearsing = new AbortController();
  const { execute, incidents } = countIncidents(
    followedBy(
      async (...args: Parameters<Execute>) => {
        rehearsing.abort(new Error('a capture has begun'));
        try {
          const end = await capture(...args);
          readiness.saw(undefined);
          return end;
        } catch (error) {
          readiness.saw(error);
          throw error;
        }
      },
      (isIdle) => void refill(isIdle),
    ),
  );
  const captures: Captures = createCaptures({
    ...{ journal, now: Date.now, log },
    execute: metrics?.around(execute) ?? execute,
  });
  const triggers = stack.use(
    await openTriggers({
      ...{ config, host, runtimes, captures, incidents, version, levels: openLogLevels(log), log },
      isBaseline: baselines?.isBaseline,
      problemOf: (sink) => delivery.problemOf(sink),
      examine: (signal, status) =>
        examine({
          ...{ config, host, runtime, sinks, signal },
          storedKey: (sink) => storedKey(captures, sink, encrypt),
          waiting: () => captures.list(Number.POSITIVE_INFINITY).map(({ waiting = [] }) => waiting),
          ...status,
          ...trial(config),
        }),
    }),
  );
  // After the API is there: an S3 that is away answers late.
  delivery.resume(drafts);
  stack.use(askSinks(sinks, log));
  const more = {
    // The first ones leave their compiled code for those that wait, which so have half the memory.
    guard: () => spawnGuard({ codeCache }).dismiss(),
    threads: () => rehearseThreads(threads.take),
    refill: () => refill(),
    command: (signal: AbortSignal) => runOwnCommand(config.socket, signal),
  };
  const parts = { config, host, collectors, runtimes, sinks, encrypt, vault, version, log, more, room: memoryRoom };
  stack.use(startRehearsal(parts, rehearsing));
  metrics?.watch({
    ...{ captures, readiness, status: triggers.status, certificateFile: config.controller?.certFile },
    spool: () => spoolRoom(vault, config.spool.bytes),
    limits: neighbour.numbers,
  });
  const machinePort =
    config.metrics &&
    metrics &&
    (await openMachinePort(config.metrics, { metrics: metrics.text, ready: readiness.now, log }));
  stack.use(machinePort);
  const open = stack.move();
  return { socket: triggers.socket, readiness, machinePort, [Symbol.asyncDispose]: () => open.disposeAsync() };
}

/** In a pod, a file or folder that is not there, or is read-only, is a mount that is missing: says what grants it. */
function forWantOf(...grants: readonly GrantId[]): (error: unknown) => never {
  return (error) => {
    const isMissing = isExhibitError(error, 'config') && isErrno(error.cause, 'ENOENT', 'EROFS', 'EACCES');
    if (!isMissing || process.env.KUBERNETES_SERVICE_HOST === undefined) throw error;
    throw new ExhibitError('config', `${error.message}; in the pod ${granted(...grants)}`, { cause: error.cause });
  };
}

/** The files outlive it, and nobody can read them. */
async function isLostAtReboot(vault: Vault, { spool }: Config, stateDir: string): Promise<boolean> {
  return !vault.inMemory && spool.keyFile === undefined && (await memoryFileSystem(stateDir)) !== undefined;
}

/** A sink that lacks what it is configured to have is told of at the start, and refuses each capture before it begins. */
function askSinks(sinks: readonly NamedSink[], log: Logger): AsyncDisposable {
  const end = new AbortController();
  const asked = sinks.map(async ({ name, sink }) => {
    try {
      await sink.ready?.(end.signal);
    } catch (error) {
      if (!end.signal.aborted) log.error({ sink: name, error: explain(error) }, 'sink is not as configured');
    }
  });
  return {
    async [Symbol.asyncDispose]() {
      end.abort(new Error('the agent is stopping'));
      await Promise.all(asked);
    },
  };
}

/** No reason not to capture, and one that nobody would look for. */
async function tellCgroupNamespace(host: Host, log: Logger): Promise<void> {
  const check = checkCgroupNamespace(await cgroupNamespaces(host), true);
  if (check.status !== 'ok') log.warn({ reason: reasonOf(check) }, 'a guard would not outlive this container');
}

/** Once for each change: what a node that is not ready waits for is in its log. */
function tellReadiness(log: Logger, { ready, reasons }: ReturnType<Readiness['now']>): void {
  if (ready) log.info('a capture would work');
  else log.warn({ reasons }, 'a capture would not work');
}

/** The manifest of the newest bundle that was sealed in this sink. */
function storedKey(captures: Captures, sink: Sink, encrypt: Encrypt | undefined): string | undefined {
  const folder = `${sink.url}/`;
  const manifest = storedName({ name: MANIFEST_OBJECT, encryption: encrypt && 'age' });
  const sealed = captures
    .list(Number.POSITIVE_INFINITY)
    .find(
      ({ state, bundleUrl, waiting = [] }) =>
        (state === 'complete' || state === 'partial') && waiting.length === 0 && bundleUrl.startsWith(folder),
    );
  return sealed === undefined ? undefined : `${sealed.bundleUrl.slice(folder.length)}/${manifest}`;
}

/** The doctor without an agent: the same adapters, none of its work. The configuration is the agent's. */
export async function examineNode(configFile: string, env: NodeJS.ProcessEnv, signal: AbortSignal): Promise<Check[]> {
  const config = await loadConfig(configFile, env);
  const host: Host = { procRoot: config.runtime.procRoot, hostRoot: config.runtime.hostRoot };
  await using stack = new AsyncDisposableStack();
  const sinks = config.sinks.map(({ name, sink }) => ({ name, sink: stack.use(openSink(sink, { name })) }));
  const runtime = stack.use(containerRuntimes(config, host)[0] ?? openHostRuntime({ host }));
  return await examine({ config, host, runtime, sinks, storedKey: () => undefined, ...trial(config), signal });
}

/** What the doctor tries of the controller, where there is one. */
function trial({ controller }: Config) {
  if (controller === undefined) return {};
  return { tryController: (signal: AbortSignal) => tryController(controller, Date.now(), signal) };
}

function containerRuntimes(config: Config, host: Host): Runtime[] {
  const { kind, socket, namespace, containerdSocket } = config.runtime;
  const freeze = config.freeze.method;
  switch (kind) {
    case 'cri':
      return [openCri({ socket, namespace, host, freeze })];
    case 'containerd':
      return [openContainerd({ socket, namespace, host, freeze })];
    case 'docker':
      return [openDocker({ socket, containerdSocket, host, freeze })];
    case 'host':
      return [];
    default:
      return kind satisfies never;
  }
}

export function agentVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/** Runs the agent until SIGTERM or SIGINT. Logs go to stderr as JSON lines. */
export async function runAgent(configFile: string, earlier?: EarlierListener): Promise<void> {
  // Before the start: a SIGTERM in the middle of it must still close what was opened.
  const stop = stopSignal(earlier);
  const config = await loadConfig(configFile, process.env).catch(forWantOf('mount:/etc/exhibit'));
  const log = pino(
    { level: config.log.level, base: { cluster: config.cluster, node: config.node } },
    pino.destination(2),
  );
  await using _agent = await startAgent(config, log);
  const name = await stop;
  log.info({ signal: name }, 'stopping');
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    const { values } = parseArgs({ options: { config: { type: 'string' } } });
    if (values.config === undefined)
      throw new ExhibitError('usage', 'Say which configuration to use: node agent/main.ts --config FILE');
    await runAgent(values.config);
  } catch (error) {
    process.stderr.write(`${explain(error)}\n`);
    process.exitCode =
      isExhibitError(error, 'config') || isExhibitError(error, 'usage') || error instanceof TypeError ? 2 : 1;
  }
}
