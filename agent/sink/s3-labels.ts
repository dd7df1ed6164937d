import { z } from 'zod';
import type { ObjectSubject } from './sink.ts';

/**
 * What is written on an object beside its bytes: metadata, which goes with every copy, and tags, which policies and
 * lifecycle rules can ask for. A case id is whatever a person typed, so both are made safe here: an object is never refused for
 * its label.
 */

/** S3 allows 2 KB of metadata in all, names included; the other values here have 100 characters. */
const MAX_METADATA_VALUE = 1024;
/** S3: a tag's name has up to 128 characters, its value 256, and an object up to 10 tags. */
const MAX_TAG_NAME = 128;
const MAX_TAG_VALUE = 256;
/** Two are ours. */
const MAX_OWN_TAGS = 8;
/** Of scheduled captures four are. */
export const MAX_OWN_TAGS_WITH_SCHEDULES = 6;
/** All tags go in one header, and S3 takes 8 KB of headers in all; what a person types gets its share. */
const MAX_TAG_HEADER = 4096;
const MAX_ENCODED_TAG_VALUE = 1024;

const CAPTURE = 'exhibit-capture';
const CASE = 'exhibit-case';
const SHA256 = 'exhibit-sha256';
const SCHEDULE = 'exhibit-schedule';
const KEEP_DAYS = 'exhibit-keep-days';
const OURS = [CAPTURE, CASE, SCHEDULE, KEEP_DAYS];

/** The characters that S3 documents for tags, those of ASCII alone: some servers take no others. */
const TAG_TEXT = /^[A-Za-z0-9 +\-=._:/@]*$/;

const ownTags = z
  .record(
    z
      .string()
      .min(1)
      .max(MAX_TAG_NAME)
      .regex(TAG_TEXT, { error: 'letters, digits, spaces and + - = . _ : / @' })
      .refine((name) => !name.toLowerCase().startsWith('aws:'), { error: 'no name that begins with aws:' })
      .refine((name) => !OURS.includes(name), { error: 'another name: this one is set by the agent' }),
    z.string().max(MAX_TAG_VALUE).regex(TAG_TEXT, { error: 'letters, digits, spaces and + - = . _ : / @' }),
  )
  .refine((tags) => Object.keys(tags).length <= MAX_OWN_TAGS, { error: `at most ${MAX_OWN_TAGS} tags` })
  .refine((tags) => tagHeader(tags).length <= MAX_TAG_HEADER, { error: 'shorter names and values' });

/** `true`: case and capture. An object: these as well. */
export const tagsSchema = z.union([z.boolean(), ownTags]);
export type TagsConfig = z.output<typeof tagsSchema>;

/** Values are ASCII: all else, and what HTTP or a signature could change, is percent-encoded UTF-8. Pure. */
export function metadataOf(about: ObjectSubject): Record<string, string> {
  return {
    [CAPTURE]: metadataValue(about.captureId),
    ...(hasCase(about) ? { [CASE]: metadataValue(about.caseId) } : {}),
  };
}

/** What the objects do not tell, their labels do not tell either. */
const hasCase = ({ caseId, unlabelled }: ObjectSubject): boolean => caseId !== '' && unlabelled !== true;

/** For an object that goes in one request, whose bytes are known when its headers are sent. Pure. */
export function withDigest(metadata: Record<string, string>, sha256: Buffer): Record<string, string> {
  return { ...metadata, [SHA256]: sha256.toString('hex') };
}

/** The value of `x-amz-tagging`. Pure. */
export function taggingOf(tags: TagsConfig, about: ObjectSubject): string | undefined {
  if (tags === false) return undefined;
  return tagHeader({
    ...(tags === true ? {} : tags),
    [CAPTURE]: tagValue(about.captureId),
    ...(hasCase(about) ? { [CASE]: tagValue(about.caseId) } : {}),
    ...scheduleTags(about),
  });
}

/** How long is no secret, and a lifecycle rule has to read it. */
function scheduleTags({ schedule, unlabelled }: ObjectSubject): Record<string, string> {
  if (schedule === undefined) return {};
  return {
    ...(unlabelled === true ? {} : { [SCHEDULE]: tagValue(schedule.name) }),
    ...(schedule.keepDays === undefined ? {} : { [KEEP_DAYS]: String(schedule.keepDays) }),
  };
}

function metadataValue(text: string): string {
  const encoded = percentEncoded(text);
  if (encoded.length <= MAX_METADATA_VALUE) return encoded;
  return `${encoded.slice(0, MAX_METADATA_VALUE).replace(/%[0-9A-F]?$/, '')}...`;
}

/** Letters and digits of any script stay; what S3 does not take becomes `_`. The metadata has it unchanged. */
function tagValue(text: string): string {
  let value = '';
  for (const character of text.slice(0, MAX_TAG_VALUE).toWellFormed()) {
    const taken = /^[\p{L}\p{N} +\-=._:/@]$/u.test(character) ? character : '_';
    if (encodeURIComponent(value + taken).length > MAX_ENCODED_TAG_VALUE) break;
    value += taken;
  }
  return value;
}

/** As encodeURIComponent, but `/ : @ , + =` stay, and a lone surrogate is U+FFFD and no error. */
function percentEncoded(text: string): string {
  return encodeURIComponent(text.toWellFormed()).replace(/%(?:2F|3A|40|2C|2B|3D)/g, decodeURIComponent);
}

function tagHeader(tags: Readonly<Record<string, string>>): string {
  return Object.entries(tags)
    .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
    .join('&');
}
