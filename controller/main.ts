import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { type Logger, pino } from 'pino';
import { openLogLevels } from '../agent/log-level.ts';
import { type MachinePort, openMachinePort } from '../agent/machine-port.ts';
import { type EarlierListener, stopSignal } from '../agent/stop-signals.ts';
import { ExhibitError, explain, isExhibitError } from '../evidence/error.ts';
import { serveGrpc } from './api/grpc.ts';
import { openHttp } from './api/http.ts';
import { openApi } from './api/service.ts';
import { type ControllerConfig, loadConfig } from './config.ts';
import { auditedIdentity } from './custody/audited-identity.ts';
import { openDenials } from './custody/denials.ts';
import { createIdentity } from './identity/authenticate.ts';
import { agentIdentity } from './identity/certificates.ts';
import { createRateLimit } from './identity/rate.ts';
import { openAgentLinks } from './link/links.ts';
import { openLookups } from './link/lookups.ts';
import { watchedApi, watchedIdentity } from './metrics/api.ts';
import { openControllerMetrics } from './metrics/controller.ts';
import { watchedStore } from './metrics/store.ts';
import { openReadiness } from './readiness.ts';
import { openStore } from './store/open.ts';
import { type Listener, openListener } from './tls/tls.ts';

/** The controller's composition root: configuration -> store -> agents' port and API port -> shutdown. */

export interface Controller extends AsyncDisposable {
  readonly agents: Listener;
  readonly api: Listener;
  /** Of metrics and probes, where the configuration has one. */
  readonly machinePort: MachinePort | undefined;
}

/** Starts everything; disposal takes no more connections, lets calls end, and closes. */
export async function startController(config: ControllerConfig, log: Logger): Promise<Controller> {
  await using stack = new AsyncDisposableStack();
  const now = Date.now;
  const version = controllerVersion();
  const metrics = config.metrics && stack.use(await openControllerMetrics({ version }));
  const opened = stack.use(await openStore(config.store, { log, now }));
  const store = metrics === undefined ? opened : watchedStore(opened, metrics.storeEvents);
  const denials = stack.use(openDenials({ store, now, log }));
  const { trustDomain } = config.identity;
  const links = stack.use(
    openAgentLinks({
      ...{ store, version, now, log, onRefused: metrics?.onStreamRefused },
      identify: (certificate) => {
        if (certificate === undefined) throw new ExhibitError('unauthenticated', 'There is no certificate');
        return agentIdentity(certificate, trustDomain);
      },
    }),
  );
  const lookups = stack.use(openLookups(links, store, { log }));
  const audited = auditedIdentity(createIdentity(config.identity, log), denials);
  const identity = metrics === undefined ? audited : watchedIdentity(audited, metrics.onUnauthenticated);
  const calls = openApi({
    ...{ store, links, lookups, denials, now, version, levels: openLogLevels(log), log },
    rules: { approvals: config.approvals, expiresMs: config.captures.expiresMs },
    rateLimit: createRateLimit(config.identity.rate),
  });
  const api = metrics === undefined ? calls : watchedApi(calls, metrics.onCall);
  const grpc = serveGrpc({ api, identity, log });
  const alerts = config.alerts === undefined ? {} : { alerts: config.alerts };
  const http = await openHttp({ api, identity, store, log, now, ...alerts });

  const agentsPort = stack.use(
    await openListener(
      {
        ...config.agents,
        name: 'agents',
        clientCertificate: 'required',
        onRefused: () => metrics?.onConnectionRefused('agents'),
        handlers: { h2: (socket) => links.inject(socket) },
      },
      log,
    ),
  );
  const handlers = { h2: grpc.accept, 'http/1.1': http.accept };
  const apiPort = stack.use(
    await openListener(
      {
        ...config.api,
        name: 'api',
        clientCertificate: 'asked',
        onRefused: () => metrics?.onConnectionRefused('api'),
        handlers,
      },
      log,
    ),
  );
  // Undone in the other order: first no new connections, then the calls end, then what carries them.
  stack.use(http);
  stack.use(grpc);
  stack.defer(() => {
    agentsPort.stopAccepting();
    apiPort.stopAccepting();
  });
  log.info({ agents: addressOf(agentsPort), api: addressOf(apiPort), version }, 'controller ready');
  const readiness = openReadiness(opened, log);
  const listeners = [
    { ...agentsPort, name: 'agents' },
    { ...apiPort, name: 'api' },
  ];
  metrics?.watch({ links, store, listeners, ready: readiness.now });
  const machinePort =
    config.metrics &&
    metrics &&
    (await openMachinePort(config.metrics, { metrics: metrics.text, ready: readiness.now, log }));
  stack.use(machinePort);
  const running = stack.move();
  return { agents: agentsPort, api: apiPort, machinePort, [Symbol.asyncDispose]: () => running.disposeAsync() };
}

const addressOf = ({ host, port }: Listener): string => `${host.includes(':') ? `[${host}]` : host}:${port}`;

export function controllerVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/** Runs the controller until SIGTERM or SIGINT; SIGHUP reads certificates anew. Logs go to stderr as JSON lines. */
export async function runController(configFile: string, earlier?: EarlierListener): Promise<void> {
  const stop = stopSignal(earlier);
  const config = await loadConfig(configFile, process.env);
  const log = pino({ level: config.log.level, base: { controller: config.name } }, pino.destination(2));
  await using controller = await startController(config, log);
  process.on('SIGHUP', () => {
    void controller.agents.reload();
    void controller.api.reload();
  });
  const name = await stop;
  log.info({ signal: name }, 'stopping');
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    const { values } = parseArgs({ options: { config: { type: 'string' } } });
    if (values.config === undefined)
      throw new ExhibitError('usage', 'Say which configuration to use: node controller/main.ts --config FILE');
    await runController(values.config);
  } catch (error) {
    process.stderr.write(`${explain(error)}\n`);
    process.exitCode =
      isExhibitError(error, 'config') || isExhibitError(error, 'usage') || error instanceof TypeError ? 2 : 1;
  }
}
