/**
 * The lab's container images, written as OCI layout tars (OCI image-spec 1.1) that `ctr images import` takes, and
 * `docker load` as well. They are made of busybox and perl of the lab root, so no registry is asked. The tars are kept in the cache.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, renameSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { type Header, pack } from 'tar-stream';
import { cacheFolder } from './cache.mjs';
import { run } from './machine.ts';

export const PAUSE_IMAGE = 'registry.k8s.io/pause:3.10';
export const WORKLOAD_IMAGE = 'lab.exhibit/workload:1';

/** Raise when the content of an image changes, so that the cached tars are made again. */
const CONTENT_VERSION = 2;

/** 2025-01-01: files of the image are older than anything a test changes. */
const MTIME = new Date('2025-01-01T00:00:00Z');

interface Entry {
  name: string;
  mode?: number;
  content?: Buffer | string;
  linkname?: string;
  folder?: boolean;
}

async function tar(entries: readonly Entry[]): Promise<Buffer> {
  const archive = pack();
  for (const { name, mode = 0o755, content, linkname, folder } of entries) {
    const header: Partial<Header> & { name: string } = {
      name,
      mode,
      mtime: MTIME,
      uid: 0,
      gid: 0,
      uname: 'root',
      gname: 'root',
    };
    if (folder) header.type = 'directory';
    if (linkname !== undefined) Object.assign(header, { type: 'symlink', linkname });
    archive.entry(header, content ?? '');
  }
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

const folder = (name: string, mode = 0o755): Entry => ({ name, mode, folder: true });
const file = (name: string, content: Buffer | string, mode = 0o644): Entry => ({ name, content, mode });

async function busyboxLayer(root: string): Promise<Entry[]> {
  const path = join(root, 'usr/bin/busybox');
  const { stdout } = await run(path, ['--list']);
  const applets = stdout
    .toString()
    .split('\n')
    .filter((name) => name !== '' && name !== 'busybox');
  return [
    ...['bin', 'etc', 'tmp', 'root', 'var', 'var/log', 'run', 'proc', 'sys', 'dev'].map((name) =>
      folder(name, name === 'tmp' ? 0o1777 : 0o755),
    ),
    file('bin/busybox', readFileSync(path), 0o755),
    ...applets.map((name): Entry => ({ name: `bin/${name}`, linkname: 'busybox' })),
  ];
}

/** Files of perl-base's folder, and every library the loader names, each at the path where the program looks for it. */
async function perlLayer(root: string): Promise<Entry[]> {
  const ldd = await run('chroot', [root, 'ldd', '/usr/bin/perl']);
  const libraries = ldd.stdout.toString().match(/\/\S+\.so\S*/g) ?? [];
  const multiarch = readdirSync(join(root, 'usr/lib')).find((name) => name.includes('-linux-gnu')) ?? '';
  const base = `usr/lib/${multiarch}/perl-base`;
  const names = readdirSync(join(root, base), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.parentPath.includes('unicore'))
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1));
  const paths = [...libraries.map((path) => path.slice(1)), ...names, 'usr/bin/perl'];
  const parents = new Set(
    paths.flatMap((path) =>
      path
        .split('/')
        .slice(0, -1)
        .map((_, i, all) => all.slice(0, i + 1).join('/')),
    ),
  );
  return [
    ...[...parents].sort().map((name) => folder(name)),
    ...paths.map((path) => file(path, readFileSync(inRoot(root, path)), 0o755)),
  ];
}

/** The real file: /lib and /lib64 are links into usr, and libraries are links to their version. */
function inRoot(root: string, path: string): string {
  const real = realpathSync(join(root, path));
  return real.startsWith(`${realpathSync(root)}/`) ? real : join(root, real);
}

function applicationLayer(): Entry[] {
  return [
    file('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n'),
    file('etc/group', 'root:x:0:\nnogroup:x:65534:\n'),
    file('etc/os-release', 'ID=exhibit-lab\nPRETTY_NAME="exhibit lab workload"\n'),
    folder('app'),
    file('app/config.ini', '[server]\nlisten = 8080\nupstream = db.prod.svc\n'),
    file('app/server.sh', '#!/bin/sh\nwhile :; do echo "request served"; sleep 1; done\n', 0o755),
    file('app/audit.log', '2025-01-01T00:00:00Z service installed\n'),
    folder('app/static'),
    file('app/static/index.html', '<!doctype html><title>shop</title>\n'),
    file('app/static/logo.svg', '<svg xmlns="http://www.w3.org/2000/svg"/>\n'),
    file('app/readme.txt', 'Deleted by tests.\n'),
  ];
}

const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

interface Blob {
  mediaType: string;
  data: Buffer;
}

const descriptor = ({ mediaType, data }: Blob) => ({ mediaType, digest: `sha256:${sha256(data)}`, size: data.length });

const json = (mediaType: string, value: object): Blob => ({ mediaType, data: Buffer.from(JSON.stringify(value)) });

const blobPath = ({ data }: Blob): string => `blobs/sha256/${sha256(data)}`;

/** A layer as it is stored, with the tar archive that it decompresses to. */
export interface Layer extends Blob {
  tar: Buffer;
}

/** Gzipped, as registries have them. */
export const gzipLayer = (tar: Buffer): Layer => ({
  mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
  data: gzipSync(tar),
  tar,
});

/**
 * One OCI layout tar of one image. `manifest.json` is Docker's own list, for a Docker without containerd's image store
 * takes no layout without it.
 */
export async function layoutTar(
  reference: string,
  layers: readonly Layer[],
  command: readonly string[],
): Promise<Buffer> {
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  const config = json('application/vnd.oci.image.config.v1+json', {
    created: MTIME.toISOString(),
    architecture,
    os: 'linux',
    config: { Env: ['PATH=/usr/bin:/bin'], Cmd: command, WorkingDir: '/' },
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => `sha256:${sha256(layer.tar)}`) },
    history: layers.map(() => ({ created: MTIME.toISOString(), created_by: 'exhibit lab' })),
  });
  const manifest = json('application/vnd.oci.image.manifest.v1+json', {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: descriptor(config),
    layers: layers.map(descriptor),
  });
  const annotations = { 'io.containerd.image.name': reference };
  const platform = { architecture, os: 'linux' };
  const dockerList = [{ Config: blobPath(config), RepoTags: [reference], Layers: layers.map(blobPath) }];
  const index = { schemaVersion: 2, manifests: [{ ...descriptor(manifest), platform, annotations }] };
  return tar([
    file('oci-layout', JSON.stringify({ imageLayoutVersion: '1.0.0' })),
    file('index.json', JSON.stringify(index)),
    file('manifest.json', JSON.stringify(dockerList)),
    folder('blobs'),
    folder('blobs/sha256'),
    ...[...layers, config, manifest].map((blob) => file(blobPath(blob), blob.data)),
  ]);
}

export interface ImageFiles {
  pause: string;
  workload: string;
}

function saveWhole(path: string, data: Buffer): void {
  const partial = `${path}.${process.pid}`;
  writeFileSync(partial, data);
  renameSync(partial, path);
}

/** Paths of the two image tars, made at the first call for this lab root (needs root: it asks the loader in a chroot). */
export async function imageFiles(root: string): Promise<ImageFiles> {
  const cache = join(cacheFolder(), `lab-images-${CONTENT_VERSION}-${basename(root)}`);
  const files = { pause: join(cache, 'pause.tar'), workload: join(cache, 'workload.tar') };
  if (existsSync(files.pause) && existsSync(files.workload)) return files;
  mkdirSync(cache, { recursive: true });
  const busybox = await tar(await busyboxLayer(root));
  const layers = [busybox, await tar(await perlLayer(root)), await tar(applicationLayer())];
  saveWhole(files.pause, await layoutTar(PAUSE_IMAGE, [gzipLayer(busybox)], ['sleep', '2147483647']));
  saveWhole(files.workload, await layoutTar(WORKLOAD_IMAGE, layers.map(gzipLayer), ['sh', '/app/server.sh']));
  return files;
}
