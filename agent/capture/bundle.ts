import type { Encrypt } from '../../evidence/age-writer.ts';
import type { Manifest, StoredObject } from '../../evidence/manifest.ts';
import type { Signer } from '../../evidence/seal.ts';
import { type BundleWriter, createBundleWriter } from '../../evidence/write.ts';
import type { CollectContext } from '../collect/collector.ts';
import type { Sink } from '../sink/sink.ts';

/** One capture's folder in the sink, and what was committed there so far. */
export interface Bundle extends Pick<CollectContext, 'archive' | 'text'> {
  readonly path: string;
  readonly objects: readonly StoredObject[];
  storedBytes(): number;
  foreignArchive(name: string, onProblem: (why: string) => void): ReturnType<CollectContext['foreignArchive']>;
  json(name: string, value: unknown): Promise<StoredObject>;
  /** The manifest and its seal, with a signal of their own: a cancelled capture is sealed all the same. */
  seal(manifest: Manifest, signer: Signer, signal: AbortSignal): Promise<void>;
}

export interface BundleOptions {
  readonly sink: Sink;
  /** Below the sink's own prefix, see evidence/layout.ts. */
  readonly path: string;
  /** zstd's. */
  readonly level: number;
  readonly encrypt?: Encrypt | undefined;
  readonly signal: AbortSignal;
}

export function openBundle({ sink, path, level, encrypt, signal }: BundleOptions): Bundle {
  const objects: StoredObject[] = [];
  const writer = (until: AbortSignal): BundleWriter =>
    createBundleWriter(
      (name, contentType, estimatedBytes) =>
        sink.open(`${path}/${name}`, {
          contentType,
          signal: until,
          ...(estimatedBytes === undefined ? {} : { estimatedBytes }),
        }),
      { level, encrypt, onStored: (object) => objects.push(object) },
    );
  const open = writer(signal);
  return {
    path,
    objects,
    storedBytes: () => objects.reduce((total, object) => total + object.stored.sizeBytes, 0),
    archive: (name, options) => open.openArchive(name, options),
    foreignArchive: (name, onProblem) => open.openForeignArchive(name, { onProblem }),
    text: (name, mediaType) => open.openText(name, mediaType),
    json: (name, value) => open.writeJson(name, value),
    seal: (manifest, signer, until) => writer(until).seal(manifest, signer),
  };
}
