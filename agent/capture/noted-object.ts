import { explain, isExhibitError } from '../../evidence/error.ts';
import type { StoredObject } from '../../evidence/manifest.ts';
import type { SinkObject } from '../../evidence/write.ts';
import { openSeveral, type SeveralObject, type SinkOutcome } from '../sink/several.ts';
import type { Belonging, BundleOptions } from './bundle.ts';
import { objectClosed } from './custody-events.ts';
import type { ObjectEnd } from './draft.ts';
import { subjectOf } from './seal-sink.ts';

export interface NotedObjectOptions {
  readonly name: string;
  /** Of the bytes as they are stored. */
  readonly contentType: string;
  /** Of what they are when they are decrypted. */
  readonly mediaType: string;
  readonly estimatedBytes: number | undefined;
  readonly belonging: Belonging;
}

/** An object in all sinks of a capture, of which the draft knows each step before or right after it was made. */
export async function openNoted(object: NotedObjectOptions, options: BundleOptions): Promise<SinkObject> {
  const { name, contentType, mediaType, estimatedBytes, belonging } = object;
  const { draft, signal, sinks } = options;
  const { artifact, volatility } = belonging;
  await draft.note({ kind: 'opened', name, mediaType, volatility, ...(artifact === undefined ? {} : { artifact }) });
  const noted = new NotedObject(name, options);
  await noted.begin(() =>
    openSeveral(sinks, `${draft.state.path}/${name}`, {
      contentType,
      about: subjectOf(draft.state, volatility),
      // Before anything is read, a sink that will not have it may say so.
      refusable: artifact === undefined,
      signal,
      ...(estimatedBytes === undefined ? {} : { estimatedBytes }),
    }),
  );
  return noted;
}

class NotedObject implements SinkObject {
  readonly #name: string;
  readonly #options: BundleOptions;
  #object: SeveralObject | undefined;
  #state: 'open' | 'closed' = 'open';

  constructor(name: string, options: BundleOptions) {
    this.#name = name;
    this.#options = options;
  }

  async begin(open: () => Promise<SeveralObject>): Promise<void> {
    this.#object = await this.#watched(open);
  }

  async write(chunk: Uint8Array): Promise<void> {
    await this.#watched(async () => this.#object?.write(chunk));
  }

  get writeDigested(): SinkObject['writeDigested'] {
    const write = this.#object?.writeDigested;
    return write && ((chunk, digest) => this.#watched(() => write(chunk, digest)));
  }

  async commit(record: StoredObject): Promise<void> {
    await this.#options.draft.note({ kind: 'whole', object: record });
    const outcomes = await this.#watched(async () => this.#object?.commit());
    await this.#close(Object.fromEntries([...(outcomes ?? [])].map(([sink, outcome]) => [sink, endOf(outcome)])));
    for (const { name, sink } of this.#options.sinks) {
      if (outcomes?.get(name)?.kind === 'stored') await sink.forget(`${this.#options.draft.state.path}/${this.#name}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#object?.[Symbol.asyncDispose]();
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    await this.#options.draft.note({ kind: 'dropped', name: this.#name });
  }

  /** When no sink takes any more of it, each of them may have a part: they are asked at the end. */
  async #watched<T>(step: () => Promise<T>): Promise<T> {
    try {
      return await step();
    } catch (error) {
      const { sinks } = this.#options;
      const why = explain(error);
      if (isExhibitError(error, 'sink-failed') || isExhibitError(error, 'spool-full'))
        await this.#close(Object.fromEntries(sinks.map(({ name }) => [name, { kind: 'failed', why }])));
      else if (this.#object === undefined) await this.#options.draft.note({ kind: 'dropped', name: this.#name });
      throw error;
    }
  }

  async #close(ends: Readonly<Record<string, ObjectEnd>>): Promise<void> {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    const { draft, by } = this.#options;
    const record = draft.state.objects.get(this.#name)?.record;
    const closed = { name: this.#name, ...(record === undefined ? {} : { record }) };
    await draft.note({ kind: 'closed', name: this.#name, ends: { ...ends } }, ...objectClosed(by, closed, ends));
  }
}

function endOf(outcome: SinkOutcome): ObjectEnd {
  if (outcome.kind !== 'failed') return { kind: outcome.kind };
  return { kind: 'failed', why: explain(outcome.error), exists: outcome.error.code === 'sink-exists' };
}
