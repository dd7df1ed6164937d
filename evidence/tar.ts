import type { ByteSink, ByteSource } from './byte-sink.ts';
import { ExhibitError, isExhibitError } from './error.ts';
import { RunningDigest } from './frames.ts';
import type { Member } from './manifest.ts';
import { describePath } from './member-path.ts';
import { BLOCK_BYTES, encodeHeader, paddingAfter } from './tar-header.ts';

/** A member to write. Paths are bytes where the name is not UTF-8. Times in nanoseconds since the epoch. */
export interface TarHeader {
  readonly path: string | Uint8Array;
  readonly type: Member['type'];
  /** Of a file's content; 0 for everything else. */
  readonly sizeBytes?: number;
  /** Permission bits with setuid, setgid and sticky; 0o600 when absent. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtimeNs?: bigint;
  readonly atimeNs?: bigint;
  readonly ctimeNs?: bigint;
  /** Target of a symlink or hardlink. */
  readonly linkPath?: string | Uint8Array;
  readonly deviceMajor?: number;
  readonly deviceMinor?: number;
  /** Written as SCHILY.xattr.* records. */
  readonly xattrs?: ReadonlyMap<string, Uint8Array>;
}

/** What was written, as the manifest lists it, and how many bytes of content really came before padding. */
export interface WrittenMember {
  readonly member: Member;
  /** Less than the member's size: the rest is zeros. More: the body went on, and was cut at the first chunk too many. */
  readonly bodyBytes: number;
}

/** Writes one archive; one call at a time. An error of `out` ends it: what follows is refused. */
export interface TarWriter {
  /**
   * Writes exactly `header.sizeBytes` bytes of content for a file, none for anything else. Chunks of `body` go to `out` as
   * they are, and the next one is asked for when `out` has taken the last: whether they may be reused is `out`'s rule.
   *
   * When `body` itself throws, the member is filled with zeros, reported to `onMember` and the archive stays good; then
   * the error is thrown. Except for a cancellation: that is thrown at once, and the archive is broken off.
   */
  add(header: TarHeader, body?: Uint8Array | ByteSource): Promise<WrittenMember>;
  /** Writes the end of the archive. */
  end(): Promise<void>;
}

export interface TarWriterOptions {
  /** Called for every member that is in the archive, in its order, also for one whose body failed. */
  readonly onMember?: (member: Member) => void | Promise<void>;
}

export function createTarWriter(out: ByteSink, options: TarWriterOptions = {}): TarWriter {
  return new Writer(out, options);
}

const ZEROS = new Uint8Array(256 * 1024);

class Writer implements TarWriter {
  readonly #out: ByteSink;
  readonly #onMember: TarWriterOptions['onMember'];
  #state: 'open' | 'busy' | 'ended' | 'failed' = 'open';

  constructor(out: ByteSink, options: TarWriterOptions) {
    this.#out = out;
    this.#onMember = options.onMember;
  }

  async add(header: TarHeader, body?: Uint8Array | ByteSource): Promise<WrittenMember> {
    const head = encodeHeader(header);
    const { written, failure } = await this.#alone('open', async () => {
      await this.#out.write(head);
      const content = await this.#writeBody(header.type === 'file' ? (header.sizeBytes ?? 0) : 0, body);
      const member: Member = {
        ...describePath(header.path),
        type: header.type,
        sizeBytes: content.sizeBytes,
        ...(header.type === 'file' ? { sha256: content.sha256 } : {}),
      };
      await this.#onMember?.(member);
      return { written: { member, bodyBytes: content.bodyBytes }, failure: content.failure };
    });
    if (failure !== undefined) throw failure.error;
    return written;
  }

  async end(): Promise<void> {
    await this.#alone('ended', () => this.#out.write(new Uint8Array(2 * BLOCK_BYTES)));
  }

  async #writeBody(sizeBytes: number, body: Uint8Array | ByteSource | undefined) {
    const digest = new RunningDigest();
    const parts = new BodyParts(sizeBytes === 0 ? undefined : body);
    for (let chunk = await parts.next(); chunk !== undefined; chunk = await parts.next()) {
      const wanted = chunk.subarray(0, sizeBytes - digest.sizeBytes);
      digest.update(wanted);
      await this.#out.write(wanted);
      if (parts.bodyBytes > sizeBytes) break;
    }
    await parts.close();
    while (digest.sizeBytes < sizeBytes) {
      const zeros = ZEROS.subarray(0, sizeBytes - digest.sizeBytes);
      digest.update(zeros);
      await this.#out.write(zeros);
    }
    const padding = paddingAfter(sizeBytes);
    if (padding > 0) await this.#out.write(ZEROS.subarray(0, padding));
    return { ...digest.digest(), bodyBytes: parts.bodyBytes, failure: parts.failure };
  }

  async #alone<T>(next: 'open' | 'ended', work: () => Promise<T>): Promise<T> {
    if (this.#state !== 'open') throw new ExhibitError('internal', `the archive's writer is ${this.#state}`);
    this.#state = 'busy';
    try {
      const result = await work();
      this.#state = next;
      return result;
    } catch (error) {
      this.#state = 'failed';
      throw error;
    }
  }
}

/** A body's chunks, with its own errors kept apart from those of whoever takes them. */
class BodyParts {
  readonly #chunks: AsyncIterator<Uint8Array> | Iterator<Uint8Array>;
  #ended = false;
  bodyBytes = 0;
  failure: { readonly error: unknown } | undefined;

  constructor(body: Uint8Array | ByteSource | undefined) {
    const source = body === undefined ? [] : body instanceof Uint8Array ? [body] : body;
    this.#chunks = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  }

  /** Undefined at the end, and after a failure. Throws only a cancellation. */
  async next(): Promise<Uint8Array | undefined> {
    try {
      const next = await this.#chunks.next();
      this.#ended = next.done === true;
      if (next.done === true) return undefined;
      this.bodyBytes += next.value.length;
      return next.value;
    } catch (error) {
      this.#ended = true;
      if (isCancellation(error)) throw error;
      this.failure = { error };
      return undefined;
    }
  }

  /** Tells a body that was cut that nobody wants more. */
  async close(): Promise<void> {
    if (this.#ended) return;
    try {
      await this.#chunks.return?.();
    } catch (error) {
      this.failure = { error };
    }
  }
}

function isCancellation(error: unknown): boolean {
  return isExhibitError(error, 'cancelled') || (error instanceof Error && error.name === 'AbortError');
}
