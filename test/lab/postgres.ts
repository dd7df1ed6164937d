/** A real PostgreSQL for one test: its own folder, a Unix socket and a port of the loopback, stopped by its pid. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import pg from 'pg';
import { postgresFolder } from './cache.mjs';
import { NETWORK, type NetHost } from './nets.ts';
import type { Skippable } from './requires.ts';

/** The unpacked one of the lab before the machine's own. */
function programs(): string | undefined {
  for (const root of [postgresFolder(), '/']) {
    const versions = join(root, 'usr/lib/postgresql');
    const found = existsSync(versions) ? readdirSync(versions).sort().reverse() : [];
    for (const version of found) {
      const folder = join(versions, version, 'bin');
      if (existsSync(join(folder, 'initdb'))) return folder;
    }
  }
  return undefined;
}

/** Why no PostgreSQL can be started here, in words for a skipped test; undefined when it can. */
export function postgresObstacle(): string | undefined {
  if (process.platform !== 'linux') return `needs Linux: this is ${process.platform}`;
  if (programs() === undefined) return `needs PostgreSQL: run node test/lab/setup.mjs tools as root`;
  if (Number(readFileSync('/proc/sys/user/max_user_namespaces', 'latin1')) === 0)
    return 'needs user namespaces: PostgreSQL refuses to run as root';
  return undefined;
}

export function requirePostgres(context: Skippable): void {
  const reason = postgresObstacle();
  if (reason !== undefined) context.skip(reason);
}

export interface LabPostgres extends AsyncDisposable {
  readonly pid: number;
  /** The same database over the Unix socket, which is there in every network. */
  locally(url: string): string;
  /** Of a new, empty database. */
  newDatabase(options?: { encoding?: string }): Promise<string>;
  /** `fast`: as a restart does it. `immediate`: as a crash. Resolves when the process is gone. */
  stop(how: 'fast' | 'immediate'): Promise<void>;
  /** After `stop`: the same data, socket and port. Resolves when it takes connections. */
  start(): Promise<void>;
  /** Runs one of its programs, `pg_dump` or `psql`, on a database. */
  program(name: string, argv: readonly string[]): Promise<string>;
}

/** The owner needs no password; everybody whom a test makes does (pg_hba.conf in PostgreSQL's manual). */
const ACCESS = `local all exhibit trust
host all exhibit 127.0.0.1/32 trust
host all exhibit ${NETWORK} trust
host all all 127.0.0.1/32 scram-sha-256
`;

/** How PostgreSQL is told to stop (its manual, "Shutting Down the Server"). */
const STOP_SIGNALS = { fast: 'SIGINT', immediate: 'SIGQUIT' } as const;

/** `folder`: where its data lies; memory unless told. `durable`: with fsync, as in production. `host`: where it runs and listens. */
export async function startPostgres(
  options: { folder?: string; durable?: boolean; settings?: readonly string[]; host?: NetHost } = {},
): Promise<LabPostgres> {
  const bin = programs();
  if (bin === undefined) throw new Error('PostgreSQL is not here');
  const memory = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
  const folder = await mkdtemp(join(options.folder ?? memory, 'exhibit-pg-'));
  const data = join(folder, 'data');
  const run = (argv: readonly string[]) =>
    promisify(execFile)(unprivileged[0] ?? 'env', [...unprivileged.slice(1), ...argv], { env: environment(bin) });
  await run([join(bin, 'initdb'), '-D', data, '-U', 'exhibit', '-A', 'trust', '--locale=C', '-E', 'UTF8', '--no-sync']);
  await writeFile(join(data, 'pg_hba.conf'), ACCESS);
  const port = await freePort();
  const settings = [`fsync=${options.durable === false ? 'off' : 'on'}`, 'jit=off', ...(options.settings ?? [])];
  let server: ChildProcess | undefined;

  const address = options.host?.address ?? '127.0.0.1';
  const url = (database: string) => `postgres://exhibit@${address}:${port}/${database}`;
  const locally = (of: string) =>
    `postgres://exhibit@/${of.split('/').at(-1)}?host=${encodeURIComponent(folder)}&port=${port}`;
  const lab: LabPostgres = {
    locally,
    get pid() {
      return server?.pid ?? 0;
    },
    async start() {
      const argv = [join(bin, 'postgres'), '-D', data, '-k', folder, '-p', String(port)];
      const more = [`listen_addresses=${address}`, ...settings].flatMap((setting) => ['-c', setting]);
      const whole = [...(options.host?.enter ?? []), ...unprivileged, ...dyingWithUs, ...argv, ...more];
      server = spawn(whole[0] ?? '', whole.slice(1), {
        env: environment(bin),
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      await ready(server);
    },
    async stop(how) {
      const stopped = server;
      if (stopped === undefined || stopped.exitCode !== null || stopped.signalCode !== null) return;
      const exit = once(stopped, 'exit');
      stopped.kill(STOP_SIGNALS[how]);
      await exit;
    },
    async newDatabase({ encoding } = {}) {
      count += 1;
      const name = `lab${count}`;
      const client = new pg.Client(locally(url('postgres')));
      await client.connect();
      const how = encoding === undefined ? '' : ` encoding '${encoding}' template template0`;
      await client.query(`create database ${name}${how}`);
      await client.end();
      return url(name);
    },
    async program(name, argv) {
      const { stdout } = await promisify(execFile)(join(bin, name), [...argv], {
        env: environment(bin),
        maxBuffer: 1 << 26,
      });
      return stdout;
    },
    async [Symbol.asyncDispose]() {
      await lab.stop('immediate');
      await rm(folder, { recursive: true });
    },
  };
  let count = 0;
  await lab.start();
  return lab;
}

/**
 * PostgreSQL refuses to run as root. In a user namespace this user is `nobody` for it, and still owns its own folders; no account
 * of the machine is needed, and the pid stays that of the child.
 */
const unprivileged = ['unshare', '--user', '--map-user=65534', '--map-group=65534'];

/** A test that is killed leaves no server behind. */
const dyingWithUs = ['setpriv', '--pdeathsig', 'INT'];

/** Libraries that came with the unpacked one. */
function environment(bin: string): NodeJS.ProcessEnv {
  const lib = join(bin, '../../..');
  const folders =
    lib === '/usr/lib'
      ? []
      : [
          lib,
          ...readdirSync(lib)
            .filter((name) => name.includes('-linux-'))
            .map((name) => join(lib, name)),
        ];
  return {
    ...process.env,
    LC_ALL: 'C',
    TZ: 'UTC',
    ...(folders.length > 0 ? { LD_LIBRARY_PATH: folders.join(delimiter) } : {}),
  };
}

async function ready(server: ChildProcess): Promise<void> {
  if (server.stderr === null) throw new Error('PostgreSQL has no output');
  const said: string[] = [];
  const lines = createInterface({ input: server.stderr });
  await new Promise<void>((resolve, reject) => {
    lines.on('line', (line) => {
      said.push(line);
      if (line.includes('database system is ready to accept connections')) resolve();
    });
    server.on('error', reject);
    server.on('exit', () => reject(new Error(`PostgreSQL did not start:\n${said.slice(-10).join('\n')}`)));
  });
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const address = probe.address();
  probe.close();
  await once(probe, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}
