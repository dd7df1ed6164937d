import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { findDaemons, listeningSockets } from '../../../agent/host/daemon.ts';
import { isSame, memoryFileSystem } from '../../../agent/host/folder-facts.ts';
import { systemOf } from '../../../agent/host/host-view.ts';
import { readCheckpointKernel, readKernelFacts } from '../../../agent/host/kernel.ts';
import { tryNativeCalls } from '../../../agent/host/native-calls.ts';
import { criuVersionIn, packageVersionIn, programVersion } from '../../../agent/host/program-version.ts';

/** The doctor's readers, on recorded texts and on this machine. */

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'exhibit-facts-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const here = { procRoot: '/proc', hostRoot: '' };

describe('the version of a program that is not run', () => {
  const constant = (...texts: string[]) =>
    Buffer.from(`\x7fELF\0Version: %s\n\0${texts.map((text) => `${text}\0`).join('')}`);

  test.each([
    ['its only constant', constant('gitid', '4.2.1'), '4.2.1'],
    ['one that is there twice', constant('4.2.1', 'x', '4.2.1'), '4.2.1'],
    ['none of two', constant('4.2.1', 'x', '3.17.1'), undefined],
    ['none in words', constant('glibc 2.41'), undefined],
    [
      'the one beside its format, where a C library has its own',
      Buffer.from('\x002.41\0skip\x004.2.1\0Version: %s\n\x002.35\0'),
      '4.2.1',
    ],
    ['none of another program', Buffer.from('\x7fELF\x004.2.1\0'), undefined],
    ['none of nothing', Buffer.alloc(0), undefined],
  ])('criu: %s', (_what, program, expected) => {
    expect(criuVersionIn(program)).toBe(expected);
  });

  const STATUS = [
    'Package: criu\nStatus: install ok installed\nArchitecture: amd64\nVersion: 4.2.1-1',
    'Package: runc\nStatus: install ok installed\nVersion: 1:1.3.6+ds1-1+b2',
    'Package: crun\nStatus: deinstall ok config-files\nVersion: 1.28-1',
  ].join('\n\n');
  test.each([
    ['criu', '4.2.1'],
    ['runc', '1.3.6+ds1'],
    ['crun', undefined],
    ['run', undefined],
  ])('package %s: %s', (name, expected) => {
    expect(packageVersionIn(`${STATUS}\n`, name)).toBe(expected);
  });

  test('comes from the package only for files that a package puts there', async () => {
    await mkdir(path.join(folder, 'var/lib/dpkg'), { recursive: true });
    await writeFile(path.join(folder, 'var/lib/dpkg/status'), `${STATUS}\n`);
    await writeFile(path.join(folder, 'runc'), 'no program');
    const file = path.join(folder, 'runc');
    expect(await programVersion(folder, { name: '/usr/sbin/runc', file })).toBe('1.3.6+ds1');
    expect(await programVersion(folder, { name: '/usr/local/sbin/runc', file })).toBeUndefined();
    expect(await programVersion('/nowhere', { name: '/usr/sbin/runc', file: '/nowhere' })).toBeUndefined();
  });
});

describe('who listens on a socket', () => {
  const TABLE = `Num       RefCount Protocol Flags    Type St Inode Path
00000000f19a78d3: 00000002 00000000 00010000 0001 01 71019 /run/containerd/containerd.sock.ttrpc
0000000030eb4359: 00000002 00000000 00010000 0001 01 71023 /run/containerd/containerd.sock
0000000030eb4360: 00000003 00000000 00000000 0001 03 71099 /run/containerd/containerd.sock
000000001f94cabb: 00000002 00000000 00010000 0001 01 71024 /var/run/nri/nri.sock
0000000000000000: 00000003 00000000 00000000 0001 03 71100
`;
  test('is in the table of its network namespace, connections and nameless sockets left out', () => {
    expect(listeningSockets(TABLE)).toEqual([
      { inode: '71019', path: '/run/containerd/containerd.sock.ttrpc' },
      { inode: '71023', path: '/run/containerd/containerd.sock' },
      { inode: '71024', path: '/var/run/nri/nri.sock' },
    ]);
  });

  test('is found among processes of one name, with its PATH', async (context) => {
    if (process.platform !== 'linux') return context.skip('needs /proc');
    const socket = path.join(folder, 'daemon.sock');
    // proc(5) comm is the name of the file that was run, cut to 15 characters.
    const program = path.join(folder, 'exhibit-daemon');
    copyFileSync('/bin/sleep', program);
    const idle = spawn(program, ['60'], { env: { PATH: '/idle:relative:/usr/bin' } });
    try {
      await once(idle, 'spawn');
      const [found, ...others] = await findDaemons(here, 'exhibit-daemon', socket);
      expect(others).toEqual([]);
      expect(found).toEqual({
        pid: idle.pid,
        root: `/proc/${idle.pid}/root`,
        path: ['/idle', '/usr/bin'],
        temporary: '/tmp',
      });
    } finally {
      idle.kill();
      await once(idle, 'close');
    }
    expect(await findDaemons(here, 'exhibit-daemon', socket)).toEqual([]);
  });

  test('is this process for a socket of its own, and nobody else of that name', async (context) => {
    if (process.platform !== 'linux') return context.skip('needs /proc');
    const socket = path.join(folder, 'own.sock');
    const link = path.join(folder, 'link.sock');
    const server = net.createServer().listen(socket);
    await once(server, 'listening');
    await symlink(socket, link);
    const comm = readFileSync('/proc/self/comm', 'utf8').trimEnd();
    const found = [await findDaemons(here, comm, socket), await findDaemons(here, comm, link)];
    server.close();
    expect(found.map((daemons) => daemons.map(({ pid }) => pid))).toEqual([[process.pid], [process.pid]]);
  });

  test('is nobody who only has the name, in a root of his own', async (context) => {
    if (process.getuid?.() !== 0) return context.skip('needs root, to enter another root');
    const root = path.join(folder, 'root');
    for (const mounted of ['usr', 'lib', 'lib64', 'bin']) await mkdir(path.join(root, mounted), { recursive: true });
    const program = path.join(folder, 'exhibit-intrude');
    copyFileSync('/bin/sleep', program);
    const script = `for f in usr lib lib64 bin; do [ -e /$f ] && mount --rbind /$f $0/$f; done; cp ${program} $0/; exec chroot $0 /exhibit-intrude 60`;
    const intruder = spawn('unshare', ['--mount', 'sh', '-c', script, root], { stdio: 'ignore' });
    try {
      await once(intruder, 'spawn');
      await vi.waitFor(
        () => expect(readFileSync(`/proc/${intruder.pid}/comm`, 'utf8')).toBe('exhibit-intrude\n'),
        10_000,
      );
      expect(await findDaemons(here, 'exhibit-intrude', path.join(folder, 'daemon.sock'))).toEqual([]);
    } finally {
      intruder.kill();
      await once(intruder, 'close');
    }
  });
});

describe('a system', () => {
  test.each([
    [
      'NAME="Amazon Linux"\nID="amzn"\nPRETTY_NAME="Amazon Linux 2023.8.20250915"\n',
      'amzn',
      'Amazon Linux 2023.8.20250915',
    ],
    [
      "ID=bottlerocket\nPRETTY_NAME='Bottlerocket OS 1.44.0 (aws-k8s-1.33)'\n",
      'bottlerocket',
      'Bottlerocket OS 1.44.0 (aws-k8s-1.33)',
    ],
    ['ID=void', 'void', 'void'],
    ['', '', 'an unnamed system'],
  ])('%j is %s', (release, id, name) => {
    expect(systemOf(release)).toEqual({ id, name });
  });
});

describe('this machine', () => {
  /** The kernel's own word, where it gives it. */
  const option = (name: string): string | undefined => {
    if (!existsSync('/proc/config.gz')) return undefined;
    const text = gunzipSync(readFileSync('/proc/config.gz')).toString();
    return new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1] ?? 'n';
  };

  test('has the kernel that uname names', async () => {
    const facts = await readKernelFacts(here);
    expect(facts.release).toBe(execFileSync('uname', ['-r'], { encoding: 'utf8' }).trim());
  });

  test('is read as its kernel was built', async (context) => {
    if (option('CONFIG_PROC_FS') === undefined) return context.skip('needs /proc/config.gz');
    const facts = await readKernelFacts(here);
    expect(facts.softDirty).toBe(option('CONFIG_MEM_SOFT_DIRTY') === 'y');
    expect((await readCheckpointKernel(here)).checkpointRestore).toBe(option('CONFIG_CHECKPOINT_RESTORE') === 'y');
    expect(facts.ptraceScope === undefined).toBe(option('CONFIG_SECURITY_YAMA') !== 'y');
    if (option('CONFIG_PROC_MEM_ALWAYS_FORCE') === 'y' && facts.forceOverride === undefined)
      expect(facts.unreadablePages).toBe('given');
  });

  test('lets root open the memory of others, and hardly anybody who has no right to', async (context) => {
    if (process.getuid?.() !== 0) return context.skip('needs root, to give a right away');
    expect((await readKernelFacts(here)).memoryOfOthers.opened).toBeGreaterThan(0);
    const kernel = path.resolve(import.meta.dirname, '../../../agent/host/kernel.ts');
    const script = `import { readKernelFacts } from ${JSON.stringify(kernel)};
      console.log(JSON.stringify((await readKernelFacts({ procRoot: '/proc', hostRoot: '' })).memoryOfOthers));`;
    const argv = ['--bounding-set=-all', process.execPath, '--input-type=module-typescript', '-e', script];
    const powerless = JSON.parse(execFileSync('setpriv', argv, { encoding: 'utf8' }));
    expect(powerless.errno).toMatch(/^E(ACCES|PERM)$/);
    // Others that have given up their rights as well are open to it.
    expect(powerless.refused).toBeGreaterThan(powerless.opened);
  });

  test('has the calls that the agent makes', () => {
    expect(tryNativeCalls()).toEqual({ libc: true, readProcess: 'works' });
  });

  test('has folders in memory and elsewhere, and a missing folder is where it would be made', async () => {
    expect(await memoryFileSystem('/proc')).toBeUndefined();
    if (existsSync('/dev/shm')) expect(await memoryFileSystem('/dev/shm/exhibit/not/there')).toBe('tmpfs');
  });

  test('tells one folder under two names from two folders', async () => {
    expect(await isSame(folder, `/proc/self/root${folder}`)).toBe(true);
    expect(await isSame(folder, path.dirname(folder))).toBe(false);
    expect(await isSame(folder, '/nowhere')).toBeUndefined();
  });
});
