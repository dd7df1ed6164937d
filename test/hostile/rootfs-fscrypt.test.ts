import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';

const obstacle =
  process.getuid?.() !== 0
    ? 'needs root: a file system is mounted'
    : !existsSync('/sys/fs/ext4/features/encryption')
      ? 'needs an ext4 in the kernel that knows fscrypt'
      : !existsSync('/usr/sbin/mkfs.ext4') && !existsSync('/sbin/mkfs.ext4')
        ? 'needs mkfs.ext4 (Debian’s e2fsprogs)'
        : !existsSync('/dev/loop-control')
          ? 'needs loop devices'
          : undefined;

test('files that fscrypt keeps locked are gaps with the kernel’s reason, and everything else of them is listed', ({
  skip,
}) => {
  if (obstacle !== undefined) skip(obstacle);
  const root = mkdtempSync(path.join(tmpdir(), 'exhibit-fscrypt-'));
  try {
    const here = process.cwd();
    writeFileSync(
      path.join(root, 'run.ts'),
      `import { bundleContext, makeTarget } from '${here}/test/unit/collect/bundle-context.ts';
import { rootfsCollector } from '${here}/agent/collect/rootfs.ts';
const rootfs = { kind: 'overlay', upper: '${root}/mnt', lowers: ['${root}/lower'], userXattr: false };
const bundle = bundleContext('${root}/out', makeTarget({ rootfs }));
await rootfsCollector.collect(bundle.context);
const inventory = bundle.content('rootfs.inventory.jsonl.zst').toString().trimEnd().split('\\n').map((line) => JSON.parse(line));
console.log(JSON.stringify({ gaps: bundle.gaps, inventory }));`,
    );
    // The mount ends with its namespace, and the loop device with the mount.
    const script = `set -e
      mkdir mnt lower
      truncate -s 16M image
      mkfs.ext4 -q -O encrypt image
      mount -o loop image mnt
      rmdir mnt/lost+found
      python3 ${here}/test/hostile/locked-folder.py mnt
      umount mnt
      mount -o loop image mnt
      ${process.execPath} run.ts`;
    const { gaps, inventory } = JSON.parse(
      execFileSync('unshare', ['--mount', 'sh', '-c', script], { cwd: root, encoding: 'utf8' }),
    ) as { gaps: Array<{ what: string; errno?: string; why: string }>; inventory: Array<Record<string, unknown>> };
    expect(gaps.map(({ errno }) => errno)).toEqual(['ENOKEY', 'ENOKEY']);
    for (const { what } of gaps) expect(what).toMatch(/^locked\/./);
    const locked = inventory.filter(({ gap }) => gap !== undefined);
    expect(locked).toMatchObject([
      { inArchive: false, sizeBytes: 22, nlink: 1 },
      { inArchive: false, sizeBytes: 22, nlink: 1 },
    ]);
    expect(inventory.map(({ type }) => type).sort()).toEqual([
      'directory',
      'directory',
      'directory',
      'file',
      'file',
      'file',
    ]);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
