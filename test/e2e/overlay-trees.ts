/** Trees that are changed through a real overlay mount, and what exhibit takes of them. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { rootfsCollector } from '../../agent/collect/rootfs.ts';
import { asHostPath } from '../../agent/runtime/runtime.ts';
import { inventoryLineSchema } from '../../evidence/inventory.ts';
import { type BundleContext, bundleContext, makeTarget } from '../unit/collect/bundle-context.ts';

const TREE = path.join(import.meta.dirname, 'rootfs-tree.py');

/** Why no overlay can be mounted here, in words for a skipped test. */
export const overlayObstacle =
  process.platform !== 'linux' || process.getuid?.() !== 0
    ? 'needs Linux and root: overlayfs is mounted'
    : !existsSync('/usr/bin/unshare') || !existsSync('/usr/bin/python3')
      ? 'needs unshare and python3'
      : undefined;

/** A command of rootfs-tree.py, which has no line of exhibit's. */
export const treeProgram = (...argv: string[]): string =>
  execFileSync('python3', [TREE, ...argv], { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });

/** How the tree is changed: at random from a seed, or with everything that goes wrong elsewhere. */
export type Mutation = { kind: 'random'; seed: number } | { kind: 'hostile' };

/**
 * In the folder `at`: lower layers `top` and `bottom`, `base` with both merged, `upper` as the mount left it, and
 * `merged.json`, the kernel's own merged view of them. The mounts end with a mount namespace of their own.
 */
export function changedOverlay(at: string, mutation: Mutation, options: string): void {
  const seed = mutation.kind === 'random' ? mutation.seed : 4242;
  const mutate = mutation.kind === 'random' ? `mutate merged ${seed + 2} 150` : 'hostile $PWD/merged';
  const script = `
    set -e
    mkdir -p upper work merged lowers base
    python3 ${TREE} lower top ${seed}; python3 ${TREE} lower bottom ${seed + 1}
    mount -t overlay overlay -o lowerdir=top:bottom lowers
    cp -a --preserve=all lowers/. base
    mount -t overlay overlay -o lowerdir=top:bottom,upperdir=upper,workdir=work,${options} merged
    python3 ${TREE} ${mutate}
    python3 ${TREE} snapshot merged > merged.json
  `;
  execFileSync('mkdir', ['-p', at]);
  execFileSync('unshare', ['--mount', 'sh', '-c', script], { cwd: at, stdio: ['ignore', 'pipe', 'pipe'] });
}

export interface View {
  readonly entries: Readonly<Record<string, ViewEntry>>;
  /** Names of one inode. */
  readonly links: readonly (readonly string[])[];
}

export interface ViewEntry {
  readonly mtime: string;
  readonly xattrs: Readonly<Record<string, string>>;
}

/** The kernel's merged view. */
export const mergedView = (at: string): View => JSON.parse(readFileSync(path.join(at, 'merged.json'), 'utf8')) as View;

/** What is mounted or unpacked in a folder. */
export const viewOf = (folder: string): View => JSON.parse(treeProgram('snapshot', folder)) as View;

/** The artifact; `layer.tar` is left in the folder as well. */
export async function captureOverlay(at: string, userXattr = false): Promise<BundleContext> {
  const lowers = ['top', 'bottom'].map((name) => asHostPath(path.join(at, name)));
  const rootfs = { kind: 'overlay' as const, upper: asHostPath(path.join(at, 'upper')), lowers, userXattr };
  const bundle = bundleContext(path.join(at, 'out'), makeTarget({ rootfs }));
  await rootfsCollector.collect(bundle.context);
  writeFileSync(path.join(at, 'layer.tar'), bundle.content('rootfs.tar.zst'));
  return bundle;
}

export const inventoryOf = (bundle: BundleContext) =>
  bundle
    .content('rootfs.inventory.jsonl.zst')
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => inventoryLineSchema.parse(JSON.parse(line)));
