import { z } from 'zod';
import { createTally, jsonBatches } from './lines.ts';
import type { EntryTime, TimelineEntry, TimelineFields, TimelineObject, TimelineSource } from './timeline.ts';

/**
 * Files: `rootfs.inventory.jsonl.zst`, and others of the same lines. The shape here asks for less than inventory.ts: of an older or
 * newer writer's line the times still count.
 */

/** 2^63 seconds and more. */
const ns = z.string().regex(/^-?\d{1,28}$/);
const text = z.string();

const lowerSchema = z.looseObject({
  layer: z.number(),
  type: text,
  sizeBytes: z.number(),
  mode: text,
  uid: z.number(),
  gid: z.number(),
  mtimeNs: ns,
  ctimeNs: ns,
  inode: text,
  sha256: text.optional(),
});
type Lower = z.infer<typeof lowerSchema>;

const lineSchema = z.looseObject({
  path: text,
  pathBase64: text.optional(),
  overlayPath: text.optional(),
  overlayPathBase64: text.optional(),
  type: text,
  sizeBytes: z.number(),
  /** Of a file that was left out on purpose; `sizeBytes` is what is stored. */
  apparentBytes: text.optional(),
  sha256: text.optional(),
  change: text.optional(),
  inode: text,
  nlink: z.number().optional(),
  mode: text,
  uid: z.number(),
  gid: z.number(),
  atimeNs: ns,
  mtimeNs: ns,
  ctimeNs: ns,
  birthNs: ns,
  linkPath: text.optional(),
  lower: lowerSchema.optional(),
  /** Number of the mount that it lies on, in volumes.jsonl.zst. */
  volume: z.number().optional(),
});
type Line = z.infer<typeof lineSchema>;

/** As evidence/members.ts has it: a path, its base64 and a hundred attributes of 64 KiB fit. */
const MAX_LINE_BYTES = 16 * 1024 * 1024;

/** `name` is a list of files in a bundle. */
export function inventorySource(name: string): TimelineSource {
  return {
    object: name,
    async *read(bundle) {
      const object = bundle.object(name);
      if (object === undefined) return;
      const tally = createTally();
      for await (const batch of jsonBatches(bundle.content(object), lineSchema, MAX_LINE_BYTES, tally)) {
        yield entriesOf(object, batch);
      }
      tally.tell(bundle, object, undefined);
    },
  };
}

function* entriesOf(
  { name: object, artifact }: TimelineObject,
  batch: Iterable<{ readonly line: number; readonly value: Line }>,
): Generator<TimelineEntry> {
  for (const { line, value } of batch) {
    const name = nameOf(value);
    const where = { kind: 'file', dataType: 'fs:stat', artifact, object, line } as const;
    yield { ...where, ...(value.change === 'deleted' ? deletion(name, value) : asItIs(name, value)) };
    if (value.lower !== undefined) yield { ...where, ...asInImage(name, value.lower) };
  }
}

type Told = Pick<TimelineEntry, 'message' | 'times' | 'fields'>;
type Name = Pick<TimelineFields, 'path_base64' | 'volume'> & { readonly path: string };

function asItIs(name: Name, file: Line): Told {
  const times: EntryTime[] = [
    { ns: BigInt(file.mtimeNs), meaning: 'modified' },
    { ns: BigInt(file.atimeNs), meaning: 'accessed' },
    { ns: BigInt(file.ctimeNs), meaning: 'changed' },
  ];
  // Zero is what file systems say that keep none; the others may really be zero.
  if (file.birthNs !== '0') times.push({ ns: BigInt(file.birthNs), meaning: 'created' });
  const stat = statOf(file);
  const link = file.linkPath === undefined ? '' : ` -> ${file.linkPath}`;
  const size = file.type === 'file' ? `, ${stat.size} bytes` : '';
  const change = file.change === undefined ? '' : `, ${file.change}`;
  return {
    message: `${name.path}${link}: ${file.type}${size}${change}`,
    times,
    fields: { ...name, ...stat, link_target: file.linkPath, change: file.change },
  };
}

/**
 * A whiteout says that something was deleted. overlayfs makes many of them from one inode, whose ctime is when the last of
 * these was made: a deletion then was at that time or before.
 */
function deletion(name: Name, file: Line): Told {
  const shared = (file.nlink ?? 1) > 1 ? `, then or before: ${file.nlink} whiteouts share the inode` : '';
  return {
    message: `${name.path} deleted (whiteout${shared})`,
    times: [{ ns: BigInt(file.ctimeNs), meaning: 'deleted' }],
    fields: { ...name, ...statOf(file), file_type: 'whiteout', change: 'deleted' },
  };
}

/** What the image has at the same path. */
function asInImage(name: Name, lower: Lower): Told {
  return {
    message: `${name.path} as in image layer ${lower.layer}: ${lower.type}, ${lower.sizeBytes} bytes`,
    times: [
      { ns: BigInt(lower.mtimeNs), meaning: 'modified' },
      { ns: BigInt(lower.ctimeNs), meaning: 'changed' },
    ],
    fields: { ...name, ...statOf(lower), layer: lower.layer },
  };
}

type Stat = Pick<Line, 'type' | 'inode' | 'mode' | 'uid' | 'gid' | 'sizeBytes' | 'apparentBytes' | 'sha256'>;

function statOf({ type, inode, mode, uid, gid, sizeBytes, apparentBytes, sha256 }: Stat): TimelineFields {
  const size = apparentBytes === undefined ? sizeBytes : Number(apparentBytes);
  return { file_type: type, inode, mode, uid, gid, size, sha256 };
}

/** Absolute, as the container sees it: `overlayPath` is its own name where the member's is another. */
function nameOf(file: Line): Name {
  const path_base64 = file.overlayPath === undefined ? file.pathBase64 : file.overlayPathBase64;
  const path = (file.overlayPath ?? file.path).replace(/^(\.?\/)+|^\.$|\/+$/g, '');
  return { path: `/${path}`, path_base64, volume: file.volume === undefined ? undefined : String(file.volume) };
}
