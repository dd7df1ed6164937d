import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { openMountSpace, Unreachable } from '../../agent/host/mount-space.ts';
import { asPid } from '../../agent/runtime/runtime.ts';
import { type MountVictim, startVictim, takeVolumes } from '../unit/collect/mount-victim.ts';
import { eachWithVolume, out, tar, vol } from './volume-lab.ts';

/** Mounts that change under the reader, and file systems that may never answer. */

eachWithVolume();

const FUSE = path.join(import.meta.dirname, 'fuse-server.py');
const fuseObstacle = () => (existsSync('/dev/fuse') ? undefined : 'needs /dev/fuse');

/** A FUSE mount in the victim's namespace; its server is ended by the number that comes back. */
function mountFuse(victim: MountVictim, mode: 'silent' | 'answering', at: string): number {
  const argv = [`--mount=/proc/${victim.pid}/ns/mnt`, 'python3', FUSE, mode, at];
  return Number(execFileSync('nsenter', argv, { encoding: 'utf8' }));
}

describe('a container that changes its mounts under the reader', () => {
  test('does not lead it elsewhere: what is mounted over a directory in the middle of a walk is not entered', async () => {
    await using victim = await startVictim(
      `mount -t tmpfs none ${vol}; mkdir ${vol}/z; echo original > ${vol}/z/f; echo a > ${vol}/a`,
    );
    let swapped = false;
    const onEntry = () => {
      if (swapped) return;
      swapped = true;
      victim.run(`mount -t tmpfs decoy ${vol}/z; echo decoy > ${vol}/z/f`);
    };
    const taken = await takeVolumes(out(), victim, { onEntry });
    expect(swapped).toBe(true);
    expect(tar(taken, '-xO', `${taken.volumeAt(vol).volume}/z/f`)).toBe('original\n');
    expect(taken.gaps).toEqual([]);
  });

  test('can unmount as ever, and what it unmounted is read to its end', async () => {
    await using victim = await startVictim(`mount -t tmpfs none ${vol}; mkdir ${vol}/z; echo kept > ${vol}/z/f`);
    let unmounted = false;
    const onEntry = () => {
      if (!unmounted) victim.run(`umount ${vol}`);
      unmounted = true;
    };
    const taken = await takeVolumes(out(), victim, { onEntry });
    expect(unmounted).toBe(true);
    expect(tar(taken, '-xO', `${taken.volumeAt(vol).volume}/z/f`)).toBe('kept\n');
  });

  test('between the table and the way to it is seen: a link or another mount in its place is never passed', async () => {
    await using victim = await startVictim(
      `mount -t tmpfs outer ${vol}; mkdir -p ${vol}/d/e; mount -t tmpfs inner ${vol}/d/e`,
    );
    using space = openMountSpace({ procRoot: '/proc', hostRoot: '' }, asPid(victim.pid));
    const inner = space.table.find(({ source }) => source === 'inner');
    if (inner === undefined) throw new Error('no inner mount');
    const reach = () => space.hold(inner, () => true);
    victim.run(`mv ${vol}/d ${vol}/moved; ln -s moved ${vol}/d`);
    expect(reach).toThrow(Unreachable);
    victim.run(`rm ${vol}/d; mv ${vol}/moved ${vol}/d; mount -t tmpfs decoy ${vol}/d; mkdir ${vol}/d/e`);
    expect(reach).toThrow(/changed meanwhile/);
  });
});

describe('a file system that may wait for ever', () => {
  test('is listed as a gap, and neither it nor what lies beyond it is asked for anything', async ({ skip }) => {
    const missing = fuseObstacle();
    if (missing !== undefined) skip(missing);
    await using victim = await startVictim(`mount -t tmpfs none ${vol}; mkdir ${vol}/silent; echo x > ${vol}/x`);
    const server = mountFuse(victim, 'silent', `${vol}/silent`);
    try {
      const taken = await takeVolumes(out(), victim);
      expect(taken.volumeAt(`${vol}/silent`)).toMatchObject({
        class: 'remote',
        fileSystem: 'fuse',
        policy: { taken: 'listed' },
      });
      expect(taken.gaps).toEqual([{ what: `${vol}/silent`, why: expect.stringContaining('may wait') }]);
      expect(tar(taken, '-xO', `${taken.volumeAt(vol).volume}/x`)).toBe('x\n');
      expect(taken.line(`${vol.slice(1)}/silent`)).toMatchObject({ type: 'directory' });
    } finally {
      process.kill(server, 'SIGKILL');
    }
  });

  test('is asked for names where policy says so, and left when its server does not answer', async ({ skip }) => {
    const missing = fuseObstacle();
    if (missing !== undefined) skip(missing);
    await using victim = await startVictim(`mount -t tmpfs none ${vol}; cd ${vol}; mkdir silent answering; echo x > x`);
    const servers = (['silent', 'answering'] as const).map((mode) => mountFuse(victim, mode, `${vol}/${mode}`));
    try {
      const taken = await takeVolumes(out(), victim, { policy: { waiting: 'metadata' } });
      expect(taken.volumeAt(`${vol}/answering`)).toMatchObject({
        policy: { taken: 'metadata' },
        counts: { entries: 2, contentFiles: 0, gaps: 0 },
      });
      expect(taken.line(`${vol.slice(1)}/answering/answer`)).toMatchObject({
        type: 'file',
        notStored: 'class',
        mode: '0644',
      });
      expect(taken.volumeAt(`${vol}/silent`).counts).toBeUndefined();
      const told = taken.gaps.filter(({ what }) => what === `${vol}/silent`).map(({ why }) => why);
      expect(told.join()).toContain('does not answer');
      expect(tar(taken, '-xO', `${taken.volumeAt(vol).volume}/x`)).toBe('x\n');
    } finally {
      for (const server of servers) process.kill(server, 'SIGKILL');
    }
  }, 60_000);

  test('that is mounted on the way after the table was read is seen before it is asked', async ({ skip }) => {
    const missing = fuseObstacle();
    if (missing !== undefined) skip(missing);
    await using victim = await startVictim(
      `mount -t tmpfs outer ${vol}; mkdir -p ${vol}/d/e; mount -t tmpfs inner ${vol}/d/e`,
    );
    using space = openMountSpace({ procRoot: '/proc', hostRoot: '' }, asPid(victim.pid));
    const inner = space.table.find(({ source }) => source === 'inner');
    const server = mountFuse(victim, 'silent', `${vol}/d`);
    try {
      expect(() => inner && space.hold(inner, () => true)).toThrow(/changed meanwhile/);
    } finally {
      process.kill(server, 'SIGKILL');
    }
  });
});
