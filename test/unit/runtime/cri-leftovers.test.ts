import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { cleanDumpFolders } from '../../../agent/runtime/cri-leftovers.ts';

/** A process called containerd stands for it; a /proc of its own keeps every real one out of sight. */

const HOUR_MS = 3_600_000;
const SERVE = `process.title = 'containerd'; require('node:net').createServer().listen(process.argv[1], () => console.log())`;

let folder: string;
let daemons: ChildProcess[];
beforeEach(async () => {
  folder = await mkdtemp('/tmp/exhibit-leftovers-');
  daemons = [];
  await mkdir(path.join(folder, 'proc'));
  await symlink('/proc/stat', path.join(folder, 'proc', 'stat'));
});
afterEach(async () => {
  for (const daemon of daemons) {
    daemon.kill('SIGKILL');
    await once(daemon, 'close');
  }
  await rm(folder, { recursive: true });
});

/** Serves NAME.sock, and has NAME for its temporary folder. */
async function containerd(name: string): Promise<void> {
  const temporary = path.join(folder, name);
  await mkdir(temporary, { recursive: true });
  const daemon = spawn(process.execPath, ['-e', SERVE, '--', `${temporary}.sock`], {
    env: { TMPDIR: temporary },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  daemons.push(daemon);
  await once(daemon.stdout as NodeJS.ReadableStream, 'data');
  await symlink(`/proc/${daemon.pid}`, path.join(folder, 'proc', String(daemon.pid)));
}

/** A folder of a dump below the temporary folder NAME, written to `ageMs` ago. */
async function dumpFolder(name: string, entry: string, ageMs: number): Promise<void> {
  const made = path.join(folder, name, entry);
  await mkdir(made, { recursive: true });
  await writeFile(path.join(made, 'pages-1.img'), 'memory');
  const at = new Date(Date.now() - ageMs);
  await utimes(made, at, at);
}

const clean = (name: string, sinceMs: number) =>
  cleanDumpFolders(
    { host: { procRoot: path.join(folder, 'proc'), hostRoot: '' }, socket: path.join(folder, `${name}.sock`) },
    sinceMs,
  );

describe('the unpacked dump of a containerd that died', () => {
  test('is removed when the one that runs now cannot be at work in it, and the capture can have made it', async (context) => {
    if (process.getuid?.() !== 0) return context.skip("needs root: containerd's folders are root's");
    await containerd('ours');
    await dumpFolder('ours', 'ctrd-checkpoint1', HOUR_MS);
    await dumpFolder('ours', 'ctrd-checkpoint2', 3 * HOUR_MS);
    await dumpFolder('ours', 'ctrd-checkpoint3', -HOUR_MS);
    await dumpFolder('ours', 'ctrd-checkpoint4.kept', HOUR_MS);
    await writeFile(path.join(folder, 'ours', 'ctrd-checkpoint5'), 'a file');
    expect(await clean('ours', Date.now() - 2 * HOUR_MS)).toEqual([
      "folder ctrd-checkpoint1 in containerd's temporary folder",
    ]);
    expect((await readdir(path.join(folder, 'ours'))).sort()).toEqual([
      'ctrd-checkpoint2',
      'ctrd-checkpoint3',
      'ctrd-checkpoint4.kept',
      'ctrd-checkpoint5',
    ]);
  });

  test('is not looked for in the folder of a process that only has the name', async (context) => {
    if (process.getuid?.() !== 0) return context.skip("needs root: containerd's folders are root's");
    await containerd('ours');
    await containerd('theirs');
    await dumpFolder('theirs', 'ctrd-checkpoint1', HOUR_MS);
    expect(await clean('ours', Date.now() - 2 * HOUR_MS)).toEqual([]);
    expect(await readdir(path.join(folder, 'theirs'))).toEqual(['ctrd-checkpoint1']);
  });
});
