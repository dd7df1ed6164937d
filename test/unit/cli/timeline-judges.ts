import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { z } from 'zod';

/** Independent readers of timelines: Python's csv and json with Timesketch's demands, and The Sleuth Kit's mactime. */

const TIMESKETCH = path.join(import.meta.dirname, 'timesketch.py');

export const judgesObstacle = (): string | undefined =>
  existsSync('/usr/bin/python3') ? undefined : 'needs python3, which reads CSV and JSON lines';

export const mactimeObstacle = (): string | undefined =>
  existsSync('/usr/bin/mactime') ? undefined : 'needs mactime (Debian’s sleuthkit)';

export type Row = Readonly<Record<string, string | number>>;

/** The rows, or an error where Timesketch's importer would have one. */
export function readAsTimesketch(format: 'csv' | 'jsonl', bytes: Buffer): Row[] {
  const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-timesketch-'));
  try {
    const file = path.join(folder, `timeline.${format}`);
    writeFileSync(file, bytes);
    const rows = execFileSync('python3', [TIMESKETCH, format, file], { maxBuffer: 1 << 28 });
    return z.array(z.record(z.string(), z.union([z.string(), z.number()]))).parse(JSON.parse(rows.toString()));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export interface MacRow {
  readonly time: string;
  readonly size: string;
  /** `m.c.`. */
  readonly letters: string;
  readonly mode: string;
  readonly inode: string;
  readonly name: string;
}

/** `-d -y`: CSV with ISO times. Fails when mactime complains of anything. */
export function readAsMactime(body: Buffer): MacRow[] {
  const ran = spawnSync('mactime', ['-b', '-', '-d', '-y'], { input: body, maxBuffer: 1 << 28 });
  const complaint = ran.stderr.toString();
  if (ran.status !== 0 || complaint !== '') throw new Error(`mactime: ${ran.status} ${complaint}`);
  const lines = ran.stdout.toString().trimEnd().split('\n').slice(1);
  return lines.map((line) => {
    const parts = /^([^,]*),([^,]*),([^,]*),([^,]*),[^,]*,[^,]*,([^,]*),"(.*)"$/s.exec(line);
    if (parts === null) throw new Error(`mactime wrote ${line}`);
    const [, time = '', size = '', letters = '', mode = '', inode = '', name = ''] = parts;
    return { time, size, letters, mode, inode, name: name.replaceAll('""', '"') };
  });
}
