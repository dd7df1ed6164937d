import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { COMPILED_ONCE } from '../../lab/compiled.ts';

/** Runs the real program as a shell would. */

export const MAIN = path.join(import.meta.dirname, '../../../cli/main.ts');

export interface Ran {
  /** The exit code, or the signal's name when one ended the program. */
  readonly code: number | string;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Record<string, string>;
  /** Sends the program SIGINT. */
  readonly interrupt?: AbortSignal;
  /** Called once with the program when its stderr or stdout has matched `text`. */
  readonly when?: { text: RegExp; act: (child: ChildProcess) => void };
}

/** A program that writes more than this has run wild. */
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;
/** Far longer than any command here needs: seven seconds were seen on two cores with a load of 70. */
const TIMEOUT_MS = 50_000;
/** For `vi.setConfig`, in files whose tests start programs. */
export const TEST_TIMEOUT_MS = 60_000;

export function exhibit(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return run(process.execPath, [MAIN, ...args], options);
}

/** The same through a shell, for pipes: `$EXHIBIT` is the program. */
export function shell(script: string, options: RunOptions = {}): Promise<Ran> {
  const env = { ...options.env, EXHIBIT: `${process.execPath} ${MAIN}` };
  return run('bash', ['-c', script], { ...options, env });
}

/** The same on a terminal of its own, by util-linux' script(1): stdout and stderr come as one. */
export function onTerminal(args: readonly string[], columns = 100, options: RunOptions = {}): Promise<Ran> {
  const line = [process.execPath, MAIN, ...args].map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
  return run('script', ['-qec', `stty cols ${columns}; exec ${line}`, '/dev/null'], options);
}

function run(program: string, args: readonly string[], options: RunOptions): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const env = {
      ...{ PATH: process.env.PATH ?? '', HOME: '/nonexistent', TERM: 'xterm' },
      ...COMPILED_ONCE,
      ...options.env,
    };
    const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'], timeout: TIMEOUT_MS });
    options.interrupt?.addEventListener('abort', () => void child.kill('SIGINT'));
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let acted = false;
    let sizeBytes = 0;
    const look = (chunk: Buffer) => {
      sizeBytes += chunk.length;
      if (sizeBytes > MAX_OUTPUT_BYTES) child.kill('SIGKILL');
      if (acted || options.when === undefined) return;
      if (!options.when.text.test(`${Buffer.concat(stderr)}${Buffer.concat(stdout)}`)) return;
      acted = true;
      options.when.act(child);
    };
    child.stdout.on('data', (chunk: Buffer) => {
      stdout.push(chunk);
      look(chunk);
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr.push(chunk);
      look(chunk);
    });
    child.once('error', reject);
    child.once('close', (code, signal) => {
      resolve({
        code: code ?? String(signal),
        stdout: Buffer.concat(stdout),
        stderr: Buffer.concat(stderr).toString(),
      });
    });
  });
}
