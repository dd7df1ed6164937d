import { z } from 'zod';
import { archiveSource, isPartOf } from './archive.ts';
import { createTally, jsonBatches } from './lines.ts';
import { parseMoment } from './moment.ts';
import { cutText, type TimelineEntry } from './timeline.ts';

/** eBPF programs of the node, by the time they were loaded. */

const text = z.string();
const programSchema = z.looseObject({
  id: z.number().optional(),
  name: text.optional(),
  type: text.optional(),
  loadedAt: text.optional(),
});

/** A program's maps and names. */
const MAX_LINE_BYTES = 1024 * 1024;

export const nodeSource = archiveSource('node.tar.zst', (member, object, bundle) => {
  if (!isPartOf('bpf', member.path)) return undefined;
  const common = {
    kind: 'node',
    dataType: 'linux:bpf:program',
    artifact: object.artifact,
    object: object.name,
    member: member.path,
  } as const;
  return (async function* (): AsyncGenerator<Iterable<TimelineEntry>> {
    const tally = createTally();
    for await (const batch of jsonBatches(member.body, programSchema, MAX_LINE_BYTES, tally)) {
      yield Array.from(batch).flatMap(({ line, value }): TimelineEntry[] => {
        const { id, name = '', type = 'program', loadedAt } = value;
        const ns = loadedAt === undefined ? undefined : parseMoment(loadedAt);
        if (ns === undefined) return [];
        const message = cutText(`eBPF ${type} ${id ?? '?'} loaded${name === '' ? '' : `: ${name}`}`);
        return [{ ...common, line, message, times: [{ ns, meaning: 'started' }], fields: {} }];
      });
    }
    tally.tell(bundle, object, member.path);
  })();
});
