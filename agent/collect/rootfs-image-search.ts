import { errnoOf } from '../../evidence/error.ts';
import type { LowerLayers } from '../host/lower.ts';
import { newOutcome, wholeRoom } from '../host/regular-file.ts';
import { type Found, walk } from '../host/walk.ts';
import type { CollectContext } from './collector.ts';
import { digestNode } from './rootfs-content.ts';

/** Content that the image may have under any name. */
export interface Wanted {
  readonly sizeBytes: bigint;
  readonly sha256: string;
}

export interface SearchBounds {
  /** Entries of all layers: twice as many as the largest images have. */
  readonly entries: number;
  /** Files of a wanted size that are read: a second or two of one core. */
  readonly digestBytes: bigint;
}

export const SEARCH_BOUNDS: SearchBounds = { entries: 1_000_000, digestBytes: 2n * 1024n ** 3n };

export interface SearchResult {
  /** Digests that some file of some layer has, also of one that a layer above deletes; with such a file's mtime. */
  readonly found: ReadonlyMap<string, bigint>;
  /** Why what was not found may be there all the same; undefined when everything was looked at. */
  readonly incomplete: string | undefined;
}

/**
 * Looks for contents in all lower layers. Only files of a wanted size are read, and no more when everything has been
 * found. Throws only when the signal does.
 */
export async function searchImage(
  { roots }: Pick<LowerLayers, 'roots'>,
  wanted: Iterable<Wanted>,
  context: Pick<CollectContext, 'read' | 'signal'>,
  bounds: SearchBounds = SEARCH_BOUNDS,
): Promise<SearchResult> {
  const search = new Search(wanted, context, bounds);
  for (const { directory } of roots) {
    if (search.isOver) break;
    for await (const event of walk(directory, { signal: context.signal })) {
      if (event.kind === 'found') await search.look(event);
      else if (event.kind === 'missed') search.incomplete ??= 'parts of its layers cannot be read';
      if (search.isOver) break;
    }
  }
  return { found: search.found, incomplete: search.left === 0 ? undefined : search.incomplete };
}

class Search {
  readonly found = new Map<string, bigint>();
  incomplete: string | undefined;
  /** Digests still to be found. */
  left = 0;
  readonly #bySize = new Map<bigint, Set<string>>();
  readonly #context: Pick<CollectContext, 'read' | 'signal'>;
  readonly #bounds: SearchBounds;
  #entries = 0;
  #digested = 0n;
  readonly #room = wholeRoom();

  constructor(wanted: Iterable<Wanted>, context: Pick<CollectContext, 'read' | 'signal'>, bounds: SearchBounds) {
    this.#context = context;
    this.#bounds = bounds;
    for (const { sizeBytes, sha256 } of wanted) {
      const digests = this.#bySize.get(sizeBytes) ?? new Set();
      this.#bySize.set(sizeBytes, digests.add(sha256));
    }
    for (const digests of this.#bySize.values()) this.left += digests.size;
  }

  get isOver(): boolean {
    return this.left === 0 || this.#entries > this.#bounds.entries;
  }

  async look({ node }: Found): Promise<void> {
    this.#entries += 1;
    if (this.isOver) this.incomplete ??= `it has more than ${this.#bounds.entries} entries`;
    if (node.kind !== 'file') return;
    const digests = this.#bySize.get(node.stat.size);
    if (digests === undefined || digests.size === 0) return;
    if (this.#digested + node.stat.size > this.#bounds.digestBytes) {
      this.incomplete ??= `more than ${this.#bounds.digestBytes} bytes would have to be read`;
      return;
    }
    this.#digested += node.stat.size;
    const outcome = newOutcome();
    try {
      const sha256 = await digestNode(node, this.#room, outcome, this.#context.signal);
      if (sha256 === undefined) this.incomplete ??= 'some of its files cannot be read';
      else if (digests.delete(sha256)) this.#take(sha256, node.stat.mtimeNs);
    } catch (error) {
      if (errnoOf(error) === undefined) throw error;
      this.incomplete ??= 'some of its files cannot be read';
    } finally {
      this.#context.read(outcome.bytes, 1);
    }
  }

  #take(sha256: string, mtimeNs: bigint): void {
    this.found.set(sha256, mtimeNs);
    this.left -= 1;
  }
}
