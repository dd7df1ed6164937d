/** The controller as a process of its own with throw-away certificates, for end-to-end tests and the bench. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { CONTROLLER_ENVIRONMENT } from '../../controller/environment.ts';
import { COMPILED_ONCE } from './compiled.ts';
import { type ApiClient, apiClient } from './controller-client.ts';
import type { NetHost } from './nets.ts';
import { type LabPki, labPki } from './pki.ts';

const MAIN = fileURLToPath(new URL('../../controller/main.ts', import.meta.url));
/** As for the agent: a loaded machine gets the benefit of the doubt. */
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 30_000;

export interface LabController extends AsyncDisposable {
  readonly folder: string;
  readonly pki: LabPki;
  readonly pid: number;
  /** HOST:PORT. */
  readonly agents: string;
  readonly api: string;
  /** The controller's log, JSON lines. */
  log(): string;
  /** The section `controller` of an agent's configuration, with a certificate for this node. */
  agentSection(cluster: string, node: string): Promise<Record<string, unknown>>;
  /** As the operator of this name; whom the configuration does not know is refused. `at`: where it is reached from here. */
  client(operator: string, at?: string): Promise<ApiClient>;
  /** SIGKILL. What it keeps stays for the next one with the same `folder`, `pki` and ports. */
  kill(): Promise<void>;
  /** SIGTERM; the exit code. */
  stop(): Promise<number | null>;
}

export interface LabControllerOptions {
  /** Merged over the lab's own configuration, key by key. */
  readonly config?: Record<string, unknown>;
  /** Names of operators, all of them admins. */
  readonly admins?: readonly string[];
  /** Of a controller that was killed: the same store, certificates and ports. */
  readonly after?: LabController;
  readonly env?: NodeJS.ProcessEnv;
  /** Where it runs and listens; its address is one of the certificate's names. */
  readonly host?: NetHost;
  /** Of another replica, which outlives this one. */
  readonly pki?: LabPki;
}

export async function startController(options: LabControllerOptions = {}): Promise<LabController> {
  const { after, admins = ['ada'], host } = options;
  const folder = after?.folder ?? mkdtempSync(join(tmpdir(), 'exhibit-controller-'));
  const address = host?.address ?? '127.0.0.1';
  const pki = after?.pki ?? options.pki ?? (await labPki({ names: [address] }));
  const tls = (of: 'agents' | 'operators', listen: string) => {
    const { certFile, keyFile } = pki.server;
    return { listen, certFile, keyFile, caFile: pki.caFile(of), crlFile: pki.crlFile(of) };
  };
  const everywhere = [{ role: 'admin', clusters: ['*'], namespaces: ['*'] }];
  const config = {
    name: 'lab',
    agents: tls('agents', after?.agents ?? `${address}:0`),
    api: tls('operators', after?.api ?? `${address}:0`),
    store: { url: `sqlite:${join(folder, 'controller.db')}` },
    identity: { operators: admins.map((name) => ({ name, certificate: name, grants: everywhere })) },
    ...options.config,
  };
  const configFile = join(folder, 'controller.yaml');
  const logFile = join(folder, 'controller.log');
  writeFileSync(configFile, stringify(config));
  rmSync(logFile, { force: true });
  const argv = [...(host?.enter ?? []), process.execPath, MAIN, '--config', configFile];
  const child = spawn(argv[0] ?? '', argv.slice(1), {
    env: { ...process.env, ...COMPILED_ONCE, ...CONTROLLER_ENVIRONMENT, ...options.env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  child.stderr.pipe(createWriteStream(logFile));
  const closed = once(child, 'close');
  const log = () => (existsSync(logFile) ? readFileSync(logFile, 'utf8') : '');
  const isGone = () => child.exitCode !== null || child.signalCode !== null;
  const signal = (name: NodeJS.Signals) => {
    if (!isGone()) child.kill(name);
  };
  const { agents, api } = await ready(log, isGone).catch((error: unknown) => {
    signal('SIGKILL');
    throw error;
  });
  const stop = async () => {
    signal('SIGTERM');
    const timer = setTimeout(() => signal('SIGKILL'), STOP_TIMEOUT_MS);
    await closed;
    clearTimeout(timer);
    return child.exitCode;
  };
  return {
    ...{ folder, pki, agents, api, log, stop },
    pid: child.pid ?? 0,
    agentSection: async (cluster, node) => {
      const { certFile, keyFile } = await pki.agent(cluster, node);
      return { address: agents, certFile, keyFile, caFile: pki.caFile('controller') };
    },
    client: async (operator, at = api) =>
      apiClient(at, { caFile: pki.caFile('controller'), files: await pki.operator(operator) }),
    kill: async () => {
      signal('SIGKILL');
      await closed;
    },
    [Symbol.asyncDispose]: async () => {
      await stop();
      rmSync(folder, { recursive: true, force: true });
      if (options.pki === undefined) await pki[Symbol.asyncDispose]();
    },
  };
}

/** Where it listens, from the line that says it is up. */
async function ready(log: () => string, isGone: () => boolean): Promise<{ agents: string; api: string }> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    const line = log()
      .split('\n')
      .find((one) => one.includes('"controller ready"'));
    if (line !== undefined) return JSON.parse(line) as { agents: string; api: string };
    if (isGone()) throw new Error(`the controller ended at its start: ${log()}`);
    if (Date.now() > deadline) throw new Error(`the controller does not listen: ${log()}`);
    await sleep(20);
  }
}
