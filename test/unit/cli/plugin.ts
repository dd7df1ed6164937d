import { type ChildProcess, spawn } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** Runs `kubectl-exhibit` as kubectl does, with a kubectl on its PATH that writes down how it was called. */

export const PLUGIN = path.join(import.meta.dirname, '../../../cli/kubectl-exhibit');

/** What the fake kubectl prints and ends with, by what it is asked: see FAKE. */
export interface Answers {
  readonly pod?: Said;
  readonly pods?: Said;
  readonly workload?: Said;
  readonly agents?: Said;
  readonly node?: Said;
  readonly 'can-i'?: Said;
  /** A script of its own: `exec` runs for long, and is told whether it has a terminal. */
  readonly exec?: string;
}

type Said = string | { readonly stdout?: string; readonly stderr?: string; readonly code: number };

export interface PluginRun {
  readonly code: number | string;
  readonly stdout: string;
  readonly stderr: string;
  /** The words of each call, in order. */
  readonly calls: readonly (readonly string[])[];
}

const FAKE = `#!/bin/sh
{ printf '%s\\0' "$@"; printf '\\n\\0'; } >>"$FAKE/log"
case " $* " in
  *' exec '*) . "$FAKE/exec"; exit $? ;;
  *' can-i '*) what=can-i ;;
  *' get node '*) what=node ;;
  *'component=agent'*) what=agents ;;
  *' get pods '*) what=pods ;;
  *' get pod '*) what=pod ;;
  *) what=workload ;;
esac
[ -e "$FAKE/$what" ] || { echo "nothing was said of $what" >&2; exit 99; }
cat "$FAKE/$what"
cat "$FAKE/$what.stderr" >&2
exit "$(cat "$FAKE/$what.code")"
`;

/** A test that hangs says so itself before vitest ends it. */
const TIMEOUT_MS = 40_000;

export interface PluginOptions {
  /** Which shell; the `sh` of the machine by default. */
  readonly shell?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly when?: { readonly text: RegExp; readonly act: (child: ChildProcess) => void };
  /** On a terminal of its own, by script(1): stdout and stderr come as one. */
  readonly onTerminal?: boolean;
}

export async function kubectlExhibit(
  args: readonly string[],
  answers: Answers = {},
  options: PluginOptions = {},
): Promise<PluginRun> {
  const folder = await mkdtemp(path.join(tmpdir(), 'exhibit-plugin-'));
  try {
    await mkdir(path.join(folder, 'bin'));
    await writeFile(path.join(folder, 'bin/kubectl'), FAKE);
    await chmod(path.join(folder, 'bin/kubectl'), 0o755);
    await writeFile(path.join(folder, 'log'), '');
    for (const [name, said] of Object.entries({ exec: 'return 0', ...answers })) {
      const whole = typeof said === 'string' ? { stdout: said, code: 0 } : said;
      await writeFile(path.join(folder, name), whole.stdout ?? '');
      await writeFile(path.join(folder, `${name}.stderr`), whole.stderr ?? '');
      await writeFile(path.join(folder, `${name}.code`), String(whole.code));
    }
    const PATH = `${path.join(folder, 'bin')}:${process.env.PATH ?? ''}`;
    const ran = await runPlugin(args, { ...options, env: { PATH, FAKE: folder, ...options.env } });
    return { ...ran, calls: parseLog(await readFile(path.join(folder, 'log'), 'utf8')) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const parseLog = (log: string): string[][] =>
  log
    .split('\n\0')
    .slice(0, -1)
    .map((call) => call.split('\0').slice(0, -1));

/** In a process group of its own, as a shell at a terminal gives it one: a signal goes to all of it. */
export function runPlugin(args: readonly string[], options: PluginOptions): Promise<Omit<PluginRun, 'calls'>> {
  const [program = '', ...words] = [...(options.shell ?? ['sh']), PLUGIN, ...args];
  const line = [program, ...words].map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
  const [command, argv] = options.onTerminal ? ['script', ['-qec', line, '/dev/null']] : [program, words];
  return new Promise((resolve, reject) => {
    const env = { PATH: process.env.PATH ?? '', HOME: '/nonexistent', ...options.env };
    const child = spawn(command, argv, { env, detached: true, stdio: ['ignore', 'pipe', 'pipe'], timeout: TIMEOUT_MS });
    let stdout = '';
    let stderr = '';
    let acted = false;
    const look = () => {
      if (acted || options.when === undefined || !options.when.text.test(stderr + stdout)) return;
      acted = true;
      options.when.act(child);
    };
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString();
      look();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
      look();
    });
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code: code ?? String(signal), stdout, stderr }));
  });
}
