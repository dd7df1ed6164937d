import { createHash } from 'node:crypto';
import type { StreamDigest } from './byte-sink.ts';
import type { Digest } from './manifest.ts';
import { type NativeLibraries, tryNativeLibraries } from './native.ts';
import { compressFrame } from './zstd.ts';

/** Who compresses and hashes for a frame writer. Both engines make the same digests, and frames that mean the same. */
export interface PackEngine {
  readonly kind: 'native' | 'node';
  /**
   * One frame of `content`, at a level other than 0, which may not be changed until it is there. `room` gives memory of `frameBound` bytes to an
   * engine that uses it; the result may lie in it.
   */
  compress(content: Uint8Array, room: () => Uint8Array, level: number): Promise<Uint8Array>;
  createDigest(): EngineDigest;
}

/** SHA-256 of a stream. One update at a time; its bytes may not be changed until it resolves. */
export interface EngineDigest {
  update(bytes: Uint8Array): Promise<void>;
  /** Of what came so far, between two updates: lower-case hex. */
  digest(): string;
}

/** Node's own zstd on the thread pool and its hash on the caller's thread: nothing to load, so it is for small objects. */
export const NODE_ENGINE: PackEngine = {
  kind: 'node',
  compress: (content, _room, level) => compressFrame(content, level),
  createDigest() {
    const hash = createHash('sha256');
    return {
      update: async (bytes) => void hash.update(bytes),
      digest: () => hash.copy().digest('hex'),
    };
  },
};

export function nativeEngine(libraries: NativeLibraries): PackEngine {
  return {
    kind: 'native',
    async compress(content, room, level) {
      const into = room();
      return into.subarray(0, await libraries.compress(content, into, level));
    },
    createDigest: () => libraries.createSha256(),
  };
}

/** Content from which the threads are worth a call each; JSON lines and text of a capture are mostly below it. */
const NATIVE_FROM_BYTES = 256 * 1024;

/** For a stream whose first frame holds `contentBytes`: what is small never pays for loading the libraries. */
export function chooseEngine(contentBytes: number, libraries = tryNativeLibraries): PackEngine {
  const native = contentBytes < NATIVE_FROM_BYTES ? undefined : libraries();
  return native === undefined ? NODE_ENGINE : nativeEngine(native);
}

/** An engine at work on one stream. */
export interface Packing {
  readonly engine: PackEngine;
  readonly content: QueuedDigest;
  readonly stored: QueuedDigest;
}

export function startPacking(engine: PackEngine): Packing {
  return {
    engine,
    content: new QueuedDigest(engine.createDigest()),
    stored: new QueuedDigest(engine.createDigest()),
  };
}

/** Updates in the order they are asked for, although each may wait for a thread. */
export class QueuedDigest implements StreamDigest {
  readonly #digest: EngineDigest;
  #last: Promise<void> = Promise.resolve();
  #sizeBytes = 0;

  constructor(digest: EngineDigest) {
    this.#digest = digest;
  }

  /** After a failed one all later ones fail. */
  update(bytes: Uint8Array): Promise<void> {
    this.#sizeBytes += bytes.length;
    this.#last = this.#last.then(() => this.#digest.update(bytes));
    return this.#last;
  }

  soFar(): string {
    return this.#digest.digest();
  }

  digest(): Digest {
    return { sha256: this.#digest.digest(), sizeBytes: this.#sizeBytes };
  }
}
