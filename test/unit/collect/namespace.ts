import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { networkCollector } from '../../../agent/collect/network.ts';
import { fakeContext, type Json, type Written } from './proc-context.ts';

/** A network namespace of a test's own, with its loopback up, held by one process. */
export interface Namespace extends AsyncDisposable {
  readonly pid: number;
  /** Runs a program in it; `input` is its standard input. Returns what it printed. */
  run(program: string, argv: readonly string[], input?: string): string;
}

/** Where Debian puts the programs that judge; root's PATH may lack them. */
const FOLDERS = '/usr/sbin:/usr/bin:/sbin:/bin';

export async function openNamespace(): Promise<Namespace> {
  const child = spawn('unshare', ['--net', 'sh', '-c', 'ip link set lo up && echo ready && exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { PATH: FOLDERS },
  });
  await once(child.stdout, 'data');
  const pid = child.pid ?? 0;
  return {
    pid,
    run: (program, argv, input = '') =>
      execFileSync('nsenter', ['--target', String(pid), '--net', program, ...argv], {
        input,
        encoding: 'utf8',
        env: { PATH: FOLDERS },
        maxBuffer: 64 * 1024 * 1024,
        stdio: ['pipe', 'pipe', 'pipe'],
      }),
    async [Symbol.asyncDispose]() {
      const ended = once(child, 'exit');
      child.stdin.end();
      await ended;
    },
  };
}

/** Why a test with these programs is skipped, or undefined. */
export function namespaceObstacle(...programs: readonly string[]): string | undefined {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'needs root on Linux';
  const missing = ['unshare', 'nsenter', 'ip', ...programs].find(
    (program) => !FOLDERS.split(':').some((folder) => existsSync(`${folder}/${program}`)),
  );
  return missing === undefined ? undefined : `needs ${missing}`;
}

/** What the collector writes of it. */
export async function collect(namespace: Pick<Namespace, 'pid'>): Promise<Written> {
  const { context, written } = fakeContext({ procRoot: '/proc', hostRoot: '' }, [namespace.pid]);
  await networkCollector().collect(context);
  return written;
}

export const linesOf = (lines: readonly Json[], object: string): Json[] =>
  lines.filter((line) => String(line.object) === object);
