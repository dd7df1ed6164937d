import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { inventoryLineSchema } from '../../evidence/inventory.ts';
import type { BundleContext } from '../unit/collect/bundle-context.ts';
import { capture, eachWithLayers, lower, python, root, upper } from './layers-lab.ts';

/** Trees as an attacker inside the container would leave them, taken as an upper directory. */

const isRoot = process.getuid?.() === 0;
eachWithLayers();

const textOf = (bundle: BundleContext): string[] =>
  bundle.content('rootfs.inventory.jsonl.zst').toString().trimEnd().split('\n');
const linesOf = (bundle: BundleContext) => textOf(bundle).map((line) => inventoryLineSchema.parse(JSON.parse(line)));
const lineOf = (bundle: BundleContext, name: string) =>
  linesOf(bundle).find((line) => line.path === name || line.overlayPath === name);
const tar = (bundle: BundleContext, ...argv: string[]): Buffer =>
  execFileSync('tar', argv, {
    input: bundle.content('rootfs.tar.zst'),
    maxBuffer: 1e9,
    stdio: ['pipe', 'pipe', 'ignore'],
  });

test('a FIFO, a socket, devices and links in a circle are stored as what they are, and nothing blocks', async ({
  skip,
}) => {
  if (!isRoot) skip('needs root: device nodes are made');
  python(
    upper,
    `os.mkfifo('fifo'); socket.socket(socket.AF_UNIX).bind('socket')
os.mknod('watchdog', 0o600 | stat.S_IFCHR, os.makedev(10, 130)); os.mknod('disk', 0o600 | stat.S_IFBLK, os.makedev(8, 0))
os.symlink('b', 'a'); os.symlink('a', 'b'); os.symlink('.', 'here'); os.symlink('/', 'top')`,
  );
  const bundle = await capture();
  expect(linesOf(bundle).map(({ path: name, type }) => `${name} ${type}`)).toEqual([
    '. directory',
    'watchdog character-device',
    'a symlink',
    'b symlink',
    'disk block-device',
    'fifo fifo',
    'here symlink',
    'socket socket',
    'top symlink',
  ]);
  expect(lineOf(bundle, 'socket')?.inArchive).toBe(false);
  expect(lineOf(bundle, 'watchdog')).toMatchObject({ deviceMajor: 10, deviceMinor: 130 });
  expect(bundle.gaps).toEqual([]);
});

test('a container that makes whiteouts by name deletes nothing and hides nothing', async () => {
  writeFileSync(path.join(lower, 'kept'), 'kept');
  writeFileSync(path.join(upper, '.wh.kept'), 'payload');
  writeFileSync(path.join(upper, '.wh..wh..opq'), 'payload');
  mkdirSync(path.join(upper, '.wh.dir'));
  writeFileSync(path.join(upper, '.wh.dir/in'), 'payload');
  const bundle = await capture();
  const names = tar(bundle, '-t').toString().trimEnd().split('\n');
  expect(names).toEqual(expect.arrayContaining(['.exhibit-escaped.wh.kept', '.exhibit-escaped.wh..wh..opq']));
  expect(names.filter((name) => path.basename(name).startsWith('.wh.'))).toEqual([]);
  expect(lineOf(bundle, '.wh.dir/in')).toMatchObject({ path: '.exhibit-escaped.wh.dir/in', change: 'added' });
  expect(bundle.notes.join()).toContain('.wh.');
});

test('a file of 8 EiB is stored as its data, also of the last page, where SEEK_DATA sees none', async ({ skip }) => {
  // Of what is common, tmpfs alone takes files so large.
  const large = mkdtempSync('/dev/shm/exhibit-rootfs-');
  try {
    const last = 2n ** 63n - 4096n;
    const make = `import os
f = os.open('${large}/huge', os.O_RDWR | os.O_CREAT); os.ftruncate(f, 2**63 - 1); os.pwrite(f, b'needle', ${last})`;
    try {
      execFileSync('python3', ['-c', make], { stdio: 'ignore' });
    } catch {
      skip('needs a tmpfs at /dev/shm that takes a file of 8 EiB');
    }
    const bundle = await capture({ from: large });
    const line = lineOf(bundle, 'huge');
    expect(line?.sparse).toMatchObject({ apparentBytes: String(2n ** 63n - 1n), complete: true });
    expect(line?.sparse?.extents).toEqual([[String(2n ** 63n - 65_536n), '65535']]);
    expect(tar(bundle, '-xO', 'huge').indexOf('needle')).toBe(65_536 - 4096);
    expect(bundle.gaps).toEqual([]);
  } finally {
    execFileSync('rm', ['-rf', large]);
  }
});

test('a path three times longer than PATH_MAX is in the archive as it is', async () => {
  const step = 'd'.repeat(200);
  python(
    upper,
    `for i in range(60):
    os.mkdir('${step}'); os.chdir('${step}')
open('bottom', 'w').write('deep')`,
  );
  const bundle = await capture();
  const name = `${`${step}/`.repeat(60)}bottom`;
  expect(bundle.gaps).toEqual([]);
  expect(lineOf(bundle, name)).toMatchObject({ sizeBytes: 4, change: 'added' });
  expect(tar(bundle, '-t').toString().trimEnd().split('\n').at(-1)).toBe(name);
  expect(tar(bundle, '-xO', name).toString()).toBe('deep');
});

test('a thousand empty files of 1 GiB do not make a thousand GiB of zeros', async () => {
  python(
    upper,
    `for i in range(1000):
    f = os.open('f%03d' % i, os.O_RDWR | os.O_CREAT); os.ftruncate(f, 2**30 + 2**21 + 2**20); os.close(f)`,
  );
  const bundle = await capture();
  expect(Number(bundle.facts.get('contentBytes'))).toBe(0);
  expect(bundle.facts.get('special')).toMatchObject({ sparseFiles: 1000 });
});

test('names that are not UTF-8, hold newlines or terminal codes are kept as bytes and shown escaped', async () => {
  python(
    upper,
    String.raw`open(b'\xff\xfe', 'w'); open('a\nb', 'w'); open('\x1b[31mred|%', 'w'); open('__proto__', 'w')`,
  );
  const bundle = await capture();
  expect(lineOf(bundle, '\ufffd\ufffd')?.pathBase64).toBe(Buffer.from([0xff, 0xfe]).toString('base64'));
  expect(linesOf(bundle)).toHaveLength(5);
  const body = bundle.content('rootfs.body.zst').toString();
  expect(body.trimEnd().split('\n')).toHaveLength(5);
  expect(body).toContain(String.raw`0|/\x1b[31mred%7C%25|`);
  const read = execFileSync(
    'python3',
    [
      '-c',
      'import tarfile,sys,os;print([os.fsencode(m.name) for m in tarfile.open(fileobj=sys.stdin.buffer,mode="r|",errors="surrogateescape")])',
    ],
    { input: bundle.content('rootfs.tar.zst'), encoding: 'utf8' },
  );
  expect(read).toContain(String.raw`b'\xff\xfe'`);
});

test('every line’s keys are sorted, attributes of any name included', async ({ skip }) => {
  writeFileSync(path.join(upper, 'f'), '');
  try {
    python(
      upper,
      `for n in ('user.z', 'user.__proto__', 'user.A', 'user.1'): os.setxattr('f', n, b'v')
os.setxattr(b'f', b'user.\\xff', b'odd')`,
    );
  } catch {
    skip('needs user attributes');
  }
  const bundle = await capture();
  const sorted = (value: unknown): unknown =>
    typeof value !== 'object' || value === null || Array.isArray(value)
      ? value
      : Object.fromEntries(
          Object.entries(value)
            .sort(([a], [b]) => (a < b ? -1 : 1))
            .map(([key, one]) => [key, sorted(one)]),
        );
  for (const line of textOf(bundle)) expect(JSON.stringify(sorted(JSON.parse(line)))).toBe(line);
  const line = lineOf(bundle, 'f');
  expect(Object.keys(line?.xattrs ?? {})).toContain('user.__proto__');
  expect(line?.unnamedXattrs).toHaveLength(1);
});

test('a same-size edit with the old mtime put back is seen', async () => {
  writeFileSync(path.join(lower, 'sshd'), 'good');
  writeFileSync(path.join(upper, 'sshd'), 'evil');
  execFileSync('touch', ['-r', path.join(lower, 'sshd'), path.join(upper, 'sshd')]);
  const line = lineOf(await capture(), 'sshd');
  expect(line).toMatchObject({ change: 'modified', lower: { type: 'file', sizeBytes: 4 } });
  expect(line?.lower?.sha256).not.toBe(line?.sha256);
});

test('attributes that overlayfs would refuse do not lead anywhere', async ({ skip }) => {
  if (!isRoot) skip('needs root: trusted attributes are set');
  mkdirSync(path.join(upper, 'd'));
  mkdirSync(path.join(lower, 'd'));
  writeFileSync(path.join(upper, 'm'), '');
  python(
    upper,
    `os.setxattr('d', 'trusted.overlay.redirect', b'/../../../../etc')
os.setxattr('m', 'trusted.overlay.metacopy', b''); os.setxattr('m', 'trusted.overlay.redirect', b'/../../etc/passwd')`,
  );
  const bundle = await capture();
  expect(linesOf(bundle).map(({ path: name }) => name)).toEqual(['.', 'd', 'm']);
  expect(lineOf(bundle, 'm')).toMatchObject({
    inArchive: false,
    gap: { why: expect.stringContaining('no lower layer has its data') },
  });
});

test('lower layers that are gone are one gap, and nothing is called added', async () => {
  writeFileSync(path.join(upper, 'f'), 'x');
  const bundle = await capture({ lowers: [path.join(root, 'gone')] });
  // Without CAP_SYS_ADMIN there is one more, for the attributes that are hidden.
  const aboutLayers = bundle.gaps.filter(({ what }) => what === 'lower layers');
  expect(aboutLayers).toMatchObject([{ errno: 'ENOENT' }]);
  expect(lineOf(bundle, 'f')).toMatchObject({ sizeBytes: 1 });
  expect(lineOf(bundle, 'f')?.change).toBeUndefined();
});

test('a container at work, making, cutting, growing and swapping files, leaves a good archive that its list describes', async () => {
  mkdirSync(path.join(upper, 'busy'));
  symlinkSync('/etc', path.join(upper, 'etc'));
  for (let index = 0; index < 400; index += 1)
    writeFileSync(path.join(upper, `busy/f${index}`), Buffer.alloc(3000 * (index % 900), 'x'));
  const racer = spawn('python3', [
    '-c',
    `import os, random
os.chdir('${upper}/busy')
print('up', flush=True)
while True:
    p = 'f%d' % random.randrange(400)
    try:
        w = random.randrange(6)
        if w == 0: os.truncate(p, random.randrange(2000000))
        elif w == 1: open(p, 'ab').write(b'y' * 70000)
        elif w == 2: os.unlink(p)
        elif w == 3: os.rename(p, 'f%d' % random.randrange(400))
        elif w == 4: os.unlink(p); os.symlink('/etc/passwd', p)
        else: os.unlink(p); os.mkfifo(p)
    except OSError: pass`,
  ]);
  try {
    await new Promise((resolve) => racer.stdout.once('data', resolve));
    const bundle = await capture();
    const members = linesOf(bundle).filter(({ inArchive }) => inArchive !== false);
    const script = `import tarfile,sys,hashlib,json
t = tarfile.open(fileobj=sys.stdin.buffer, mode='r|')
print(json.dumps([[m.name, hashlib.sha256(t.extractfile(m).read()).hexdigest() if m.isfile() else None] for m in t]))`;
    const read: unknown = JSON.parse(
      execFileSync('python3', ['-c', script], {
        input: bundle.content('rootfs.tar.zst'),
        encoding: 'utf8',
        maxBuffer: 1e8,
      }),
    );
    expect(read).toEqual(members.map(({ path: name, type, sha256 }) => [name, type === 'file' ? sha256 : null]));
    expect(read).not.toContainEqual(['busy/passwd', expect.anything()]);
  } finally {
    racer.kill('SIGKILL');
    await new Promise((resolve) => racer.once('close', resolve));
  }
}, 60_000);

test('files that cannot be read are gaps with the kernel’s reason', async ({ skip }) => {
  if (!isRoot) skip('needs root, to become somebody who may not read');
  writeFileSync(path.join(upper, 'secret'), 'x', { mode: 0 });
  mkdirSync(path.join(upper, 'closed'), { mode: 0o700 });
  writeFileSync(path.join(upper, 'open'), 'x');
  execFileSync('chmod', ['755', root, upper]);
  const script = path.join(root, 'run.ts');
  const here = process.cwd();
  writeFileSync(
    script,
    `import { bundleContext, makeTarget } from '${here}/test/unit/collect/bundle-context.ts';
import { rootfsCollector } from '${here}/agent/collect/rootfs.ts';
process.setgroups?.([]); process.setgid?.(65534); process.setuid?.(65534);
const rootfs = { kind: 'overlay', upper: '${upper}', lowers: ['${lower}'], userXattr: false };
const bundle = bundleContext('${root}/unprivileged', makeTarget({ rootfs }));
await rootfsCollector.collect(bundle.context);
console.log(JSON.stringify({ gaps: bundle.gaps, notes: bundle.notes }));`,
  );
  mkdirSync(path.join(root, 'unprivileged'));
  execFileSync('chmod', ['777', path.join(root, 'unprivileged')]);
  const { gaps, notes } = JSON.parse(execFileSync(process.execPath, [script], { encoding: 'utf8' })) as {
    gaps: Array<{ what: string; errno?: string }>;
    notes: string[];
  };
  expect(gaps.map(({ what, errno }) => `${what} ${errno}`)).toEqual([
    'attributes trusted.* and opaque directories EPERM',
    'closed EACCES',
    'secret EACCES',
  ]);
  expect(notes.join()).toContain('O_NOATIME was refused');
});
