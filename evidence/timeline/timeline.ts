import { errnoOf, explain, isExhibitError } from '../error.ts';
import type { Manifest, RequestRecord } from '../manifest.ts';

/**
 * What happened when, out of everything a bundle has. Sources read one kind of evidence each and yield entries; nobody here
 * sorts or formats. A source that breaks is told as a problem, and the others still come.
 */

/** What an entry is about; people filter by it. */
export const TIMELINE_KINDS = ['file', 'finding', 'process', 'network', 'log', 'container', 'node', 'capture'] as const;
export type TimelineKind = (typeof TIMELINE_KINDS)[number];

/**
 * What a time means. `words` are plaso's (plaso/lib/definitions.py), so that events of both can be searched together, but for `Recorded Time`; `column`
 * is where mactime has it: a(ccessed), m(odified), c(hanged) or b(orn).
 */
export const MEANINGS = {
  modified: { words: 'Content Modification Time', column: 'm' },
  accessed: { words: 'Last Access Time', column: 'a' },
  changed: { words: 'Metadata Modification Time', column: 'c' },
  created: { words: 'Creation Time', column: 'b' },
  deleted: { words: 'Content Deletion Time', column: 'c' },
  started: { words: 'Start Time', column: 'b' },
  ended: { words: 'End Time', column: 'c' },
  recorded: { words: 'Recorded Time', column: 'm' },
} as const;
export type Meaning = keyof typeof MEANINGS;

export interface EntryTime {
  /** Since the epoch, in UTC; any value that a file system can hold. */
  readonly ns: bigint;
  readonly meaning: Meaning;
}

/** Facts beside the message, under the names that CSV and JSONL give them. In the order of the CSV's columns. */
export const FIELD_NAMES = [
  ...[
    'path',
    'path_base64',
    'link_target',
    'file_type',
    'change',
    'layer',
    'volume',
    'inode',
    'mode',
    'uid',
    'gid',
    'size',
    'sha256',
  ],
  ...[
    'pid',
    'ppid',
    'executable',
    'command_line',
    'stream',
    'unit',
    'identifier',
    'record_type',
    'priority',
    'finding',
  ],
] as const;

/** Values as they are; texts that came from a container are bounded by whoever reads them. */
export interface TimelineFields {
  readonly path?: string | undefined;
  /** The path's bytes, where they are not UTF-8. */
  readonly path_base64?: string | undefined;
  readonly link_target?: string | undefined;
  readonly file_type?: string | undefined;
  readonly change?: string | undefined;
  /** The image layer that the times are of; 0 is the top-most. */
  readonly layer?: number | undefined;
  readonly volume?: string | undefined;
  readonly inode?: string | undefined;
  /** Octal. */
  readonly mode?: string | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly size?: number | undefined;
  readonly sha256?: string | undefined;
  readonly pid?: number | undefined;
  readonly ppid?: number | undefined;
  readonly executable?: string | undefined;
  readonly command_line?: string | undefined;
  readonly stream?: string | undefined;
  readonly unit?: string | undefined;
  readonly identifier?: string | undefined;
  readonly record_type?: string | undefined;
  readonly priority?: number | undefined;
  readonly finding?: string | undefined;
}

export interface TimelineEntry {
  readonly kind: TimelineKind;
  /** plaso's name where plaso has such data (`fs:stat`), otherwise one in its manner. */
  readonly dataType: string;
  /** The artifact that it is from; `capture` is what the agent itself did. */
  readonly artifact: string;
  readonly object: string;
  readonly member?: string;
  /** In a member or object of lines; the first is 1. */
  readonly line?: number;
  /** What it is about, in words that hold for each of its times; begins with our own words or a slash. */
  readonly message: string;
  /** Of another container of the pod than the target. */
  readonly container?: string | undefined;
  readonly times: readonly EntryTime[];
  readonly fields: TimelineFields;
}

/** The artifact of what is from request.json and manifest.json: what the agent itself did. */
export const CAPTURE_ARTIFACT = 'capture';

export interface TimelineObject {
  readonly name: string;
  readonly artifact: string;
}

/** Something that should be in the timeline and is not. */
export interface TimelineProblem {
  readonly object: string;
  readonly member?: string;
  readonly why: string;
}

/** A bundle as sources see it. */
export interface TimelineBundle {
  readonly manifest: Manifest;
  /** Undefined when it could not be read, which is a problem told elsewhere. */
  readonly request: RequestRecord | undefined;
  /** An object of the manifest by its name, where its artifact is wanted. */
  object(name: string): TimelineObject | undefined;
  /** Decompressed. Throws ExhibitError `bundle-not-found` and `bundle-corrupt`. */
  content(object: TimelineObject): AsyncIterable<Uint8Array>;
  problem(problem: TimelineProblem): void;
}

export interface TimelineSource {
  /** The object it reads; for problems. */
  readonly object: string;
  /** Entries in the order of the evidence, in batches: a million steps through asynchronous generators would be most of the time. */
  read(bundle: TimelineBundle): AsyncIterable<Iterable<TimelineEntry>>;
}

/** All entries, source by source. Throws what is no fault of the bundle (a signal, a bug). */
export async function* readEntries(
  bundle: TimelineBundle,
  sources: readonly TimelineSource[],
): AsyncGenerator<Iterable<TimelineEntry>> {
  for (const source of sources) {
    try {
      yield* source.read(bundle);
    } catch (error) {
      if (!isFaultOfBundle(error)) throw error;
      bundle.problem({ object: source.object, why: `${explain(error)}; what comes after is missing` });
    }
  }
}

/** What is wrong is the bundle, or the way to it; not a signal and not a bug. */
export function isFaultOfBundle(error: unknown): boolean {
  const codes = ['bundle-corrupt', 'bundle-not-found', 'sink-failed'] as const;
  return codes.some((code) => isExhibitError(error, code)) || errnoOf(error) !== undefined;
}

/** Texts of an event are cut here: Python's csv refuses cells of more than 131,072 characters, and escaping makes up to eight of one. */
export const MAX_TEXT_CHARACTERS = 16 * 1024;

export function cutText(text: string): string {
  return text.length <= MAX_TEXT_CHARACTERS ? text : `${text.slice(0, MAX_TEXT_CHARACTERS)}…`;
}
