import { z } from 'zod';
import { CHANGES } from '../inventory.ts';
import { MAX_LINE_BYTES } from '../members.ts';
import type { FactsLimits, KindFacts } from './facts.ts';
import { type FactsSource, factLines, missGaps, nameOfPath, readKinds } from './read.ts';

/** What the container changed on its root file system, of `rootfs.inventory.jsonl.zst`: docs/rootfs.md. */

const lineSchema = z.object({
  path: z.string(),
  pathBase64: z.string().optional(),
  overlayPath: z.string().optional(),
  overlayPathBase64: z.string().optional(),
  type: z.string(),
  sizeBytes: z.number(),
  apparentBytes: z.string().optional(),
  sha256: z.string().optional(),
  change: z.enum(CHANGES).optional(),
  mode: z.string(),
  uid: z.number(),
  gid: z.number(),
  linkPath: z.string().optional(),
  lower: z.object({ mode: z.string(), uid: z.number(), gid: z.number() }).optional(),
  gap: z.object({}).optional(),
});
type Line = z.infer<typeof lineSchema>;

export async function readFiles(source: FactsSource, limits: FactsLimits): Promise<KindFacts> {
  const object = 'rootfs.inventory.jsonl.zst';
  const from = { artifact: 'rootfs', object, kinds: ['files'] } as const;
  const { files: facts } = await readKinds(source, limits, from, async ({ files: { builder } }, artifact) => {
    let unread = 0;
    for await (const batch of factLines(source.content(object), lineSchema, MAX_LINE_BYTES, {
      name: object,
      builder,
    })) {
      for (const { value } of batch) {
        if (value.gap !== undefined) unread += 1;
        if (isAsInImage(value)) continue;
        builder.add(pathOf(value), fieldsOf(value));
      }
    }
    // A file that could not be read has its line and is one gap; what is beyond that is not known.
    if (artifact.gapCount > unread) missGaps(builder, artifact, () => true);
  });
  return facts;
}

/** As if it were not there. A directory gets another mtime by whatever is made or removed in it, which has a line of its own. */
function isAsInImage({ change, type, mode, uid, gid, lower }: Line): boolean {
  if (change === 'unchanged') return true;
  if (change !== 'metadata' || type !== 'directory' || lower === undefined) return false;
  return mode === lower.mode && uid === lower.uid && gid === lower.gid;
}

/** Without the path, which is the key: there may be a million. */
function fieldsOf(line: Line) {
  const { change, type, sha256, mode, uid, gid, sizeBytes, apparentBytes, linkPath } = line;
  if (change === 'deleted') return { change, type: 'whiteout' };
  const size = apparentBytes === undefined ? sizeBytes : Number(apparentBytes);
  return {
    change,
    type,
    sha256,
    mode,
    owner: `${uid}:${gid}`,
    ...(type === 'file' ? { size } : {}),
    target: linkPath,
  };
}

/** Absolute, as the container sees it: `overlayPath` is its own name where the member's is another. */
function pathOf({ path, pathBase64, overlayPath, overlayPathBase64 }: Line): string {
  const shown = overlayPath === undefined ? { path, pathBase64 } : { path: overlayPath, pathBase64: overlayPathBase64 };
  const relative = shown.path.replace(/^(\.?\/)+|^\.$|\/+$/g, '');
  return nameOfPath({ path: `/${relative}`, pathBase64: shown.pathBase64 });
}
