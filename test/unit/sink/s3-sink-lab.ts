import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach } from 'vitest';
import { openS3Sink, type S3SinkConfig, type S3SinkParts } from '../../../agent/sink/s3.ts';
import type { ObjectSubject, Sink } from '../../../agent/sink/sink.ts';
import { type ExhibitError, isExhibitError } from '../../../evidence/error.ts';
import { BUCKET, type FakeS3, type Operation, startFakeS3 } from './fake-s3.ts';

/** S3 sinks before a server of the test's own. */

export const PART_BYTES = 5 * 2 ** 20;
export const KEY = 'node/id/memory.tar.zst';
export const SMALL = randomBytes(1000);
export const LARGE = randomBytes(PART_BYTES + 1234);
export const about: ObjectSubject = {
  captureId: '0199a0b4-0000-7000-8000-000000000001',
  caseId: 'IR-2026/7',
  startedAtMs: Date.UTC(2026, 10, 27, 12),
  volatility: 1,
};
export const never = new AbortController().signal;

/** Of the test that runs. */
export let server: FakeS3;
export let warnings: { fields: object; event: string }[];

/** Gives each test of the file a server. */
export function eachWithFakeS3(): void {
  beforeEach(async () => {
    server = await startFakeS3();
    warnings = [];
  });
  afterEach(() => server[Symbol.asyncDispose]());
}

export function sinkWith(config: Partial<S3SinkConfig> = {}, parts: S3SinkParts = {}): Sink {
  return openS3Sink(
    { url: `s3://${BUCKET}`, endpoint: server.endpoint, forcePathStyle: true, partBytes: PART_BYTES, ...config },
    {
      credentials: { accessKeyId: 'key', secretAccessKey: 'secret' },
      log: { warn: (fields, event) => warnings.push({ fields, event }) },
      ...parts,
    },
  );
}

export async function store(sink: Sink, bytes: Buffer, subject: ObjectSubject | undefined = about): Promise<void> {
  const of = subject === undefined ? {} : { about: subject };
  await using object = await sink.open(KEY, { contentType: 'a/b', signal: never, ...of });
  await object.write(bytes);
  await object.commit();
}

export async function failureOf(work: Promise<void>): Promise<ExhibitError> {
  const failure = await work.then(
    () => new Error('it succeeded'),
    (error: unknown) => error,
  );
  if (!isExhibitError(failure)) throw failure;
  return failure;
}

/** Headers of the requests of this kind, in order. */
export const headersOf = (operation: Operation) =>
  server.requests.filter((one) => one.operation === operation).map(({ headers }) => headers);
