/**
 * `npm run bench -- sink`: what the S3 sink reaches, beside the SDK's own lib-storage on the same bytes in the same run.
 *
 *   npm run bench -- sink [--only upload,drop,growth,first] [--size MIB] [--sizes MIB,MIB] [--rounds N] [--json FILE]
 *
 * upload: to Ceph's radosgw, one part at a time, since its SQLite store loses parts that come together (docs/sinks.md). drop: to a
 * server that drops everything, four parts at a time. growth: one upload of each size to that server. first: sink-first.ts.
 * Each upload is a process of its own, started as the agent is; ways alternate, and one that failed is not tried again; medians. radosgw keeps its objects in memory
 * and is a new one for each upload, which is checked by size and SHA-256 in its store afterwards.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { AGENT_ENVIRONMENT } from '../agent/environment.ts';
import { startS3 } from '../test/lab/s3.ts';
import { cpuMsOf } from './sink-cpu.ts';
import { startDropServer } from './sink-drop.ts';
import { firstObject } from './sink-first.ts';
import type { SinkFigure, SinkJob } from './sink-once.ts';
import { digestOf, makeBlock } from './sink-source.ts';
import { digestInStore, serverPid } from './sink-store.ts';
import { OURS, type Row, table, verdict } from './sink-table.ts';

const MIB = 2 ** 20;
const BUCKET = 'evidence';
const ONCE = path.join(import.meta.dirname, 'sink-once.ts');
/** The sink's own (agent/sink/s3-parts.ts). */
const PART_BYTES = 8 * MIB;

interface Way {
  readonly name: string;
  readonly way: SinkJob['way'];
  readonly parts?: SinkJob['parts'];
}

type Target = Pick<SinkJob, 'endpoint' | 'accessKeyId' | 'secretAccessKey' | 'bucket'>;

const waysOf = (inFlight: number): Way[] => [
  { name: OURS, way: 'exhibit', parts: { partBytes: PART_BYTES, inFlight } },
  { name: `lib-storage, ${inFlight} x 8 MiB`, way: 'lib-storage', parts: { partBytes: PART_BYTES, inFlight } },
  { name: 'lib-storage, its defaults (4 x 5 MiB)', way: 'lib-storage' },
];

async function uploadOnce(target: Target, way: Way, block: string, sizeMib: number): Promise<SinkFigure> {
  const job: SinkJob = { ...target, ...way, key: `${way.way}.bin`, block, sizeBytes: sizeMib * MIB };
  const env = { ...process.env, ...AGENT_ENVIRONMENT };
  const { stdout } = await promisify(execFile)(process.execPath, [ONCE, JSON.stringify(job)], { env });
  return JSON.parse(stdout);
}

/** What must be in the store: exhibit's own record of what it sent, or the source's bytes. */
function expectStored(
  figure: SinkFigure,
  sizeMib: number,
  sha256: string | undefined,
  found: { sizeBytes: number; sha256?: string },
) {
  const expected = figure.stored ?? { sizeBytes: sizeMib * MIB, sha256 };
  const same = found.sha256 === undefined || found.sha256 === expected.sha256;
  if (found.sizeBytes === expected.sizeBytes && same) return;
  throw new Error(`the server has ${JSON.stringify(found)}, sent was ${JSON.stringify(expected)}`);
}

async function toRadosgw(
  way: Way,
  block: string,
  sizeMib: number,
  sha256: string,
): Promise<SinkFigure & { serverCpuMs: number }> {
  await using s3 = await startS3({ bucket: BUCKET });
  const pid = serverPid(s3);
  const before = cpuMsOf(pid);
  const figure = await uploadOnce(s3, way, block, sizeMib);
  const serverCpuMs = cpuMsOf(pid) - before;
  expectStored(figure, sizeMib, sha256, await digestInStore(s3, `${way.way}.bin`));
  return { ...figure, serverCpuMs };
}

async function toNowhere(way: Way, block: string, sizeMib: number): Promise<SinkFigure & { serverCpuMs: number }> {
  await using server = await startDropServer(BUCKET);
  const before = process.cpuUsage();
  const keys = { accessKeyId: 'nobody', secretAccessKey: 'nothing' };
  const figure = await uploadOnce({ ...server, ...keys, bucket: BUCKET }, way, block, sizeMib);
  const { user, system } = process.cpuUsage(before);
  expectStored(figure, sizeMib, undefined, { sizeBytes: server.sizeOf(`${way.way}.bin`) ?? 0 });
  return { ...figure, serverCpuMs: (user + system) / 1000 };
}

type Upload = (way: Way, sizeMib: number) => Promise<SinkFigure & { serverCpuMs: number }>;

async function rounds(ways: readonly Way[], sizeMib: number, count: number, upload: Upload): Promise<Row[]> {
  const rows: Row[] = [];
  for (let round = 1; round <= count; round += 1) {
    for (const way of ways) {
      if (rows.some((earlier) => earlier.name === way.name && earlier.failed !== undefined)) continue;
      const row = await upload(way, sizeMib).then(
        (figure): Row => ({ ...figure, name: way.name, sizeMib, round }),
        (error: unknown): Row => failedRow(way, sizeMib, round, error),
      );
      const said = row.failed ?? `${(row.wallMs / 1000).toFixed(1)} s, ${(row.cpuMs / 1000).toFixed(1)} s of CPU`;
      process.stderr.write(`round ${round}/${count}: ${sizeMib} MiB, ${way.name}: ${said}\n`);
      rows.push(row);
    }
  }
  return rows;
}

function failedRow({ name }: Way, sizeMib: number, round: number, error: unknown): Row {
  // The message of a child that failed holds its whole command line.
  const words = error instanceof Error && 'stderr' in error ? String(error.stderr) : String(error);
  const failed = /^[A-Z]\w+: .*$/m.exec(words)?.[0] ?? words.slice(-500);
  const none = {
    wallMs: Number.NaN,
    cpuMs: Number.NaN,
    peakMib: Number.NaN,
    startMib: Number.NaN,
    serverCpuMs: Number.NaN,
  };
  return { ...none, name, sizeMib, round, failed };
}

function readArguments(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: 'string', default: 'upload,drop,growth,first' },
      size: { type: 'string', default: '4096' },
      sizes: { type: 'string', default: '64,256,1024,4096,16384' },
      rounds: { type: 'string', default: '3' },
      json: { type: 'string', default: path.join('out', 'bench-sink.json') },
    },
  });
  const numbers = [values.size, values.rounds, ...values.sizes.split(',')].map(Number);
  if (numbers.some((one) => !Number.isInteger(one) || one < 1))
    throw new Error('sizes (MiB) and rounds are whole numbers');
  const [sizeMib = 0, count = 0, ...sizesMib] = numbers;
  return { only: values.only.split(','), sizeMib, count, sizesMib, json: values.json };
}

export async function sink(args: readonly string[]): Promise<void> {
  const { only, sizeMib, count, sizesMib, json } = readArguments(args);
  const scratch = mkdtempSync('/dev/shm/exhibit-bench-sink-');
  const figures: Record<string, unknown> = {};
  const say = (title: string, text: string) => process.stdout.write(`\n${title}\n\n${text}\n`);
  try {
    const block = path.join(scratch, 'block');
    makeBlock(block);
    say(
      `${os.cpus().length} x ${os.cpus()[0]?.model ?? 'cpu'}, Linux ${os.release()}, Node ${process.version}`,
      new Date().toISOString(),
    );
    if (only.includes('upload')) {
      const sha256 = await digestOf(block, sizeMib * MIB);
      const rows = await rounds(waysOf(1), sizeMib, count, (way, size) => toRadosgw(way, block, size, sha256));
      figures.upload = rows;
      say(`To radosgw, ${count} rounds, medians, highest peaks`, `${table(rows)}\n\n${verdict(rows)}`);
    }
    if (only.includes('drop')) {
      const rows = await rounds(waysOf(4), sizeMib, count, (way, size) => toNowhere(way, block, size));
      figures.drop = rows;
      say(
        `To a server that drops everything, ${count} rounds, medians, highest peaks`,
        `${table(rows)}\n\n${verdict(rows)}`,
      );
    }
    if (only.includes('growth')) {
      const rows: Row[] = [];
      for (const size of sizesMib) {
        rows.push(...(await rounds(waysOf(4).slice(0, 2), size, 1, (way, mib) => toNowhere(way, block, mib))));
      }
      figures.growth = rows;
      say('Growth, to the server that drops everything', table(rows));
    }
    if (only.includes('first')) {
      const { text, rows } = await firstObject(Math.max(count, 5));
      figures.first = rows;
      say('From the trigger to the first objects in S3', text);
    }
    mkdirSync(path.dirname(json), { recursive: true });
    const about = { at: new Date().toISOString(), kernel: os.release(), cpus: os.cpus().length, node: process.version };
    writeFileSync(json, `${JSON.stringify({ ...about, ...figures }, null, 2)}\n`);
    process.stdout.write(`\nAll figures: ${json}\n`);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
