import { ExhibitError } from '../../evidence/error.ts';
import { decodeFrames, endsEarly } from '../../evidence/frame-decoder.ts';
import type { KeepFrames } from '../../evidence/write.ts';

/** What facts are read from. Of `processes.tar.zst` the lines come before the content that was recovered. */
const KEPT: ReadonlySet<string> = new Set([
  'processes.tar.zst',
  'network.tar.zst',
  'node.tar.zst',
  'rootfs.inventory.jsonl.zst',
]);
/** Of one object, compressed: 3,000 processes, or 100,000 changed files. What is beyond is not compared. */
const KEPT_BYTES = 8 * 1024 * 1024;

/** The first frames of each object that facts are read from, as they were before encryption, in memory. */
export interface Kept {
  readonly keep: KeepFrames;
  has(name: string): boolean;
  content(name: string): AsyncIterable<Uint8Array>;
  clear(): void;
}

export function createKept(): Kept {
  const objects = new Map<string, { pieces: Buffer[]; sizeBytes: number; cut: boolean }>();
  return {
    keep(name) {
      if (!KEPT.has(name)) return undefined;
      // One that is opened again begins anew.
      const object = { pieces: [] as Buffer[], sizeBytes: 0, cut: false };
      objects.set(name, object);
      return (bytes) => {
        object.cut ||= object.sizeBytes + bytes.length > KEPT_BYTES;
        if (object.cut) return;
        object.pieces.push(Buffer.from(bytes));
        object.sizeBytes += bytes.length;
      };
    },
    has: (name) => objects.has(name),
    async *content(name) {
      const object = objects.get(name);
      if (object === undefined) throw new ExhibitError('bundle-not-found', `there is no ${name}`);
      try {
        yield* decodeFrames(piecesOf(object.pieces));
      } catch (error) {
        if (!object.cut || !endsEarly(error)) throw error;
        throw new ExhibitError('bundle-corrupt', `only its first ${object.sizeBytes} compressed bytes are compared`);
      }
    },
    clear: () => objects.clear(),
  };
}

async function* piecesOf(pieces: readonly Buffer[]): AsyncGenerator<Uint8Array> {
  yield* pieces;
}
