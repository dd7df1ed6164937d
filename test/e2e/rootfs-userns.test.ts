import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { rootfsCollector } from '../../agent/collect/rootfs.ts';
import { asHostPath, type SpecDocument } from '../../agent/runtime/runtime.ts';
import { findingSchema } from '../../evidence/file-finding.ts';
import { type InventoryLine, inventoryLineSchema } from '../../evidence/inventory.ts';
import { type BundleContext, bundleContext, makeTarget, TARGET_RECORD } from '../unit/collect/bundle-context.ts';

/** A process in a real user namespace works on a real overlay whose image was copied for it, as without id-mapped mounts. */

const SHIFT = 131_072;
const obstacle =
  process.platform !== 'linux' || process.getuid?.() !== 0
    ? 'needs Linux and root: a user namespace of other users is made'
    : !existsSync('/proc/self/ns/user') || !existsSync('/usr/bin/unshare')
      ? 'needs user namespaces and unshare'
      : undefined;

/** The first argument is the folder. Prints the pid of the process in the namespace when it has done its work, and waits. */
const SCRIPT = String.raw`
import ctypes, os, struct, sys
os.chdir(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    libc.prctl(1, 9)
    if libc.unshare(0x10000000) != 0: os._exit(3)
    os.write(ready[1], b'x'); os.read(go[0], 1)
    os.setgroups([]); os.setresgid(0, 0, 0); os.setresuid(0, 0, 0)
    open('new', 'w').write('#!/bin/sh\n'); os.chown('new', 1000, 100); os.chmod('new', 0o755)
    entry = lambda tag, perm, id: struct.pack('<HHI', tag, perm, id)
    none = 0xffffffff
    acl = struct.pack('<I', 2) + entry(1, 6, none) + entry(2, 4, 1000) + entry(4, 4, none) + entry(8, 6, 50) + entry(16, 6, none) + entry(32, 4, none)
    os.setxattr('new', 'system.posix_acl_access', acl)
    os.setxattr('new', 'security.capability', bytes.fromhex('0100000200200000000000000000000000000000'))
    os.chmod('bin/tool', 0o755); os.utime('bin/tool')
    open('etc', 'a').write('more')
    os.write(ready[1], b'x'); os.read(0, 1); os._exit(0)
os.read(ready[0], 1)
for name in ('uid_map', 'gid_map'): open('/proc/%d/%s' % (child, name), 'w').write('0 ${SHIFT} 65536')
os.write(go[1], b'x'); os.read(ready[0], 1)
print(child, flush=True)
os.waitpid(child, 0)
`;

let folder = '';
let worker: ChildProcessWithoutNullStreams | undefined;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-userns-'));
  execFileSync('chmod', ['755', folder]);
});
afterEach(async () => {
  await end();
  rmSync(folder, { recursive: true, force: true });
});

async function end(): Promise<void> {
  const running = worker;
  worker = undefined;
  if (running === undefined) return;
  running.stdin.end();
  if (running.exitCode === null) await new Promise((resolve) => running.once('close', resolve));
}

/** Returns the pid of a process in the namespace that has changed the overlay. */
async function work(): Promise<number> {
  const setup = `set -e
    mkdir -p lower/bin upper work merged; printf image > lower/bin/tool; chmod 755 lower/bin/tool; echo etc > lower/etc
    chown -R ${SHIFT}:${SHIFT} lower upper
    mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged
    exec python3 -c "$1" merged`;
  const running = spawn('unshare', ['--mount', 'sh', '-c', setup, 'sh', SCRIPT], { cwd: folder });
  worker = running;
  let errors = '';
  running.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString();
  });
  return await new Promise((resolve, reject) => {
    running.stdout.once('data', (chunk: Buffer) => resolve(Number(chunk.toString())));
    running.once('close', () => reject(new Error(errors)));
  });
}

async function capture(pid: number, documents: SpecDocument[] = []): Promise<BundleContext> {
  const lowers = [asHostPath(path.join(folder, 'lower'))];
  const upper = asHostPath(path.join(folder, 'upper'));
  const rootfs = { kind: 'overlay' as const, upper, lowers, userXattr: false };
  const record = { ...TARGET_RECORD, initPid: pid, pids: [pid] };
  mkdirSync(path.join(folder, 'out'), { recursive: true });
  const bundle = bundleContext(path.join(folder, 'out'), makeTarget({ record, rootfs, documents }));
  await rootfsCollector.collect(bundle.context);
  return bundle;
}

const inventory = (bundle: BundleContext): Map<string, InventoryLine> =>
  new Map(
    bundle
      .content('rootfs.inventory.jsonl.zst')
      .toString()
      .trimEnd()
      .split('\n')
      .map((line) => inventoryLineSchema.parse(JSON.parse(line)))
      .map((line) => [line.path, line]),
  );

test('owners and ACLs are the container’s own, the node’s stand beside them, capabilities stay as they are stored', async ({
  skip,
}) => {
  if (obstacle !== undefined) skip(obstacle);
  const bundle = await capture(await work());
  expect(bundle.gaps).toEqual([]);
  const made = inventory(bundle).get('new');
  expect(made).toMatchObject({ uid: 1000, gid: 100, hostUid: SHIFT + 1000, hostGid: SHIFT + 100 });
  const acl = Buffer.from(made?.xattrs?.['system.posix_acl_access'] ?? '', 'base64');
  expect([acl.readUInt32LE(4 + 8 + 4), acl.readUInt32LE(4 + 3 * 8 + 4)]).toEqual([1000, 50]);
  // struct vfs_ns_cap_data: revision 3, with the id of the namespace's root at its end.
  const capability = Buffer.from(made?.xattrs?.['security.capability'] ?? '', 'base64');
  expect([capability.readUInt32LE(0) >>> 24, capability.readUInt32LE(20)]).toEqual([3, SHIFT]);
  const verbose = execFileSync('tar', ['-tv', '--numeric-owner'], { input: bundle.content('rootfs.tar.zst') });
  expect(verbose.toString()).toMatch(/1000\/100 .* new$/m);
});

test('what was only touched is not taken for another owner’s, and what was changed is told', async ({ skip }) => {
  if (obstacle !== undefined) skip(obstacle);
  const bundle = await capture(await work());
  expect(inventory(bundle).get('bin/tool')).toMatchObject({ change: 'metadata', uid: 0, lower: { uid: 0 } });
  expect(inventory(bundle).get('etc')).toMatchObject({ change: 'modified', uid: 0, hostUid: SHIFT });
  const kinds = bundle
    .content('rootfs.findings.jsonl.zst')
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => findingSchema.parse(JSON.parse(line)))
    .map(({ kind, path: where }) => `${kind} ${where}`);
  expect(kinds).toEqual(['file-capability new', 'executable-not-in-image new']);
});

test('a container that is gone has its ids from its spec, or is a gap', async ({ skip }) => {
  if (obstacle !== undefined) skip(obstacle);
  const pid = await work();
  await end();
  const mapping = [{ containerID: 0, hostID: SHIFT, size: 65_536 }];
  const bytes = Buffer.from(JSON.stringify({ linux: { uidMappings: mapping, gidMappings: mapping } }));
  const known = await capture(pid, [{ name: 'oci-spec.json', bytes }]);
  expect(inventory(known).get('new')).toMatchObject({ uid: 1000, hostUid: SHIFT + 1000 });
  expect(known.gaps).toEqual([]);
  const unknown = await capture(pid);
  expect(inventory(unknown).get('new')).toMatchObject({ uid: SHIFT + 1000 });
  expect(unknown.gaps).toMatchObject([{ what: 'user namespace', errno: 'ENOENT' }]);
});
