/**
 * The image that puts criu on nodes, built from its Dockerfile by a real Docker with a Debian mirror in reach. No registry is: a
 * debootstrapped Debian of the same release stands in for the base, and the mirror of the day for the archive of a day.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { cacheFolder, criuBase } from './cache.mjs';
import { type LabDocker, startDocker } from './docker.ts';
import { run } from './machine.ts';
import { MANIFESTS } from './manifests.ts';
import { dockerObstacle } from './requires.ts';

const CONTEXT = join(MANIFESTS, 'components/criu-host');

const BASE = 'lab.exhibit/debian:trixie';

/** Name and tag, as the manifests have it. */
export const CRIU_IMAGE = 'exhibit-criu:4.2.1';

/** Compiling takes half a minute of CPU; the mirror and other work on two cores are what the rest is for. */
const BUILD_TIMEOUT_MS = 600_000;

/** A mirror that does not answer at all. */
const PROBE_TIMEOUT_S = 20;

const dockerfile = readFileSync(join(CONTEXT, 'Dockerfile'), 'utf8');

/** The Dockerfile's own words: `ARG NAME=VALUE`. */
export function argumentOf(name: string): string {
  const value = new RegExp(`^ARG ${name}=(.+)$`, 'm').exec(dockerfile)?.[1];
  if (value === undefined) throw new Error(`the Dockerfile has no ARG ${name} with a value`);
  return value;
}

/** What debootstrap wrote names the mirror that works here. */
const mirror = (): string => readFileSync(join(criuBase(), 'etc/apt/sources.list'), 'utf8').split(' ')[1] ?? '';

const cachedTar = (): string => {
  const hash = createHash('sha256').update(basename(criuBase()));
  for (const name of readdirSync(CONTEXT).sort()) hash.update(`${name}\0`).update(readFileSync(join(CONTEXT, name)));
  return join(cacheFolder(), `exhibit-criu-image-${hash.digest('hex').slice(0, 12)}.tar`);
};

/** Why the image cannot be had here, in words for a skipped test; undefined when it can. Asks the mirror where it is to be built. */
export async function criuImageObstacle(): Promise<string | undefined> {
  const obstacle = dockerObstacle();
  if (obstacle !== undefined) return obstacle;
  if (!existsSync(criuBase())) return `needs ${criuBase()}: run node test/lab/setup.mjs tools as root`;
  if (existsSync(cachedTar())) return undefined;
  const source = `${mirror()}/pool/main/c/criu/criu_${argumentOf('CRIU')}.orig.tar.xz`;
  const found = await promisify(execFile)('curl', ['-sSfI', '-m', `${PROBE_TIMEOUT_S}`, source]).catch(String);
  return typeof found === 'string' ? `needs ${source}, which the Dockerfile fetches: ${found}` : undefined;
}

/** Builds the image unless one of the same files is in the cache; what `docker save` wrote. */
export async function criuImage(): Promise<string> {
  const tar = cachedTar();
  if (existsSync(tar)) return tar;
  await using docker = await startDocker({ hostname: 'lab-build', ownNetwork: false });
  await buildCriuImage(docker);
  await docker.docker('save', '--output', '/tmp/criu.tar', CRIU_IMAGE);
  const partial = `${tar}.partial-${process.pid}`;
  await copyFile(join(docker.hostRoot, 'tmp/criu.tar'), partial);
  renameSync(partial, tar);
  return tar;
}

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
  await run('tar', ['-xf', await criuImage(), '-C', saved]);
  const list = JSON.parse(readFileSync(join(saved, 'manifest.json'), 'utf8')) as [{ Layers: string[] }];
  for (const layer of list[0].Layers) await run('tar', ['-xf', join(saved, layer), '-C', root]);
  return root;
}
