import { readdir, readFile } from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';

/**
 * A folder as S3 shows it, read-only: GetObject with ranges and ListObjectsV2. It stands in for S3 only to see what the
 * command line asks of it; the real servers are in test/contract and test/e2e.
 */
export interface S3Server extends AsyncDisposable {
  readonly endpoint: string;
  readonly requests: { path: string; authorization: string }[];
}

export async function serveAsS3(folder: string, bucket: string, prefix: string): Promise<S3Server> {
  const requests: S3Server['requests'] = [];
  const server = http.createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://s3');
    requests.push({ path: url.pathname, authorization: request.headers.authorization ?? '' });
    const key = decodeURIComponent(url.pathname).slice(`/${bucket}/`.length);
    const answer = url.searchParams.has('list-type')
      ? list(folder, `${prefix}/`, url.searchParams.get('prefix') ?? '')
      : get(folder, prefix, key, request.headers.range);
    void answer.then(({ status, body }) => response.writeHead(status, { 'content-length': body.length }).end(body));
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    endpoint: `http://127.0.0.1:${address.port}`,
    requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => void server.close(resolve));
    },
  };
}

interface Answer {
  readonly status: number;
  readonly body: Buffer;
}

async function list(folder: string, prefix: string, asked: string): Promise<Answer> {
  const names = asked === prefix ? await readdir(folder) : [];
  const entries = await Promise.all(
    names.map(async (name) => {
      const sizeBytes = (await readFile(path.join(folder, name))).length;
      return `<Contents><Key>${prefix}${name}</Key><Size>${sizeBytes}</Size></Contents>`;
    }),
  );
  const xml = `<ListBucketResult><IsTruncated>false</IsTruncated>${entries.join('')}</ListBucketResult>`;
  return { status: 200, body: Buffer.from(xml) };
}

async function get(folder: string, prefix: string, key: string, range: string | undefined): Promise<Answer> {
  const name = key.startsWith(`${prefix}/`) ? key.slice(prefix.length + 1) : '';
  const bytes = /^[\w.-]+$/.test(name) ? await readFile(path.join(folder, name)).catch(() => undefined) : undefined;
  if (bytes === undefined) {
    const body = '<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>';
    return { status: 404, body: Buffer.from(body) };
  }
  const [, start = '0', end = ''] = /^bytes=(\d+)-(\d*)$/.exec(range ?? '') ?? [];
  const body = bytes.subarray(Number(start), end === '' ? undefined : Number(end) + 1);
  return { status: range === undefined ? 200 : 206, body };
}
