import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test, vi } from 'vitest';
import { sha256Of } from '../../../evidence/base-image.ts';
import { blobPath, layoutIndex } from '../../../evidence/oci-layout.ts';
import { createTarWriter } from '../../../evidence/tar.ts';
import type { BundleWriter } from '../../../evidence/write.ts';
import { MemorySink } from '../evidence/memory-sink.ts';
import { CAPTURE_ID } from './fake-agent.ts';
import { exhibit, TEST_TIMEOUT_MS } from './run.ts';
import { serveAsS3 } from './s3-server.ts';
import { type Contents, type SomeBundle, someBundle } from './some-bundle.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

type Fill = NonNullable<Contents['fill']>;
type Files = Readonly<Record<string, string | Uint8Array>>;

async function tarOf(files: Files): Promise<Buffer> {
  const sink = new MemorySink();
  const tar = createTarWriter(sink);
  for (const [name, content] of Object.entries(files)) {
    await tar.add({ path: name, type: 'file', sizeBytes: Buffer.byteLength(content) }, Buffer.from(content));
  }
  await tar.end();
  return sink.bytes;
}

/** An image of one layer that somebody might have pulled. */
async function someImage(content = 'hello\n') {
  const layer = await tarOf({ 'etc/motd': content });
  const blob = gzipSync(layer);
  const start = { Entrypoint: ['/malware'], Cmd: ['--now'], Env: ['LD_PRELOAD=/tmp/evil.so'], User: '1000' };
  const config = Buffer.from(
    JSON.stringify({
      architecture: 'arm64',
      os: 'linux',
      config: { ...start, Healthcheck: { Test: ['CMD', '/malware'] }, Volumes: { '/data': {} } },
      rootfs: { type: 'layers', diff_ids: [sha256Of(layer)] },
      history: [{ created_by: 'ADD motd' }, { created_by: 'ENTRYPOINT', empty_layer: true }],
    }),
  );
  const mediaType = 'application/vnd.docker.image.rootfs.diff.tar.gzip';
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      config: { digest: sha256Of(config), size: config.length },
      layers: [{ mediaType, digest: sha256Of(blob), size: blob.length }],
    }),
  );
  const record = {
    reference: 'web:1',
    manifestDigest: sha256Of(manifest),
    configDigest: sha256Of(config),
    layers: [{ diffId: sha256Of(layer), chainId: sha256Of(layer) }],
    lowers: [],
    agreement: 'agrees',
    notes: [],
  };
  const blobs = { [blobPath(sha256Of(config))]: config, [blobPath(sha256Of(manifest))]: manifest };
  const layout = { 'index.json': layoutIndex(manifest, 'web:1'), 'oci-layout': '{"imageLayoutVersion":"1.0.0"}' };
  return { layer, blob, config, manifest, record, blobs, layout };
}
type SomeImage = Awaited<ReturnType<typeof someImage>>;

async function archive(writer: BundleWriter, name: string, files: Files, mediaType: 'tar' | 'ociLayer' = 'tar') {
  await using opened = await writer.openArchive(name, { mediaType });
  for (const [member, content] of Object.entries(files)) {
    const sizeBytes = Buffer.byteLength(content);
    await opened.add({ path: member, type: 'file', sizeBytes }, Buffer.from(content));
  }
  await opened.commit();
  return name;
}

const rootfs = (writer: BundleWriter) => archive(writer, 'rootfs.tar.zst', { 'tmp/dropped': 'evil\n' }, 'ociLayer');
const spec = (writer: BundleWriter, { record, config }: SomeImage) =>
  archive(writer, 'spec.tar.zst', { 'image.json': JSON.stringify(record), 'image-config.json': config });

/** With the image's own blobs, with the merged lower layers, or with neither. */
const withBlobs = (image: SomeImage): Fill => {
  const blob = { [blobPath(sha256Of(image.blob))]: image.blob };
  const files = { 'image.json': JSON.stringify(image.record), ...image.blobs, ...blob, ...image.layout };
  return async (writer) => ({
    rootfs: [await rootfs(writer)],
    spec: [await spec(writer, image)],
    image: [await archive(writer, 'image.tar.zst', files)],
  });
};
const withMerged = (image: SomeImage): Fill => {
  const files = { 'image.json': JSON.stringify(image.record), ...image.blobs };
  return async (writer) => ({
    rootfs: [await rootfs(writer)],
    image: [
      await archive(writer, 'image.tar.zst', files),
      await archive(writer, 'image-base.tar.zst', { 'etc/motd': 'hello\n' }, 'ociLayer'),
    ],
  });
};
const withoutBase =
  (image: SomeImage): Fill =>
  async (writer) => ({
    rootfs: [await rootfs(writer)],
    spec: [await spec(writer, image)],
  });

const outOf = (some: SomeBundle, name = 'out.tar'): string => path.join(some.folder, name);
const member = (file: string, name: string): Buffer => execFileSync('tar', ['-xOf', file, name]);
const jsonAt = (file: string, name: string) => JSON.parse(member(file, name).toString());
const documentsOf = (file: string) => {
  const manifest = jsonAt(file, blobPath(jsonAt(file, 'index.json').manifests[0].digest));
  return { manifest, config: jsonAt(file, blobPath(manifest.config.digest)) };
};

/** Every blob is what its name says, by GNU tar and sha256sum; what is in the layers, the lowest first. */
function judged(file: string): string[] {
  const names = execFileSync('tar', ['-tf', file], { encoding: 'utf8' }).trimEnd().split('\n');
  expect(new Set(names).size).toBe(names.length);
  for (const name of names.filter((one) => /^blobs\/sha256\/./.test(one))) {
    const sum = execFileSync('sha256sum', { input: member(file, name), encoding: 'utf8' });
    expect(`blobs/sha256/${sum.slice(0, 64)}`).toBe(name);
  }
  const { manifest, config } = documentsOf(file);
  const [docker] = jsonAt(file, 'manifest.json');
  expect(docker.Config).toBe(blobPath(manifest.config.digest));
  return manifest.layers.map(({ mediaType, digest }: { mediaType: string; digest: string }, index: number) => {
    expect(docker.Layers[index]).toBe(blobPath(digest));
    const unpack = mediaType.endsWith('+gzip') ? 'gzip' : mediaType.endsWith('+zstd') ? 'zstd' : 'cat';
    const options = unpack === 'cat' ? [] : ['-dc'];
    const tar = execFileSync(unpack, options, { input: member(file, blobPath(digest)) });
    expect(sha256Of(tar)).toBe(config.rootfs.diff_ids[index]);
    return execFileSync('tar', ['-t'], { input: tar, encoding: 'utf8' }).trimEnd();
  });
}

describe('exhibit image', () => {
  test.each([
    ['the image’s own layers', withBlobs, 'blobs'],
    ['the merged lower layers', withMerged, 'merged'],
  ])('puts the writable layer on %s', async (_, fill, base) => {
    const image = await someImage();
    await using some = await someBundle({ fill: fill(image) });
    const ran = await exhibit(['image', some.bundle, outOf(some), '--json']);
    expect(ran.code, ran.stderr).toBe(0);
    expect(JSON.parse(ran.stdout.toString())).toMatchObject({
      base,
      layers: 2,
      name: `exhibit.local/capture:${CAPTURE_ID}`,
      warnings: [],
    });
    expect(judged(outOf(some))).toEqual(['etc/motd', 'tmp/dropped']);
    const { config, manifest } = documentsOf(outOf(some));
    expect(config).toMatchObject({ architecture: 'arm64', os: 'linux', created: '2026-03-01T12:00:00.000Z' });
    expect(manifest.annotations).toMatchObject({
      'dev.exhibit.capture-id': CAPTURE_ID,
      'org.opencontainers.image.base.name': 'web:1',
      'org.opencontainers.image.base.digest': image.record.manifestDigest,
    });
    const sum = execFileSync('sha256sum', [path.join(some.bundle, 'manifest.json')], { encoding: 'utf8' });
    expect(config.config.Labels['dev.exhibit.manifest-sha256']).toBe(sum.slice(0, 64));
    expect(readdirSync(some.folder).sort()).toEqual([CAPTURE_ID, 'out.tar'].sort());
  });

  test('keeps the history of the image’s own layers, and says which capture the last one is of', async () => {
    await using some = await someBundle({ fill: withBlobs(await someImage()) });
    await exhibit(['image', some.bundle, outOf(some)]);
    const { history } = documentsOf(outOf(some)).config;
    expect(history).toMatchObject([
      { created_by: 'ADD motd' },
      { created_by: 'ENTRYPOINT', empty_layer: true },
      { created_by: expect.stringMatching(new RegExp(`^exhibit capture ${CAPTURE_ID}: writable layer of app`)) },
    ]);
  });

  test('starts nothing, and keeps what it started as a label', async () => {
    await using some = await someBundle({ fill: withBlobs(await someImage()) });
    await exhibit(['image', some.bundle, outOf(some)]);
    const { config } = documentsOf(outOf(some)).config;
    expect(Object.keys(config).sort()).toEqual(['Env', 'Labels']);
    expect(config.Env).toEqual(['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin']);
    expect(JSON.parse(config.Labels['dev.exhibit.original-config'])).toMatchObject({ Entrypoint: ['/malware'] });
  });

  test('keeps what it started where that was asked for, without health check and volumes', async () => {
    await using some = await someBundle({ fill: withMerged(await someImage()) });
    await exhibit(['image', some.bundle, outOf(some), '--keep-entrypoint']);
    const { Labels: _, ...kept } = documentsOf(outOf(some)).config.config;
    const Env = ['LD_PRELOAD=/tmp/evil.so'];
    expect(kept).toEqual({ Entrypoint: ['/malware'], Cmd: ['--now'], Env, User: '1000' });
  });

  test('gives the same bytes each time, also from S3', async () => {
    await using some = await someBundle({ fill: withBlobs(await someImage()) });
    await exhibit(['image', some.bundle, outOf(some, 'one.tar')]);
    await using s3 = await serveAsS3(some.bundle, 'evidence', `c1/n1/${CAPTURE_ID}`);
    const where = [`s3://evidence/c1/n1/${CAPTURE_ID}`, outOf(some, 'two.tar'), '--endpoint', s3.endpoint];
    const env = { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b' };
    const ran = await exhibit(['image', ...where, '--region', 'eu-central-1'], { env });
    expect(ran.code, ran.stderr).toBe(0);
    expect(readFileSync(outOf(some, 'two.tar')).equals(readFileSync(outOf(some, 'one.tar')))).toBe(true);
  });

  test.each(['web', 'registry.example:5000/a/b', 'exhibit.local/web-0:case-7'])('calls it %s', async (name) => {
    await using some = await someBundle({ fill: withMerged(await someImage()) });
    await exhibit(['image', some.bundle, outOf(some), '--name', name]);
    const full = /:[^/]*$/.test(name) ? name : `${name}:${CAPTURE_ID}`;
    expect(jsonAt(outOf(some), 'manifest.json')[0].RepoTags).toEqual([full]);
  });

  test.each(['Web', 'a b', '../x', 'a@sha256:1', '-x/y', 'a//b', ''])('takes %j for no name', async (name) => {
    await using some = await someBundle({ fill: withMerged(await someImage()) });
    const ran = await exhibit(['image', some.bundle, outOf(some), `--name=${name}`]);
    expect(ran).toMatchObject({ code: 2, stderr: expect.stringContaining('is no name of an image') });
  });
});

describe('exhibit image of a bundle without the base', () => {
  test('says what is missing and how to get it', async () => {
    const image = await someImage();
    await using some = await someBundle({ fill: withoutBase(image) });
    const { code, stderr } = await exhibit(['image', some.bundle, outOf(some)]);
    expect(code).toBe(1);
    expect(stderr).toContain(`save web:1@${image.record.manifestDigest} as a tar and name it with --base FILE`);
    expect(existsSync(outOf(some))).toBe(false);
  });

  test('makes one of the changes alone', async () => {
    await using some = await someBundle({ fill: withoutBase(await someImage()) });
    expect(await exhibit(['image', some.bundle, outOf(some), '--base', 'none'])).toMatchObject({ code: 0 });
    expect(judged(outOf(some))).toEqual(['tmp/dropped']);
  });

  test('takes it from an OCI layout or a docker save of the same image, and from no other', async () => {
    const [image, other] = [await someImage(), await someImage('another\n')];
    await using some = await someBundle({ fill: withoutBase(image) });
    const layoutOf = ({ blobs, blob, layout }: SomeImage) =>
      tarOf({ ...layout, ...blobs, [blobPath(sha256Of(blob))]: blob });
    const dockerList = JSON.stringify([{ Config: 'c.json', RepoTags: [], Layers: ['x/layer.tar'] }]);
    const docker = tarOf({ 'x/layer.tar': image.layer, 'c.json': image.config, 'manifest.json': dockerList });
    for (const [name, tar] of Object.entries({ layout: layoutOf(image), docker })) {
      writeFileSync(outOf(some, name), await tar);
      const ran = await exhibit(['image', some.bundle, outOf(some, `${name}.out`), '--base', outOf(some, name)]);
      expect(ran.code, ran.stderr).toBe(0);
      expect(judged(outOf(some, `${name}.out`))).toEqual(['etc/motd', 'tmp/dropped']);
    }
    writeFileSync(outOf(some, 'other'), await layoutOf(other));
    const refused = await exhibit(['image', some.bundle, outOf(some), '--base', outOf(some, 'other')]);
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining("none with the container's layers") });
    const damaged = { ...image, blob: Buffer.concat([image.blob.subarray(0, -1), Buffer.from('x')]) };
    writeFileSync(
      outOf(some, 'bad'),
      await tarOf({ ...image.layout, ...image.blobs, [blobPath(sha256Of(image.blob))]: damaged.blob }),
    );
    const bad = await exhibit(['image', some.bundle, outOf(some), '--base', outOf(some, 'bad')]);
    expect(bad).toMatchObject({ code: 1, stderr: expect.stringMatching(/bad is damaged: sha256:.* is expected/) });
    expect(readdirSync(some.folder).filter((name) => name.startsWith('out'))).toEqual([]);
  });

  test.each([
    ['that is not there', undefined, /cannot be read \(ENOENT\)/],
    ['that is no tar', gzipSync(Buffer.alloc(2000, 'x')), /no tar that can be read/],
    ['of a tar without an image', 'tar', /neither an OCI image layout nor/],
  ])('refuses a file %s', async (_, content, words) => {
    await using some = await someBundle({ fill: withoutBase(await someImage()) });
    if (content !== undefined) {
      writeFileSync(
        outOf(some, 'base'),
        content === 'tar' ? await tarOf({ a: 'b', 'index.json': '{"manifests":[]}' }) : content,
      );
    }
    const ran = await exhibit(['image', some.bundle, outOf(some), '--base', outOf(some, 'base')]);
    expect(ran).toMatchObject({ code: 2, stderr: expect.stringMatching(words) });
  });
});

describe('exhibit image refuses', () => {
  test('a folder that is no bundle, and a bundle without the writable layer', async () => {
    await using some = await someBundle({ fill: async () => ({}) });
    expect((await exhibit(['image', '/nowhere', outOf(some)])).stderr).toMatch(/there is no folder/);
    const without = await exhibit(['image', some.bundle, outOf(some)]);
    expect(without).toMatchObject({ code: 1, stderr: expect.stringContaining('--artifacts rootfs,image,spec') });
  });

  test('to write over a file, or over one that is half written, or where there is no folder', async () => {
    await using some = await someBundle({ fill: withMerged(await someImage()) });
    writeFileSync(outOf(some), 'mine');
    writeFileSync(outOf(some, 'half.tar.partial'), 'half');
    for (const name of ['out.tar', 'half.tar', 'no/such/folder.tar']) {
      expect(await exhibit(['image', some.bundle, outOf(some, name)]), name).toMatchObject({ code: 2 });
    }
    expect(readFileSync(outOf(some), 'utf8')).toBe('mine');
    expect(existsSync(outOf(some, 'half.tar'))).toBe(false);
  });

  test.each([
    ['rootfs.tar.zst', withMerged],
    ['image-base.tar.zst', withMerged],
    ['image.tar.zst', withMerged],
    ['image.tar.zst', withBlobs],
    ['manifest.json', withMerged],
    ['request.json', withMerged],
  ])('a bundle whose %s was changed, and leaves nothing behind', async (object, fill) => {
    await using some = await someBundle({ fill: fill(await someImage()) });
    const file = path.join(some.bundle, object);
    const bytes = readFileSync(file);
    const at = object.endsWith('.json') ? bytes.indexOf('2026-03-01') + 3 : Math.floor(bytes.length / 3);
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    writeFileSync(file, bytes);
    const { code, stderr } = await exhibit(['image', some.bundle, outOf(some)]);
    expect(code).toBe(1);
    expect(stderr).toContain(object);
    expect(stderr).toContain('No image was written');
    expect(stderr).not.toMatch(/\bat .*\.ts:\d+/);
    expect(readdirSync(some.folder)).toEqual([CAPTURE_ID]);
  });

  test('a layer that claims to be larger than any disk, at once', async () => {
    const image = await someImage();
    const huge = JSON.parse(image.manifest.toString());
    huge.layers[0].size = 2 ** 52;
    const manifest = Buffer.from(JSON.stringify(huge));
    const record = { ...image.record, manifestDigest: sha256Of(manifest) };
    const blobs = { [blobPath(sha256Of(image.config))]: image.config, [blobPath(sha256Of(manifest))]: manifest };
    await using some = await someBundle({ fill: withBlobs({ ...image, manifest, record, blobs }) });
    const ran = await exhibit(['image', some.bundle, outOf(some)]);
    expect(ran).toMatchObject({ code: 1, stderr: expect.stringContaining(`and should have ${2 ** 52}`) });
    expect(readdirSync(some.folder)).toEqual([CAPTURE_ID]);
  });

  test('an unsealed manifest, unless told that it does not matter', async () => {
    await using some = await someBundle({ fill: withMerged(await someImage()) });
    const seal = path.join(some.bundle, 'manifest.dsse.json');
    writeFileSync(seal, readFileSync(seal, 'utf8').replace(/"sig": "./, '"sig": "/'));
    const refused = await exhibit(['image', some.bundle, outOf(some)]);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('--no-verify') });
    expect(await exhibit(['image', some.bundle, outOf(some), '--no-verify'])).toMatchObject({ code: 0 });
  });
});
