/**
 * A machine inside this machine: pid, mount, uts and ipc namespaces (and a network of its own where asked) over a
 * read-only Debian root, with the changes in memory. It ends with the process that started it, however that one ends:
 * PDEATHSIG kills unshare, unshare's --kill-child kills process 1, the kernel kills the rest and drops the mounts.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { ownedName, sweep } from './leftovers.ts';

/** Booting takes 100 ms; a loaded machine gets the benefit of the doubt. */
const BOOT_TIMEOUT_MS = 30_000;

export interface MachineOptions {
  /** Folder of the debootstrapped root. */
  root: string;
  hostname: string;
  /** Folder inside that must not lie on an overlay. */
  stateFolder: string;
  cgroup: 'v2' | 'v1' | 'none';
  /** False shares the network of this machine. */
  ownNetwork: boolean;
  /** True keeps `stateFolder` on the disk of the temporary folder, not in memory. */
  disk: boolean;
}

export interface ExecResult {
  /** Exit status; 128 + signal number when a signal ended it. */
  code: number;
  stdout: Buffer;
  stderr: string;
}

export interface ExecOptions {
  input?: string | Buffer;
  timeoutMs?: number;
  env?: Record<string, string>;
}

/** A program that process 1 of the machine started. */
export interface Service {
  /** Pid in the machine's own pid namespace. */
  nsPid: number;
  /** Pid on this machine. */
  pid: number;
  /** Settles with the wait status once the program has ended and was reaped. */
  exited: Promise<number>;
}

export interface Machine extends AsyncDisposable {
  /** Unique, and names its owner; also good as a cgroup name. */
  name: string;
  /** Pid on this machine of the machine's process 1. */
  initPid: number;
  /** The machine's root folder as seen from outside. */
  hostRoot: string;
  start(log: string, argv: readonly string[]): Promise<Service>;
  exec(argv: readonly string[], options?: ExecOptions): Promise<ExecResult>;
  hostPid(nsPid: number): number;
}

type Unshare = ChildProcessByStdio<Writable, Readable, Readable>;

const ENV = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root', LANG: 'C.UTF-8' };

function spawnUnshare(options: MachineOptions, name: string, scratch: string, disk: string | undefined): Unshare {
  const boot = fileURLToPath(new URL('boot.sh', import.meta.url));
  const network = options.ownNetwork ? ['--net'] : [];
  const namespaces = ['--mount', '--uts', '--ipc', '--pid', ...network, '--fork', '--kill-child'];
  const argv = ['--pdeathsig', 'KILL', '--', 'unshare', ...namespaces, '--propagation', 'private', '--', 'sh', boot];
  argv.push(options.root, scratch, options.cgroup, options.hostname, options.stateFolder);
  if (disk !== undefined) argv.push(disk);
  // Detached: Ctrl-C in the terminal is for the starter, who then disposes in order.
  return spawn('setpriv', argv, { env: { ...ENV, LAB_MACHINE: name }, stdio: 'pipe', detached: true });
}

/** The only child of unshare; task(5) `children` exists on kernels with CHECKPOINT_RESTORE, which CRIU needs anyway. */
function childOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0]);
}

interface ProcessIds {
  parent: number;
  /** Pids in each nested pid namespace, this machine's first. */
  nested: number[];
}

function processIds(pid: number | string): ProcessIds | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'latin1');
    const parent = Number(/^PPid:\s+(\d+)/m.exec(status)?.[1]);
    return { parent, nested: (/^NSpid:\s+(.*)$/m.exec(status)?.[1] ?? '').split('\t').map(Number) };
  } catch {
    return undefined;
  }
}

function pidNamespace(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined;
  }
}

function descendsFrom(pid: number, ancestor: number): boolean {
  for (let at = pid; at > 1; at = processIds(at)?.parent ?? 0) if (at === ancestor) return true;
  return false;
}

/** Finds the process that is `nsPid` in the pid namespace of `initPid`, by NSpid of proc(5) status. Throws if none. */
function translatePid(initPid: number, nsPid: number): number {
  const level = (processIds(initPid)?.nested.length ?? 0) - 1;
  const namespace = pidNamespace(initPid);
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    if (level < 0 || processIds(entry)?.nested[level] !== nsPid) continue;
    const pid = Number(entry);
    if (pidNamespace(pid) === namespace || descendsFrom(pid, initPid)) return pid;
  }
  throw new Error(`no process has pid ${nsPid} in the lab machine`);
}

/** Runs a program to its end with its output in memory. */
export async function run(
  program: string,
  argv: readonly string[],
  { input, timeoutMs = 60_000, env }: ExecOptions = {},
): Promise<ExecResult> {
  const child = spawn(program, argv, {
    stdio: 'pipe',
    env: { ...ENV, ...env },
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  child.stdin.on('error', () => {}); // EPIPE: the program did not want all of its input.
  child.stdin.end(input);
  const [code] = (await once(child, 'close')) as [number | null];
  return { code: code ?? 137, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() };
}

/** Reads the lines of init.pl and hands each to who waits for it. */
class InitTalk {
  readonly #deaths = new Map<number, (status: number) => void>();
  readonly #starts: ((pid: number) => void)[] = [];
  readonly #child: Unshare;
  readonly ready: Promise<void>;

  constructor(child: Unshare) {
    this.#child = child;
    let setReady = () => {};
    this.ready = new Promise((resolve) => {
      setReady = resolve;
    });
    child.stdin.on('error', () => {}); // The machine has ended: its exit is what tells.
    createInterface({ input: child.stdout }).on('line', (line) => {
      const [verb, pid, status] = line.split('\t');
      if (verb === 'ready') setReady();
      if (verb === 'started') this.#starts.shift()?.(Number(pid));
      if (verb === 'exited') this.#deaths.get(Number(pid))?.(Number(status));
    });
  }

  async start(log: string, argv: readonly string[]): Promise<{ nsPid: number; exited: Promise<number> }> {
    return new Promise((resolve) => {
      this.#starts.push((nsPid) => {
        resolve({ nsPid, exited: new Promise((settle) => this.#deaths.set(nsPid, settle)) });
      });
      this.#child.stdin.write(`${['start', log, ...argv].join('\t')}\n`);
    });
  }
}

async function bootOrFail(child: Unshare, talk: InitTalk): Promise<void> {
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString()).slice(-4000);
  });
  const ended = once(child, 'exit').then(() => `ended: ${stderr.trim()}`);
  const late = new Promise<string>((resolve) => {
    setTimeout(() => resolve(`was not up after ${BOOT_TIMEOUT_MS} ms: ${stderr.trim()}`), BOOT_TIMEOUT_MS).unref();
  });
  const problem = await Promise.race([talk.ready.then(() => undefined), ended, late]);
  if (problem === undefined) return;
  child.kill('SIGKILL');
  throw new Error(`the lab machine ${problem}`);
}

function makeFolder(path: string): string {
  mkdirSync(path, { recursive: true });
  chmodSync(path, 0o755);
  return path;
}

/**
 * Boots a machine with nothing but process 1 in it.
 * @throws Error with the boot script's own words when a mount or namespace is refused.
 */
export async function startMachine(options: MachineOptions): Promise<Machine> {
  await sweep();
  const name = ownedName();
  const folder = makeFolder(join(tmpdir(), name));
  const scratch = makeFolder(join(folder, 'scratch'));
  const disk = options.disk ? makeFolder(join(folder, 'disk')) : undefined;
  const child = spawnUnshare(options, name, scratch, disk);
  const gone = once(child, 'exit');
  const talk = new InitTalk(child);
  const remove = () => rm(folder, { recursive: true, force: true, maxRetries: 3 });
  try {
    await bootOrFail(child, talk);
  } catch (error) {
    await gone;
    await remove();
    throw error;
  }
  const initPid = childOf(child.pid ?? 0);
  const namespaces = ['--mount', '--uts', '--ipc', '--net', '--pid', '--root', '--wd'];
  return {
    name,
    initPid,
    hostRoot: `/proc/${initPid}/root`,
    async start(log, argv) {
      const { nsPid, exited } = await talk.start(log, argv);
      try {
        return { nsPid, exited, pid: translatePid(initPid, nsPid) };
      } catch (error) {
        throw new Error(`${argv[0]} ended at once: see ${log} in the lab machine`, { cause: error });
      }
    },
    exec: (argv, execOptions) =>
      run('nsenter', ['--target', String(initPid), ...namespaces, '--', ...argv], execOptions),
    hostPid: (nsPid) => translatePid(initPid, nsPid),
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) {
        process.kill(initPid, 'SIGKILL');
        await gone;
      }
      await remove();
    },
  };
}
