import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { rootfsCollector } from '../../agent/collect/rootfs.ts';
import { asHostPath } from '../../agent/runtime/runtime.ts';
import { type Finding, type FindingKind, findingSchema } from '../../evidence/file-finding.ts';
import { type BundleContext, bundleContext, makeTarget } from '../unit/collect/bundle-context.ts';

/** An image, an intruder and an innocent user, through a real overlay mount; the findings are of what the intruder did alone. */

const obstacle =
  process.platform !== 'linux' || process.getuid?.() !== 0
    ? 'needs Linux and root: overlayfs is mounted'
    : !existsSync('/usr/bin/unshare')
      ? 'needs unshare'
      : undefined;

const IMAGE = String.raw`
import os
def put(path, content, mode=0o644, mtime=1_700_000_000):
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    with open(path, 'wb') as f: f.write(content)
    os.chmod(path, mode); os.utime(path, (mtime, mtime))
ELF = b'\x7fELF' + b'image'
put('usr/bin/tool', ELF + b' tool', 0o755)
put('usr/bin/su', ELF + b' su', 0o4755)
put('usr/bin/ping', ELF + b' ping', 0o755)
put('usr/bin/innocent', ELF + b' innocent', 0o755)
put('etc/passwd', b'root:x:0:0\n'); put('etc/shadow', b'root:*:1\n', 0o640)
put('etc/ssh/sshd_config', b'PermitRootLogin no\n')
put('etc/app/app.conf', b'a = 1\n'); put('etc/pam.d/login', b'auth required\n'); put('etc/pam.d/other', b'deny\n')
put('var/log/auth.log', b'accepted\n'); put('var/log/app.log', b'started\n')
put('opt/doc/a/one.txt', b'one\n'); put('opt/doc/a/two.txt', b'two\n')
put('opt/mod/kept.so', ELF + b' kept'); put('opt/mod/gone.so', ELF + b' gone'); put('opt/mod/deep/gone.txt', b'deep\n')
put('opt/mod/changed.conf', b'before\n')
put('app/readme.txt', b'read me\n'); put('app/audit.log', b'audit\n'); put('app/server.py', b'print(1)\n'); put('app/size.txt', b'12345\n')
put('root/.bashrc', b'# shell\n'); put('srv/dir/in.txt', b'in\n')
os.makedirs('tmp', exist_ok=True); os.chmod('tmp', 0o1777)
os.makedirs('dev/shm', exist_ok=True); os.makedirs('etc/cron.d', exist_ok=True)
`;

const INTRUDER = String.raw`
import os, shutil, stat
ELF = b'\x7fELF' + b'evil'
def put(path, content, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as f: f.write(content)
    os.chmod(path, mode)
def again(path, edit):
    was = os.stat(path); edit(); os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
def overwrite(path, content):
    with open(path, 'r+b') as f: f.write(content)
put('tmp/.x/kworker', ELF + b' kworker', 0o755)
put('dev/shm/dropper', b'#!/bin/sh\n')
put('usr/bin/rootsh', ELF + b' rootsh', 0o755); os.chmod('usr/bin/rootsh', 0o4755)
os.setxattr('usr/bin/ping', 'security.capability', bytes.fromhex('0100000200200000000000000000000000000000'))
again('etc/ssh/sshd_config', lambda: overwrite('etc/ssh/sshd_config', b'PermitRootLogin 11'))
with open('etc/passwd', 'ab') as f: f.write(b'toor:x:0:0\n')
put('root/.ssh/authorized_keys', b'ssh-ed25519 AAAA\n'); put('etc/cron.d/sync', b'* * * * * root /tmp/.x/kworker\n')
put('etc/old.conf', b'old\n'); os.utime('etc/old.conf', (1_500_000_000, 1_500_000_000))
put('etc/new.conf', b'new\n'); os.utime('etc/new.conf', (4_000_000_000, 4_000_000_000))
overwrite('app/size.txt', b'54321')
os.symlink('/dev/null', 'root/.bash_history'); os.truncate('var/log/auth.log', 0)
os.unlink('app/readme.txt'); os.unlink('app/audit.log'); shutil.rmtree('opt/doc')
shutil.rmtree('opt/mod'); put('opt/mod/kept.so', b'\x7fELFimage kept'); put('opt/mod/changed.conf', b'before again\n')
shutil.rmtree('etc/pam.d'); put('etc/pam.d/login', b'auth sufficient\n'); put('etc/pam.d/other', b'deny\n')
shutil.rmtree('srv/dir'); open('srv/dir', 'w').close()
os.mknod('srv/sda', 0o600 | stat.S_IFBLK, os.makedev(8, 0))
os.mkdir('srv/...'); put('srv/hot/up.so', ELF + b' up'); os.chmod('srv/hot', 0o777)
`;

const INNOCENT = String.raw`
import os, shutil
def put(path, content, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as f: f.write(content)
    os.chmod(path, mode)
put('srv/upload/photo.jpg', b'\xff\xd8photo'); put('tmp/session', b'words\n'); put('root/.cache/pip/x', b'x')
put('home/web/.config/app.toml', b'a = 1\n'); put('run/app.pid', b'1\n'); put('var/log/new.log', b'')
shutil.copy2('usr/bin/innocent', 'srv/innocent')
os.chmod('usr/bin/su', 0o4755); os.utime('usr/bin/innocent'); os.chmod('etc/shadow', 0o640)
with open('etc/app/app.conf', 'ab') as f: f.write(b'b = 2\n')
with open('var/log/app.log', 'ab') as f: f.write(b'stopped\n')
os.symlink('/dev/stdout', 'var/log/out.log'); os.mkfifo('srv/fifo'); os.mkdir('srv/shared'); os.chmod('srv/shared', 0o2775)
`;

function overlay(at: string, options: string, ...scripts: string[]): void {
  mkdirSync(at, { recursive: true });
  const inside = (folder: string, script: string, index: number): string => {
    const file = path.join(at, `step${index}.py`);
    writeFileSync(file, script);
    return `(cd ${folder} && python3 ${file})`;
  };
  const shell = `set -e
    mkdir -p top bottom upper work merged
    ${inside('bottom', IMAGE, 0)}
    mount -t overlay overlay -o lowerdir=top:bottom,upperdir=upper,workdir=work,${options} merged
    ${scripts.map((script, index) => inside('merged', script, index + 1)).join('\n')}`;
  execFileSync('unshare', ['--mount', 'sh', '-c', shell], { cwd: at, stdio: ['ignore', 'pipe', 'pipe'] });
}

async function capture(at: string): Promise<BundleContext> {
  const lowers = ['top', 'bottom'].map((name) => asHostPath(path.join(at, name)));
  const upper = asHostPath(path.join(at, 'upper'));
  const rootfs = { kind: 'overlay' as const, upper, lowers, userXattr: false };
  const bundle = bundleContext(path.join(at, 'out'), makeTarget({ rootfs, createdAt: '2025-01-01T00:00:00Z' }));
  await rootfsCollector.collect({ ...bundle.context, now: () => Date.now() });
  return bundle;
}

const linesOf = (bundle: BundleContext): Finding[] =>
  bundle
    .content('rootfs.findings.jsonl.zst')
    .toString()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => findingSchema.parse(JSON.parse(line)));
const sha256 = (text: string | Buffer): string => createHash('sha256').update(text).digest('hex');

let folder = '';
let bundle: BundleContext;
let findings: Finding[] = [];
beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-findings-'));
  if (obstacle !== undefined) return;
  overlay(path.join(folder, 'both'), 'redirect_dir=off,metacopy=off', INNOCENT, INTRUDER);
  bundle = await capture(path.join(folder, 'both'));
  findings = linesOf(bundle);
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const pathsOf = (kind: FindingKind): string[] =>
  findings
    .filter((one) => one.kind === kind)
    .map((one) => one.path)
    .sort();
const one = (kind: FindingKind, where: string): Finding | undefined =>
  findings.find((finding) => finding.kind === kind && finding.path === where);

/** Every file that is found as each kind: what the innocent user made is in none of them. */
const EXPECTED: Readonly<Record<FindingKind, string[]>> = {
  timestomped: ['etc/new.conf', 'etc/old.conf', 'etc/ssh/sshd_config'],
  'set-id': ['usr/bin/rootsh'],
  'file-capability': ['usr/bin/ping'],
  'executable-in-writable-place': ['dev/shm/dropper', 'srv/hot/up.so', 'tmp/.x/kworker'],
  'executable-not-in-image': ['dev/shm/dropper', 'srv/hot/up.so', 'tmp/.x/kworker', 'usr/bin/rootsh'],
  'system-file-changed': ['etc/pam.d/login', 'etc/passwd', 'etc/ssh/sshd_config'],
  persistence: ['etc/cron.d/sync', 'root/.ssh/authorized_keys'],
  'image-file-deleted': [
    'app/audit.log',
    'app/readme.txt',
    'opt/doc/a/one.txt',
    'opt/doc/a/two.txt',
    'opt/mod/deep/gone.txt',
    'opt/mod/gone.so',
    'srv/dir/in.txt',
  ],
  'same-size-edit': ['app/size.txt', 'etc/ssh/sshd_config'],
  'hidden-name': ['srv/...', 'tmp/.x'],
  'device-node': ['srv/sda'],
  'log-silenced': ['root/.bash_history', 'var/log/auth.log'],
};

describe('a container with an intruder and an innocent user', () => {
  test.for(Object.entries(EXPECTED))('is told of by %s, and only where it is so', ([kind, paths], { skip }) => {
    if (obstacle !== undefined) skip(obstacle);
    expect(pathsOf(kind as FindingKind)).toEqual(paths);
  });

  test('is captured without a gap, and counted', ({ skip }) => {
    if (obstacle !== undefined) skip(obstacle);
    expect(bundle.gaps).toEqual([]);
    const counts = Object.fromEntries(Object.entries(EXPECTED).map(([kind, paths]) => [kind, paths.length]));
    expect(bundle.facts.get('findings')).toEqual(counts);
  });
});

describe('the facts of a finding', () => {
  test('let a reader check it', ({ skip }) => {
    if (obstacle !== undefined) skip(obstacle);
    const upper = path.join(folder, 'both/upper');
    const stat = execFileSync('stat', ['-c', '%i %a %s', path.join(upper, 'usr/bin/rootsh')], { encoding: 'utf8' });
    const found = one('set-id', 'usr/bin/rootsh');
    expect(`${found?.inode} ${found?.mode} ${found?.sizeBytes}`).toBe(stat.trim());
    expect(found?.sha256).toBe(sha256(readFileSync(path.join(upper, 'usr/bin/rootsh'))));
    expect(one('timestomped', 'etc/old.conf')).toMatchObject({
      mtimeNs: '1500000000000000000',
      reasons: ['mtime-before-birth', 'whole-seconds', 'mtime-before-container'],
    });
    expect(one('file-capability', 'usr/bin/ping')?.capability).toBeDefined();
    expect(one('device-node', 'srv/sda')).toMatchObject({ deviceMajor: 8, deviceMinor: 0 });
    expect(one('log-silenced', 'root/.bash_history')?.linkPath).toBe('/dev/null');
  });

  test('say how a file of the image went', ({ skip }) => {
    if (obstacle !== undefined) skip(obstacle);
    const reasonOf = (where: string) => one('image-file-deleted', where)?.reasons[0];
    expect(['app/readme.txt', 'opt/doc/a/one.txt', 'opt/mod/gone.so', 'srv/dir/in.txt'].map(reasonOf)).toEqual([
      'by-whiteout',
      'with-directory',
      'directory-replaced',
      'replaced-by-other-type',
    ]);
  });
});

describe('the originals', () => {
  test('are what the image has, as GNU tar unpacks them', ({ skip }) => {
    if (obstacle !== undefined) skip(obstacle);
    const kept = findings.filter(({ original }) => original !== undefined);
    const unpacked = path.join(folder, 'unpacked');
    mkdirSync(unpacked);
    execFileSync('tar', ['-x', '-p', '-C', unpacked], { input: bundle.content('rootfs-originals.tar.zst') });
    expect([...new Set(kept.map(({ original }) => original))].sort()).toEqual(
      [
        ...EXPECTED['image-file-deleted'],
        'app/size.txt',
        'etc/pam.d/login',
        'etc/passwd',
        'etc/ssh/sshd_config',
        'var/log/auth.log',
      ].sort(),
    );
    for (const { original = '', lower } of kept) {
      const bytes = readFileSync(path.join(unpacked, original));
      expect(bytes).toEqual(readFileSync(path.join(folder, 'both/bottom', original)));
      expect(lower?.sha256, original).toBe(sha256(bytes));
    }
    const times = execFileSync('stat', ['-c', '%Y', path.join(unpacked, 'app/readme.txt')], { encoding: 'utf8' });
    expect(times.trim()).toBe('1700000000');
  });
});

test.for(['redirect_dir=on,metacopy=on', 'redirect_dir=off,metacopy=off'])(
  'an image that an innocent user works with has nothing to look at (%s)',
  async (options, { skip }) => {
    if (obstacle !== undefined) skip(obstacle);
    const at = path.join(folder, `innocent-${options.length}`);
    overlay(at, options, INNOCENT);
    const innocent = await capture(at);
    expect(linesOf(innocent)).toEqual([]);
    expect(existsSync(innocent.at('rootfs-originals.tar.zst'))).toBe(false);
    expect(innocent.gaps).toEqual([]);
  },
);

/** What python saw of a tree through the mount: rootfs-tree.py, `snapshot`. */
interface Seen {
  readonly kind: string;
  readonly mode: string;
  readonly sha256?: string;
}
const REGULAR = '0o100000';
const DEVICES = ['0o20000', '0o60000'];
const isSetId = ({ kind, mode }: Seen): boolean => {
  const bits = Number(mode);
  return kind === REGULAR && ((bits & 0o4000) !== 0 || (bits & 0o2010) === 0o2010);
};

/** As python shows bytes that are not UTF-8; in these trees that is 0xff alone. */
const shown = ({ path: text, pathBase64 }: Finding): string =>
  pathBase64 === undefined
    ? text
    : Buffer.from(pathBase64, 'base64')
        .toString('latin1')
        .split('\xff')
        .map((part) => Buffer.from(part, 'latin1').toString())
        .join(String.raw`\xff`);

test.for(
  ['redirect_dir=off,metacopy=off,index=off', 'redirect_dir=on,metacopy=on'].flatMap((options) =>
    [300, 400].map((seed) => ({ options, seed })),
  ),
)(
  'trees changed at random are told of as python sees them before and after ($options, $seed)',
  async (one, { skip }) => {
    if (obstacle !== undefined) skip(obstacle);
    const at = path.join(folder, `random-${one.options.length}-${one.seed}`);
    const tree = `python3 ${path.join(import.meta.dirname, 'rootfs-tree.py')}`;
    mkdirSync(at);
    const script = `set -e
    mkdir -p upper work merged lowers
    ${tree} lower top ${one.seed}; ${tree} lower bottom ${one.seed + 1}
    mount -t overlay overlay -o lowerdir=top:bottom lowers
    ${tree} snapshot lowers > before.json
    mount -t overlay overlay -o lowerdir=top:bottom,upperdir=upper,workdir=work,${one.options} merged
    ${tree} mutate merged ${one.seed + 2} 150
    ${tree} snapshot merged > after.json`;
    execFileSync('unshare', ['--mount', 'sh', '-c', script], { cwd: at, stdio: ['ignore', 'pipe', 'pipe'] });
    const read = (name: string) =>
      new Map(
        Object.entries(
          (JSON.parse(readFileSync(path.join(at, name), 'utf8')) as { entries: Record<string, Seen> }).entries,
        ),
      );
    const [before, after] = [read('before.json'), read('after.json')];
    const random = await capture(at);
    expect(random.gaps).toEqual([]);
    const told = (kind: FindingKind) =>
      linesOf(random)
        .filter((finding) => finding.kind === kind)
        .map(shown)
        .sort();
    const where = (tree: Map<string, Seen>, is: (name: string, seen: Seen) => boolean) =>
      [...tree]
        .filter(([name, seen]) => is(name, seen))
        .map(([name]) => name)
        .sort();
    expect(told('image-file-deleted')).not.toEqual([]);
    expect(told('image-file-deleted')).toEqual(
      where(before, (name, { kind }) => kind === REGULAR && after.get(name)?.kind !== REGULAR),
    );
    expect(told('set-id')).toEqual(
      where(after, (name, seen) => {
        const was = before.get(name);
        const had = was?.kind === REGULAR && Number(was.mode) === Number(seen.mode) && was.sha256 === seen.sha256;
        return isSetId(seen) && !had;
      }),
    );
    expect(told('device-node')).toEqual(where(after, (_, { kind }) => DEVICES.includes(kind)));
    expect(told('hidden-name')).toEqual(where(after, (name) => path.basename(name).includes('\n')));
  },
);

test('a whole package that is unpacked weighs less than one file with a false date', async ({ skip }) => {
  if (obstacle !== undefined) skip(obstacle);
  const at = path.join(folder, 'package');
  const unpack = `
import io, tarfile
b = io.BytesIO()
with tarfile.open(fileobj=b, mode='w') as t:
    for i in range(50):
        m = tarfile.TarInfo('opt/package/f%d' % i); m.mtime = 1_600_000_000; t.addfile(m)
b.seek(0)
tarfile.open(fileobj=b).extractall('.')`;
  overlay(at, 'redirect_dir=off', unpack);
  const stomped = linesOf(await capture(at)).filter(({ kind }) => kind === 'timestomped');
  expect(stomped).toHaveLength(50);
  for (const { severity, reasons } of stomped) {
    expect(severity).toBe('low');
    expect(reasons).toContain('among-many');
  }
});
