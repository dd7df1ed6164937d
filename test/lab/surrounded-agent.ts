/** `exhibit agent` as a process in a mount namespace of its own, where a test takes things away from it. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { AGENT_ENVIRONMENT } from '../../agent/environment.ts';

const CLI = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));
/** Node reads some hundred files before the first line runs, and the machine may be loaded. */
const WAIT_MS = 60_000;

/** Why none can be started here; undefined when one can. */
export function surroundedObstacle(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root, for mount namespaces';
  const there = existsSync('/usr/bin/unshare') && existsSync('/usr/bin/nsenter');
  return there ? undefined : 'needs unshare and nsenter (util-linux)';
}

export interface Started extends AsyncDisposable {
  readonly child: ChildProcess;
  log(): string;
  /** Resolves with the log when it matches; fails when the agent ends or time does. */
  said(pattern: RegExp): Promise<string>;
  /** Resolves with the exit code. */
  ended(): Promise<number | null>;
}

/** Of an agent for processes, with everything that it writes in a new folder below `folder`; sections of `config` replace those. */
export function surroundedConfig(folder: string, config: Record<string, unknown>): string {
  const own = mkdtempSync(path.join(folder, 'agent-'));
  const file = path.join(own, 'agent.yaml');
  const base = { cluster: 'lab', socket: `${own}/api.sock`, stateDir: `${own}/state`, runtime: { kind: 'host' } };
  writeFileSync(file, stringify({ ...base, sink: { url: `file://${own}/evidence` }, ...config }));
  return file;
}

/** `exhibit agent` in a mount namespace of its own, after `prelude`. */
export function startSurrounded(file: string, prelude = 'true'): Started {
  const script = `set -e; ${prelude}; exec "$@"`;
  const argv = ['-m', '--propagation', 'private', 'sh', '-c', script, 'sh'];
  const child = spawn('unshare', [...argv, process.execPath, CLI, 'agent', '--config', file], {
    env: { ...process.env, ...AGENT_ENVIRONMENT, AWS_EC2_METADATA_DISABLED: 'true' },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  let more = Promise.withResolvers<void>();
  const wake = () => {
    const { resolve } = more;
    more = Promise.withResolvers();
    resolve();
  };
  child.stderr.on('data', (piece: Buffer) => {
    log += piece.toString();
    wake();
  });
  const closed = once(child, 'close').then(wake);
  return {
    child,
    log: () => log,
    async said(pattern) {
      const timer = setTimeout(wake, WAIT_MS);
      const until = performance.now() + WAIT_MS;
      while (!pattern.test(log)) {
        if (child.exitCode !== null || child.signalCode !== null || performance.now() >= until)
          throw new Error(`the agent never said ${pattern}: ${log}`);
        await more.promise;
      }
      clearTimeout(timer);
      return log;
    },
    async ended() {
      await closed;
      return child.exitCode;
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
      await closed;
    },
  };
}

/** In the agent's own mount namespace. */
export const inside = ({ child }: Started, script: string) =>
  execFileSync('nsenter', ['-t', String(child.pid), '-m', 'sh', '-c', script]);
