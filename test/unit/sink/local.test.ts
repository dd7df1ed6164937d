import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { chmod, lstat, mkdir, mkdtemp, open, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { folderOf, openLocalSink } from '../../../agent/sink/local.ts';
import { localError } from '../../../agent/sink/local-errors.ts';
import { partialName, partialsOf } from '../../../agent/sink/local-partial.ts';
import { isErrno, isExhibitError } from '../../../evidence/error.ts';
import { createBundleWriter } from '../../../evidence/write.ts';

const run = promisify(execFile);
const never = new AbortController().signal;
const TYPE = { contentType: 'application/json', signal: never };

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'exhibit-local-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const sinkAt = (where: string) => openLocalSink({ url: pathToFileURL(where).href });

describe('the local sink', () => {
  test('leaves nothing of an archive that is cancelled in mid-frame', async () => {
    await using sink = sinkAt(folder);
    const stop = new AbortController();
    const stored: unknown[] = [];
    const bundle = createBundleWriter((name, contentType) => sink.open(name, { contentType, signal: stop.signal }), {
      onStored: (object) => stored.push(object),
    });
    function* endless() {
      for (let round = 0; ; round += 1) {
        if (round === 40) stop.abort(new Error('no longer wanted'));
        yield Buffer.alloc(700_000, `round ${round}`);
      }
    }
    {
      await using archive = await bundle.openArchive('a.tar.zst');
      await expect(archive.add({ path: 'core', type: 'file', sizeBytes: 10 ** 10 }, endless())).rejects.toSatisfy(
        (error) => isExhibitError(error, 'cancelled'),
      );
    }
    expect(await readdir(folder)).toEqual([]);
    expect(stored).toEqual([]);
  });

  test('writes for its owner only', async () => {
    await using sink = sinkAt(path.join(folder, 'new'));
    {
      await using object = await sink.open('a/b/request.json', TYPE);
      await object.write(Buffer.from('{}'));
      await object.commit();
    }
    const mode = async (name: string) => ((await lstat(path.join(folder, 'new', name))).mode & 0o777).toString(8);
    expect([await mode('.'), await mode('a'), await mode('a/b'), await mode('a/b/request.json')]).toEqual([
      '700',
      '700',
      '700',
      '600',
    ]);
  });

  test('never writes through a link that somebody planted below its folder', async () => {
    const elsewhere = path.join(folder, 'elsewhere');
    await mkdir(elsewhere);
    await symlink(elsewhere, path.join(folder, 'cluster'));
    await using sink = sinkAt(folder);
    await expect(sink.open('cluster/request.json', TYPE)).rejects.toThrow('is not a folder');
    expect(await readdir(elsewhere)).toEqual([]);
  });

  test('takes a dangling link at the object’s name for the object', async () => {
    await symlink('/nowhere', path.join(folder, 'request.json'));
    await using sink = sinkAt(folder);
    await expect(sink.open('request.json', TYPE)).rejects.toSatisfy((error) => isExhibitError(error, 'sink-exists'));
  });

  test('makes a missing folder, and a check takes it away again', async () => {
    const where = path.join(folder, 'x/y');
    await sinkAt(where).check(never);
    expect(await readdir(folder)).toEqual([]);
  });

  test('says what to do when its folder is a file', async () => {
    await writeFile(path.join(folder, 'file'), '');
    const failure = await sinkAt(path.join(folder, 'file'))
      .check(never)
      .catch((error: unknown) => error);
    expect(isExhibitError(failure, 'sink-failed')).toBe(true);
    expect(String(failure)).toContain('is not a folder; move it away');
  });

  test('says what to do when nobody may write there', async (context) => {
    if (process.getuid?.() !== 0) {
      await chmod(folder, 0o500);
      await expect(sinkAt(folder).check(never)).rejects.toThrow('permission denied');
      return;
    }
    // Root may write everywhere but where nothing can be made at all.
    await expect(sinkAt('/proc/1/exhibit').check(never)).rejects.toSatisfy((error) =>
      isExhibitError(error, 'sink-failed'),
    );
    context.annotate('run as root: EACCES could not be provoked');
  });

  test('leaves nothing when the disk is full, and says so', async (context) => {
    const small = path.join(folder, 'small');
    await mkdir(small);
    try {
      await run('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'exhibit-test', small]);
    } catch {
      context.skip('needs root: a small file system is mounted');
    }
    try {
      await using sink = sinkAt(small);
      {
        await using object = await sink.open('memory.tar.zst', TYPE);
        const failure = await object.write(Buffer.alloc(3 * 2 ** 20)).catch((error: unknown) => error);
        expect(isExhibitError(failure, 'sink-failed')).toBe(true);
        expect(String(failure)).toContain('the file system is full');
        expect(isErrno(failure instanceof Error ? failure.cause : undefined, 'ENOSPC')).toBe(true);
        // The object has ended: what comes later is the same failure.
        await expect(object.commit()).rejects.toBe(failure);
      }
      expect(await readdir(small)).toEqual([]);
    } finally {
      await run('umount', [small]);
    }
  });

  test.each(['file://host/path', '/plain/path', 'file:///x?y', 'file:///x%00'])('the URL %s is a fault', (url) => {
    expect(() => folderOf(url)).toThrow();
  });

  test.each(['ENOSPC', 'EROFS', 'EACCES', 'EDQUOT', 'EPERM', 'EIO'])(
    'has a sentence for %s and keeps the errno',
    (errno) => {
      const cause = Object.assign(new Error(`${errno}: …`), { code: errno });
      const error = localError(cause, 'write', '/evidence/x');
      expect(error.message).toMatch(/^cannot write \/evidence\/x: .{20}/);
      expect(error.cause).toBe(cause);
    },
  );
});

describe('half-written files of a dead agent', () => {
  test('are found with the name they would have got, and never removed by the sink', async () => {
    const file = path.join(folder, 'c/n/id', partialName('memory.tar.zst'));
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, 'half');
    await writeFile(path.join(folder, '.other.partial'), '');
    await using sink = sinkAt(folder);
    await sink.check(never);
    const found = await partialsOf(path.dirname(file), 'memory.tar.zst');
    expect(found).toEqual([
      { path: file, name: 'memory.tar.zst', whole: false, sizeBytes: 4, modifiedAt: expect.any(Date) },
    ]);
  });

  test('have names that no two writers share and that fit a file system', async () => {
    const long = 'ä'.repeat(127);
    expect(Buffer.byteLength(partialName(long))).toBeLessThanOrEqual(255);
    expect(partialName('x')).not.toBe(partialName('x'));
    const handle = await open(path.join(folder, partialName(long)), constants.O_CREAT | constants.O_WRONLY);
    await handle.close();
  });
});
