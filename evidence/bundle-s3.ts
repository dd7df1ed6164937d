import { GetObjectCommand, ListObjectsV2Command, S3Client, S3ServiceException } from '@aws-sdk/client-s3';
import type { BundleEntry, BundleReader, OpenBundleOptions } from './bundle.ts';
import type { CaptureFolder } from './captures.ts';
import { ExhibitError } from './error.ts';

/** Names are bounded by S3 itself (1,024 bytes a key, 1,000 keys a page). */
export function openS3Bundle(url: string, options: OpenBundleOptions): BundleReader {
  const { bucket, prefix } = parseS3Url(url);
  const client = openClient(options);
  return readerOf(client, bucket, prefix, async () => client.destroy());
}

function readerOf(client: S3Client, bucket: string, prefix: string, dispose: () => Promise<void>): BundleReader {
  return {
    url: `s3://${bucket}/${prefix.replace(/\/$/, '')}`,
    list: () => listObjects(client, bucket, prefix),
    read: (name, range) => readObject(client, bucket, prefix, name, range?.start ?? 0, range?.end),
    [Symbol.asyncDispose]: dispose,
  };
}

/** The captures right below `url`, all read by one client. */
export function openS3Captures(url: string, options: OpenBundleOptions): CaptureFolder {
  const { bucket, prefix } = parseS3Url(url);
  const client = openClient(options);
  return {
    url,
    list: () => listFolders(client, bucket, prefix),
    open: async (name) => readerOf(client, bucket, `${prefix}${name}/`, async () => undefined),
    async [Symbol.asyncDispose]() {
      client.destroy();
    },
  };
}

function openClient(options: OpenBundleOptions): S3Client {
  const endpoint = options.endpoint ?? process.env.AWS_ENDPOINT_URL_S3 ?? process.env.AWS_ENDPOINT_URL;
  return new S3Client({
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(options.region === undefined ? {} : { region: options.region }),
    forcePathStyle: options.forcePathStyle ?? endpoint !== undefined,
    // Whole-object checksums cannot be checked on ranges; the manifest's SHA-256 is the judge.
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
}

/** The names right below `prefix` that hold something: what a file system would call its folders. */
async function* listFolders(client: S3Client, bucket: string, prefix: string): AsyncGenerator<string> {
  for (let token: string | undefined, more = true; more; ) {
    const input = { Bucket: bucket, Prefix: prefix, Delimiter: '/', ContinuationToken: token };
    const page = await ask(`list s3://${bucket}/${prefix}`, () => client.send(new ListObjectsV2Command(input)));
    for (const { Prefix: found = '' } of page.CommonPrefixes ?? []) yield found.slice(prefix.length, -1);
    token = page.NextContinuationToken;
    more = page.IsTruncated === true && token !== undefined;
  }
}

/** `prefix` ends with a slash, or is empty. Throws ExhibitError `usage`. */
export function parseS3Url(url: string): { readonly bucket: string; readonly prefix: string } {
  // Not URL: a key may hold what a URL would decode.
  const parts = /^s3:\/\/([^/]+)(?:\/(.*))?$/s.exec(url);
  if (parts === null) throw new ExhibitError('usage', `${url} is no S3 location: write s3://bucket/prefix`);
  const path = (parts[2] ?? '').replace(/\/+$/, '');
  return { bucket: parts[1] ?? '', prefix: path === '' ? '' : `${path}/` };
}

async function* listObjects(client: S3Client, bucket: string, prefix: string): AsyncGenerator<BundleEntry> {
  for (let token: string | undefined, more = true; more; ) {
    const page = await ask(`list s3://${bucket}/${prefix}`, () =>
      client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, ContinuationToken: token })),
    );
    for (const { Key: key = '', Size: sizeBytes = 0 } of page.Contents ?? []) {
      yield { name: key.slice(prefix.length), sizeBytes };
    }
    token = page.NextContinuationToken;
    more = page.IsTruncated === true && token !== undefined;
  }
}

async function* readObject(
  client: S3Client,
  bucket: string,
  prefix: string,
  name: string,
  start: number,
  end: number | undefined,
): AsyncGenerator<Uint8Array> {
  if (end !== undefined && end <= start) return;
  const range = start === 0 && end === undefined ? undefined : `bytes=${start}-${end === undefined ? '' : end - 1}`;
  const abort = new AbortController();
  let body: AsyncIterable<Uint8Array>;
  try {
    const answer = await ask(`read s3://${bucket}/${prefix}${name}`, () =>
      client.send(new GetObjectCommand({ Bucket: bucket, Key: prefix + name, Range: range }), {
        abortSignal: abort.signal,
      }),
    );
    body = bytesOf(answer.Body, prefix + name);
  } catch (error) {
    // A range of an empty object, or past an object's end, is no bytes.
    if (error instanceof ExhibitError && statusOf(error.cause) === 416) return;
    throw error;
  }
  try {
    yield* body;
  } finally {
    // A reader that has seen enough does not fetch the rest.
    abort.abort();
  }
}

function bytesOf(body: unknown, key: string): AsyncIterable<Uint8Array> {
  if (typeof body === 'object' && body !== null && isBytes(body)) return body;
  throw new ExhibitError('bundle-corrupt', `S3 answered for ${key} without a body`);
}

function isBytes(body: object): body is AsyncIterable<Uint8Array> {
  return Symbol.asyncIterator in body;
}

async function ask<T>(what: string, request: () => Promise<T>): Promise<T> {
  try {
    return await request();
  } catch (cause) {
    const status = statusOf(cause);
    if (status === 404) throw new ExhibitError('bundle-not-found', `cannot ${what}: it does not exist`, { cause });
    if (status === 403) {
      const advice = 'these credentials may not; reading needs s3:GetObject and s3:ListBucket';
      throw new ExhibitError('bundle-not-found', `cannot ${what}: ${advice}`, { cause });
    }
    throw new ExhibitError('sink-failed', `cannot ${what}`, { cause });
  }
}

function statusOf(error: unknown): number | undefined {
  return error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
}
