/** journalctl, systemd-journal-remote and ausearch, which judge what is read of journals and audit logs. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { logJudges } from './cache.mjs';
import type { Skippable } from './requires.ts';

/** Why they cannot be asked here, in words for a skipped test; undefined when they can. */
export const logJudgesObstacle = (): string | undefined =>
  existsSync(logJudges()) ? undefined : `needs ${logJudges()}: run node test/lab/setup.mjs tools as root`;

export function requireLogJudges(context: Skippable): void {
  const reason = logJudgesObstacle();
  if (reason !== undefined) context.skip(reason);
}

/** Their own libraries come first. */
export function judgeEnvironment(): NodeJS.ProcessEnv {
  const root = logJudges();
  const folders = ['lib', 'usr/lib'].flatMap((lib) => {
    const triplets = existsSync(join(root, lib))
      ? readdirSync(join(root, lib)).filter((name) => name.includes('-linux-'))
      : [];
    return triplets.flatMap((name) => [join(root, lib, name), join(root, lib, name, 'systemd')]);
  });
  const programs = ['usr/bin', 'bin', 'usr/sbin', 'sbin', 'usr/lib/systemd', 'lib/systemd'].map((name) =>
    join(root, name),
  );
  return {
    ...process.env,
    LC_ALL: 'C.UTF-8',
    TZ: 'UTC',
    LD_LIBRARY_PATH: folders.join(delimiter),
    PATH: [...programs, process.env.PATH ?? ''].join(delimiter),
  };
}

export interface Judged {
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export function judge(
  program: string,
  argv: readonly string[],
  options: { env?: NodeJS.ProcessEnv; input?: Uint8Array } = {},
): Judged {
  const env = { ...judgeEnvironment(), ...options.env };
  // By the judges' own PATH: spawn looks in that of the caller.
  const { status, stdout, stderr } = spawnSync('/usr/bin/env', [program, ...argv], {
    env,
    input: options.input,
    maxBuffer: 1 << 28,
  });
  return { status, stdout, stderr: stderr.toString() };
}

export interface JournalFlavour {
  readonly compact?: boolean;
  readonly keyedHash?: boolean;
}

/** Makes a journal file of entries in the Journal Export Format, by systemd's own writer. */
export function makeJournal(
  file: string,
  entries: Uint8Array,
  { compact = false, keyedHash = true }: JournalFlavour = {},
): void {
  writeFileSync(`${file}.export`, entries);
  const env = { SYSTEMD_JOURNAL_COMPACT: compact ? '1' : '0', SYSTEMD_JOURNAL_KEYED_HASH: keyedHash ? '1' : '0' };
  const made = judge('systemd-journal-remote', ['-o', file, `${file}.export`], { env });
  if (made.status !== 0) throw new Error(`systemd-journal-remote: ${made.stderr}`);
}
