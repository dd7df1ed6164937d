import type { Manifest, RequestRecord } from '../evidence/manifest.ts';
import { clampMoment } from '../evidence/timeline/moment.ts';
import type { LineShape } from '../evidence/timeline/record.ts';
import { type EntryTime, MEANINGS, type TimelineEntry } from '../evidence/timeline/timeline.ts';

/** What the three formats of a timeline have in common. */

export const TIMELINE_FORMATS = ['jsonl', 'csv', 'body'] as const;
export type TimelineFormatName = (typeof TIMELINE_FORMATS)[number];

export interface TimelineFormat extends LineShape {
  /** Before the first line. */
  readonly header: string;
  /**
   * What is between `head` and `tail` of each line, and what it is to be sorted by: what all lines have, or what follows from
   * the time, need not be sorted. None when no time of the entry is wanted.
   */
  lines(entry: TimelineEntry): Iterable<TimelineLine>;
}

export interface TimelineLine {
  readonly ns: bigint;
  readonly text: string;
}

/** From `fromNs` on, and before `toNs`. */
export interface TimeRange {
  readonly fromNs: bigint | undefined;
  readonly toNs: bigint | undefined;
}

export function isWithin({ fromNs, toNs }: TimeRange, ns: bigint): boolean {
  return (fromNs === undefined || ns >= fromNs) && (toNs === undefined || ns < toNs);
}

/** What every line of one bundle says. */
export interface Origin {
  readonly hostname: string;
  readonly namespace: string | undefined;
  readonly pod: string | undefined;
  readonly container: string;
  readonly capture_id: string;
}

export function originOf(manifest: Manifest, request: RequestRecord | undefined): Origin {
  const { target, node, captureId } = manifest;
  return {
    hostname: request?.host.hostname ?? node,
    namespace: target.pod?.namespace,
    pod: target.pod?.name,
    container: target.name,
    capture_id: captureId,
  };
}

/** Times of an entry that are equal are one event with all their meanings, as plaso's psort tells them. */
export interface Event {
  readonly ns: bigint;
  readonly words: string;
}

/** Those within the range. */
export function eventsOf(times: readonly EntryTime[], range: TimeRange): Event[] {
  const events: { ns: bigint; words: string }[] = [];
  for (const { ns, meaning } of times) {
    if (!isWithin(range, ns)) continue;
    const { words } = MEANINGS[meaning];
    const same = events.find((event) => event.ns === ns);
    if (same === undefined) events.push({ ns, words });
    else if (!same.words.split('; ').includes(words)) same.words = `${same.words}; ${words}`;
  }
  return events.map((event) => (isTold(event.ns) ? event : { ns: event.ns, words: `${event.words}${OUT_OF_RANGE}` }));
}

/** False where a year of four digits cannot say it; then the nearest that can is shown, with this behind the words. */
export function isTold(ns: bigint): boolean {
  return clampMoment(ns) === ns;
}

export const OUT_OF_RANGE = ' (out of range)';
