import { type Encrypt, encryptWhole } from './age-writer.ts';
import type { ByteSink, ByteSource } from './byte-sink.ts';
import { ExhibitError } from './error.ts';
import { createFrameWriter, type FrameOptions, type FrameWriter, RunningDigest } from './frames.ts';
import { canonicalJson } from './json.ts';
import { MANIFEST_OBJECT, MEDIA_TYPES, type MediaType, SEAL_OBJECT, storedName, TIMESTAMP_OBJECT } from './layout.ts';
import { type Digest, type Manifest, manifestSchema, type StoredObject } from './manifest.ts';
import { createMemberList, type MemberList } from './member-list.ts';
import type { Sealer, Signer } from './seal.ts';
import { createSealer } from './sealer.ts';
import { createTarWriter, type TarHeader, type TarWriter, type TarWriterOptions, type WrittenMember } from './tar.ts';
import { createTarObserver } from './tar-reader.ts';

/**
 * A bundle as it is written: every object goes through frames and digests into a sink, and when it is committed there its
 * record goes to `onStored`, for the manifest. Objects that are disposed without `commit` are dropped and leave no record.
 */
export interface BundleWriter {
  /** Members are listed in the manifest, or in an object beside it when they are too many (member-list.ts). */
  openArchive(name: string, options?: ArchiveWriterOptions): Promise<ArchiveWriter>;
  /** For a tar stream that somebody else made. A stream that is no good tar is stored all the same, without a list. */
  openForeignArchive(name: string, options?: ForeignArchiveOptions): Promise<ForeignArchiveWriter>;
  openText(name: string, mediaType: 'jsonl' | 'bodyfile', estimatedBytes?: number): Promise<TextWriter>;
  /** Canonical JSON, not compressed. */
  writeJson(name: string, value: unknown): Promise<StoredObject>;
  /** The end of a bundle, see `sealManifest`. Resolves to the sealer's notes. */
  seal(manifest: Manifest, by: Sealer | Signer, signal?: AbortSignal): Promise<readonly string[]>;
}

export interface SinkObject extends ByteSink, AsyncDisposable {
  /** `record`: of the bytes that were written; members are not known yet. What it resolves to is for whoever opened the object. */
  commit(record: StoredObject): Promise<unknown>;
}

/**
 * `estimatedBytes` is of the content, before compression. `mediaType` is of the stored bytes, `inside` of what they are when
 * they are decrypted.
 */
export type OpenObject = (
  name: string,
  mediaType: MediaType,
  estimatedBytes?: number,
  inside?: MediaType,
) => Promise<SinkObject>;

export interface BundleWriterOptions extends FrameOptions {
  /** In the order of the commits, and awaited. Not called for the manifest and the seal. */
  readonly onStored: (object: StoredObject) => unknown;
  /** Every object but the seal is stored in an age file under `<name>.age`; records keep the object's own name. */
  readonly encrypt?: Encrypt | undefined;
  /** Asked of every compressed object when it is opened: who is told of its frames (FrameOptions). */
  readonly keep?: KeepFrames | undefined;
}

export type KeepFrames = (object: string) => FrameOptions['onFrames'];

export interface ArchiveWriterOptions {
  readonly mediaType?: 'tar' | 'ociLayer';
  /** The object that lists the members; the caller writes it (see members.ts), in the archive's order. */
  readonly membersIn?: string;
  readonly estimatedBytes?: number;
  /** Bytes; see TarWriterOptions. */
  readonly digestMembersUpTo?: number;
  /** See `FrameOptions`. */
  readonly storedDigestOnly?: boolean;
}

export interface ArchiveWriter extends AsyncDisposable {
  add(header: TarHeader, body?: Uint8Array | ByteSource): Promise<WrittenMember>;
  commit(): Promise<void>;
}

export interface ForeignArchiveOptions {
  readonly estimatedBytes?: number;
  /** Called at most once, at `commit`: why the members are not listed. */
  readonly onProblem?: (why: string) => void;
}

export interface ForeignArchiveWriter extends AsyncDisposable {
  /** `chunk` may be reused when it resolves. */
  write(chunk: Uint8Array): Promise<void>;
  commit(): Promise<void>;
}

export interface TextWriter extends AsyncDisposable {
  /** `text` without newlines; one is added. Throws ExhibitError `internal` for text that would make two lines. */
  line(text: string): Promise<void>;
  commit(): Promise<void>;
}

export function createBundleWriter(open: OpenObject, options: BundleWriterOptions): BundleWriter {
  const compressed = async (
    name: string,
    mediaType: MediaType,
    estimatedBytes?: number,
    frames: FrameOptions = {},
  ): Promise<CompressedObject> => {
    const encryption = await options.encrypt?.();
    const record = { name, mediaType, ...(encryption === undefined ? {} : { encryption: 'age' as const }) };
    const object = await open(
      storedName(record),
      encryption === undefined ? mediaType : MEDIA_TYPES.age,
      estimatedBytes,
      mediaType,
    );
    const onFrames = options.keep?.(name);
    return new CompressedObject(record, object, { ...options, ...frames, onFrames, ...(encryption && { encryption }) });
  };
  const openText: BundleWriter['openText'] = async (name, mediaType, estimatedBytes) =>
    new Text(await compressed(name, MEDIA_TYPES[mediaType], estimatedBytes, { inFlight: TEXT_IN_FLIGHT }));
  const listOf = (archive: string) => createMemberList(archive, (name) => openText(name, 'jsonl'));
  const writeWhole = async (
    { name, mediaType, bytes }: WholeObject,
    record: StoredObject,
    inside: MediaType = mediaType,
  ): Promise<void> => {
    await using object = await open(name, mediaType, bytes.length, inside);
    await object.write(bytes);
    await object.commit(record);
  };
  return {
    async openArchive(name, { mediaType = 'tar', membersIn, estimatedBytes, storedDigestOnly = false, ...tar } = {}) {
      const object = await compressed(name, MEDIA_TYPES[mediaType], estimatedBytes, { storedDigestOnly });
      return new Archive(object, membersIn === undefined ? listOf(name) : membersIn, tar);
    },
    async openForeignArchive(name, { estimatedBytes, onProblem } = {}) {
      return new Foreign(await compressed(name, MEDIA_TYPES.tar, estimatedBytes), listOf(name), onProblem);
    },
    openText,
    async writeJson(name, value) {
      const { whole, record } = await wholeObject(name, MEDIA_TYPES.json, canonicalJson(value), options.encrypt);
      await writeWhole(whole, record, MEDIA_TYPES.json);
      await options.onStored(record);
      return record;
    },
    async seal(manifest, by, signal = new AbortController().signal) {
      const sealer = 'seal' in by ? by : createSealer(by);
      const { objects, notes } = await sealManifest(manifest, sealer, signal, options.encrypt);
      for (const object of objects) {
        const { name, mediaType, bytes } = object;
        await writeWhole(object, { name, mediaType, stored: digestOf(bytes) });
      }
      return notes;
    },
  };
}

/** A small object as it is to lie in the sink: its stored name, type and bytes. */
export interface WholeObject {
  readonly name: string;
  readonly mediaType: MediaType;
  readonly bytes: Uint8Array;
}

/** A small object that is not compressed, as it is to be stored, and its record for the manifest. */
export async function wholeObject(
  name: string,
  mediaType: MediaType,
  content: Uint8Array,
  encrypt: Encrypt | undefined,
): Promise<{ whole: WholeObject; record: StoredObject }> {
  if (encrypt === undefined) {
    return { whole: { name, mediaType, bytes: content }, record: { name, mediaType, stored: digestOf(content) } };
  }
  const bytes = await encryptWhole(encrypt, content);
  const digests = { stored: digestOf(bytes), content: digestOf(content) };
  const record: StoredObject = { name, mediaType, encryption: 'age', ...digests };
  return { whole: { name: storedName(record), mediaType: MEDIA_TYPES.age, bytes }, record };
}

function digestOf(bytes: Uint8Array): Digest {
  const digest = new RunningDigest();
  digest.update(bytes);
  return digest.digest();
}

/**
 * The objects that end a bundle, in the order in which they are to be written: the manifest, the timestamp where there is one,
 * and last the seal over everything but the timestamp. They are made once: to be written again after a failure, the very same
 * bytes are needed. With `encrypt` the manifest is an age file, and the seal is over that. `notes` are those of the sealer.
 */
export async function sealManifest(
  manifest: Manifest,
  sealer: Sealer,
  signal: AbortSignal,
  encrypt?: Encrypt,
): Promise<{ objects: WholeObject[]; notes: readonly string[] }> {
  const checked = manifestSchema.safeParse(manifest);
  if (!checked.success) {
    throw new ExhibitError('internal', 'the manifest is not of its own shape', { cause: checked.error });
  }
  const own = await wholeObject(MANIFEST_OBJECT, MEDIA_TYPES.json, canonicalJson(checked.data), encrypt);
  const subjects = [...manifest.objects, own.record].map((object) => ({
    name: storedName(object),
    sha256: object.stored.sha256,
  }));
  const { captureId, agent, chain } = manifest;
  const { envelope, timestamp, notes } = await sealer.seal({ captureId, agent, subjects, chain }, signal);
  const objects: WholeObject[] = [own.whole];
  if (timestamp !== undefined) {
    objects.push({ name: TIMESTAMP_OBJECT, mediaType: MEDIA_TYPES.timestamp, bytes: timestamp });
  }
  objects.push({ name: SEAL_OBJECT, mediaType: MEDIA_TYPES.dsse, bytes: envelope });
  return { objects, notes };
}

/** A sink's object behind frames; knows its record when it is committed. */
class CompressedObject implements AsyncDisposable {
  readonly #record: Pick<StoredObject, 'name' | 'mediaType' | 'encryption'>;
  readonly #object: SinkObject;
  readonly #onStored: BundleWriterOptions['onStored'];
  readonly frames: FrameWriter;

  constructor(
    record: Pick<StoredObject, 'name' | 'mediaType' | 'encryption'>,
    object: SinkObject,
    options: BundleWriterOptions,
  ) {
    this.#record = record;
    this.#object = object;
    this.#onStored = options.onStored;
    this.frames = createFrameWriter(object, options);
  }

  get name(): string {
    return this.#record.name;
  }

  /** `members` is asked between the object's last byte and its record. */
  async commit(members?: () => Promise<Pick<StoredObject, 'members' | 'membersIn'>>): Promise<void> {
    const { stored, content } = await this.frames.end();
    const record = { ...this.#record, stored, content };
    await this.#object.commit(record);
    await this.#onStored({ ...record, ...(await members?.()) });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#object[Symbol.asyncDispose]();
  }
}

class Archive implements ArchiveWriter {
  readonly #object: CompressedObject;
  readonly #members: MemberList | string;
  readonly #tar: TarWriter;

  constructor(object: CompressedObject, members: MemberList | string, options: TarWriterOptions) {
    this.#object = object;
    this.#members = members;
    const listing: TarWriterOptions = typeof members === 'string' ? {} : { onMember: (one) => members.add(one) };
    this.#tar = createTarWriter(object.frames, { ...options, ...listing });
  }

  add(header: TarHeader, body?: Uint8Array | ByteSource): Promise<WrittenMember> {
    return this.#tar.add(header, body);
  }

  async commit(): Promise<void> {
    const members = this.#members;
    await this.#tar.end();
    await this.#object.commit(() =>
      typeof members === 'string' ? Promise.resolve({ membersIn: members }) : members.finish(),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await using stack = new AsyncDisposableStack();
    stack.use(this.#object);
    if (typeof this.#members !== 'string') stack.use(this.#members);
  }
}

class Foreign implements ForeignArchiveWriter {
  readonly #object: CompressedObject;
  readonly #members: MemberList;
  readonly #observer = createTarObserver();
  readonly #onProblem: ForeignArchiveOptions['onProblem'];

  constructor(object: CompressedObject, members: MemberList, onProblem: ForeignArchiveOptions['onProblem']) {
    this.#object = object;
    this.#members = members;
    this.#onProblem = onProblem;
  }

  async write(chunk: Uint8Array): Promise<void> {
    for (const member of this.#observer.write(chunk)) await this.#members.add(member);
    await this.#object.frames.write(chunk);
  }

  async commit(): Promise<void> {
    const problem = this.#observer.end();
    if (problem !== undefined) this.#onProblem?.(problem);
    // A list that stops in the middle would read as one that is complete.
    await this.#object.commit(problem === undefined ? () => this.#members.finish() : undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await using stack = new AsyncDisposableStack();
    stack.use(this.#object);
    stack.use(this.#members);
  }
}

/** Frames of text in flight: lines come at the speed of whoever makes them, which is far below that of one thread. */
const TEXT_IN_FLIGHT = 2;

/** Lines are gathered into pieces worth a frame writer's while. */
const TEXT_BUFFER_BYTES = 128 * 1024;
/** UTF-8 has at most so many bytes for a unit of a JavaScript string. */
const UTF8_BYTES = 3;
const NEWLINE = 0x0a;
/** Of every line but one in hundreds. */
const DONE = Promise.resolve();

class Text implements TextWriter {
  readonly #object: CompressedObject;
  readonly #gathered = Buffer.allocUnsafeSlow(TEXT_BUFFER_BYTES);
  #gatheredBytes = 0;

  constructor(object: CompressedObject) {
    this.#object = object;
  }

  line(text: string): Promise<void> {
    const mostBytes = text.length * UTF8_BYTES + 1;
    if (text.includes('\n') || this.#gatheredBytes + mostBytes > TEXT_BUFFER_BYTES)
      return this.#lineAfter(text, mostBytes);
    this.#gatheredBytes += this.#gathered.write(text, this.#gatheredBytes);
    this.#gathered[this.#gatheredBytes] = NEWLINE;
    this.#gatheredBytes += 1;
    return DONE;
  }

  /** The line that finds no room. */
  async #lineAfter(text: string, mostBytes: number): Promise<void> {
    if (text.includes('\n')) {
      throw new ExhibitError('internal', `a line of ${this.#object.name} holds a newline: escape it first`);
    }
    await this.#flush();
    if (mostBytes <= TEXT_BUFFER_BYTES) return this.line(text);
    await this.#object.frames.write(Buffer.from(`${text}\n`));
  }

  async commit(): Promise<void> {
    await this.#flush();
    await this.#object.commit();
  }

  async #flush(): Promise<void> {
    const bytes = this.#gathered.subarray(0, this.#gatheredBytes);
    this.#gatheredBytes = 0;
    await this.#object.frames.write(bytes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#object[Symbol.asyncDispose]();
  }
}
