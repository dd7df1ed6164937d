/**
 * Files as a container may have written them, made right in its upper directory: through the mount it takes several times as
 * long, and what is measured reads the upper directory itself.
 */
import { execFileSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import {
  closeSync,
  globSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';

const MIB = 2 ** 20;
const POOL_BYTES = 16 * MIB;
/** Small files have 0 to this many bytes, the smaller the more often: 5.3 KiB on average. */
const SMALL_MAX_BYTES = 16 * 1024;
const FILES_A_FOLDER = 100;
const FOLDERS_A_FOLDER = 20;
/** One entry in so many is such a thing. */
const SYMLINK_EVERY = 100;
const HARDLINK_EVERY = 200;
const XATTR_EVERY = 50;
/** One small file in so many does not compress. */
const RANDOM_EVERY = 4;
const LARGE_BYTES = 512 * MIB;

/** Numbers from 0 to 1 that are the same in every run: xorshift32. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** The JavaScript of this project's own packages: text that compresses as an application's files do. */
function textPool(): Buffer {
  const pool = Buffer.alloc(POOL_BYTES);
  let filled = 0;
  for (const file of globSync('node_modules/**/*.{js,ts,md,json}').sort()) {
    if (filled === POOL_BYTES) break;
    filled += readFileSync(file).copy(pool, filled);
  }
  if (filled < POOL_BYTES) throw new Error('the packages of this project are too small to make files from');
  return pool;
}

export interface Tree {
  readonly files: number;
  readonly contentBytes: number;
}

/** Small files, spread over folders, with links and attributes between them. */
export function makeSmallFiles(root: string, files: number): Tree {
  const pools = { text: textPool(), random: randomFillSync(Buffer.alloc(POOL_BYTES)) };
  const next = numbers(1);
  const withXattrs: string[] = [];
  let contentBytes = 0;
  let folder = '';
  for (let index = 0; index < files; index += 1) {
    if (index % FILES_A_FOLDER === 0) {
      const number = Math.floor(index / FILES_A_FOLDER);
      folder = path.join(root, 'srv', `app-${Math.floor(number / FOLDERS_A_FOLDER)}`, `module-${number}`);
      mkdirSync(folder, { recursive: true });
    }
    const file = path.join(folder, `file-${index}.js`);
    const before = path.join(folder, `file-${index - 1}.js`);
    const place = index % FILES_A_FOLDER;
    if (index % SYMLINK_EVERY === SYMLINK_EVERY - 1) symlinkSync(`file-${index - 1}.js`, file);
    else if (index % HARDLINK_EVERY === HARDLINK_EVERY / 2 + 1 && place > 0) linkSync(before, file);
    else {
      const sizeBytes = Math.floor(SMALL_MAX_BYTES * next() ** 2);
      const at = Math.floor(next() * (POOL_BYTES - sizeBytes));
      const pool = index % RANDOM_EVERY === 0 ? pools.random : pools.text;
      writeFileSync(file, pool.subarray(at, at + sizeBytes));
      contentBytes += sizeBytes;
      if (index % XATTR_EVERY === 0) withXattrs.push(file);
    }
  }
  const dump = withXattrs.map((file) => `# file: ${file}\nuser.origin="build-${path.basename(file)}"\n\n`).join('');
  execFileSync('setfattr', ['--restore=-'], { input: dump });
  return { files, contentBytes };
}

/** Files of half a GiB, every other MiB of them text, the others random. */
export function makeLargeFiles(root: string, sizeBytes: number): Tree {
  const text = textPool();
  const random = Buffer.alloc(MIB);
  mkdirSync(path.join(root, 'var'), { recursive: true });
  let files = 0;
  for (let left = sizeBytes; left > 0; left -= LARGE_BYTES, files += 1) {
    const fd = openSync(path.join(root, 'var', `large-${files}.db`), 'w');
    for (let done = 0; done < Math.min(left, LARGE_BYTES); done += MIB) {
      const isText = (done / MIB) % 2 === 0;
      writeSync(fd, isText ? text.subarray((done / 2) % POOL_BYTES).subarray(0, MIB) : randomFillSync(random));
    }
    closeSync(fd);
  }
  return { files, contentBytes: sizeBytes };
}
