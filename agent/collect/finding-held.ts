import { type FindingLine, withReason } from './finding-record.ts';
import type { Subject } from './finding-subject.ts';
import { burstOf, MANY_IN_A_BURST } from './finding-times.ts';
import type { SearchResult, Wanted } from './rootfs-image-search.ts';

/**
 * Findings that only the end of the walk can judge: whether the image has a content under another name, and whether a time
 * was set among many others. They are held within a bound; beyond it they are told at once, as what they are without that.
 */

/** A KiB each, and their path: an intruder brings fewer programs, and an installation is told all the same. */
const HELD_FINDINGS = 4_000;
/** Of their paths: 500 bytes each. */
const HELD_PATH_BYTES = 2 * 1024 * 1024;
/** Ten-second spans that are counted: a layer written for days. */
const HELD_BURSTS = 50_000;

interface Suspect {
  readonly line: FindingLine;
  readonly wanted: Wanted;
}

interface Older {
  readonly line: FindingLine;
  readonly sizeBytes: bigint;
  readonly mtimeNs: bigint;
  readonly burst: bigint;
}

export class HeldFindings {
  readonly #suspects: Suspect[] = [];
  readonly #older: Older[] = [];
  readonly #bursts = new Map<bigint, number>();
  readonly #limit: number;
  #pathBytes = 0;

  constructor(limit: number = HELD_FINDINGS) {
    this.#limit = limit;
  }

  /** The line to write at once, when it is not held. */
  suspect(line: FindingLine, sizeBytes: bigint, sha256: string | undefined): FindingLine | undefined {
    if (sha256 === undefined || !this.#hasRoom(line)) return withReason(line, 'image-not-searched', 'low');
    this.#suspects.push({ line, wanted: { sizeBytes, sha256 } });
    return undefined;
  }

  /** The same for a file whose mtime is older than itself. */
  older(line: FindingLine, subject: Pick<Subject, 'ctimeNs' | 'mtimeNs' | 'sizeBytes'>): FindingLine | undefined {
    const burst = burstOf(subject);
    const { sizeBytes, mtimeNs } = subject;
    const count = this.#bursts.get(burst);
    if (count !== undefined || this.#bursts.size < HELD_BURSTS) this.#bursts.set(burst, (count ?? 0) + 1);
    if ((count ?? 0) >= MANY_IN_A_BURST || !this.#hasRoom(line)) return withReason(line, 'among-many', 'low');
    this.#older.push({ line, sizeBytes, mtimeNs, burst });
    return undefined;
  }

  get wanted(): Wanted[] {
    const few = this.#older.filter((older) => !this.#isMany(older));
    return [
      ...this.#suspects.map(({ wanted }) => wanted),
      ...few.flatMap(({ line: { sha256 }, sizeBytes }) => (sha256 === undefined ? [] : [{ sizeBytes, sha256 }])),
    ];
  }

  /** What is left of them, once the image has been searched. */
  *resolve({ found, incomplete }: SearchResult): Generator<FindingLine, void, void> {
    for (const older of this.#older) {
      const { line, mtimeNs } = older;
      if (this.#isMany(older)) yield withReason(line, 'among-many', 'low');
      // A copy of a file of the image that kept its time, as `cp -p` makes it.
      else if (line.sha256 === undefined || found.get(line.sha256) !== mtimeNs) yield line;
    }
    for (const { line, wanted } of this.#suspects) {
      if (found.has(wanted.sha256)) continue;
      if (incomplete === undefined) yield withReason(line, 'not-in-image', undefined);
      else yield withReason(line, 'image-not-searched', 'low');
    }
  }

  #isMany({ burst }: Older): boolean {
    return (this.#bursts.get(burst) ?? 0) >= MANY_IN_A_BURST;
  }

  #hasRoom(line: FindingLine): boolean {
    const bytes = (line.path?.length ?? 0) + (line.pathBase64?.length ?? 0);
    const held = this.#suspects.length + this.#older.length;
    if (held >= this.#limit || this.#pathBytes + bytes > HELD_PATH_BYTES) return false;
    this.#pathBytes += bytes;
    return true;
  }
}
