/** What is really in a lab's S3 server, past whoever wrote it: objects with their bytes, versions, unfinished uploads. */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import {
  GetObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectVersionsCommand,
  type ListObjectVersionsCommandOutput,
  S3Client,
} from '@aws-sdk/client-s3';
import type { LabS3 } from './s3.ts';

/** Of one object as a test reads it back; those are 64 MiB at most. */
const MAX_OBJECT_BYTES = 256 * 2 ** 20;

export interface StoredVersion {
  readonly key: string;
  readonly versionId: string;
  readonly sizeBytes: number;
}

export interface UnfinishedUpload {
  readonly key: string;
  readonly uploadId: string;
}

/** The server's owner, who may do everything. */
export interface S3Store extends Disposable {
  readonly client: S3Client;
  /** The whole object, or undefined where there is none. */
  read(key: string): Promise<Buffer | undefined>;
  /** Everything below `prefix`, all versions, by key. */
  versions(prefix?: string): Promise<StoredVersion[]>;
  unfinishedUploads(): Promise<UnfinishedUpload[]>;
}

export function openS3Store(server: LabS3): S3Store {
  const { accessKeyId, secretAccessKey, endpoint, bucket, region } = server;
  const client = new S3Client({
    endpoint,
    region,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
    // moto answers the composite checksum of a multipart object as if it were that of its content.
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
  const versions = async (prefix?: string) => {
    const found: StoredVersion[] = [];
    let marker: { KeyMarker?: string; VersionIdMarker?: string } | undefined = {};
    while (marker !== undefined) {
      const page: ListObjectVersionsCommandOutput = await client.send(
        new ListObjectVersionsCommand({
          Bucket: bucket,
          ...(prefix === undefined ? {} : { Prefix: prefix }),
          ...marker,
        }),
      );
      for (const { Key = '', VersionId = '', Size = 0 } of page.Versions ?? []) {
        found.push({ key: Key, versionId: VersionId, sizeBytes: Size });
      }
      marker = nextPage(page);
    }
    return found;
  };
  return {
    client,
    versions: async (prefix) =>
      server.kind === 'radosgw' ? await withoutUploads(server, await versions(prefix)) : await versions(prefix),
    read: (key) => (server.kind === 'radosgw' ? readRadosgw(server, client, key) : readOverHttp(server, client, key)),
    async unfinishedUploads() {
      if (server.kind === 'radosgw') return await unfinishedInRadosgw(server);
      const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
      return Uploads.map(({ Key = '', UploadId = '' }) => ({ key: Key, uploadId: UploadId }));
    },
    [Symbol.dispose]: () => client.destroy(),
  };
}

function nextPage({ IsTruncated, NextKeyMarker, NextVersionIdMarker }: ListObjectVersionsCommandOutput) {
  if (IsTruncated !== true || NextKeyMarker === undefined) return undefined;
  return {
    KeyMarker: NextKeyMarker,
    ...(NextVersionIdMarker === undefined ? {} : { VersionIdMarker: NextVersionIdMarker }),
  };
}

async function readOverHttp(server: LabS3, client: S3Client, key: string): Promise<Buffer | undefined> {
  try {
    const { Body } = await client.send(new GetObjectCommand({ Bucket: server.bucket, Key: key }));
    return Body === undefined ? undefined : Buffer.from(await Body.transformToByteArray());
  } catch (error) {
    if (error instanceof Error && error.name === 'NoSuchKey') return undefined;
    throw error;
  }
}

/**
 * Rows of up to 8 MiB: `<upload id>.<part number>`, the piece of that part, its length in four bytes, it. Parts of uploads
 * that were given up may lie beside those of the object: its own are those that make its ETag, the MD5 of the parts' MD5s.
 */
const READ_STORE = `
import hashlib, sqlite3, sys
key, etag = sys.argv[1:]
db = sqlite3.connect('file:/var/lib/lab-s3/db/dbstore-default_ns.db?mode=ro', uri=True)
table = db.execute("select name from sqlite_master where name like '%objectdata_table'").fetchone()[0]
rows = db.execute('select MultipartPartStr, PartNum, Data from "%s" where ObjName = ?' % table, (key,)).fetchall()
uploads = {}
for part, piece, data in rows:
    upload, _, number = (part or '').rpartition('.')
    if number.isdigit():
        uploads.setdefault(upload, {}).setdefault(int(number), []).append((piece, data[4:]))
for parts in uploads.values():
    whole = [b''.join(data for _, data in sorted(pieces, key=lambda one: one[0])) for _, pieces in sorted(parts.items())]
    whole = whole[:int(etag.rpartition('-')[2])]
    digests = b''.join(hashlib.md5(part).digest() for part in whole)
    if etag == '%s-%d' % (hashlib.md5(digests).hexdigest(), len(whole)):
        sys.stdout.buffer.write(b''.join(whole))
        break
else:
    there = [(row[:-1], len(row[-1])) for row in db.execute('select ObjName, ObjID, MultipartPartStr, PartNum, Data from "%s"' % table).fetchall()]
    sys.exit('no parts in the store make the object %s with the ETag %s: %s' % (key, etag, there))
`;

/**
 * radosgw's SQLite store keeps multipart objects right and reads them wrong (docs/sinks.md), whoever wrote them. So
 * those are read from its database.
 */
async function readRadosgw(server: LabS3, client: S3Client, key: string): Promise<Buffer | undefined> {
  const { Versions = [] } = await client.send(new ListObjectVersionsCommand({ Bucket: server.bucket, Prefix: key }));
  const etag = Versions.find(({ Key }) => Key === key)?.ETag?.replaceAll('"', '');
  // The ETag of a multipart object ends with a hyphen and the number of its parts.
  if (!etag?.includes('-')) return await readOverHttp(server, client, key);
  return await askRadosgw(server, READ_STORE, key, etag);
}

/** One line of JSON an upload. Their names in the store: the key, a dot, the id, which begins with `2~` and has no dot. */
const LIST_UPLOADS = `
import json, sqlite3
db = sqlite3.connect('file:/var/lib/lab-s3/db/dbstore-default_ns.db?mode=ro', uri=True)
table = db.execute("select name from sqlite_master where name like '%_object_table'").fetchone()[0]
for name, in db.execute('select ObjName from "%s" where ObjNS = ?' % table, ('multipart',)).fetchall():
    key, _, upload = name.rpartition('.')
    print(json.dumps({'key': key, 'uploadId': upload}))
`;

/** radosgw's SQLite store answers ListMultipartUploads with an empty list, whatever is under way. */
async function unfinishedInRadosgw(server: LabS3): Promise<UnfinishedUpload[]> {
  const lines = (await askRadosgw(server, LIST_UPLOADS)).toString().split('\n');
  return lines.filter((line) => line !== '').map((line): UnfinishedUpload => JSON.parse(line));
}

/** It lists uploads that are under way as if they were objects: the key, a dot, the id. */
async function withoutUploads(server: LabS3, listed: readonly StoredVersion[]): Promise<StoredVersion[]> {
  const uploads = new Set((await unfinishedInRadosgw(server)).map(({ key, uploadId }) => `${key}.${uploadId}`));
  return listed.filter(({ key }) => !uploads.has(key));
}

/** Runs Python on the server's own machine, on the database that it has open. */
async function askRadosgw(server: LabS3, script: string, ...words: string[]): Promise<Buffer> {
  const argv = ['--target', pidOf(server), '--mount', '--root', '--', 'python3', '-c', script, ...words];
  const { stdout } = await promisify(execFile)('nsenter', argv, { encoding: 'buffer', maxBuffer: MAX_OBJECT_BYTES });
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
