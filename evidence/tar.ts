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
   * Writes exactly `header.sizeBytes` bytes of content for a file, none for anything else. A chunk of `body` goes to `out` as
   * it is, in parts if it is large, and may be reused when the next one is asked for.
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
  /**
   * Bytes; a longer file gets no SHA-256 of its own and stands under that of the whole archive alone. A second SHA-256 of
   * the same bytes costs a third of the time that their compression takes. No limit when absent.
   */
  readonly digestMembersUpTo?: number;
}

export function createTarWriter(out: ByteSink, options: TarWriterOptions = {}): TarWriter {
  return new Writer(out, options);
}

const ZEROS = new Uint8Array(256 * 1024);
/** A larger chunk goes on in parts, so that `out`'s threads work on one part while the next is hashed here. */
const PART_BYTES = 1024 * 1024;

class Writer implements TarWriter {
  readonly #out: ByteSink;
  readonly #onMember: TarWriterOptions['onMember'];
  readonly #digestMembersUpTo: number;
  #state: 'open' | 'busy' | 'ended' | 'failed' = 'open';

  constructor(out: ByteSink, options: TarWriterOptions) {
    this.#out = out;
    this.#onMember = options.onMember;
    this.#digestMembersUpTo = options.digestMembersUpTo ?? Number.POSITIVE_INFINITY;
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
        ...(header.type === 'file' && content.sha256 !== undefined ? { sha256: content.sha256 } : {}),
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
    const digest = sizeBytes > this.#digestMembersUpTo ? undefined : new RunningDigest();
    const parts = new BodyParts(sizeBytes === 0 ? undefined : body);
    let written = 0;
    for (let chunk = await parts.next(); chunk !== undefined; chunk = await parts.next()) {
      const wanted = chunk.subarray(0, sizeBytes - written);
      await this.#writeContent(wanted, digest);
      written += wanted.length;
      if (parts.bodyBytes > sizeBytes) break;
    }
    await parts.close();
    while (written < sizeBytes) {
      const zeros = ZEROS.subarray(0, sizeBytes - written);
      await this.#writeContent(zeros, digest);
      written += zeros.length;
    }
    const padding = paddingAfter(sizeBytes);
    if (padding > 0) await this.#out.write(ZEROS.subarray(0, padding));
    return { sizeBytes, sha256: digest?.digest().sha256, bodyBytes: parts.bodyBytes, failure: parts.failure };
  }

  async #writeContent(content: Uint8Array, digest: RunningDigest | undefined): Promise<void> {
    let at = 0;
    do {
      const part = content.subarray(at, at + PART_BYTES);
      digest?.update(part);
      await this.#out.write(part);
      at += PART_BYTES;
    } while (at < content.length);
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
