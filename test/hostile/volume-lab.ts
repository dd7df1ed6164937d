import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { type MountVictim, mountObstacle, type TakenVolumes } from '../unit/collect/mount-victim.ts';

/** A folder of the test's own, which a victim mounts over as it likes. */

const obstacle = mountObstacle();
/** Of the test that runs; `vol` is where things are mounted. */
export let folder = '';
export let vol = '';

/** Gives each test of the file its folder, or skips it where nothing can be mounted. */
export function eachWithVolume(): void {
  beforeEach((context) => {
    if (obstacle !== undefined) context.skip(obstacle);
    folder = mkdtempSync(path.join(tmpdir(), 'exhibit-volumes-'));
    vol = path.join(folder, 'vol');
    mkdirSync(vol);
  });
  afterEach(() => {
    if (folder !== '') rmSync(folder, { recursive: true, force: true });
  });
}

export const out = () => path.join(folder, 'out');
export const python = (victim: MountVictim, script: string): string =>
  execFileSync(
    'nsenter',
    [`--mount=/proc/${victim.pid}/ns/mnt`, 'python3', '-c', `import os, socket, stat\nos.chdir('${vol}')\n${script}`],
    { encoding: 'utf8' },
  );
export const tar = (taken: TakenVolumes, ...argv: string[]): string =>
  execFileSync('tar', argv, {
    input: taken.content('volumes.tar.zst'),
    maxBuffer: 1e9,
    stdio: ['pipe', 'pipe', 'ignore'],
  }).toString();
