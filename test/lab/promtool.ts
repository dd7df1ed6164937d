/** The promtool of this machine, or else the one that the lab's set-up has unpacked. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promtoolFolder } from './cache.mjs';

/** Undefined where there is none; `promtoolObstacle` has the reason for a skipped test. */
export function findPromtool(): string | undefined {
  const folders = [join(promtoolFolder(), 'usr/bin'), ...(process.env.PATH ?? '').split(delimiter)];
  return folders.map((folder) => join(folder, 'promtool')).find((one) => existsSync(one));
}

export const promtoolObstacle = 'needs promtool: run node test/lab/setup.mjs tools as root';

/** What it says on both streams, and its exit code. */
export function promtool(program: string, argv: readonly string[], input = ''): { code: number; words: string } {
  const { status, stdout, stderr } = spawnSync(program, argv, { input, encoding: 'utf8', timeout: 60_000 });
  return { code: status ?? -1, words: `${stdout}${stderr}` };
}
