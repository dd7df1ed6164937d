/** The C program that freezes are tried on, in a cgroup of its own where the test wants one. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseHierarchies } from '../../agent/host/cgroup.ts';
import type { SingleFreezeSpec } from '../../agent/runtime/runtime.ts';

const SOURCE = path.join(import.meta.dirname, 'freeze-workload.c');

const installed = (program: string): boolean =>
  (process.env.PATH ?? '').split(':').some((folder) => existsSync(path.join(folder, program)));

/** Words for a skipped test; undefined where all of the programs are there. */
export const missing = (...programs: string[]): string | undefined => {
  const absent = programs.filter((program) => !installed(program));
  return absent.length === 0 ? undefined : `needs ${absent.join(' and ')}`;
};

/** A folder with the program in it. */
export function compile(): { program: string; [Symbol.dispose](): void } {
  const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-workload-'));
  const program = path.join(folder, 'workload');
  const { status, stderr } = spawnSync('gcc', ['-g', '-O1', '-pthread', '-o', program, SOURCE], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`the workload does not compile: ${stderr}`);
  return { program, [Symbol.dispose]: () => rmSync(folder, { recursive: true }) };
}

export interface Workload extends AsyncDisposable {
  readonly pid: number;
  readonly child: ChildProcess;
  /** What it has printed, without `ready`. */
  readonly lines: string[];
}

export async function start(program: string, what: string): Promise<Workload> {
  const child = spawn(program, [what], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines: string[] = [];
  const ready = Promise.withResolvers<void>();
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (line.startsWith('ready')) ready.resolve();
    else lines.push(line);
  });
  await ready.promise;
  return {
    pid: child.pid ?? 0,
    child,
    lines,
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

/** A new cgroup with the process in it, or words for a skipped test. It is thawed, emptied and removed at the end. */
export function cgroupFor(
  pid: number,
  version: 1 | 2,
): ({ spec: SingleFreezeSpec; folder: string } & AsyncDisposable) | string {
  const mounted = parseHierarchies(readFileSync('/proc/self/mountinfo', 'utf8'));
  const fits = (one: (typeof mounted)[number]) =>
    one.version === version && one.root === '/' && (version === 2 || one.controllers.includes('freezer'));
  const hierarchy = mounted.find(fits);
  if (hierarchy === undefined || process.getuid?.() !== 0) return `needs root and a cgroup v${version} hierarchy`;
  const folder = path.join(hierarchy.folder, `exhibit-registers-${process.pid}-${pid}`);
  try {
    mkdirSync(folder);
  } catch {
    return `needs a writable cgroup v${version} hierarchy`;
  }
  writeFileSync(path.join(folder, 'cgroup.procs'), String(pid));
  return {
    spec: { kind: version === 2 ? 'cgroup-v2' : 'cgroup-v1', path: folder },
    folder,
    async [Symbol.asyncDispose]() {
      if (version === 2) writeFileSync(path.join(folder, 'cgroup.freeze'), '0');
      else writeFileSync(path.join(folder, 'freezer.state'), 'THAWED');
      const left = readFileSync(path.join(folder, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean);
      for (const one of left) process.kill(Number(one), 'SIGKILL');
      for (let tries = 0; tries < 200 && existsSync(folder); tries += 1) {
        try {
          rmdirSync(folder);
        } catch {
          await sleep(10);
        }
      }
    },
  };
}

/** A field of /proc/PID/status. */
export const statusOf = (pid: number, field: string): string =>
  new RegExp(`^${field}:\\s+(\\S+)`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '';
