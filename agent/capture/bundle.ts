import type { Encrypt } from '../../evidence/age-writer.ts';
import { type MediaType, storedName } from '../../evidence/layout.ts';
import type { PlanStep, StoredObject } from '../../evidence/manifest.ts';
import { type BundleWriter, createBundleWriter, type KeepFrames, type SinkObject } from '../../evidence/write.ts';
import type { CollectContext } from '../collect/collector.ts';
import type { NamedSink } from '../sink/several.ts';
import type { Draft } from './drafts.ts';
import { openNoted } from './noted-object.ts';

/** One capture's folder in its sinks, and what was committed there so far. */
export interface Bundle {
  readonly path: string;
  readonly objects: readonly StoredObject[];
  storedBytes(): number;
  json(name: string, value: unknown): Promise<StoredObject>;
  /** Where the objects of one artifact go. */
  of(step: Pick<PlanStep, 'artifact' | 'volatility'>): BundlePart;
}

export interface BundlePart extends Pick<CollectContext, 'archive' | 'text'> {
  foreignArchive(name: string, onProblem: (why: string) => void): ReturnType<CollectContext['foreignArchive']>;
}

export interface BundleOptions {
  readonly sinks: readonly NamedSink[];
  /** Told of every object before the sinks are; has the folder's path. */
  readonly draft: Draft;
  /** Who writes, for the custody log. */
  readonly by: string;
  /** zstd's. */
  readonly level: number;
  readonly encrypt?: Encrypt | undefined;
  /** Who else is told of an object's content, as it is compressed. */
  readonly keep?: KeepFrames | undefined;
  readonly signal: AbortSignal;
}

/** What an object belongs to; `request.json` to no artifact. */
export type Belonging = { readonly volatility: number } & Partial<Pick<PlanStep, 'artifact'>>;

/** The request is small, and without it nothing can be understood: it is kept longest. */
const OF_THE_CAPTURE: Belonging = { volatility: 1 };

export function openBundle(options: BundleOptions): Bundle {
  const { draft, level, encrypt, keep } = options;
  const objects: StoredObject[] = [];
  /** The way of every object to the sinks: what is to change its bytes goes between the writer and `openNoted`. */
  const open =
    (belonging: Belonging) =>
    (name: string, contentType: MediaType, estimatedBytes?: number, mediaType = contentType) =>
      openNoted({ name, contentType, mediaType, estimatedBytes, belonging }, options) satisfies Promise<SinkObject>;
  const onStored = async (object: StoredObject) => {
    // The record that was committed says how the bytes lie in the sinks.
    const stored = { ...object, ...draft.state.objects.get(storedName(object))?.record };
    objects.push(stored);
    await draft.note({ kind: 'listed', object: stored });
  };
  const writer = (belonging: Belonging): BundleWriter =>
    createBundleWriter(open(belonging), { level, encrypt, keep, onStored });
  return {
    path: draft.state.path,
    objects,
    storedBytes: () => objects.reduce((total, object) => total + object.stored.sizeBytes, 0),
    json: (name, value) => writer(OF_THE_CAPTURE).writeJson(name, value),
    of: (step) => {
      const own = writer(step);
      return {
        archive: (name, archive) => own.openArchive(name, archive),
        foreignArchive: (name, onProblem) => own.openForeignArchive(name, { onProblem }),
        text: (name, mediaType) => own.openText(name, mediaType),
      };
    },
  };
}
