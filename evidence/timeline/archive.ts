import { readAtMost } from '../byte-sink.ts';
import { isExhibitError } from '../error.ts';
import { readTar, type TarEntry } from '../tar-reader.ts';
import type { TimelineBundle, TimelineEntry, TimelineObject, TimelineSource } from './timeline.ts';

/** Sources whose evidence is in the members of an archive. */

/** What is made of one member; undefined when it is none of the source's, and its content is passed over. */
export type MemberReader = (
  member: TarEntry,
  object: TimelineObject,
  bundle: TimelineBundle,
) => AsyncIterable<Iterable<TimelineEntry>> | undefined;

export function archiveSource(name: string, reader: MemberReader): TimelineSource {
  return {
    object: name,
    async *read(bundle) {
      const object = bundle.object(name);
      if (object === undefined) return;
      for await (const member of readTar(bundle.content(object))) {
        if (member.header.type !== 'file') continue;
        const batches = reader(member, object, bundle);
        if (batches !== undefined) yield* batches;
      }
    },
  };
}

/** Members of lists go on as `name-2.jsonl`. */
export function isPartOf(name: string, path: string): boolean {
  return path === `${name}.jsonl` || (path.startsWith(`${name}-`) && /^-\d{1,6}\.jsonl$/.test(path.slice(name.length)));
}

/** A member that is one JSON document; undefined, and a problem, when it is none or is larger than `limitBytes`. */
export async function jsonDocument(
  member: TarEntry,
  limitBytes: number,
  object: TimelineObject,
  bundle: TimelineBundle,
): Promise<unknown> {
  const { parseJson } = await import('../json.ts');
  try {
    const bytes = await readAtMost(member.body, limitBytes);
    if (bytes !== undefined) return parseJson(bytes, limitBytes, member.path);
    bundle.problem({ object: object.name, member: member.path, why: `it is larger than ${limitBytes} bytes` });
  } catch (error) {
    if (!isExhibitError(error, 'bundle-corrupt')) throw error;
    bundle.problem({ object: object.name, member: member.path, why: error.message });
  }
  return undefined;
}
