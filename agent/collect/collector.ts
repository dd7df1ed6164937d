import type { Logger } from 'pino';
import type { CheckpointPlan, RungName } from '../../evidence/dump.ts';
import type { ArtifactName } from '../../evidence/layout.ts';
import type { Gap } from '../../evidence/manifest.ts';
import type { TarHeader, WrittenMember } from '../../evidence/tar.ts';
import type { Frozen } from '../capture/freeze.ts';
import type { Host } from '../host/host.ts';
import type { Runtime, Target } from '../runtime/runtime.ts';

/**
 * One artifact's way from the node to the sink. A collector streams; what it cannot get it reports with `gap` and goes on.
 * It throws only when nothing useful can be stored at all; the spine records that as a failed artifact and goes on with
 * the next. Sink errors pass through: they end the capture.
 */
export interface Collector {
  readonly artifact: ArtifactName;
  collect(context: CollectContext): Promise<void>;
}

export interface CollectContext {
  readonly captureId: string;
  readonly target: Target;
  readonly runtime: Runtime;
  readonly host: Host;
  readonly signal: AbortSignal;
  readonly log: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;

  /** Opens `<name>` (for example `processes.tar.zst`) as a tar archive of independent zstd frames. */
  archive(name: string, options?: ArchiveOptions): Promise<Archive>;
  /** Opens `<name>` for a tar stream that somebody else made; its members are listed as it passes. */
  foreignArchive(name: string): Promise<ForeignArchive>;
  /** Opens `<name>` for compressed text or JSON lines. */
  text(name: string, mediaType: 'jsonl' | 'bodyfile'): Promise<TextObject>;

  /** `at` is filled in. */
  gap(gap: Omit<Gap, 'at'>): void;
  note(text: string): void;
  /** A fact for programs in the artifact's record; a later one of the same name replaces it. JSON values only. */
  fact(name: string, value: unknown): void;
  /** Adds to the footprint. */
  read(bytes: number, filesOpened?: number): void;
  /** Adds to the footprint's pause what the target stood still for something else than `freeze`. */
  paused(ms: number): void;
  progress(doneBytes: number, totalBytes?: number): void;
  /** Stops the target; the collector thaws it as soon as it has what it came for. See capture/freeze.ts. */
  freeze(): Promise<Frozen>;
  /** Durably noted before a dump is asked for, and removed when the target is known to run again. */
  dumping(dump: DumpNote | undefined): Promise<void>;
  /** What the plan decided for the checkpoint; absent where it has none. */
  readonly checkpoint?: CheckpointPlan | undefined;
  /** What the plan decided for memory. */
  readonly consistency: 'frozen' | 'live';
  readonly bufferBytes: number;
}

/** A dump that is asked for. `resume`: a container that is found paused afterwards was paused for it. */
export interface DumpNote {
  readonly rung: RungName;
  readonly resume: boolean;
}

export interface ArchiveOptions {
  /** Media type when it is not a plain tar: `ociLayer`. */
  readonly mediaType?: 'tar' | 'ociLayer';
  /** The object that lists the members instead of the manifest, for archives without a bound on their number. */
  readonly membersIn?: string;
  readonly estimatedBytes?: number;
  /** For memory at memory speed; see evidence/write.ts. */
  readonly digestMembersUpTo?: number;
  readonly storedDigestOnly?: boolean;
}

/**
 * `add` writes exactly `header.sizeBytes` bytes: a body that ends early is filled with zeros and one that goes on is cut;
 * the result says how many bytes really came. Disposal without `commit` drops the object.
 */
export interface Archive extends AsyncDisposable {
  add(header: TarHeader, body?: Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<WrittenMember>;
  commit(): Promise<void>;
}

export interface ForeignArchive extends AsyncDisposable {
  write(chunk: Uint8Array): Promise<void>;
  commit(): Promise<void>;
}

export interface TextObject extends AsyncDisposable {
  /** Buffered; `line` adds the newline. */
  line(text: string): Promise<void>;
  commit(): Promise<void>;
}
