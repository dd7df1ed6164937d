import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { asPid, type Pid } from '../../../agent/runtime/runtime.ts';

/** Why tests that need a compiler, gdb and the right to read other processes cannot run here; undefined when they can. */
export function whyNoVictims(...programs: string[]): string | undefined {
  if (process.platform !== 'linux') return 'not Linux';
  if (process.getuid?.() !== 0) return 'not root: /proc/PID/mem of another process cannot be read';
  const missing = ['gcc', ...programs].filter((program) => {
    return !(process.env.PATH ?? '').split(':').some((folder) => existsSync(path.join(folder, program)));
  });
  return missing.length === 0 ? undefined : `not installed: ${missing.join(', ')}`;
}

export interface Victim extends Disposable {
  readonly pid: Pid;
  readonly process: ChildProcess;
  /** The executable. */
  readonly program: string;
  /** Unique to this process; needles are `NEEDLE-<place>-<token>`. */
  readonly token: string;
  /** Where it said things are. */
  readonly places: ReadonlyMap<string, bigint>;
}

/** Compiles memory-victim.c and starts it; ready when everything is in its memory. */
export async function startVictim(mebibytes = 1, threads = 0, mappings = 0): Promise<Victim> {
  const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-victim-'));
  const program = path.join(folder, 'victim');
  execFileSync('gcc', ['-O0', '-o', program, path.join(import.meta.dirname, 'memory-victim.c'), '-lpthread']);
  const token = randomBytes(8).toString('hex');
  const child = spawn(program, [token, ...[mebibytes, threads, mappings].map(String)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const places = new Map<string, bigint>();
  for await (const line of createInterface({ input: child.stdout })) {
    if (line === 'ready') break;
    const [place = '', address = '0'] = line.split(' ');
    places.set(place, BigInt(address));
  }
  const dispose = (): void => {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  };
  return { pid: asPid(child.pid ?? 0), process: child, program, token, places, [Symbol.dispose]: dispose };
}
