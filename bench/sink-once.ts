/**
 * `node bench/sink-once.ts JOB`: one upload of one way in this process, for bench/sink.ts, which starts it as the agent is
 * started. Writes what it took as JSON. JOB is JSON, see SinkJob.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { S3Client } from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { openS3Sink } from '../agent/sink/s3.ts';
import { openVault } from '../agent/sink/vault.ts';
import type { StoredObject } from '../evidence/manifest.ts';
import { createBundleWriter } from '../evidence/write.ts';
import { readBlock } from './sink-source.ts';

export interface SinkJob {
  readonly way: 'exhibit' | 'lib-storage';
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly bucket: string;
  readonly key: string;
  readonly block: string;
  readonly sizeBytes: number;
  /** Undefined: lib-storage's own, 5 MiB and four at once. */
  readonly parts?: { readonly partBytes: number; readonly inFlight: number } | undefined;
}

export interface SinkFigure {
  readonly wallMs: number;
  /** Of all threads of this process. */
  readonly cpuMs: number;
  /** VmHWM of proc(5): of the whole life of the process. */
  readonly peakMib: number;
  /** VmHWM before the first byte was read. */
  readonly startMib: number;
  /** What exhibit's own record says of the object. */
  readonly stored?: { readonly sizeBytes: number; readonly sha256: string };
}

/** Node's TypeScript loader is still being compiled in the background; an agent has that behind it. */
const SETTLE_MS = 1000;
/** The agent's: compression.level, and what the memory collector asks of an archive (agent/collect/memory.ts). */
const LEVEL = 1;
const LEAN = { digestMembersUpTo: 16 * 1024 * 1024, storedDigestOnly: true };

/** As the agent's, on a tmpfs: a ledger of the object, and each part written ahead of being sent. */
async function openVaultFor(stack: AsyncDisposableStack) {
  const folder = await mkdtemp('/dev/shm/exhibit-bench-');
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  return await openVault(folder, randomBytes(32));
}

async function exhibit(job: SinkJob): Promise<Pick<SinkFigure, 'stored'>> {
  await using stack = new AsyncDisposableStack();
  const vault = await openVaultFor(stack);
  const { endpoint, accessKeyId, secretAccessKey, bucket, parts } = job;
  await using sink = openS3Sink(
    {
      url: `s3://${bucket}`,
      endpoint,
      forcePathStyle: true,
      ifNoneMatch: false,
      partBytes: parts?.partBytes,
      maxPartsInFlight: parts?.inFlight,
    },
    { credentials: { accessKeyId, secretAccessKey }, vault },
  );
  const { signal } = new AbortController();
  const objects: StoredObject[] = [];
  const bundle = createBundleWriter(
    (_name, contentType, estimatedBytes) =>
      sink.open(job.key, { contentType, signal, ...(estimatedBytes === undefined ? {} : { estimatedBytes }) }),
    { level: LEVEL, onStored: (object) => objects.push(object) },
  );
  await using archive = await bundle.openArchive('memory.tar.zst', { ...LEAN, estimatedBytes: job.sizeBytes });
  const header = { path: 'content', type: 'file', sizeBytes: job.sizeBytes } as const;
  await archive.add(header, readBlock(job.block, job.sizeBytes, false));
  await archive.commit();
  const [object] = objects;
  if (object === undefined) throw new Error('nothing was stored');
  return { stored: object.stored };
}

async function libStorage(job: SinkJob): Promise<Pick<SinkFigure, 'stored'>> {
  const { endpoint, accessKeyId, secretAccessKey, bucket, key, parts } = job;
  const client = new S3Client({
    endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
  });
  const Body = Readable.from(readBlock(job.block, job.sizeBytes, true));
  const own = parts === undefined ? {} : { partSize: parts.partBytes, queueSize: parts.inFlight };
  await new Upload({ client, params: { Bucket: bucket, Key: key, Body }, ...own }).done();
  client.destroy();
  return {};
}

const peakMib = (): number =>
  Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? Number.NaN) / 1024;

const job = JSON.parse(process.argv[2] ?? '') as SinkJob;
await sleep(SETTLE_MS);
const startMib = peakMib();
const cpu = process.cpuUsage();
const begin = performance.now();
const done = await (job.way === 'exhibit' ? exhibit(job) : libStorage(job));
const wallMs = performance.now() - begin;
const { user, system } = process.cpuUsage(cpu);
const figure: SinkFigure = { wallMs, cpuMs: (user + system) / 1000, peakMib: peakMib(), startMib, ...done };
process.stdout.write(`${JSON.stringify(figure)}\n`);
