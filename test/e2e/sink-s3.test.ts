import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { GetObjectCommand, ListMultipartUploadsCommand, ListObjectVersionsCommand, S3Client } from '@aws-sdk/client-s3';
import { openSink } from '../../agent/sink/open.ts';
import { type SinkUnderTest, sinkContract } from '../contract/sink.ts';
import { s3Obstacle } from '../lab/requires.ts';
import { type LabS3, startMoto, startS3 } from '../lab/s3.ts';

/** S3's smallest part, so that the suite's objects stay small. */
const PART_BYTES = 5 * 2 ** 20;
const PREFIX = 'cases/2026';

sinkContract('the S3 sink on Ceph’s radosgw', () => onServer(startS3, false, readFromStore), s3Obstacle());
sinkContract('the S3 sink on moto', () => onServer(startMoto, true, readOverS3), s3Obstacle());

type Read = (server: LabS3, client: S3Client, key: string) => Promise<Uint8Array | undefined>;

async function onServer(start: () => Promise<LabS3>, refusesOverwrite: boolean, read: Read): Promise<SinkUnderTest> {
  const server = await start();
  const { accessKeyId, secretAccessKey, endpoint, bucket, region } = server;
  const credentials = { accessKeyId, secretAccessKey };
  // moto answers the composite checksum of a multipart object as if it were that of its content.
  const client = new S3Client({
    endpoint,
    region,
    credentials,
    forcePathStyle: true,
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
  const sink = openSink(
    {
      url: `s3://${bucket}/${PREFIX}`,
      endpoint,
      forcePathStyle: true,
      partBytes: PART_BYTES,
      ifNoneMatch: refusesOverwrite,
      // radosgw's SQLite store loses a part now and then when several come at once (docs/sinks.md).
      maxPartsInFlight: server.kind === 'radosgw' ? 1 : 4,
    },
    { credentials },
  );
  return {
    sink,
    partBytes: PART_BYTES,
    refusesOverwrite,
    // Its one user owns the bucket.
    rights: { list: 'allowed', read: 'allowed', overwrites: !refusesOverwrite, retention: 'none' },
    read: (key) => read(server, client, `${PREFIX}/${key}`),
    list: () => everythingIn(client, bucket),
    async [Symbol.asyncDispose]() {
      client.destroy();
      await sink[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

/** Objects with all of their versions, and uploads that nobody has finished. */
async function everythingIn(client: S3Client, bucket: string): Promise<string[]> {
  const { Versions = [] } = await client.send(new ListObjectVersionsCommand({ Bucket: bucket }));
  const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
  const uploads = Uploads.map(({ Key, UploadId }) => `unfinished ${Key} ${UploadId}`);
  return [...Versions.map(({ Key, VersionId }) => `${Key} ${VersionId}`), ...uploads].sort();
}

async function readOverS3(server: LabS3, client: S3Client, key: string): Promise<Uint8Array | undefined> {
  try {
    const { Body } = await client.send(new GetObjectCommand({ Bucket: server.bucket, Key: key }));
    return await Body?.transformToByteArray();
  } catch (error) {
    if (error instanceof Error && error.name === 'NoSuchKey') return undefined;
    throw error;
  }
}

/** Rows of up to 8 MiB: `<upload id>.<part number>` or nothing, the piece of that part, its length in four bytes, it. */
const READ_STORE = `
import sqlite3, sys
db = sqlite3.connect('file:/var/lib/lab-s3/db/dbstore-default_ns.db?mode=ro', uri=True)
table = db.execute("select name from sqlite_master where name like '%objectdata_table'").fetchone()[0]
rows = db.execute('select MultipartPartStr, PartNum, Data from "%s" where ObjName = ?' % table, (sys.argv[1],)).fetchall()
number = lambda part: int(part.rpartition('.')[2]) if '.' in part else 0
for _, _, data in sorted(rows, key=lambda row: (number(row[0] or ''), row[1])):
    sys.stdout.buffer.write(data[4:])
`;

/**
 * radosgw's SQLite store keeps multipart objects right and reads them wrong (docs/sinks.md), whoever wrote them. So
 * those are read from its database.
 */
async function readFromStore(server: LabS3, client: S3Client, key: string): Promise<Uint8Array | undefined> {
  const { Versions = [] } = await client.send(new ListObjectVersionsCommand({ Bucket: server.bucket, Prefix: key }));
  const found = Versions.find(({ Key }) => Key === key);
  // The ETag of a multipart object ends with a hyphen and the number of its parts.
  if (!found?.ETag?.includes('-')) return await readOverS3(server, client, key);
  const argv = ['--target', pidOf(server), '--mount', '--root', '--', 'python3', '-c', READ_STORE, key];
  const { stdout } = await promisify(execFile)('nsenter', argv, { encoding: 'buffer', maxBuffer: 64 * 2 ** 20 });
  return stdout;
}

/** The server that listens on this endpoint. */
function pidOf({ endpoint }: LabS3): string {
  const argument = `endpoint=${new URL(endpoint).host}`;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
      if (words[0] === 'radosgw' && words.some((word) => word.endsWith(argument))) return pid;
    } catch {
      // Gone between listing and reading.
    }
  }
  throw new Error(`no radosgw serves ${endpoint}`);
}
