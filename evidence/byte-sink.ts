/**
 * The smallest thing evidence can be written to; a sink's object is one, and so is a frame writer. One write at a time:
 * `write` resolves when more may come, and that is the backpressure. From then on `chunk` is the caller's again: who needs
 * it for longer has copied it.
 */
export interface ByteSink {
  write(chunk: Uint8Array): Promise<void>;
  /**
   * For a sink that must know the digest of what it was given so far, and need not make one more: as `write`, and feeds
   * `digest` with all of `chunk`, in order. One object is written in one of the two ways.
   */
  readonly writeDigested?: ((chunk: Uint8Array, digest: StreamDigest) => Promise<void>) | undefined;
}

/** SHA-256 of a stream that goes on. */
export interface StreamDigest {
  /** `bytes` may not be changed until it resolves. */
  update(bytes: Uint8Array): Promise<void>;
  /** Of all whose update has resolved, when none is under way: lower-case hex. */
  soFar(): string;
}

/** What can be read as bytes: a file stream, an S3 body, a list of chunks. */
export type ByteSource = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** Everything of `source` in one array; undefined as soon as it is longer than `limitBytes`. */
export async function readAtMost(source: ByteSource, limitBytes: number): Promise<Uint8Array | undefined> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of source) {
    sizeBytes += chunk.length;
    if (sizeBytes > limitBytes) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, sizeBytes);
}
