import { constants, statfsSync } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import path from 'node:path';
import { explain } from '../evidence/error.ts';
import type { Config } from './config.ts';
import { effectiveCapabilities, NEEDED_CAPABILITIES } from './host/capabilities.ts';
import { type Host, procPath, reach } from './host/host.ts';
import { hostIdentity } from './host/identity.ts';
import { asHostPath, type Runtime } from './runtime/runtime.ts';
import type { Sink } from './sink/sink.ts';

/** One line of the examination: what was found, what that means for a capture, how to mend it. */
export interface Check {
  readonly name: string;
  readonly status: 'ok' | 'warning' | 'failure';
  readonly found: string;
  readonly meaning: string;
  readonly mend: string;
}

export interface Patient {
  readonly config: Config;
  readonly host: Host;
  readonly runtime: Runtime;
  readonly sink: Sink;
  readonly signal: AbortSignal;
}

/** Predicts what would fail in a capture. Reads only; the sink's own check leaves nothing behind. */
export async function examine(patient: Patient): Promise<Check[]> {
  const examinations = [
    runtimeCheck,
    sinkCheck,
    procCheck,
    hostRootCheck,
    capabilityCheck,
    criuCheck,
    stateCheck,
    memoryCheck,
    signingCheck,
    clockCheck,
  ];
  return Promise.all(
    examinations.map(async (examination) => {
      try {
        return await examination(patient);
      } catch (error) {
        return failure(examination.name.replace(/Check$/, ''), explain(error), 'this could not be examined', '');
      }
    }),
  );
}

const ok = (name: string, found: string, meaning: string): Check => ({ name, status: 'ok', found, meaning, mend: '' });
const warning = (name: string, found: string, meaning: string, mend: string): Check => ({
  name,
  status: 'warning',
  found,
  meaning,
  mend,
});
const failure = (name: string, found: string, meaning: string, mend: string): Check => ({
  name,
  status: 'failure',
  found,
  meaning,
  mend,
});

async function runtimeCheck({ runtime, config, signal }: Patient): Promise<Check> {
  try {
    const { name, version } = await runtime.identify(signal);
    const containers = await runtime.list(signal);
    return ok('runtime', `${name} ${version}, ${containers.length} containers`, 'containers can be named and stopped');
  } catch (error) {
    return failure(
      'runtime',
      explain(error),
      'no container can be captured, only plain processes',
      `check runtime.socket (${config.runtime.socket}) and that the agent may open it`,
    );
  }
}

async function sinkCheck({ sink, signal }: Patient): Promise<Check> {
  try {
    await sink.check(signal);
    return ok('sink', `${sink.url} takes evidence`, 'artifacts can be stored');
  } catch (error) {
    return failure(
      'sink',
      explain(error),
      'a capture would fail before it begins',
      'check sink in the configuration and the rights in docs/sinks.md',
    );
  }
}

async function procCheck({ host }: Patient): Promise<Check> {
  const comm = (await readFile(procPath(host, 1, 'comm'), 'utf8')).trim();
  const [mine, node] = await Promise.all([linkOf('/proc/self/ns/pid'), linkOf(procPath(host, 1, 'ns/pid'))]);
  const found = `pid 1 of ${host.procRoot} is ${JSON.stringify(comm)}`;
  if (node === undefined) {
    return warning(
      'proc',
      `${found}, its namespaces cannot be read`,
      'processes of other users will be gaps',
      'run the agent as root with CAP_SYS_PTRACE',
    );
  }
  if (host.procRoot === '/proc' && mine !== node) {
    return failure(
      'proc',
      `${found}, in another pid namespace than the agent`,
      'pids from the runtime would name the wrong processes',
      'set hostPID: true in the DaemonSet, or runtime.procRoot',
    );
  }
  return ok('proc', found, 'pids from the runtime are found there');
}

async function linkOf(file: string): Promise<string | undefined> {
  const { readlink } = await import('node:fs/promises');
  return readlink(file).catch(() => undefined);
}

async function hostRootCheck({ host }: Patient): Promise<Check> {
  const release = await readFile(reach(host, asHostPath('/etc/os-release')), 'utf8').catch(() => undefined);
  const name = /^PRETTY_NAME="?([^"\n]*)/m.exec(release ?? '')?.[1] ?? 'an unnamed system';
  const where = host.hostRoot === '' ? '/' : host.hostRoot;
  if (release === undefined) {
    return warning(
      'host root',
      `no /etc/os-release below ${where}`,
      'the writable layer and logs may not be found',
      'set runtime.hostRoot to where the node is mounted, for example /proc/1/root',
    );
  }
  return ok('host root', `${name} at ${where}`, 'layers and logs of the node can be reached');
}

async function capabilityCheck(): Promise<Check> {
  const held = await effectiveCapabilities();
  const missing = NEEDED_CAPABILITIES.filter(({ bit }) => (held & (1n << BigInt(bit))) === 0n);
  if (missing.length === 0)
    return ok(
      'capabilities',
      NEEDED_CAPABILITIES.map(({ name }) => name).join(' '),
      'memory, layers and logs of every user can be read',
    );
  const uses = missing.map(({ name, use }) => `${name} (${use})`).join('; ');
  return warning(
    'capabilities',
    `missing ${uses}`,
    'what they are for will be gaps',
    'run as root, or add them in the securityContext',
  );
}

const CRIU_FOLDERS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

async function criuCheck({ host, runtime }: Patient): Promise<Check> {
  if (runtime.kind !== 'cri')
    return ok('checkpoint', `the ${runtime.kind} runtime has none`, 'memory is read from /proc instead');
  for (const folder of CRIU_FOLDERS) {
    const file = path.posix.join(folder, 'criu');
    const there = await access(reach(host, asHostPath(file)), constants.X_OK).then(
      () => true,
      () => false,
    );
    if (there)
      return ok('checkpoint', `${file} on the node`, 'CRIU checkpoints may work; memory does not depend on them');
  }
  return warning(
    'checkpoint',
    'no criu in the usual folders of the node',
    'the checkpoint artifact will fail; memory does not depend on it',
    'install criu on the node where checkpoints are wanted',
  );
}

/** statfs(2) f_type of tmpfs and ramfs. */
const MEMORY_FILE_SYSTEMS = new Map([
  [0x01021994, 'tmpfs'],
  [0x858458f6, 'ramfs'],
]);

async function stateCheck({ config, host }: Patient): Promise<Check> {
  const kind = MEMORY_FILE_SYSTEMS.get(statfsSync(reach(host, asHostPath(config.stateDir))).type);
  if (kind !== undefined) return ok('state', `${config.stateDir} is on ${kind}`, 'the journal does not touch the disk');
  return warning(
    'state',
    `${config.stateDir} is on a disk`,
    'the journal writes a few KiB a capture over what may be evidence',
    'put stateDir on a tmpfs such as /run',
  );
}

async function memoryCheck({ config }: Patient): Promise<Check> {
  const meminfo = await readFile('/proc/meminfo', 'utf8');
  const availableBytes = Number(/^MemAvailable:\s+(\d+) kB/m.exec(meminfo)?.[1] ?? 0) * 1024;
  const mib = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`;
  const found = `buffer of ${mib(config.memory.bufferBytes)}, ${mib(availableBytes)} available`;
  if (availableBytes > 2 * config.memory.bufferBytes)
    return ok('memory', found, 'containers up to the buffer are copied while frozen');
  return warning('memory', found, 'a capture could press other pods out of memory', 'lower memory.bufferBytes');
}

async function signingCheck({ config }: Patient): Promise<Check> {
  const { keyFile } = config.signing;
  if (keyFile !== undefined) return ok('signing', keyFile, 'bundles are sealed with this key');
  return warning(
    'signing',
    'a key made at start',
    'a bundle shows damage, but not who made it',
    'set signing.keyFile to an Ed25519 private key (openssl genpkey -algorithm ed25519)',
  );
}

async function clockCheck({ host }: Patient): Promise<Check> {
  const { clock } = await hostIdentity(host, Date.now);
  if (clock.synchronised === true)
    return ok('clock', `synchronised, ${clock.wall}`, 'times can be compared with other machines');
  const found = clock.synchronised === undefined ? 'the kernel cannot be asked' : `not synchronised, ${clock.wall}`;
  return warning(
    'clock',
    found,
    'times in the bundle may be off; the offset is not known',
    'run chrony or systemd-timesyncd on the node',
  );
}
