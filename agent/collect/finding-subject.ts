import type { FindingKind, FindingReason, Severity } from '../../evidence/file-finding.ts';
import type { Change } from '../../evidence/inventory.ts';
import type { NodeKind } from '../host/directory.ts';

/** What the rules look at: one file, wherever it lies. Nothing here is tied to overlayfs. */
export interface Subject {
  /** Below the container's root, without a slash at either end. */
  readonly path: Buffer;
  readonly kind: NodeKind;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  /** As the container sees it. */
  readonly uid: bigint;
  readonly gid: bigint;
  readonly sizeBytes: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  /** Zero where the file system keeps none. */
  readonly birthNs: bigint;
  readonly rdev: bigint;
  /** Of a symlink. */
  readonly linkPath: Buffer | undefined;
  /** `security.capability`. */
  readonly capability: Buffer | undefined;
  readonly sha256: string | undefined;
  /** The first bytes of a regular file's content, asked for only when they matter. */
  head(): Uint8Array | undefined;
  /** Against what is below; `added` in a place that has nothing below; undefined when that could not be read. */
  readonly change: Change | undefined;
  readonly lower: LowerFacts | undefined;
  /** What the path does not tell of the place. */
  readonly place: Place;
}

export interface LowerFacts {
  readonly kind: NodeKind;
  /** st_mode. */
  readonly mode: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly mtimeNs: bigint;
  readonly sizeBytes: bigint;
  readonly sha256: string | undefined;
  readonly capability: Buffer | undefined;
}

export interface Place {
  /** A directory on the way from the root may be written to by anybody. */
  readonly worldWritable: boolean;
  /** The file system is a tmpfs or the like. */
  readonly memory: boolean;
}

export const IN_NO_PLACE: Place = { worldWritable: false, memory: false };

/** The moments that times are held against. */
export interface Moments {
  readonly nowNs: bigint;
  /** When the container was made; undefined where the runtime does not say. */
  readonly containerNs: bigint | undefined;
}

export interface Judgement {
  readonly kind: FindingKind;
  readonly severity: Severity;
  readonly reasons: readonly FindingReason[];
}

/** True when the content is not the lower layer's; undefined when that is not known. */
export function contentDiffers({ kind, sizeBytes, sha256, change, lower }: Subject): boolean | undefined {
  if (lower === undefined || change !== 'modified') return false;
  if (kind !== lower.kind || kind !== 'file' || sizeBytes !== lower.sizeBytes) return true;
  return sha256 === undefined || lower.sha256 === undefined ? undefined : sha256 !== lower.sha256;
}

/** How content can run: by its first bytes. */
export function runsAs(head: Uint8Array | undefined): 'elf' | 'script' | undefined {
  if (head === undefined) return undefined;
  if (head[0] === 0x7f && head[1] === 0x45 && head[2] === 0x4c && head[3] === 0x46) return 'elf';
  return head[0] === 0x23 && head[1] === 0x21 ? 'script' : undefined;
}

/** As many first bytes as `runsAs` looks at. */
export const HEAD_BYTES = 4;
