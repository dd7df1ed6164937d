import { z } from 'zod';
import { archiveSource } from './archive.ts';
import { createTally, jsonBatches } from './lines.ts';
import { parseMoment } from './moment.ts';
import { cutText, type TimelineEntry } from './timeline.ts';

/** Connections that the kernel tracks, where it was told to keep when they began (net.netfilter.nf_conntrack_timestamp). */

const text = z.string();
const tupleSchema = z.looseObject({
  source: text,
  destination: text,
  sourcePort: z.number().optional(),
  destinationPort: z.number().optional(),
});
const connectionSchema = z.looseObject({
  protocol: text.optional(),
  original: tupleSchema.optional(),
  state: text.optional(),
  startedAt: text.optional(),
});
type Connection = z.infer<typeof connectionSchema>;

/** Two addresses and some numbers. */
const MAX_LINE_BYTES = 1024 * 1024;

export const networkSource = archiveSource('network.tar.zst', (member, object, bundle) => {
  if (!/(^|\/)conntrack(-\d{1,6})?\.jsonl$/.test(member.path)) return undefined;
  const where = { artifact: object.artifact, object: object.name, member: member.path };
  return (async function* (): AsyncGenerator<Iterable<TimelineEntry>> {
    const tally = createTally();
    for await (const batch of jsonBatches(member.body, connectionSchema, MAX_LINE_BYTES, tally)) {
      yield Array.from(batch).flatMap(({ line, value }): TimelineEntry[] => {
        const ns = value.startedAt === undefined ? undefined : parseMoment(value.startedAt);
        if (ns === undefined) return [];
        const message = cutText(describe(value));
        const common = { ...where, line, kind: 'network', dataType: 'linux:conntrack' } as const;
        return [{ ...common, message, times: [{ ns, meaning: 'started' }], fields: {} }];
      });
    }
    tally.tell(bundle, object, member.path);
  })();
});

function describe({ protocol = 'connection', original, state }: Connection): string {
  const from = original === undefined ? '?' : endpoint(original.source, original.sourcePort);
  const to = original === undefined ? '?' : endpoint(original.destination, original.destinationPort);
  return `connection ${protocol} ${from} -> ${to} began${state === undefined ? '' : `, now ${state}`}`;
}

function endpoint(address: string, port: number | undefined): string {
  if (port === undefined) return address;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
