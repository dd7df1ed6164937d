/**
 * The project's own container image, built from its Dockerfile by a real Docker. No registry is reachable in the lab, so the base
 * images are made of this machine's Debian packages and Node (setup.mjs) and imported; the Dockerfile's arguments name them. The
 * base of the build stage brings a cache of npm, in place of the network.
 */
import { createHash } from 'node:crypto';
import { cpSync, existsSync, globSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { copyFile, link, mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheFolder, imageParts, labRoot, NODE_VERSION } from './cache.mjs';
import { type LabDocker, startDocker } from './docker.ts';
import { run } from './machine.ts';
import { dockerObstacle, type Skippable } from './requires.ts';

const PROJECT = fileURLToPath(new URL('../..', import.meta.url));

/** What the Dockerfile reads: an image is built again when any of it has changed. */
const CONTEXT =
  '{Dockerfile,.dockerignore,LICENSE,package.json,package-lock.json,{agent,cli,controller,evidence,proto,manifests/base,container-image}/**/*}';

/** Raise when this file makes other base images of the same parts. */
const BASES_VERSION = 1;

const BUILD_BASE = 'lab.exhibit/node:24';
const RUNTIME_BASE = 'lab.exhibit/distroless-nodejs:24';

/** Name and tag, as the manifests have it. */
export const EXHIBIT_IMAGE = 'exhibit:0.2.0';

export interface ExhibitImage {
  reference: typeof EXHIBIT_IMAGE;
  /** What `docker save` wrote: an OCI layout that `docker load` and `ctr images import` take. */
  tar: string;
}

/** Why the image cannot be built here, in words for a skipped test; undefined when it can. */
export function imageObstacle(): string | undefined {
  const missing = existsSync(imageParts()) ? undefined : imageParts();
  return (
    dockerObstacle() ??
    (missing === undefined ? undefined : `needs ${missing}: run node test/lab/setup.mjs tools as root`)
  );
}

/** Skips the test, with the reason, where the image cannot be built. */
export function requireExhibitImage(context: Skippable): void {
  const reason = imageObstacle();
  if (reason !== undefined) context.skip(reason);
}

/** Builds the image unless one of the same content is in the cache, which takes half a minute. */
export async function exhibitImage(): Promise<ExhibitImage> {
  const tar = join(cacheFolder(), `exhibit-image-${contentDigest()}.tar`);
  if (!existsSync(tar)) {
    await using docker = await startDocker({ hostname: 'lab-build' });
    await buildExhibitImage(docker);
    await docker.docker('save', '--output', '/tmp/exhibit.tar', EXHIBIT_IMAGE);
    const partial = `${tar}.partial-${process.pid}`;
    await copyFile(join(docker.hostRoot, 'tmp/exhibit.tar'), partial);
    renameSync(partial, tar);
  }
  return { reference: EXHIBIT_IMAGE, tar };
}

function contentDigest(): string {
  const hash = createHash('sha256');
  hash.update(JSON.stringify([BASES_VERSION, NODE_VERSION, process.version, basename(imageParts())]));
  for (const entry of globSync(CONTEXT, { cwd: PROJECT, withFileTypes: true })
    .map((one) => join(one.parentPath, one.name))
    .sort()) {
    hash.update(`${entry.slice(PROJECT.length)}\0`);
    const content = readIfFile(entry);
    if (content !== undefined) hash.update(content);
  }
  return hash.digest('hex').slice(0, 12);
}

function readIfFile(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EISDIR') return undefined;
    throw error;
  }
}

/** Imports the base images and runs `docker build` as a reader of the Dockerfile would, but for the names of the bases. */
export async function buildExhibitImage(docker: LabDocker, buildArguments: readonly string[] = []): Promise<string> {
  await importBases(docker);
  const context = join(docker.hostRoot, 'tmp/context');
  cpSync(PROJECT, context, {
    recursive: true,
    filter: (path) => !/^(node_modules|\.git|out)$/.test(path.slice(PROJECT.length)),
  });
  const { code, stdout, stderr } = await docker.exec(
    [
      'docker',
      'build',
      '--network=none',
      '--tag',
      EXHIBIT_IMAGE,
      '--build-arg',
      `BUILD_IMAGE=${BUILD_BASE}`,
      '--build-arg',
      `RUNTIME_IMAGE=${RUNTIME_BASE}`,
      ...buildArguments.flatMap((one) => ['--build-arg', one]),
      '/tmp/context',
    ],
    { env: { DOCKER_BUILDKIT: '0' }, timeoutMs: 300_000 },
  );
  rmSync(context, { recursive: true });
  const log = `${stdout.toString()}${stderr}`;
  if (code !== 0) throw new Error(`docker build fails:\n${log}`);
  return log;
}

async function importBases(docker: LabDocker): Promise<void> {
  const bases = join(docker.hostRoot, 'tmp/bases');
  await makeRuntime(join(bases, 'runtime'));
  await makeBuild(join(bases, 'build'));
  const imports = [
    [
      'runtime',
      RUNTIME_BASE,
      'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      'ENTRYPOINT ["/nodejs/bin/node"]',
    ],
    ['build', BUILD_BASE, 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'CMD ["node"]'],
  ] as const;
  for (const [name, tag, ...changes] of imports) {
    await run('tar', [
      '-C',
      join(bases, name),
      '-cf',
      join(bases, `${name}.tar`),
      '--owner=0',
      '--group=0',
      '--numeric-owner',
      '.',
    ]);
    await docker.docker('import', ...changes.flatMap((one) => ['--change', one]), `/tmp/bases/${name}.tar`, tag);
  }
  rmSync(bases, { recursive: true });
}

/** As near to distroless as Debian's packages and a Node of this machine come. No shell. */
async function makeRuntime(root: string): Promise<void> {
  cpSync(join(imageParts(), 'runtime'), root, { recursive: true, verbatimSymlinks: true });
  await mkdir(join(root, 'nodejs/bin'), { recursive: true });
  await copyFile(process.execPath, join(root, 'nodejs/bin/node'));
  for (const name of ['tmp', 'root', 'proc', 'sys', 'dev', 'run']) await mkdir(join(root, name), { recursive: true });
}

/** The same with Node and npm where the official image has them, busybox for a shell, and what npm would fetch. */
async function makeBuild(root: string): Promise<void> {
  await makeRuntime(root);
  for (const name of ['usr/local/bin', 'usr/local/lib', 'usr/local/etc', 'bin', 'usr/bin'])
    mkdirSync(join(root, name), { recursive: true });
  await link(join(root, 'nodejs/bin/node'), join(root, 'usr/local/bin/node'));
  rmSync(join(root, 'nodejs'), { recursive: true });
  cpSync(join(imageParts(), 'npm/node_modules'), join(root, 'usr/local/lib/node_modules'), { recursive: true });
  cpSync(join(imageParts(), 'cache'), join(root, 'opt/npm-cache'), { recursive: true });
  writeFileSync(join(root, 'usr/local/etc/npmrc'), 'offline=true\ncache=/opt/npm-cache\n');
  await run('ln', ['-s', '../lib/node_modules/npm/bin/npm-cli.js', join(root, 'usr/local/bin/npm')]);
  await copyFile(join(labRoot(), 'usr/bin/busybox'), join(root, 'bin/busybox'));
  await run('ln', ['-s', 'busybox', join(root, 'bin/sh')]);
  await run('ln', ['-s', '/bin/busybox', join(root, 'usr/bin/env')]);
}
