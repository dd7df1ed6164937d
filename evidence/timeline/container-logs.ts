import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import type { ByteSource } from '../byte-sink.ts';
import { ExhibitError } from '../error.ts';
import type { TarEntry } from '../tar-reader.ts';
import { archiveSource } from './archive.ts';
import { createTally, type LineBatch, type LineTally, lineBatches } from './lines.ts';
import { createLogJoiner, type LogJoiner, type LogText } from './log-line.ts';
import type { TimelineBundle, TimelineEntry, TimelineObject } from './timeline.ts';

/** What the container wrote to stdout and stderr, rotations too. */
export const containerLogsSource = archiveSource('logs.tar.zst', (member, object, bundle) =>
  readLog(member, object, bundle),
);

/** Runtimes cut lines at 16 KiB; Docker escapes a byte as six. */
const MAX_LINE_BYTES = 1024 * 1024;
/** Of one rotated file; kubelet's are 10 MiB unless it is told otherwise. */
const MAX_INFLATED_BYTES = 4 * 1024 * 1024 * 1024;

async function* readLog(
  member: TarEntry,
  object: TimelineObject,
  bundle: TimelineBundle,
): AsyncGenerator<Iterable<TimelineEntry>> {
  const tally = createTally();
  const joiner = createLogJoiner();
  const where = { artifact: object.artifact, object: object.name, member: member.path };
  const content = member.path.endsWith('.gz') ? inflate(member.body) : member.body;
  try {
    for await (const batch of lineBatches(content, MAX_LINE_BYTES, tally)) yield entriesOf(batch, joiner, tally, where);
  } catch (error) {
    if (!isZlibFault(error)) throw error;
    bundle.problem({
      object: object.name,
      member: member.path,
      why: `it does not decompress to its end: ${error.message}`,
    });
  }
  yield joiner.end().map((text) => entryOf(text, where));
  tally.tell(bundle, object, member.path);
}

type Where = Pick<TimelineEntry, 'artifact' | 'object' | 'member'>;

function* entriesOf(batch: LineBatch, joiner: LogJoiner, tally: LineTally, where: Where): Generator<TimelineEntry> {
  for (const [index, line] of batch.lines.entries()) {
    if (line === '') continue;
    const found = joiner.push(line, batch.first + index);
    if (found === 'bad') tally.bad(batch.first + index, 'is no line of a container log');
    else if (found !== undefined) yield entryOf(found, where);
  }
}

function entryOf({ ns, stream, text, line, format }: LogText, where: Where): TimelineEntry {
  return {
    ...where,
    line,
    kind: 'log',
    dataType: format === 'cri' ? 'cri:container:log:entry' : 'docker:container:log:entry',
    message: `${stream}: ${text}`,
    times: [{ ns, meaning: 'recorded' }],
    fields: { stream },
  };
}

async function* inflate(stored: ByteSource): AsyncGenerator<Uint8Array> {
  let inflatedBytes = 0;
  const gunzip = Readable.from(stored).pipe(createGunzip());
  try {
    for await (const chunk of gunzip) {
      inflatedBytes += chunk.length;
      if (inflatedBytes > MAX_INFLATED_BYTES)
        throw new ExhibitError('bundle-corrupt', `more than ${MAX_INFLATED_BYTES} bytes`);
      yield chunk;
    }
  } finally {
    gunzip.destroy();
  }
}

function isZlibFault(error: unknown): error is Error {
  if (error instanceof ExhibitError && error.code === 'bundle-corrupt') return true;
  return error instanceof Error && 'code' in error && /^Z_/.test(String(error.code));
}
