/**
 * What the vault costs an object on its way to S3: nothing kept, the ledger alone, and every part written ahead of being sent.
 *
 *   node bench/spool.ts [--size MIB] [--rounds N] [--server drop|radosgw]
 *
 * Bytes come through a frame writer that does not compress, as memory does at level 0: SHA-256 of what is stored is part of each
 * way. `drop` answers every request and keeps nothing; it is a process of its own, as radosgw is. All ways are taken in turn, several
 * rounds in one run: compare the CPU time of this process, not the wall time of a machine that does other things as well.
 */
import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { openSink } from '../agent/sink/open.ts';
import { openVault } from '../agent/sink/vault.ts';
import { createFrameWriter } from '../evidence/frames.ts';
import { startS3 } from '../test/lab/s3.ts';
import { median } from './median.ts';

const WAYS = ['no vault', 'ledger', 'ledger and write-ahead'] as const;
type Way = (typeof WAYS)[number];

const CHUNK_BYTES = 1024 * 1024;
/** A tmpfs on every Linux. */
const MEMORY_FOLDER = '/dev/shm';

interface Server extends AsyncDisposable {
  readonly endpoint: string;
  readonly bucket: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
}

/** As the child of this file: answers, and drops what comes. */
async function serveDropping(): Promise<void> {
  const server = createServer((request, response) => {
    request.resume().once('end', () => {
      const etag = '"00000000000000000000000000000000"';
      const body = request.url?.includes('uploads')
        ? '<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>'
        : request.method === 'POST'
          ? '<CompleteMultipartUploadResult></CompleteMultipartUploadResult>'
          : '';
      response.writeHead(200, { etag }).end(body);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  process.send?.(typeof address === 'object' && address !== null ? address.port : 0);
}

async function startDropping(): Promise<Server> {
  const child = fork(import.meta.filename, ['--serve'], { stdio: 'inherit' });
  const [port] = await once(child, 'message');
  return {
    endpoint: `http://127.0.0.1:${port}`,
    bucket: 'evidence',
    credentials: { accessKeyId: 'key', secretAccessKey: 'secret' },
    async [Symbol.asyncDispose]() {
      child.kill();
      await once(child, 'exit');
    },
  };
}

async function startRadosgw(): Promise<Server> {
  const server = await startS3();
  const { endpoint, bucket, accessKeyId, secretAccessKey } = server;
  return {
    endpoint,
    bucket,
    credentials: { accessKeyId, secretAccessKey },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

interface Figure {
  readonly cpuMs: number;
  readonly wallMs: number;
  readonly mostSpoolBytes: number;
}

async function measure(server: Server, way: Way, key: string, sizeBytes: number): Promise<Figure> {
  const folder = mkdtempSync(path.join(MEMORY_FOLDER, 'exhibit-bench-spool-'));
  try {
    const vault = way === 'no vault' ? undefined : await openVault(folder, randomBytes(32));
    const { endpoint, bucket, credentials } = server;
    await using sink = openSink(
      {
        url: `s3://${bucket}`,
        endpoint,
        forcePathStyle: true,
        ifNoneMatch: false,
        maxPartsInFlight: 2,
        writeAhead: way === 'ledger and write-ahead',
      },
      { credentials, ...(vault && { vault }) },
    );
    const chunk = randomBytes(CHUNK_BYTES);
    let mostSpoolBytes = 0;
    const cpu = process.cpuUsage();
    const begin = performance.now();
    {
      await using object = await sink.open(key, {
        contentType: 'application/zstd',
        signal: new AbortController().signal,
      });
      const frames = createFrameWriter(object, { level: 0, storedDigestOnly: true });
      for (let sent = 0; sent < sizeBytes; sent += CHUNK_BYTES) {
        await frames.write(chunk);
        mostSpoolBytes = Math.max(mostSpoolBytes, vault?.usedBytes ?? 0);
      }
      await frames.end();
      await object.commit();
    }
    const { user, system } = process.cpuUsage(cpu);
    return { cpuMs: (user + system) / 1000, wallMs: performance.now() - begin, mostSpoolBytes };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      size: { type: 'string', default: '512' },
      rounds: { type: 'string', default: '5' },
      server: { type: 'string', default: 'drop' },
      serve: { type: 'boolean', default: false },
    },
  });
  if (values.serve) return await serveDropping();
  const sizeBytes = Number(values.size) * 2 ** 20;
  await using server = values.server === 'radosgw' ? await startRadosgw() : await startDropping();
  const figures = new Map<Way, Figure[]>(WAYS.map((way) => [way, []]));
  await measure(server, 'ledger and write-ahead', 'warm-up', sizeBytes / 4);
  for (let round = 0; round < Number(values.rounds); round += 1) {
    for (const way of WAYS) figures.get(way)?.push(await measure(server, way, `${round}/${way}`, sizeBytes));
  }
  const perGib = (ms: number) => ((ms / sizeBytes) * 2 ** 30) / 1000;
  process.stdout.write(`${values.size} MiB to ${values.server}, ${values.rounds} rounds, medians\n`);
  for (const way of WAYS) {
    const own = figures.get(way) ?? [];
    const cpu = perGib(median(own.map(({ cpuMs }) => cpuMs))).toFixed(2);
    const wall = perGib(median(own.map(({ wallMs }) => wallMs))).toFixed(2);
    const most = (Math.max(...own.map(({ mostSpoolBytes }) => mostSpoolBytes)) / 2 ** 20).toFixed(1);
    process.stdout.write(`${way.padEnd(24)} ${cpu} s CPU/GiB  ${wall} s/GiB  at most ${most} MiB in the vault\n`);
  }
}

await main();
