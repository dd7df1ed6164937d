/** Tells whether this machine can run the real parts, so that a test that needs them is skipped with the reason. */
import { existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { dockerRoot, labRoot, oldRoot, s3Root } from './cache.mjs';
import { netsObstacle } from './nets.ts';
import type { Release } from './node.ts';

/** The part of vitest's test context that is needed here. */
export interface Skippable {
  skip(note?: string): never;
}

/** Programs of the machine itself that boot a lab machine. */
const PROGRAMS = ['setpriv', 'unshare', 'nsenter', 'mount', 'pivot_root'];

const FOLDERS = ['/usr/sbin', '/usr/bin', '/sbin', '/bin', ...(process.env.PATH ?? '').split(delimiter)];

const kernelHas = (fileSystem: string): boolean =>
  new RegExp(`\\t${fileSystem}$`, 'm').test(readFileSync('/proc/filesystems', 'utf8'));

/** CapEff of proc(5) status must have CAP_SYS_ADMIN (21): root in an unprivileged container does not. */
function mayMount(): boolean {
  const capabilities = /^CapEff:\s+([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0';
  return ((BigInt(`0x${capabilities}`) >> 21n) & 1n) === 1n;
}

/** Why no lab machine can run here over `root`, or undefined. */
function obstacle(root: string, part: string): string | undefined {
  if (process.platform !== 'linux') return `needs Linux: this is ${process.platform}`;
  if (process.getuid?.() !== 0) return `needs root: ${part} runs in mount and pid namespaces`;
  if (!mayMount()) return `needs CAP_SYS_ADMIN: ${part} runs in mount and pid namespaces`;
  const missing = PROGRAMS.find((program) => !FOLDERS.some((folder) => existsSync(join(folder, program))));
  if (missing !== undefined) return `needs ${missing} (Debian's util-linux)`;
  if (!kernelHas('overlay')) return 'needs overlayfs in the kernel';
  if (!existsSync(root)) return `needs ${root}: run node test/lab/setup.mjs tools as root`;
  return undefined;
}

/** Why no containerd node can be started here, in words for a skipped test; undefined when it can. */
export const labObstacle = (): string | undefined =>
  obstacle(labRoot(), 'the containerd node') ?? (kernelHas('cgroup2') ? undefined : 'needs cgroup v2 in the kernel');

/** Why no Docker node can be started here. */
export const dockerObstacle = (): string | undefined => labObstacle() ?? obstacle(dockerRoot(), 'the Docker node');

/** Why no node with containerd 1.6 can be started here. */
export const oldObstacle = (): string | undefined => labObstacle() ?? obstacle(oldRoot(), 'the containerd node');

/** The same for a node of either release. */
export const nodeObstacle = (release: Release = '2.1'): string | undefined =>
  release === '1.6' ? oldObstacle() : labObstacle();

/** Why no S3 server can be started here. */
export const s3Obstacle = (): string | undefined => obstacle(s3Root(), 'the S3 server');

/** Skips the test, with the reason, where no containerd node can be started. */
export function requireLab(context: Skippable): void {
  const reason = labObstacle();
  if (reason !== undefined) context.skip(reason);
}

/** Skips the test, with the reason, where no Docker node can be started. */
export function requireDocker(context: Skippable): void {
  const reason = dockerObstacle();
  if (reason !== undefined) context.skip(reason);
}

/** Skips the test, with the reason, where no S3 server can be started. */
export function requireS3(context: Skippable): void {
  const reason = s3Obstacle();
  if (reason !== undefined) context.skip(reason);
}

/** Skips the test, with the reason, where no network namespaces can be made. */
export function requireNets(context: Skippable): void {
  const reason = netsObstacle();
  if (reason !== undefined) context.skip(reason);
}
