import type { Command } from 'commander';
import { ExhibitError } from '../evidence/error.ts';
import { isTar } from '../evidence/layout.ts';
import type { MemoryArchive } from '../evidence/memory-archive.ts';
import { type BundleOptions, openBundle, readManifest, readMembers, takesBundle, until } from './bundle.ts';
import { chooseObject } from './contents.ts';
import { formatBytes, formatCount, toJson } from './print.ts';
import type { Output, Session } from './session.ts';

/** What the commands that read memory inside a bundle have in common. */

export interface MemoryOptions extends BundleOptions {
  readonly stats?: boolean;
}

export function takesMemory(command: Command): Command {
  return takesBundle(command).option('--stats', 'say on stderr how much of the bundle was read for it');
}

/** Opens the archive of memory, works, says what it cost. Only the seek table and one header are read before `work`. */
export async function withMemory<Result>(
  session: Session,
  bundle: string,
  options: MemoryOptions,
  work: (archive: MemoryArchive) => Promise<Result>,
): Promise<Result> {
  await using reader = await openBundle(bundle, options, session.signal);
  const manifest = await readManifest(reader, session.signal);
  const { object } = chooseObject(manifest, 'memory');
  if (!isTar(object.mediaType)) {
    throw new ExhibitError('bundle-corrupt', `${object.name} is no archive: run \`exhibit verify\` on this bundle.`);
  }
  if (object.truncated !== undefined) {
    // The seek table and the list of members come after the content.
    const mend = `take what there is with \`exhibit extract BUNDLE ${object.name} --out part.tar\` and read its cores`;
    throw new ExhibitError('bundle-corrupt', `${object.name} is a first part only (${object.truncated}): ${mend}.`);
  }
  const { openMemoryArchive } = await import('../evidence/memory-archive.ts');
  const readRange = async (start: number, end: number): Promise<Uint8Array> => {
    const chunks: Uint8Array[] = [];
    let sizeBytes = 0;
    for await (const chunk of until(reader.read(object.name, { start, end }), session.signal)) {
      sizeBytes += chunk.length;
      // A server that does not know ranges would send everything.
      if (sizeBytes > end - start) break;
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  };
  const members = readMembers(reader, manifest, object, session.signal);
  const { readableBytes } = await import('../evidence/bundle-encrypted.ts');
  const archive = await openMemoryArchive(readRange, await readableBytes(reader, object), members);
  try {
    return await work(archive);
  } finally {
    if (options.stats === true) await session.stderr.write(describeCost(archive, object.stored.sizeBytes, options));
  }
}

function describeCost({ content }: MemoryArchive, storedBytes: number, options: MemoryOptions): string {
  const { framesRead, bytesRead, requests } = content.cost;
  const stats = { framesRead, frames: content.frames, bytesRead, storedBytes, requests };
  if (options.json === true) return `${toJson({ stats })}\n`;
  const frames = `${framesRead} of ${formatCount(content.frames, 'frame')}`;
  return `exhibit: read ${frames}, ${formatBytes(bytesRead)} of ${formatBytes(storedBytes)}, in ${formatCount(requests, 'request')}\n`;
}

/** Linux' own limit for a pid (PID_MAX_LIMIT) is 2^22. */
export function parsePid(text: string): number {
  if (/^[1-9]\d{0,9}$/.test(text)) return Number(text);
  throw new ExhibitError('usage', `${text} is no process id: give a number, for example 4711.`);
}

/** The processes to look through: the one that was named, or all. */
export function choosePids(archive: MemoryArchive, pid: string | undefined): readonly number[] {
  if (pid !== undefined) return [parsePid(pid)];
  if (archive.pids.length > 0) return archive.pids;
  throw new ExhibitError('bundle-not-found', 'The bundle has memory of no process.');
}

const UNITS: Readonly<Record<string, bigint>> = {
  '': 1n,
  B: 1n,
  KiB: 1n << 10n,
  MiB: 1n << 20n,
  GiB: 1n << 30n,
  TiB: 1n << 40n,
};

/** `0x7f00`, `4096`; with `units`, `4KiB` as well. Throws ExhibitError `usage` beyond 64 bits. */
export function parseNumber(text: string, what: string, units: boolean): bigint {
  const parts = /^(0x[0-9a-f]{1,16}|\d{1,20})(B|[KMGT]iB)?$/i.exec(text);
  const unit = Object.entries(UNITS).find(([name]) => name.toLowerCase() === (parts?.[2] ?? '').toLowerCase());
  const value = parts?.[1] === undefined || unit === undefined ? undefined : BigInt(parts[1]) * unit[1];
  if (value !== undefined && value < 1n << 64n && (units || parts?.[2] === undefined)) return value;
  const forms = units ? '4096, 0x1000 or 4KiB' : '0x7f0000001000 or a decimal number';
  throw new ExhibitError('usage', `${text} is no ${what}: write ${forms}, below 2^64.`);
}

/** Lines go out in pieces of this size: one write a line would cost more than making it. */
const BATCH_CHARACTERS = 64 * 1024;

export interface LineOutput {
  /** False when nobody reads any more. */
  write(line: string): Promise<boolean>;
  flush(): Promise<void>;
}

export function batchLines(output: Output): LineOutput {
  let lines = '';
  const flush = async () => {
    const text = lines;
    lines = '';
    await output.write(text);
  };
  return {
    async write(line) {
      lines += line;
      if (lines.length >= BATCH_CHARACTERS) await flush();
      return !output.hungUp.aborted;
    },
    flush,
  };
}
