/**
 * `node bench/pack.ts --file FILE`: how fast evidence is packed into a folder, beside `zstd -1 -T0` on the same bytes.
 *
 *   node bench/pack.ts --file FILE [--mib N] [--rounds N] [--into FOLDER] [--ways WAY,WAY] [--json FILE]
 *
 * A way is LEVEL or LEVEL-nomembers (no SHA-256 of the archive's member). All ways are taken in turn, several rounds, each in
 * a process of its own. CPU is user and system time of all threads; on a machine with other work it is the figure to
 * trust, since it is what two cores are short of. Medians are printed; compare the ratios.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { copyFile, open } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { openLocalSink } from '../agent/sink/local.ts';
import { createBundleWriter } from '../evidence/write.ts';
import { median } from './median.ts';

interface Figure {
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly storedBytes: number;
  /** The process' peak beyond what it had before it began; for zstd all it had. */
  readonly memoryMib?: number;
}

const MIB = 1024 * 1024;
/** What the memory collector hands over is of this order. */
const READ_BYTES = 4 * MIB;

const SETTLE_MS = 1000;

async function* readParts(file: string): AsyncGenerator<Uint8Array> {
  await using handle = await open(file);
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  for (;;) {
    const { bytesRead } = await handle.read(buffer, 0, buffer.length);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}

/** One way in this process. */
async function pack(file: string, folder: string, way: string): Promise<Figure> {
  const [, level, noMembers] = /^(-?\d+)(-nomembers)?$/.exec(way) ?? [];
  if (level === undefined) throw new Error(`there is no way ${way}`);
  await using sink = openLocalSink({ url: pathToFileURL(folder).href });
  const signal = new AbortController().signal;
  let storedBytes = 0;
  const bundle = createBundleWriter((name, contentType) => sink.open(name, { contentType, signal }), {
    level: Number(level),
    onStored: (object) => {
      storedBytes = object.stored.sizeBytes;
    },
  });
  // Node's TypeScript loader is still being compiled in the background; an agent has that behind it.
  await sleep(SETTLE_MS);
  const rss = process.memoryUsage.rss();
  const cpu = process.cpuUsage();
  const begin = performance.now();
  await using archive = await bundle.openArchive(
    'pack.tar.zst',
    noMembers === undefined ? {} : { digestMembersUpTo: 0 },
  );
  await archive.add({ path: 'content', type: 'file', sizeBytes: statSync(file).size }, readParts(file));
  await archive.commit();
  const wallMs = performance.now() - begin;
  const { user, system } = process.cpuUsage(cpu);
  // ru_maxrss is in KiB.
  const memoryMib = process.resourceUsage().maxRSS / 1024 - rss / MIB;
  return { wallMs, cpuMs: (user + system) / 1000, storedBytes, memoryMib };
}

function packApart(file: string, folder: string, way: string): Figure {
  const child = spawnSync(process.execPath, [import.meta.filename, `--one=${way}`, '--file', file, '--into', folder]);
  if (child.status !== 0) throw new Error(`packing failed: ${child.stderr}`);
  return JSON.parse(child.stdout.toString('utf8'));
}

/** bash's `time`, because Node does not tell what a child has used. */
function zstd(file: string, folder: string): Figure {
  const script = 'TIMEFORMAT="%R %U %S"; time zstd -1 -T0 -q -f "$1" -o "$2"';
  const stored = path.join(folder, 'zstd.zst');
  const { stderr, status } = spawnSync('bash', ['-c', script, 'bash', file, stored]);
  const [wall, user, system] = stderr.toString('utf8').trim().split(' ').map(Number);
  if (status !== 0 || wall === undefined || user === undefined || system === undefined) {
    throw new Error(`zstd failed: ${stderr}`);
  }
  return { wallMs: wall * 1000, cpuMs: (user + system) * 1000, storedBytes: statSync(stored).size };
}

function report(sizeBytes: number, figures: ReadonlyMap<string, readonly Figure[]>): void {
  const summary = (all: readonly Figure[]) => ({
    wallMs: median(all.map((one) => one.wallMs)),
    cpuMs: median(all.map((one) => one.cpuMs)),
  });
  const base = summary(figures.get('zstd -1 -T0') ?? []);
  const rows = [...figures].map(([way, all]) => {
    const { wallMs, cpuMs } = summary(all);
    return {
      way,
      'wall ms': Math.round(wallMs),
      'MB/s': Math.round(sizeBytes / 1000 / wallMs),
      'CPU s/GB': Number((cpuMs / (sizeBytes / 1e6)).toFixed(2)),
      'speed to zstd, wall': Number((base.wallMs / wallMs).toFixed(2)),
      'speed to zstd, CPU': Number((base.cpuMs / cpuMs).toFixed(2)),
      'stored MiB': Math.round((all[0]?.storedBytes ?? 0) / MIB),
      'memory MiB': Math.round(Math.max(...all.map((one) => one.memoryMib ?? Number.NaN))),
    };
  });
  console.log(`${(sizeBytes / MIB).toFixed(0)} MiB, ${os.availableParallelism()} cores, Node ${process.version}`);
  console.table(rows);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      file: { type: 'string' },
      mib: { type: 'string' },
      rounds: { type: 'string', default: '5' },
      into: { type: 'string', default: os.tmpdir() },
      ways: { type: 'string', default: '1,1-nomembers,0,0-nomembers' },
      json: { type: 'string' },
      one: { type: 'string' },
    },
  });
  if (values.file === undefined) throw new Error('--file names what to pack');
  if (values.one !== undefined) {
    console.log(JSON.stringify(await pack(values.file, values.into, values.one)));
    return;
  }
  const rounds = Number(values.rounds);
  mkdirSync(values.into, { recursive: true });
  const folder = mkdtempSync(path.join(values.into, 'exhibit-pack-'));
  try {
    const file = path.join(folder, 'content');
    await copyFile(values.file, file);
    if (values.mib !== undefined) truncateSync(file, Math.min(statSync(file).size, Number(values.mib) * MIB));
    const ways = values.ways.split(',');
    const figures = new Map<string, Figure[]>(['zstd -1 -T0', ...ways].map((way) => [way, []]));
    for (let round = 0; round < rounds; round += 1) {
      for (const [way, all] of figures) {
        all.push(way.startsWith('zstd') ? zstd(file, folder) : packApart(file, folder, way));
        for (const left of ['zstd.zst', 'pack.tar.zst']) rmSync(path.join(folder, left), { force: true });
      }
    }
    report(statSync(file).size, figures);
    if (values.json !== undefined)
      writeFileSync(values.json, `${JSON.stringify(Object.fromEntries(figures), null, 2)}\n`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

await main();
