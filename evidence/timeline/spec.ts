import type { TarEntry } from '../tar-reader.ts';
import { archiveSource, jsonDocument } from './archive.ts';
import { parseMoment } from './moment.ts';
import { cutText, type Meaning, type TimelineBundle, type TimelineEntry, type TimelineObject } from './timeline.ts';

/** When container, pod and image were made, started and ended: what the runtime's own documents say. */

/** One time in a document: where it is, and what it says. */
interface Dated {
  readonly path: readonly string[];
  readonly words: string;
  readonly meaning: Meaning;
}

const at = (path: string, words: string, meaning: Meaning): Dated => ({ path: path.split('.'), words, meaning });

/** The documents of spec.tar.zst that have times. CRI's are nanoseconds, 0 for none; the others' are RFC 3339. */
const DOCUMENTS: Readonly<Record<string, readonly Dated[]>> = {
  'cri-container-status.json': [
    at('status.createdAt', 'container created', 'created'),
    at('status.startedAt', 'container started', 'started'),
    at('status.finishedAt', 'container ended', 'ended'),
  ],
  'cri-pod-status.json': [at('status.createdAt', 'pod sandbox created', 'created')],
  'containerd-container.json': [
    at('createdAt', 'container record created in containerd', 'created'),
    at('updatedAt', 'container record updated in containerd', 'modified'),
  ],
  'snapshot.json': [at('info.createdAt', 'writable layer created', 'created')],
  'docker-inspect.json': [
    at('Created', 'container created', 'created'),
    at('State.StartedAt', 'container started', 'started'),
    at('State.FinishedAt', 'container ended (an earlier run, if it runs)', 'ended'),
  ],
  'image-config.json': [at('created', 'image created', 'created')],
};

/** As large as a manifest may be. */
const MAX_DOCUMENT_BYTES = 64 * 1024 * 1024;
/** Docker refuses images of more than 127 layers. */
const MAX_HISTORY = 1000;

export const specSource = archiveSource('spec.tar.zst', (member, object, bundle) => {
  const dated = Object.hasOwn(DOCUMENTS, member.path) ? DOCUMENTS[member.path] : undefined;
  return dated === undefined ? undefined : readDocument(member, dated, object, bundle);
});

async function* readDocument(
  member: TarEntry,
  dated: readonly Dated[],
  object: TimelineObject,
  bundle: TimelineBundle,
): AsyncGenerator<Iterable<TimelineEntry>> {
  const document = await jsonDocument(member, MAX_DOCUMENT_BYTES, object, bundle);
  const entry = (ns: bigint, words: string, meaning: Meaning): TimelineEntry => ({
    kind: 'container',
    dataType: 'container:lifecycle',
    artifact: object.artifact,
    object: object.name,
    member: member.path,
    message: words,
    times: [{ ns, meaning }],
    fields: {},
  });
  yield dated.flatMap(({ path, words, meaning }) => {
    const ns = momentOf(path.reduce(fieldOf, document));
    return ns === undefined ? [] : [entry(ns, words, meaning)];
  });
  if (member.path !== 'image-config.json') return;
  yield historyOf(document).map(({ ns, by }) => entry(ns, `image layer created by: ${by}`, 'created'));
}

function historyOf(config: unknown): { readonly ns: bigint; readonly by: string }[] {
  const history = fieldOf(config, 'history');
  if (!Array.isArray(history)) return [];
  return history.slice(0, MAX_HISTORY).flatMap((step: unknown) => {
    const ns = momentOf(fieldOf(step, 'created'));
    const by = fieldOf(step, 'created_by');
    return ns === undefined ? [] : [{ ns, by: typeof by === 'string' ? cutText(by) : 'unknown' }];
  });
}

function fieldOf(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined;
  return Object.entries(value).find(([key]) => key === name)?.[1];
}

/** Year 1 is Go's zero time, and 0 is CRI's: neither says anything. */
const GO_ZERO = parseMoment('0001-01-01T00:00:00Z');

function momentOf(value: unknown): bigint | undefined {
  if (typeof value !== 'string') return undefined;
  if (/^-?\d{1,19}$/.test(value)) return value === '0' ? undefined : BigInt(value);
  const ns = parseMoment(value);
  return ns === GO_ZERO ? undefined : ns;
}
