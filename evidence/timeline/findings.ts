import { z } from 'zod';
import { createTally, jsonBatches } from './lines.ts';
import { cutText, type EntryTime, type TimelineEntry, type TimelineObject, type TimelineSource } from './timeline.ts';

/** What was found about files, at each time of the file that it is about: the one it claims and the ones it cannot choose. */

const text = z.string();
const ns = z.string().regex(/^-?\d{1,28}$/);
const findingSchema = z.looseObject({
  kind: text,
  severity: text.optional(),
  reasons: z.array(text).optional(),
  path: text,
  pathBase64: text.optional(),
  type: text.optional(),
  inode: text.optional(),
  mode: text.optional(),
  uid: z.number().optional(),
  gid: z.number().optional(),
  sizeBytes: z.number().optional(),
  mtimeNs: ns.optional(),
  ctimeNs: ns.optional(),
  birthNs: ns.optional(),
  sha256: text.optional(),
});
type Finding = z.infer<typeof findingSchema>;

/** Paths and their base64; findings carry no attributes. */
const MAX_LINE_BYTES = 1024 * 1024;

export function findingsSource(name: string): TimelineSource {
  return {
    object: name,
    async *read(bundle) {
      const object = bundle.object(name);
      if (object === undefined) return;
      const tally = createTally();
      for await (const batch of jsonBatches(bundle.content(object), findingSchema, MAX_LINE_BYTES, tally)) {
        yield (function* () {
          for (const { line, value } of batch) yield entryOf(object, line, value);
        })();
      }
      tally.tell(bundle, object, undefined);
    },
  };
}

function entryOf({ name, artifact }: TimelineObject, line: number, finding: Finding): TimelineEntry {
  const { kind, severity, reasons = [], pathBase64, type, inode, mode, uid, gid, sizeBytes, sha256 } = finding;
  const path = `/${finding.path.replace(/^(\.?\/)+|\/+$/g, '')}`;
  const why = reasons.length === 0 ? '' : ` (${reasons.join(', ')})`;
  const level = severity === undefined ? '' : `, ${severity}`;
  return {
    kind: 'finding',
    dataType: 'exhibit:finding',
    artifact,
    object: name,
    line,
    message: cutText(`finding ${kind}${level}: ${path}${why}`),
    times: timesOf(finding),
    fields: {
      ...{ path, path_base64: pathBase64, file_type: type, inode, mode, uid, gid, size: sizeBytes, sha256 },
      finding: cutText(kind),
    },
  };
}

function timesOf({ mtimeNs, ctimeNs, birthNs }: Finding): EntryTime[] {
  const times: EntryTime[] = [];
  if (mtimeNs !== undefined) times.push({ ns: BigInt(mtimeNs), meaning: 'modified' });
  if (ctimeNs !== undefined) times.push({ ns: BigInt(ctimeNs), meaning: 'changed' });
  if (birthNs !== undefined && birthNs !== '0') times.push({ ns: BigInt(birthNs), meaning: 'created' });
  return times;
}
