import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import { crc64Nvme } from '../../../agent/sink/crc64-nvme.ts';

/** The S3 requests that a sink may send; anything else is answered 403, as an append-only identity would see it. */
export type Operation =
  | 'PutObject'
  | 'CreateMultipartUpload'
  | 'UploadPart'
  | 'CompleteMultipartUpload'
  | 'AbortMultipartUpload';

export interface Request {
  readonly operation: Operation;
  readonly key: string;
  /** Of an UploadPart, from 1. */
  readonly part: number;
  /** How often this operation was asked for before, in all. */
  readonly earlier: number;
  readonly headers: IncomingHttpHeaders;
}

/** What a faulty server does in place of its duty, or after it. */
export type Fault =
  | { kind: 'answer'; status: number; code: string; message?: string }
  /** Closes the connection after so many bytes of the body. */
  | { kind: 'reset'; afterBytes: number }
  /** Takes the request and never answers. */
  | { kind: 'stall' }
  /** Does its duty and closes the connection instead of saying so. */
  | { kind: 'do-and-reset' }
  /** Answers 200 with the checksum of other bytes. */
  | { kind: 'wrong-checksum' };

interface Upload {
  readonly key: string;
  readonly parts: Map<number, Buffer>;
}

/** Requests that look at what is there; an append-only identity is refused all of them. */
export type Question = 'ListObjectsV2' | 'HeadObject' | 'GetObjectLockConfiguration' | 'GetBucketVersioning';

/** An S3 server in this process: path-style, one bucket, everything in memory, faults by order. */
export interface FakeS3 extends AsyncDisposable {
  readonly endpoint: string;
  readonly objects: Map<string, Buffer>;
  readonly contentTypes: Map<string, string>;
  readonly uploads: Map<string, Upload>;
  readonly requests: Request[];
  /** Operation names of everything else that was asked for. */
  readonly refused: string[];
  /** Every question that was asked, in order. */
  readonly questions: Question[];
  /** What a question is answered with; refused unless told. */
  reply: (
    question: Question,
    key: string,
  ) => { readonly status: number; readonly body?: string; readonly code?: string };
  fault: (request: Request) => Fault | undefined;
  /** This server's clock minus that of this machine; signatures more than 15 minutes off are refused, as S3 does. */
  clockOffsetMs: number;
  /** As servers do that know nothing of encryption. */
  ignoresEncryption: boolean;
}

const SKEW_LIMIT_MS = 15 * 60_000;

export const BUCKET = 'evidence';

export async function startFakeS3(): Promise<FakeS3> {
  const server = createServer((request, response) => {
    serve(fake, request, response).catch((error: unknown) => {
      response.destroy(error instanceof Error ? error : new Error(String(error)));
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const fake: FakeS3 = {
    endpoint: `http://127.0.0.1:${port}`,
    objects: new Map(),
    contentTypes: new Map(),
    uploads: new Map(),
    requests: [],
    refused: [],
    questions: [],
    reply: () => ({ status: 403, code: 'AccessDenied' }),
    fault: () => undefined,
    clockOffsetMs: 0,
    ignoresEncryption: false,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
  return fake;
}

async function serve(fake: FakeS3, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://s3');
  const now = new Date(Date.now() + fake.clockOffsetMs);
  response.setHeader('date', now.toUTCString());
  const [, bucket, ...segments] = url.pathname.split('/');
  const key = segments.map(decodeURIComponent).join('/');
  const operation = operationOf(request.method, url);
  const question = operation === undefined ? questionOf(request.method, url, key) : undefined;
  if (question !== undefined) {
    fake.questions.push(question);
    const { status, body, code } = fake.reply(question, key);
    return code === undefined ? void response.writeHead(status).end(body) : answer(response, status, code);
  }
  if (operation === undefined) {
    fake.refused.push(`${request.method} ${request.url}`);
    return answer(response, 403, 'AccessDenied');
  }
  const part = Number(url.searchParams.get('partNumber') ?? 0);
  const earlier = fake.requests.filter((one) => one.operation === operation).length;
  const seen = { operation, key, part, earlier, headers: request.headers };
  fake.requests.push(seen);
  const fault = fake.fault(seen);
  if (fault?.kind === 'reset') return await reset(request, fault.afterBytes);
  const body = await bodyOf(request);
  if (fault?.kind === 'stall') return;
  if (fault?.kind === 'answer') return answer(response, fault.status, fault.code, fault.message);
  if (bucket !== BUCKET) return answer(response, 404, 'NoSuchBucket');
  if (Math.abs(now.getTime() - signedAtMs(request)) > SKEW_LIMIT_MS)
    return answer(response, 403, 'RequestTimeTooSkewed');
  const stored = await handle(fake, { ...seen, url, request, body });
  if (fault?.kind === 'do-and-reset') return void request.socket.destroy();
  if (fault?.kind === 'wrong-checksum') return lie(response, stored);
  response.writeHead(stored.status, stored.headers).end(stored.body);
}

/** `x-amz-date` is `20260101T000000Z`. */
function signedAtMs({ headers }: IncomingMessage): number {
  return Date.parse(String(headers['x-amz-date']).replace(/^(....)(..)(..)T(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6Z'));
}

function operationOf(method: string | undefined, url: URL): Operation | undefined {
  const upload = url.searchParams.has('uploadId');
  if (method === 'PUT') return upload ? 'UploadPart' : 'PutObject';
  if (method === 'POST')
    return upload ? 'CompleteMultipartUpload' : url.searchParams.has('uploads') ? 'CreateMultipartUpload' : undefined;
  return method === 'DELETE' && upload ? 'AbortMultipartUpload' : undefined;
}

function questionOf(method: string | undefined, url: URL, key: string): Question | undefined {
  if (method === 'HEAD' && key !== '') return 'HeadObject';
  if (method !== 'GET' || key !== '') return undefined;
  if (url.searchParams.get('list-type') === '2') return 'ListObjectsV2';
  if (url.searchParams.has('object-lock')) return 'GetObjectLockConfiguration';
  return url.searchParams.has('versioning') ? 'GetBucketVersioning' : undefined;
}

interface Asked extends Request {
  readonly url: URL;
  readonly request: IncomingMessage;
  readonly body: Buffer;
}

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
}

/** The checksum that the request announces, made of the body that came. */
async function checksumOf(headers: IncomingHttpHeaders, body: Buffer): Promise<{ name: string; value: string }> {
  return 'x-amz-checksum-crc64nvme' in headers
    ? { name: 'x-amz-checksum-crc64nvme', value: (await crc64Nvme(body)).toString('base64') }
    : { name: 'x-amz-checksum-sha256', value: sha256(body) };
}

async function handle(fake: FakeS3, asked: Asked): Promise<Answer> {
  const { key, part, body, request } = asked;
  const uploadId = asked.url.searchParams.get('uploadId') ?? '';
  const upload = fake.uploads.get(uploadId);
  const checksum = await checksumOf(request.headers, body);
  const header = (name: string) => String(request.headers[name] ?? '');
  const exists = header('if-none-match') === '*' && fake.objects.has(key);
  switch (asked.operation) {
    case 'PutObject':
      if (exists) return failure(412, 'PreconditionFailed');
      if (header(checksum.name) !== checksum.value) return failure(400, 'BadDigest');
      if (header('x-amz-content-sha256') !== sha256Hex(body)) return failure(400, 'XAmzContentSHA256Mismatch');
      fake.objects.set(key, body);
      fake.contentTypes.set(key, header('content-type'));
      return success('', { etag: etag(body), [checksum.name]: checksum.value });
    case 'CreateMultipartUpload': {
      const id = randomUUID();
      fake.uploads.set(id, { key, parts: new Map() });
      const encryption = header('x-amz-server-side-encryption');
      fake.contentTypes.set(key, header('content-type'));
      return success(
        `<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`,
        encryption === '' || fake.ignoresEncryption ? {} : { 'x-amz-server-side-encryption': encryption },
      );
    }
    case 'UploadPart':
      if (upload === undefined) return failure(404, 'NoSuchUpload');
      if (header(checksum.name) !== checksum.value) return failure(400, 'BadDigest');
      if (header('x-amz-content-sha256') !== sha256Hex(body)) return failure(400, 'XAmzContentSHA256Mismatch');
      upload.parts.set(part, body);
      return success('', { etag: etag(body), [checksum.name]: checksum.value });
    case 'CompleteMultipartUpload':
      if (upload === undefined) return failure(404, 'NoSuchUpload');
      if (exists) return failure(412, 'PreconditionFailed');
      return await complete(fake, uploadId, upload, body.toString(), request.headers);
    case 'AbortMultipartUpload':
      return fake.uploads.delete(uploadId) ? { status: 204, headers: {}, body: '' } : failure(404, 'NoSuchUpload');
  }
}

/** Takes the parts that the request lists, in its order, each with its ETag and checksum. */
async function complete(
  fake: FakeS3,
  uploadId: string,
  upload: Upload,
  listed: string,
  headers: IncomingHttpHeaders,
): Promise<Answer> {
  const crc = headers['x-amz-checksum-type'] === 'FULL_OBJECT';
  const bodies: Buffer[] = [];
  for (const [, xml = ''] of listed.matchAll(/<Part>(.*?)<\/Part>/gs)) {
    const field = (name: string) => new RegExp(`<${name}>(.*?)</${name}>`).exec(xml)?.[1] ?? '';
    const body = upload.parts.get(Number(field('PartNumber')));
    if (body === undefined) return failure(400, 'InvalidPart');
    // The checksums of parts are needed with SHA-256 and may be left out with a checksum of the whole object.
    const [given, actual] = crc
      ? [field('ChecksumCRC64NVME'), (await crc64Nvme(body)).toString('base64')]
      : [field('ChecksumSHA256'), sha256(body)];
    if (given !== actual && !(crc && given === '')) return failure(400, 'InvalidPart');
    if (field('ETag').replaceAll('&quot;', '"') !== etag(body)) return failure(400, 'InvalidPart');
    bodies.push(body);
  }
  const object = Buffer.concat(bodies);
  if (headers['x-amz-mp-object-size'] !== String(object.length)) return failure(400, 'InvalidRequest');
  const whole = crc ? (await crc64Nvme(object)).toString('base64') : undefined;
  if (crc && (headers['x-amz-checksum-crc64nvme'] ?? whole) !== whole) return failure(400, 'BadDigest');
  fake.objects.set(upload.key, object);
  fake.uploads.delete(uploadId);
  const digests = bodies.map((body) => createHash('sha256').update(body).digest());
  const composite = `${sha256(Buffer.concat(digests))}-${bodies.length}`;
  const answered = crc
    ? `<ChecksumCRC64NVME>${whole}</ChecksumCRC64NVME>`
    : `<ChecksumSHA256>${composite}</ChecksumSHA256>`;
  return success(`<CompleteMultipartUploadResult>${answered}</CompleteMultipartUploadResult>`);
}

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('base64');
const sha256Hex = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
const etag = (bytes: Buffer) => `"${createHash('md5').update(bytes).digest('hex')}"`;
const success = (body: string, headers: Record<string, string> = {}): Answer => ({ status: 200, headers, body });
const failure = (status: number, code: string): Answer => ({ status, headers: {}, body: errorXml(code) });
const errorXml = (code: string, message = `${code}, by order`) =>
  `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`;

/** As if other bytes had been stored. */
function lie(response: ServerResponse, { status, headers, body }: Answer): void {
  const other = sha256(Buffer.from('other bytes'));
  const lies = Object.entries(headers).map(([name, value]) => [
    name,
    name.startsWith('x-amz-checksum-') ? other : value,
  ]);
  response
    .writeHead(status, Object.fromEntries(lies))
    .end(body.replace(/(?<=<Checksum(?:SHA256|CRC64NVME)>)[^-<]*/, other));
}

function answer(response: ServerResponse, status: number, code: string, message?: string): void {
  response.writeHead(status, { 'content-type': 'application/xml' }).end(errorXml(code, message));
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

async function reset(request: IncomingMessage, afterBytes: number): Promise<void> {
  let bytes = 0;
  if (afterBytes > 0) {
    for await (const chunk of request) {
      bytes += (chunk as Buffer).length;
      if (bytes >= afterBytes) break;
    }
  }
  request.socket.resetAndDestroy();
}
