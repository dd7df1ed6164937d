import { hash } from 'node:crypto';
import type { ByteSink, ByteSource } from './byte-sink.ts';
import { ExhibitError, isExhibitError } from './error.ts';
import { RunningDigest } from './frames.ts';
import type { Member } from './manifest.ts';
import { describePath } from './member-path.ts';
import { BLOCK_BYTES, encodeHeader, type PlannedHeader, paddingAfter, planHeader, writeHeader } from './tar-header.ts';

/** A member to write. Paths are bytes where the name is not UTF-8. Times in nanoseconds since the epoch. */
export interface TarHeader {
  readonly path: string | Uint8Array;
  readonly type: Member['type'];
  /** Of a file's content; 0 for everything else. */
  readonly sizeBytes?: number;
  /** Of a file's content, lower-case hex, for a caller that has made it; otherwise it is made here. */
  readonly sha256?: string | undefined;
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
   * Writes exactly `header.sizeBytes` bytes of content for a file, none for anything else. A chunk of a large `body` goes to
   * `out` as it is, in parts if it is larger, and may be reused when the next one is asked for; small members are gathered
   * first, and an error of `out` may be told to a later call.
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

const NOTHING = new Uint8Array(0);
const ZEROS = new Uint8Array(256 * 1024);
/** A larger chunk goes on in parts, so that `out`'s threads work on one part while the next is hashed here. */
const PART_BYTES = 1024 * 1024;
/** Room for small members: each goes there in one step, without a turn of the event loop, and dozens to `out` in one write. */
const GATHER_BYTES = 256 * 1024;

class Writer implements TarWriter {
  readonly #out: ByteSink;
  readonly #onMember: TarWriterOptions['onMember'];
  readonly #digestMembersUpTo: number;
  /** Made with the first member. */
  #gathered: Buffer | undefined;
  #gatheredBytes = 0;
  #state: 'open' | 'busy or failed' | 'ended' = 'open';

  constructor(out: ByteSink, options: TarWriterOptions) {
    this.#out = out;
    this.#onMember = options.onMember;
    this.#digestMembersUpTo = options.digestMembersUpTo ?? Number.POSITIVE_INFINITY;
  }

  async add(header: TarHeader, body?: Uint8Array | ByteSource): Promise<WrittenMember> {
    const planned = planHeader(header);
    const { sizeBytes } = planned;
    this.#begin();
    const memberBytes = planned.bytes + sizeBytes + paddingAfter(sizeBytes);
    const gathers = memberBytes <= GATHER_BYTES && (body === undefined || body instanceof Uint8Array);
    if (!gathers || this.#gatheredBytes + memberBytes > GATHER_BYTES) await this.#flush();
    const isDigested = header.type === 'file' && sizeBytes <= this.#digestMembersUpTo;
    const content = gathers
      ? this.#gather(header, planned, body, isDigested)
      : await this.#writeMember(header, sizeBytes, body, isDigested);
    const member: Member = { ...describePath(header.path), type: header.type, sizeBytes };
    if (content.sha256 !== undefined) member.sha256 = content.sha256;
    if (this.#onMember !== undefined) await this.#onMember(member);
    this.#state = 'open';
    if (content.failure !== undefined) throw content.failure.error;
    return { member, bodyBytes: content.bodyBytes };
  }

  async end(): Promise<void> {
    this.#begin();
    await this.#flush();
    await this.#out.write(new Uint8Array(2 * BLOCK_BYTES));
    this.#state = 'ended';
  }

  /** Whoever does not come to the end of what he began has broken the archive off. */
  #begin(): void {
    if (this.#state !== 'open') throw new ExhibitError('internal', `the archive's writer is ${this.#state}`);
    this.#state = 'busy or failed';
  }

  /** A whole member; there is room for it. */
  #gather(header: TarHeader, planned: PlannedHeader, body: Uint8Array = NOTHING, isDigested: boolean): WrittenBody {
    this.#gathered ??= Buffer.allocUnsafeSlow(GATHER_BYTES);
    const gathered = this.#gathered;
    const { bytes, sizeBytes } = planned;
    writeHeader(header, planned, gathered, this.#gatheredBytes);
    const bodyAt = this.#gatheredBytes + bytes;
    const bodyEnd = bodyAt + sizeBytes;
    const came = bodyAt + Math.min(body.length, sizeBytes);
    gathered.set(came - bodyAt < body.length ? body.subarray(0, sizeBytes) : body, bodyAt);
    this.#gatheredBytes = bodyEnd + paddingAfter(sizeBytes);
    gathered.fill(0, came, this.#gatheredBytes);
    const sha256 = isDigested
      ? (header.sha256 ?? hash('sha256', gathered.subarray(bodyAt, bodyEnd), 'hex'))
      : undefined;
    return { sha256, bodyBytes: body.length, failure: undefined };
  }

  async #flush(): Promise<void> {
    if (this.#gathered === undefined || this.#gatheredBytes === 0) return;
    await this.#out.write(this.#gathered.subarray(0, this.#gatheredBytes));
    this.#gatheredBytes = 0;
  }

  async #writeMember(
    header: TarHeader,
    sizeBytes: number,
    body: Uint8Array | ByteSource | undefined,
    isDigested: boolean,
  ): Promise<WrittenBody> {
    await this.#out.write(encodeHeader(header));
    const digest = isDigested ? new RunningDigest() : undefined;
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
    return { sha256: digest?.digest().sha256, bodyBytes: parts.bodyBytes, failure: parts.failure };
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
}

interface WrittenBody {
  readonly sha256: string | undefined;
  readonly bodyBytes: number;
  readonly failure: { readonly error: unknown } | undefined;
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
