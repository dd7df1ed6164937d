/** The agent as a process of its own, as on a node: for end-to-end tests, the demo and the bench. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { AGENT_ENVIRONMENT } from '../../agent/environment.ts';
import { COMPILED_ONCE } from './compiled.ts';
import type { NetHost } from './nets.ts';
import type { LabNode } from './node.ts';

const AGENT = fileURLToPath(new URL('../../agent/main.ts', import.meta.url));
const CLI = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));

/** Node reads some hundred small files before the first line runs; a loaded machine gets the benefit of the doubt. */
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 60_000;

export interface CliResult {
  code: number;
  stdout: string;
  stderr: string;
}

export interface LabAgent extends AsyncDisposable {
  readonly socket: string;
  readonly pid: number;
  /** The agent's log, JSON lines. */
  log(): string;
  /** Runs `exhibit ARGV` against this agent, to its end. */
  exhibit(...argv: string[]): Promise<CliResult>;
  /** SIGKILL, as the OOM killer would. */
  kill(): Promise<void>;
  /** SIGTERM, as Kubernetes would; what it keeps stays for the next agent in `folder`. */
  stop(): Promise<void>;
}

export interface AgentOptions {
  /** Merged over the lab's own configuration, section by section. */
  readonly config?: Record<string, unknown>;
  readonly env?: NodeJS.ProcessEnv;
  /** Starts again with the folder of an agent that was killed. */
  readonly folder?: string;
  /** What it is started through: a network, that of this machine unless told, or fewer rights. */
  readonly host?: Pick<NetHost, 'enter'>;
}

/** What an agent needs to know of the node it looks after: a containerd node, or a Docker node with `runtime.kind` told. */
export type AgentNode = Pick<LabNode, 'hostname' | 'initPid' | 'hostRoot' | 'procRoot' | 'socket'>;

/** /tmp may be a disk, where the agent refuses to keep a spool. */
const stateInMemory = (folder: string): string => join('/dev/shm', basename(folder));

/** The configuration of an agent that looks after `node`; without one, after plain processes of this machine. */
function configuration(node: AgentNode | undefined, folder: string): Record<string, unknown> {
  const runtime =
    node === undefined
      ? { kind: 'host' }
      : { kind: 'cri', socket: node.socket, hostRoot: node.hostRoot, procRoot: node.procRoot };
  return {
    cluster: 'lab',
    node: node?.hostname ?? 'this-machine',
    socket: join(folder, 'exhibit.sock'),
    // On the node, of this agent alone: two agents of one state folder would tidy up each other's work.
    stateDir: node === undefined ? stateInMemory(folder) : join('/run/exhibit', basename(folder)),
    runtime,
    sink: { url: `file://${join(folder, 'evidence')}` },
    memory: { bufferBytes: '256MiB' },
    // Nobody else is on the node: tests and benches that want limits say so.
    limits: { cpuPercent: 0, readBytesPerSecond: 0 },
  };
}

function merge(base: Record<string, unknown>, over: Record<string, unknown>): Record<string, unknown> {
  const merged = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const before = merged[key];
    const sections = [before, value].every((one) => typeof one === 'object' && one !== null && !Array.isArray(one));
    merged[key] = sections && key !== 'sink' ? { ...(before as object), ...(value as object) } : value;
  }
  return merged;
}

async function waitForSocket(child: ChildProcess, socket: string, log: () => string): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!existsSync(socket) || !log().includes('API ready')) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error(`the agent ended at its start: ${log()}`);
    if (Date.now() > deadline) throw new Error(`the agent does not listen: ${log()}`);
    await sleep(20);
  }
}

/** Runs `node cli/main.ts ARGV`. */
export async function runCli(argv: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<CliResult> {
  const child = spawn(process.execPath, [CLI, ...argv], {
    env: { ...process.env, ...COMPILED_ONCE, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code: code ?? 255, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() };
}

function onlyChild(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim());
}

/** Starts the agent with its evidence, socket and log below a temporary folder that goes with it. */
export async function startAgent(
  node: AgentNode | undefined,
  options: AgentOptions = {},
): Promise<LabAgent & { folder: string; evidence: string }> {
  const folder = options.folder ?? mkdtempSync(join(tmpdir(), 'exhibit-agent-'));
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const config = merge(configuration(node, folder), options.config ?? {});
  const configFile = join(folder, 'config.yaml');
  const logFile = join(folder, 'agent.log');
  writeFileSync(configFile, stringify(config));
  rmSync(logFile, { force: true });
  const socket = String(config.socket);

  const command = [process.execPath, AGENT, '--config', configFile];
  // As a DaemonSet with hostPID: the pids that it sees are the node's.
  const inside = node === undefined ? command : ['nsenter', `--pid=/proc/${node.initPid}/ns/pid`, '--', ...command];
  const argv = [...(options.host?.enter ?? []), ...inside];
  const child = spawn(argv[0] ?? '', argv.slice(1), {
    env: { ...process.env, ...AGENT_ENVIRONMENT, ...options.env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  child.stderr.pipe(createWriteStream(logFile));
  const log = () => (existsSync(logFile) ? readFileSync(logFile, 'utf8') : '');
  const closed = once(child, 'close');
  await waitForSocket(child, socket, log);
  // nsenter(1) forks: a pid namespace is entered by children only. It ends when its child does.
  const pid = node === undefined ? (child.pid ?? 0) : onlyChild(child.pid ?? 0);
  const signal = (name: NodeJS.Signals) => {
    if (child.exitCode === null && child.signalCode === null) process.kill(pid, name);
  };

  const stop = async () => {
    signal('SIGTERM');
    const timer = setTimeout(() => signal('SIGKILL'), STOP_TIMEOUT_MS);
    await closed;
    clearTimeout(timer);
  };

  return {
    folder,
    evidence: join(folder, 'evidence'),
    socket,
    pid,
    log,
    exhibit: (...argv) => runCli(argv, { ...options.env, EXHIBIT_SOCKET: socket }),
    kill: async () => {
      signal('SIGKILL');
      await closed;
    },
    stop,
    [Symbol.asyncDispose]: async () => {
      await stop();
      rmSync(folder, { recursive: true, force: true });
      if (node === undefined) rmSync(stateInMemory(folder), { recursive: true, force: true });
    },
  };
}
