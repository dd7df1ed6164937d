import { spawnSync } from 'node:child_process';

/** The programs that judge our formats are other people's. A test that needs one which is missing says so and is skipped. */
export interface Skippable {
  skip(note?: string): never;
}

export function hasProgram(name: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${name}`]).status === 0;
}

export function requireProgram(context: Skippable, ...names: string[]): void {
  for (const name of names) {
    if (!hasProgram(name)) context.skip(`needs ${name}, which is not installed here`);
  }
}

export interface Ran {
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export function run(argv: readonly string[], input?: Uint8Array, cwd?: string): Ran {
  const [program = '', ...args] = argv;
  const env = { ...process.env, LC_ALL: 'C.UTF-8', TZ: 'UTC' };
  const ran = spawnSync(program, args, { input, cwd, env, maxBuffer: 256 * 1024 * 1024 });
  return { status: ran.status, stdout: ran.stdout, stderr: ran.stderr.toString() };
}
