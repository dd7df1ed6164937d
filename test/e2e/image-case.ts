/** What the tests of `exhibit image` share: a container that was broken into, trees as python sees them, bundles. */
import { execFileSync } from 'node:child_process';
import { createReadStream, createWriteStream, readdirSync } from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import type { BaseImage } from '../../evidence/base-image.ts';
import { runCli, startAgent } from '../lab/agent.ts';
import type { LabDocker } from '../lab/docker.ts';
import type { LabNode } from '../lab/node.ts';
import { shell } from './readers.ts';

const TREE = path.join(import.meta.dirname, 'rootfs-tree.py');

/** In busybox and perl of the workload's image: every kind of change that a layer can hold. */
export const BREAK_IN = [
  'echo evil > /tmp/dropped && chown 12345:6789 /tmp/dropped && chmod 4711 /tmp/dropped',
  'echo "upstream = 203.0.113.7" >> /app/config.ini',
  'rm /app/readme.txt',
  'rm -r /app/static && mkdir /app/static && echo again > /app/static/new.html',
  'ln -s /etc/passwd /tmp/link && ln /tmp/dropped /tmp/second && mkfifo /tmp/pipe',
  'mkdir -p "/var/a b/c" && echo x > "/var/a b/c/$(printf "\\001\\302\\240n")"',
  'touch -d @1580608922 /app/server.sh && chmod 600 /app/audit.log',
].join(' && ');

const treeSchema = z.object({
  entries: z.record(
    z.string(),
    z.object({
      kind: z.string(),
      mode: z.string(),
      owner: z.array(z.number()),
      mtime: z.string(),
      link: z.string().optional(),
      sha256: z.string().optional(),
      device: z.array(z.number()).optional(),
      xattrs: z.record(z.string(), z.string()),
    }),
  ),
  links: z.array(z.array(z.string())),
});

/**
 * Every file below `root` with digest, mode, owner, time, target and attributes, and which are one inode. Times of folders are
 * left out: whoever starts a container makes mount points in some. `/dev` likewise: it is the runtime's.
 */
export function treeOf(root: string): z.output<typeof treeSchema> {
  const text = execFileSync('python3', [TREE, 'snapshot', root], { encoding: 'utf8', maxBuffer: 256 * 1024 * 1024 });
  const { entries, links } = treeSchema.parse(JSON.parse(text));
  const kept = Object.entries(entries).filter(([name]) => !name.startsWith('dev/'));
  const timed = kept.map(([name, one]) => [name, one.kind === '0o40000' ? { ...one, mtime: '0' } : one] as const);
  return { entries: Object.fromEntries(timed), links };
}

export interface Taken {
  readonly bundle: string;
  /** What `spec` says of the layers. */
  readonly image: BaseImage;
}

/** Captures `target` with an agent of its own that keeps its evidence in `folder`. */
export async function capture(
  node: LabNode | LabDocker,
  folder: string,
  target: string,
  runtime: Record<string, unknown> = {},
  artifacts = 'rootfs,image,spec',
): Promise<Taken> {
  await using agent = await startAgent(node, { config: { runtime, sink: { url: `file://${folder}` } } });
  const { code, stderr } = await agent.exhibit('capture', target, '--artifacts', artifacts);
  if (code !== 0) throw new Error(`${stderr}${agent.log()}`);
  const base = path.join(folder, 'lab', node.hostname);
  const bundle = path.join(base, readdirSync(base).sort().at(-1) ?? 'none');
  const record = shell('zstd -dc "$1" | tar -xO image.json', path.join(bundle, 'spec.tar.zst'));
  return { bundle, image: JSON.parse(record) as BaseImage };
}

/** `exhibit image`, which must work; the tar's path. */
export async function exported(bundle: string, file: string, ...more: string[]): Promise<string> {
  const { code, stdout, stderr } = await runCli(['image', bundle, file, ...more]);
  if (code !== 0) throw new Error(stdout + stderr);
  return file;
}

/** Copies a file into a lab machine's /tmp; its path there. */
export async function send({ hostRoot }: { readonly hostRoot: string }, file: string): Promise<string> {
  const inside = `/tmp/${path.basename(file)}`;
  await pipeline(createReadStream(file), createWriteStream(path.join(hostRoot, inside)));
  return inside;
}

/** Runs a program on a lab machine, which must work. */
export async function must(node: Pick<LabNode, 'exec'>, ...argv: string[]): Promise<string> {
  const { code, stdout, stderr } = await node.exec(argv);
  if (code !== 0) throw new Error(`${argv.join(' ')}: ${stderr}${stdout.toString()}`);
  return stdout.toString();
}
