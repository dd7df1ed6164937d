import { execFileSync } from 'node:child_process';
import { chownSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { TARGET_RECORD } from '../unit/collect/bundle-context.ts';
import { type MountVictim, startVictim, takeVolumes } from '../unit/collect/mount-victim.ts';
import { eachWithVolume, folder, out, python, tar, vol } from './volume-lab.ts';

/** Mounts as an attacker who may mount inside the container would leave them, and change them under the reader. */

eachWithVolume();

describe('what lies in a volume', () => {
  test('is stored as what it is: FIFO, socket, devices, links out and in circles, and nothing blocks', async () => {
    await using victim = await startVictim(`mount -t tmpfs none ${vol}`);
    python(
      victim,
      `os.mkfifo('fifo'); socket.socket(socket.AF_UNIX).bind('socket')
os.mknod('watchdog', 0o600 | stat.S_IFCHR, os.makedev(10, 130)); os.mknod('disk', 0o600 | stat.S_IFBLK, os.makedev(8, 0))
os.symlink('b', 'a'); os.symlink('a', 'b'); os.symlink('/', 'top'); os.symlink('../../../../etc', 'out')`,
    );
    const taken = await takeVolumes(out(), victim);
    expect(taken.gaps).toEqual([]);
    const { volume } = taken.volumeAt(vol);
    const found = taken.inventory.filter((one) => one.volume === volume).map((one) => `${one.path} ${one.type}`);
    const n = volume;
    expect(found).toEqual([
      `${n} directory`,
      `${n}/a symlink`,
      `${n}/b symlink`,
      `${n}/disk block-device`,
      `${n}/fifo fifo`,
      `${n}/out symlink`,
      `${vol.slice(1)}/socket socket`,
      `${n}/top symlink`,
      `${n}/watchdog character-device`,
    ]);
    expect(taken.line(`${vol.slice(1)}/watchdog`)).toMatchObject({ deviceMajor: 10, deviceMinor: 130 });
  });

  test('has names of any bytes: they lead nowhere, and one line stays one line', async () => {
    await using victim = await startVictim(`mount -t tmpfs none ${vol}`);
    python(victim, String.raw`open(b'\xff\xfe', 'w'); open('a\nb', 'w'); open('\x1b[31m|%', 'w'); open('.wh.x', 'w')`);
    const taken = await takeVolumes(out(), victim);
    expect(taken.inventory).toHaveLength(5);
    expect(taken.inventory.map((one) => one.pathBase64).filter(Boolean)).toEqual([
      Buffer.concat([Buffer.from(`${taken.volumeAt(vol).volume}/`), Buffer.from([0xff, 0xfe])]).toString('base64'),
    ]);
    expect(taken.content('volumes.body.zst').toString().trimEnd().split('\n')).toHaveLength(5);
    expect(tar(taken, '-t')).toContain('/.wh.x');
  });

  test('may say that it is of 8 EiB: its data is stored, with the place of each part, and no zeros', async () => {
    await using victim = await startVictim(`mount -t tmpfs none ${vol}`);
    python(
      victim,
      `f = os.open('huge', os.O_RDWR | os.O_CREAT); os.ftruncate(f, 2**63 - 4096); os.pwrite(f, b'needle', 2**62)`,
    );
    const taken = await takeVolumes(out(), victim);
    const line = taken.line(`${vol.slice(1)}/huge`);
    expect(line?.sparse).toEqual({
      apparentBytes: String(2n ** 63n - 4096n),
      complete: true,
      // tmpfs says that the last page is a hole, so it is looked at.
      extents: [
        [String(2n ** 62n), '4096'],
        [String(2n ** 63n - 65_536n), String(65_536 - 4096)],
      ],
    });
    expect(tar(taken, '-xO', line?.path ?? '').slice(0, 6)).toBe('needle');
    expect(taken.volumeAt(vol).counts).toMatchObject({ contentFiles: 1, contentBytes: 65_536 });
  });

  test('is only read: times of access stay, also those of links, and nothing is written', async () => {
    await using victim = await startVictim(
      `mount -t tmpfs -o strictatime none ${vol}; cd ${vol}; mkdir d; echo x > d/f; ln -s d/f l; touch -a -d @1000000000 d/f d . ; touch -h -a -d @1000000000 l`,
    );
    const look = () => victim.run(`cd ${vol} && stat -c '%n %x %y %z' . d d/f l`);
    const before = look();
    const taken = await takeVolumes(out(), victim);
    expect(look()).toBe(before);
    expect(tar(taken, '-xO', `${taken.volumeAt(vol).volume}/d/f`)).toBe('x\n');
    expect(taken.notes).toEqual([]);
  });
});

describe('a mount', () => {
  test('of a single file is a member of its own', async () => {
    writeFileSync(path.join(folder, 'one'), 'alone');
    writeFileSync(path.join(vol, 'target'), '');
    await using victim = await startVictim(`mount --bind ${folder}/one ${vol}/target`);
    const taken = await takeVolumes(out(), victim);
    const { volume, hostPath } = taken.volumeAt(`${vol}/target`);
    expect(hostPath).toBe(`${folder}/one`);
    expect(tar(taken, '-xO', String(volume))).toBe('alone');
    expect(taken.inventory).toHaveLength(1);
  });

  test('of a device node or a FIFO is a line, and is never opened', async () => {
    execFileSync('mkfifo', [`${folder}/fifo`]);
    for (const name of ['null', 'fifo']) writeFileSync(path.join(vol, name), '');
    await using victim = await startVictim(
      `mount --bind /dev/null ${vol}/null; mount --bind ${folder}/fifo ${vol}/fifo`,
    );
    const taken = await takeVolumes(out(), victim);
    expect(taken.line(`${vol.slice(1)}/fifo`)).toMatchObject({ type: 'fifo' });
    expect(taken.line(`${vol.slice(1)}/null`)).toMatchObject({
      type: 'character-device',
      deviceMajor: 1,
      deviceMinor: 3,
    });
    expect(taken.gaps).toEqual([]);
  });

  test('that is seen in several places is taken once, and so is a part of it', async () => {
    await using victim = await startVictim(
      `mount -t tmpfs none ${vol}; cd ${vol}; mkdir a b c; echo x > a/x; mount --bind a b; mount --bind ${vol} c`,
    );
    const taken = await takeVolumes(out(), victim);
    const { volume } = taken.volumeAt(vol);
    expect(taken.volumeAt(`${vol}/b`)).toMatchObject({ sameAs: volume, root: '/a' });
    expect(taken.volumeAt(`${vol}/c`)).toMatchObject({ sameAs: volume, root: '/' });
    expect(taken.inventory.filter(({ type }) => type === 'file')).toHaveLength(1);
  });

  test('that the container shares with the node keeps owners who are nobody in its user namespace, and says so', async ({
    skip,
  }) => {
    const shared = path.join(folder, 'shared');
    mkdirSync(shared, { recursive: true });
    const script = `mount -t tmpfs none ${vol}; mkdir ${vol}/d; mount --bind ${shared} ${vol}/d`;
    const victim = await startVictim(script, { user: true }).catch(() => undefined);
    if (victim === undefined) return skip('needs user namespaces');
    await using held = victim;
    writeFileSync(path.join(shared, 'of-the-node'), 'x');
    chownSync(path.join(shared, 'of-the-node'), 1000, 1000);
    const record = { ...TARGET_RECORD, kind: 'container' as const, initPid: held.pid, pids: [held.pid] };
    const taken = await takeVolumes(out(), held, {}, { record });
    expect(taken.line(path.join(vol, 'd/of-the-node').slice(1))).toMatchObject({ uid: 1000, gid: 1000 });
    expect(taken.notes.join()).toContain('1 entries have owners that are nobody in the container');
  });

  test('in a user namespace of its own is taken as any other', async ({ skip }) => {
    let victim: MountVictim;
    try {
      victim = await startVictim(
        `mount -t tmpfs none ${vol}; echo x > ${vol}/x; mkdir ${vol}/d; mount -t tmpfs none ${vol}/d`,
        {
          user: true,
        },
      );
    } catch {
      skip('needs user namespaces');
      return;
    }
    await using held = victim;
    const taken = await takeVolumes(out(), held);
    expect(taken.gaps).toEqual([]);
    expect(taken.notes).toEqual([]);
    expect(tar(taken, '-xO', `${taken.volumeAt(vol).volume}/x`)).toBe('x\n');
  });

  test('that hides another is taken, what lies beneath it too, and the hidden mount is a gap', async () => {
    await using victim = await startVictim(
      `mount -t tmpfs below ${vol}; echo lost > ${vol}/lost; mount -t tmpfs above ${vol}; echo seen > ${vol}/seen`,
    );
    const taken = await takeVolumes(out(), victim);
    expect(tar(taken, '-xO', `${taken.volumeAt(vol).volume}/seen`)).toBe('seen\n');
    expect(taken.gaps).toEqual([{ what: vol, why: expect.stringContaining('hidden below another mount') }]);
    expect(taken.volumes.filter(({ containerPath }) => containerPath === vol).map(({ source }) => source)).toEqual([
      'below',
      'above',
    ]);
  });

  test('of a place with a newline, a space and bytes that are not UTF-8 in its name is found', async () => {
    await using victim = await startVictim(
      `d="$(printf '${vol}/a b\\nc\\377')"; mkdir "$d"; mount -t tmpfs none "$d"; echo x > "$d/f"`,
    );
    const taken = await takeVolumes(out(), victim);
    const odd = taken.volumes.find((one) => one.containerPathBase64 !== undefined);
    expect(Buffer.from(odd?.containerPathBase64 ?? '', 'base64').toString('latin1')).toBe(`${vol}/a b\nc\xff`);
    expect(tar(taken, '-xO', `${odd?.volume}/f`)).toBe('x\n');
  });

  test('that the container makes on a device the node has nowhere is listed only', async ({ skip }) => {
    const image = path.join(folder, 'image');
    execFileSync('truncate', ['-s', '4M', image]);
    try {
      execFileSync('/usr/sbin/mkfs.ext4', ['-q', image]);
    } catch {
      skip('needs mkfs.ext4 (Debian’s e2fsprogs)');
    }
    let victim: MountVictim;
    try {
      victim = await startVictim(`mount -o loop ${image} ${vol}`);
    } catch {
      skip('needs a loop device');
      return;
    }
    await using held = victim;
    const taken = await takeVolumes(out(), held);
    expect(taken.volumeAt(vol)).toMatchObject({ class: 'made-inside', policy: { taken: 'listed' } });
    expect(taken.gaps.map(({ what }) => what)).toEqual([vol]);
  });
});

/** Descriptors of this process on file systems, by mounts that are not in its own table. */
function foreignDescriptors(): number {
  const own = new Set(
    readFileSync('/proc/self/mountinfo', 'latin1')
      .split('\n')
      .map((line) => line.split(' ')[0]),
  );
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      const id = /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1];
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith('/') && !own.has(id ?? '');
    } catch {
      // The descriptor of the listing itself.
      return false;
    }
  }).length;
}

describe('bounds', () => {
  test('of entries cut a tree, and the record and a gap say so', async () => {
    await using victim = await startVictim(
      `mount -t tmpfs none ${vol}; cd ${vol}; for i in $(seq 100); do : > f$i; done`,
    );
    const taken = await takeVolumes(out(), victim, { policy: { entries: 10 } });
    expect(taken.volumeAt(vol)).toMatchObject({ complete: false });
    expect(taken.inventory.length).toBe(11);
    expect(taken.gaps.map(({ why }) => why).join()).toContain('more than 10 entries');
  });

  test('of content are spent on small files first, so that a large decoy does not hide a small payload', async () => {
    await using victim = await startVictim(
      `mount -t tmpfs none ${vol}; cd ${vol}; for i in 1 2 3; do head -c 700000 /dev/urandom > a$i; done; echo payload > z; head -c 3000000 /dev/urandom > b`,
    );
    const taken = await takeVolumes(out(), victim, { policy: { contentBytes: 1_000_000, fileBytes: 2_000_000 } });
    const { counts } = taken.volumeAt(vol);
    expect(taken.line(`${vol.slice(1)}/z`)).toMatchObject({ sizeBytes: 8, sha256: expect.any(String) });
    expect(taken.line(`${vol.slice(1)}/b`)).toMatchObject({
      notStored: 'file-size',
      apparentBytes: '3000000',
      inArchive: false,
    });
    expect(counts).toMatchObject({ contentFiles: 2, contentBytes: 700_008 });
    expect(counts?.notStored).toEqual({
      budget: { files: 2, bytes: 1_400_000 },
      'file-size': { files: 1, bytes: 3_000_000 },
    });
    expect(taken.gaps).toHaveLength(2);
  });

  test('leave no descriptor of a mount open', async () => {
    await using victim = await startVictim(`mount -t tmpfs none ${vol}; echo x > ${vol}/x`);
    let during = 0;
    const onEntry = () => {
      during = foreignDescriptors();
    };
    await takeVolumes(out(), victim, { onEntry });
    expect(during).toBeGreaterThan(0);
    expect(foreignDescriptors()).toBe(0);
  });
});
