/** Independent programs as judges of what the agent writes. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

export interface Verdict {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export function program(
  name: string,
  argv: readonly string[],
  options: { cwd?: string; input?: Buffer } = {},
): Verdict {
  const result = spawnSync(name, [...argv], { ...options, maxBuffer: 1 << 28 });
  if (result.error !== undefined) throw result.error;
  return {
    code: result.status ?? 128,
    stdout: result.stdout.toString('latin1'),
    stderr: result.stderr.toString('latin1'),
  };
}

/** `sh -c` with positional arguments, failing with what the shell said. */
export function shell(script: string, ...argv: string[]): string {
  const { code, stdout, stderr } = program('bash', ['-o', 'pipefail', '-c', script, 'sh', ...argv]);
  if (code !== 0) throw new Error(`${script} (${argv.join(' ')}): exit ${code}: ${stderr}`);
  return stdout;
}

export function hasProgram(name: string): boolean {
  return spawnSync('sh', ['-c', 'command -v "$1"', 'sh', name]).status === 0;
}

export function json<T>(folder: string, name: string): T {
  return JSON.parse(readFileSync(path.join(folder, name), 'utf8')) as T;
}

export function isThere(folder: string, name: string): boolean {
  return existsSync(path.join(folder, name));
}
