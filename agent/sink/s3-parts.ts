/**
 * How an object of unknown length is cut into parts. The limits are those of the S3 User Guide, "Amazon S3 multipart upload
 * limits": 10,000 parts of 5 MiB to 5 GiB each, the last one of any size. An object could hold 5 TiB until December 2025 and
 * can hold 50 TB (48.8 TiB, which is 10,000 parts of 5 GiB) since.
 */

const MIB = 2 ** 20;
const GIB = 2 ** 30;

export const MAX_PARTS = 10_000;
export const MIN_PART_BYTES = 5 * MIB;
export const MAX_PART_BYTES = 5 * GIB;

/** Large enough that a request's round trip is small beside its body, small enough that several fit in memory. */
export const DEFAULT_PART_BYTES = 8 * MIB;
/** Parts on their way at once: enough to fill one connection's waiting time with another's sending. */
export const DEFAULT_PARTS_IN_FLIGHT = 4;
/**
 * What one object's parts in flight may hold together while parts are small enough for a choice. Above it parts go one by
 * one, and memory is two parts: the one on its way and the one being filled.
 */
export const MAX_IN_FLIGHT_BYTES = 64 * MIB;

/** A known length takes half of the parts, so that a guess that was too low by far still fits in the others. */
const PARTS_FOR_ESTIMATE = MAX_PARTS / 2;
/**
 * Beyond the estimate a part is this fraction of all that went before. Sizes then grow by e every 1,250 parts: from 8 MiB
 * parts, which last for the first 9.7 GiB, 10,000 parts reach 9.7 TiB (the last of them are 5 GiB, the most S3 takes), and a
 * 100 GiB object has parts of up to 82 MiB.
 */
const GROWTH = 1250;

/** Size of the next part, given what was cut before it. Pure. */
export function nextPartBytes(sentBytes: number, estimatedBytes: number, minimumBytes: number): number {
  const planned = estimatedBytes / PARTS_FOR_ESTIMATE;
  const grown = sentBytes > estimatedBytes ? sentBytes / GROWTH : 0;
  const wanted = Math.ceil(Math.max(planned, grown) / MIB) * MIB;
  return Math.min(Math.max(wanted, minimumBytes), MAX_PART_BYTES);
}

/** How many parts of this size may be on their way at once. Pure. */
export function partsInFlight(partBytes: number, most: number): number {
  return Math.max(1, Math.min(most, Math.floor(MAX_IN_FLIGHT_BYTES / partBytes)));
}

/**
 * Parts on their way at once under a bandwidth cap: what the line carries in a second, and one at least. More would only
 * wait for their turns, and hold memory meanwhile. Pure.
 */
export function partsUnderCap(partBytes: number, most: number, maxBytesPerSecond: number | undefined): number {
  if (maxBytesPerSecond === undefined) return most;
  return Math.max(1, Math.min(most, Math.floor(maxBytesPerSecond / partBytes)));
}

/** The smallest part where none is configured: a slow line is not held by one object for longer than it must be. Pure. */
export function partBytesUnderCap(maxBytesPerSecond: number | undefined): number {
  return maxBytesPerSecond !== undefined && maxBytesPerSecond < DEFAULT_PART_BYTES
    ? MIN_PART_BYTES
    : DEFAULT_PART_BYTES;
}
