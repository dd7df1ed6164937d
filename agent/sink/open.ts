import { z } from 'zod';
import { ExhibitError } from '../../evidence/error.ts';
import { byteSizeWithin } from '../byte-size.ts';
import { openLocalSink } from './local.ts';
import { openS3Sink, type S3SinkParts } from './s3.ts';
import { CHECKSUMS } from './s3-checksum.ts';
import { encryptionSchema } from './s3-encryption.ts';
import { tagsSchema } from './s3-labels.ts';
import { objectLockSchema } from './s3-lock.ts';
import { MAX_PART_BYTES, MIN_PART_BYTES } from './s3-parts.ts';
import { retrySchema } from './s3-retry.ts';
import type { Sink } from './sink.ts';

/** More requests at once than this gain nothing on one node and cost memory. */
const MOST_PARTS_IN_FLIGHT = 32;
/** S3's smallest part then takes 80 s on the line; any slower, and a request would time out behind its neighbours. */
const MIN_BYTES_PER_SECOND = 64 * 1024;

/** Faults across a section are told along with those inside it. */
export const EVEN_WITH_FAULTS = {
  when: ({ value }: { value: unknown }) => typeof value === 'object' && value !== null && !Array.isArray(value),
};

/** The `sink` section of the agent's configuration. */
export const sinkSchema = z
  .strictObject({
    url: z.string().regex(/^(file|s3):\/\//, { error: 'file:///folder or s3://bucket/prefix' }),
    endpoint: z.url({ protocol: /^https?$/, error: 'a URL such as https://s3.example.com' }).optional(),
    region: z.string().min(1).optional(),
    forcePathStyle: z.boolean().optional(),
    ifNoneMatch: z.boolean().optional(),
    maxPartsInFlight: z.number().int().min(1).max(MOST_PARTS_IN_FLIGHT).optional(),
    partBytes: byteSizeWithin(MIN_PART_BYTES, MAX_PART_BYTES).optional(),
    writeAhead: z.boolean().optional(),
    checksum: z.enum(CHECKSUMS).optional(),
    serverSideEncryption: encryptionSchema.optional(),
    objectLock: objectLockSchema.optional(),
    metadata: z.boolean().optional(),
    tags: tagsSchema.optional(),
    maxBytesPerSecond: byteSizeWithin(MIN_BYTES_PER_SECOND).optional(),
    retry: retrySchema.optional(),
  })
  .superRefine(({ url, ...rest }, context) => {
    if (!url.startsWith('file:')) return;
    for (const key of Object.keys(rest)) {
      context.addIssue({ code: 'custom', path: [key], message: 'nothing: this is for s3:// only' });
    }
  });
export type SinkConfig = z.output<typeof sinkSchema>;

/** Each sink of a capture holds the parts of an object that are on their way: up to 40 MiB, and 64 MiB with larger parts. */
const MOST_SINKS = 8;

const sinkName = z.string().regex(/^[a-z0-9-]{1,40}$/, { error: 'a name of a-z, 0-9 and -, at most 40 characters' });

/** The `sinks` section: several, by their names. */
export const sinksSchema = z
  .record(sinkName, sinkSchema, { error: 'a sink or more, each by its name' })
  .superRefine((sinks, context) => {
    const names = Object.keys(sinks);
    if (names.length === 0 || names.length > MOST_SINKS) {
      context.addIssue({ code: 'custom', message: `1 to ${MOST_SINKS} sinks, each by its name` });
    }
    for (const [name, twin] of twins(sinks)) {
      context.addIssue({ code: 'custom', path: [name, 'url'], message: `another place than that of the sink ${twin}` });
    }
  }, EVEN_WITH_FAULTS);

/** Names of sinks whose place an earlier one has, and that one's name. Takes a section that may have other faults. */
function twins(sinks: Record<string, Partial<SinkConfig> | undefined>): [name: string, twin: string][] {
  const places = Object.entries(sinks).map(([name, sink]) => ({ name, place: String(sink?.url).replace(/\/+$/, '') }));
  return places.flatMap(({ name, place }, index) => {
    const twin = places.slice(0, index).find((earlier) => earlier.place === place);
    return twin === undefined ? [] : [[name, twin.name] as [string, string]];
  });
}

/**
 * Opens a sink of the configuration; `name` is what it is called there. Nothing is contacted or written before `check` or `open`.
 * @throws ExhibitError `config`
 */
export function openSink(config: SinkConfig, parts: S3SinkParts & { readonly name?: string } = {}): Sink {
  const scheme = /^[a-z][a-z0-9+.-]*(?=:)/i.exec(config.url)?.[0];
  switch (scheme) {
    case 'file':
      return openLocalSink(config);
    case 's3':
      return openS3Sink(config, parts);
    default:
      throw new ExhibitError(
        'config',
        `the sink ${config.url} is of no known kind; use file:///folder or s3://bucket/prefix`,
      );
  }
}
