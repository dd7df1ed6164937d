import type { BundleReader } from '../evidence/bundle.ts';
import { readAtMost } from '../evidence/byte-sink.ts';
import { explain, isExhibitError } from '../evidence/error.ts';
import { parseJson } from '../evidence/json.ts';
import { REQUEST_OBJECT } from '../evidence/layout.ts';
import { type Manifest, type RequestRecord, requestSchema } from '../evidence/manifest.ts';
import type { TimelineBundle, TimelineProblem } from '../evidence/timeline/timeline.ts';
import type { VerifyProgress } from '../evidence/verify.ts';
import { readContent, until } from './bundle.ts';

/** As `verify` reads it. */
const MAX_REQUEST_BYTES = 16 * 1024 * 1024;

export interface OpenTimeline {
  readonly reader: BundleReader;
  readonly manifest: Manifest;
  /** Those that are wanted; objects of others are not read. */
  readonly artifacts: ReadonlySet<string>;
  readonly signal: AbortSignal;
  readonly progress: { show(at: VerifyProgress): void } | undefined;
  problem(problem: TimelineProblem): void;
}

/** A bundle as the sources of a timeline see it. */
export async function openTimelineBundle(from: OpenTimeline): Promise<TimelineBundle> {
  const { reader, manifest, artifacts, signal, progress, problem } = from;
  const owners = new Map(manifest.artifacts.flatMap(({ name, objects }) => objects.map((object) => [object, name])));
  const request = await readRequest(from);
  return {
    manifest,
    request,
    object(name) {
      const artifact = owners.get(name);
      const isThere = manifest.objects.some((object) => object.name === name);
      return artifact === undefined || !isThere || !artifacts.has(artifact) ? undefined : { name, artifact };
    },
    async *content({ name }) {
      const object = manifest.objects.find((one) => one.name === name);
      if (object === undefined) return;
      const totalBytes = object.content?.sizeBytes ?? object.stored.sizeBytes;
      let doneBytes = 0;
      for await (const chunk of readContent(reader, object, signal)) {
        doneBytes += chunk.length;
        progress?.show({ object: name, doneBytes, totalBytes });
        yield chunk;
      }
    },
    problem,
  };
}

async function readRequest({ reader, signal, problem }: OpenTimeline): Promise<RequestRecord | undefined> {
  try {
    const bytes = await readAtMost(until(reader.read(REQUEST_OBJECT), signal), MAX_REQUEST_BYTES);
    const parsed = requestSchema.safeParse(bytes && parseJson(bytes, MAX_REQUEST_BYTES, REQUEST_OBJECT));
    if (parsed.success) return parsed.data;
    problem({ object: REQUEST_OBJECT, why: 'it has not the shape of format version 1' });
  } catch (error) {
    if (!isExhibitError(error)) throw error;
    problem({ object: REQUEST_OBJECT, why: explain(error) });
  }
  return undefined;
}
