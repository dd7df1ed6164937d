import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { link, lstat, open, readdir, rename, unlink } from 'node:fs/promises';
import path from 'node:path';
import { ExhibitError, isErrno } from '../../evidence/error.ts';
import { keySegments } from './key.ts';
import { syncFolder } from './local-folder.ts';
import { isCutName, type Partial, partialName, partialsOf } from './local-partial.ts';
import type { Settled } from './sink.ts';

/** In place of `.partial`: the file was found half written, and is beside its final name until the sink may forget it. */
const CUT = /\.partial$/;
const READ_BYTES = 1024 * 1024;

/**
 * What became of an object, found out from the folder alone. A temporary file that nobody writes any more is renamed to
 * `.<name>.<random>.cut`, synced, and linked to its final name. That second name stays until `forgetLocal`: it tells this
 * object from a whole one. `active`: temporary files that are still written.
 */
export async function settleLocal(
  root: string,
  key: string,
  active: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<Settled> {
  const segments = keySegments(key);
  const name = segments.at(-1) ?? key;
  const folder = await existingFolder(root, segments.slice(0, -1));
  if (folder === undefined) return { kind: 'lost', why: 'no folder was ever made for it' };
  const final = path.join(folder, name);
  const [marked] = await cutsOf(folder, name);
  if (marked !== undefined) return await cut(marked, final, '', signal);
  const partials = await partialsOf(folder, name);
  if (partials.some((partial) => active.has(partial.path))) {
    throw new ExhibitError('sink-failed', `${final} is still being written`);
  }
  if (await isThere(final)) {
    // Killed between the two names of a whole object: the temporary one goes.
    for (const partial of partials) if (await isSameFile(partial.path, final)) await unlink(partial.path);
    await syncFolder(folder);
    return { kind: 'stored' };
  }
  const whole = partials.filter((partial) => partial.whole);
  if (whole.length > 0) return await removeWhole(whole, folder, name);
  return await settlePartials(partials, folder, name, signal);
}

/** What has not all of its bytes and is all or nothing: whoever began it writes it again. */
async function removeWhole(partials: readonly Partial[], folder: string, name: string): Promise<Settled> {
  if (isCutName(name, true)) return unnameable(partials);
  for (const partial of partials) await unlink(partial.path);
  await syncFolder(folder);
  const bytes = partials.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return { kind: 'lost', why: `the agent ended while it was written: the ${bytes} bytes that were there are removed` };
}

function unnameable(partials: readonly Partial[]): Settled {
  const names = partials.map((partial) => path.basename(partial.path)).join(', ');
  return {
    kind: 'lost',
    why: `its name is too long to tell which temporary file is its own; these are there: ${names}`,
  };
}

/** After the answer was noted. */
export async function forgetLocal(root: string, key: string): Promise<void> {
  const segments = keySegments(key);
  const folder = await existingFolder(root, segments.slice(0, -1));
  if (folder === undefined) return;
  for (const marked of await cutsOf(folder, segments.at(-1) ?? key)) await unlink(marked);
}

/** There is one at most, for a key is written once. If there are more all the same, the largest is it and the others stay. */
async function settlePartials(
  partials: readonly Partial[],
  folder: string,
  name: string,
  signal: AbortSignal,
): Promise<Settled> {
  const [largest, ...others] = partials.toSorted((one, other) => other.sizeBytes - one.sizeBytes);
  if (largest === undefined) return { kind: 'lost', why: 'none of its bytes had reached the folder' };
  if (isCutName(name)) return unnameable(partials);
  if (largest.sizeBytes === 0) {
    await unlink(largest.path);
    return { kind: 'lost', why: 'none of its bytes had reached the folder' };
  }
  const marked = largest.path.replace(CUT, '.cut');
  await rename(largest.path, marked);
  const beside = others
    .map((other) => `; ${path.basename(other.path)} is another temporary file of it and stays`)
    .join('');
  return await cut(marked, path.join(folder, name), beside, signal);
}

async function cut(marked: string, final: string, beside: string, signal: AbortSignal): Promise<Settled> {
  await using handle = await open(marked, constants.O_RDONLY | constants.O_NOFOLLOW);
  await handle.sync();
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(READ_BYTES);
  let sizeBytes = 0;
  for (;;) {
    signal.throwIfAborted();
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, sizeBytes);
    if (bytesRead === 0) break;
    hash.update(buffer.subarray(0, bytesRead));
    sizeBytes += bytesRead;
  }
  await link(marked, final).catch(async (error: unknown) => {
    if (!isErrno(error, 'EEXIST') || !(await isSameFile(marked, final))) throw error;
  });
  await syncFolder(path.dirname(final));
  const why = `the agent ended while it was written: of an unknown size the first ${sizeBytes} bytes had reached the folder${beside}`;
  return { kind: 'cut', sizeBytes, sha256: hash.digest('hex'), why };
}

/** Below the root no symbolic link is followed. */
async function existingFolder(root: string, segments: readonly string[]): Promise<string | undefined> {
  let folder = root;
  for (const segment of segments) {
    folder = path.join(folder, segment);
    const stat = await lstat(folder).catch((error: unknown) => {
      if (isErrno(error, 'ENOENT')) return undefined;
      throw error;
    });
    if (stat === undefined) return undefined;
    if (!stat.isDirectory()) throw new ExhibitError('sink-failed', `${folder} is not a folder; move it away`);
  }
  return folder;
}

async function cutsOf(folder: string, name: string): Promise<string[]> {
  const like = partialName(name).replace(/[0-9a-f]{16}\.partial$/, '');
  const names = await readdir(folder).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  });
  return names
    .filter((found) => found.startsWith(like) && /^[0-9a-f]{16}\.cut$/.test(found.slice(like.length)))
    .map((found) => path.join(folder, found));
}

async function isThere(file: string): Promise<boolean> {
  return await lstat(file).then(
    () => true,
    (error: unknown) => {
      if (isErrno(error, 'ENOENT')) return false;
      throw error;
    },
  );
}

async function isSameFile(one: string, other: string): Promise<boolean> {
  const [first, second] = await Promise.all([lstat(one, { bigint: true }), lstat(other, { bigint: true })]);
  return first.dev === second.dev && first.ino === second.ino;
}
