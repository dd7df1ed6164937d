/**
 * The image that puts criu on nodes, built from its Dockerfile by a real Docker with a Debian mirror in reach. No registry is: a
 * debootstrapped Debian of the same release stands in for the base, and the mirror of the day for the archive of a day.
 */
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { criuBase, criuImage } from './cache.mjs';
import { type LabDocker, startDocker } from './docker.ts';
import { run } from './machine.ts';
import { MANIFESTS } from './manifests.ts';
import { labObstacle } from './requires.ts';

const CONTEXT = join(MANIFESTS, 'components/criu-host');

const BASE = 'lab.exhibit/debian:trixie';

/** Name and tag, as the manifests have it. */
export const CRIU_IMAGE = 'exhibit-criu:4.2.1';

/** Compiling takes half a minute of CPU; the mirror and other work on two cores are what the rest is for. */
const BUILD_TIMEOUT_MS = 600_000;

const dockerfile = readFileSync(join(CONTEXT, 'Dockerfile'), 'utf8');

/** The Dockerfile's own words: `ARG NAME=VALUE`. */
export function argumentOf(name: string): string {
  const value = new RegExp(`^ARG ${name}=(.+)$`, 'm').exec(dockerfile)?.[1];
  if (value === undefined) throw new Error(`the Dockerfile has no ARG ${name} with a value`);
  return value;
}

/** What debootstrap wrote names the mirror that works here. */
const mirror = (): string => readFileSync(join(criuBase(), 'etc/apt/sources.list'), 'utf8').split(' ')[1] ?? '';

/** Why the image cannot be had here, in words for a skipped test; undefined when it can. */
export const criuImageObstacle = (): string | undefined =>
  labObstacle() ??
  (existsSync(criuImage()) ? undefined : `needs ${criuImage()}: run node test/lab/setup.mjs tools as root`);

/** As a reader of the Dockerfile would, but for the names of the base and of the mirror. */
async function buildCriuImage(docker: LabDocker): Promise<string> {
  for (const name of ['resolv.conf', 'hosts']) cpSync(`/etc/${name}`, join(docker.hostRoot, 'etc', name));
  const base = join(docker.hostRoot, 'tmp/base.tar');
  await run('tar', ['-C', criuBase(), '-cf', base, '--numeric-owner', '.']);
  await docker.docker('import', '/tmp/base.tar', BASE);
  rmSync(base);
  cpSync(CONTEXT, join(docker.hostRoot, 'tmp/context'), { recursive: true });
  const { http_proxy: proxy } = process.env;
  const values = [`DEBIAN_IMAGE=${BASE}`, `DEBIAN_MIRROR=${mirror()}`, ...(proxy ? [`http_proxy=${proxy}`] : [])];
  const { code, stdout, stderr } = await docker.exec(
    [
      ...['docker', 'build', '--network=host', '--tag', CRIU_IMAGE],
      ...values.flatMap((value) => ['--build-arg', value]),
      '/tmp/context',
    ],
    { env: { DOCKER_BUILDKIT: '0' }, timeoutMs: BUILD_TIMEOUT_MS },
  );
  const log = `${stdout.toString()}${stderr}`;
  if (code !== 0) throw new Error(`docker build fails:\n${log}`);
  return log;
}

/** Unpacks the layers of the image, one over the other, below `folder`; where they are. */
export async function unpackCriuImage(folder: string): Promise<string> {
  const [saved, root] = [join(folder, 'saved'), join(folder, 'image')];
  for (const one of [saved, root]) mkdirSync(one);
  await run('tar', ['-xf', criuImage(), '-C', saved]);
  const list = JSON.parse(readFileSync(join(saved, 'manifest.json'), 'utf8')) as [{ Layers: string[] }];
  for (const layer of list[0].Layers) await run('tar', ['-xf', join(saved, layer), '-C', root]);
  return root;
}

/** Builds the image and keeps what `docker save` writes of it, for tests that find it there. */
async function build(): Promise<void> {
  await using docker = await startDocker({ hostname: 'lab-build', ownNetwork: false });
  await buildCriuImage(docker);
  await docker.docker('save', '--output', '/tmp/criu.tar', CRIU_IMAGE);
  const partial = `${criuImage()}.partial-${process.pid}`;
  await copyFile(join(docker.hostRoot, 'tmp/criu.tar'), partial);
  renameSync(partial, criuImage());
}

if (import.meta.main) await build();
