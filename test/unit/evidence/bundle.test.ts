import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openBundle } from '../../../evidence/bundle.ts';
import { parseS3Url } from '../../../evidence/bundle-s3.ts';
import { isExhibitError } from '../../../evidence/error.ts';
import { verifyBundle } from '../../../evidence/verify.ts';
import { gather } from './memory-sink.ts';
import { sampleBundle, writeTo } from './sample-bundle.ts';

describe('a bundle in a folder', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'exhibit-bundle-'));
  });
  afterEach(async () => rm(folder, { recursive: true, force: true }));

  it('is verified from its path and from its URL', async () => {
    const { objects } = await sampleBundle();
    await writeTo(folder, objects);
    for (const where of [folder, `${folder}/`, pathToFileURL(folder).href]) {
      await using reader = await openBundle(where);
      expect(reader.url).toBe(pathToFileURL(folder).href);
      expect(await verifyBundle(reader)).toMatchObject({ intact: true });
    }
  });

  it('lists files below folders and reads ranges of them', async () => {
    await writeTo(
      folder,
      new Map([
        ['request.json', Buffer.from('{}')],
        ['a/b/c.txt', Buffer.from('0123456789')],
      ]),
    );
    await using reader = await openBundle(folder);
    const names: string[] = [];
    for await (const { name, sizeBytes } of reader.list()) names.push(`${name} ${sizeBytes}`);
    expect(names.sort()).toEqual(['a/b/c.txt 10', 'request.json 2']);
    const read = async (start?: number, end?: number) => {
      const range = { ...(start === undefined ? {} : { start }), ...(end === undefined ? {} : { end }) };
      return (await gather(reader.read('a/b/c.txt', range))).toString();
    };
    expect([
      await read(),
      await read(3),
      await read(3, 5),
      await read(8, 99),
      await read(20),
      await read(5, 5),
    ]).toEqual(['0123456789', '3456789', '34', '89', '', '']);
  });

  it('never leads outside and never follows a link', async () => {
    await writeFile(join(folder, 'secret'), 'secret');
    const bundle = join(folder, 'bundle');
    await mkdir(join(bundle, 'sub'), { recursive: true });
    await writeFile(join(bundle, 'request.json'), '{}');
    await symlink('../secret', join(bundle, 'link'));
    await symlink('..', join(bundle, 'up'));
    execFileSync('mkfifo', [join(bundle, 'pipe')]);
    await using reader = await openBundle(bundle);
    for (const name of [
      '../secret',
      'link',
      'up/secret',
      '/etc/passwd',
      'sub',
      'sub/',
      'pipe',
      '',
      '.',
      'a\0b',
      'absent',
      'request.json/x',
    ]) {
      const error: unknown = await gather(reader.read(name)).catch((caught: unknown) => caught);
      expect(isExhibitError(error, 'bundle-not-found'), name).toBe(true);
    }
    const report = await verifyBundle(reader);
    const irregular = report.findings.filter(({ code }) => code === 'object-irregular').map(({ message }) => message);
    expect(irregular.sort()).toEqual([
      'link is a symbolic link, which no bundle holds',
      'pipe is a fifo, which no bundle holds',
      'up is a symbolic link, which no bundle holds',
    ]);
  });

  it('that is not there, or is no bundle, is named in a sentence', async () => {
    await expect(openBundle(join(folder, 'absent'))).rejects.toThrow(/there is no folder .*absent/);
    await expect(openBundle(folder)).rejects.toThrow(/holds no capture: .*Name the folder of one capture/);
    await writeFile(join(folder, 'file'), '');
    await expect(openBundle(join(folder, 'file'))).rejects.toThrow(/there is no folder/);
  });
});

describe('an S3 location', () => {
  it('is a bucket and a prefix', () => {
    expect(parseS3Url('s3://bucket/a/b%20c/')).toEqual({ bucket: 'bucket', prefix: 'a/b%20c/' });
    expect(parseS3Url('s3://bucket')).toEqual({ bucket: 'bucket', prefix: '' });
    for (const url of ['s3://', 's3:///key', 'http://x'])
      expect(() => parseS3Url(url)).toThrow(/write s3:\/\/bucket\/prefix/);
  });
});
