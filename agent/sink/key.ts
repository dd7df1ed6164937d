import { ExhibitError } from '../../evidence/error.ts';

/** S3: an object key is at most 1,024 bytes of UTF-8 (User Guide, "Naming Amazon S3 objects"). */
export const MAX_KEY_BYTES = 1024;
/** Linux NAME_MAX, so that one key means the same object in every sink. */
export const MAX_SEGMENT_BYTES = 255;

/**
 * The parts of a key such as `cluster/node/id/request.json`. Every sink refuses the same keys: absolute ones, empty, `.`
 * and `..` segments, NUL and lone surrogates, segments or keys that are too long.
 * @throws ExhibitError `sink-failed`
 */
export function keySegments(key: string): string[] {
  const segments = key.split('/');
  const problem =
    Buffer.byteLength(key) > MAX_KEY_BYTES
      ? `is longer than ${MAX_KEY_BYTES} bytes`
      : key.includes('\0') || !key.isWellFormed()
        ? 'holds characters no sink can store'
        : segments.map(segmentProblem).find((found) => found !== undefined);
  if (problem !== undefined) {
    throw new ExhibitError('sink-failed', `the object key ${JSON.stringify(key)} ${problem}; keys are relative paths`);
  }
  return segments;
}

function segmentProblem(segment: string): string | undefined {
  if (segment === '') return 'has an empty segment or a slash at an end';
  if (segment === '.' || segment === '..') return 'climbs out of its folder';
  if (Buffer.byteLength(segment) > MAX_SEGMENT_BYTES) return `has a segment of more than ${MAX_SEGMENT_BYTES} bytes`;
  return undefined;
}
