import type { z } from 'zod';
import { explain } from '../error.ts';
import type { ArtifactName } from '../layout.ts';
import type { ArtifactRecord, Gap, Manifest, TargetRecord } from '../manifest.ts';
import { type JsonRecord, jsonBatches, type LineTally } from '../timeline/lines.ts';
import { isFaultOfBundle } from '../timeline/timeline.ts';
import {
  createFactsBuilder,
  FACTS_LIMITS,
  type Facts,
  type FactsAbout,
  type FactsBuilder,
  type FactsLimits,
  type KindFacts,
  limitsOfOthers,
  unknownFacts,
} from './facts.ts';
import { readFiles } from './files.ts';
import { readModules } from './modules.ts';
import { readNetwork } from './network.ts';
import { readProcesses } from './processes.ts';

/** What facts are read from: a bundle anywhere, or what an agent kept of one that it is writing. Nothing of it is trusted. */
export interface FactsSource {
  readonly about: FactsAbout;
  readonly target: TargetRecord;
  readonly artifacts: readonly FactsArtifact[];
  hasObject(name: string): boolean;
  /** Decompressed. Throws ExhibitError `bundle-corrupt` or `bundle-not-found` where there is no more to be had. */
  content(name: string): AsyncIterable<Uint8Array>;
}

export type FactsArtifact = Pick<ArtifactRecord, 'name' | 'status' | 'reason' | 'gaps' | 'gapCount' | 'facts'>;

/**
 * `limits` are those of the files; other kinds have a part of that (`limitsOfOthers`). Throws what is no fault of the bundle (a signal, a bug);
 * every other fault makes a kind `partial` or `unknown`.
 */
export async function readFacts(source: FactsSource, limits: FactsLimits = FACTS_LIMITS): Promise<Facts> {
  const others = limitsOfOthers(limits);
  const { executableOf, ...code } = await readProcesses(source, others);
  const network = await readNetwork(source, others, executableOf);
  const modules = await readModules(source, others);
  const files = await readFiles(source, limits);
  return { about: source.about, kinds: { ...code, ...network, modules, files } };
}

export function factsAbout(manifest: Manifest): FactsAbout {
  const { captureId, startedAt, cluster, node, target, outcome } = manifest;
  return aboutTarget(target, { captureId, at: startedAt, cluster, node, outcome });
}

export function aboutTarget(target: TargetRecord, rest: Omit<FactsAbout, 'target' | 'image'>): FactsAbout {
  const { pod, name, image } = target;
  const words = pod === undefined ? name : `${pod.namespace}/${pod.name}/${name}`;
  return { ...rest, target: words, ...(image === undefined ? {} : { image }) };
}

/** One kind of facts as it is read from an object; `done` when nothing of what comes after can add to it. */
export interface Reading {
  readonly builder: FactsBuilder;
  done: boolean;
}

/**
 * Reads the kinds that are in one object. `work` marks what is whole as done; where the object breaks, the others are partial.
 * `missed` says of a gap of the artifact, and of how many that are not listed, whether a kind misses something by it.
 */
export async function readKinds<Kind extends string>(
  source: FactsSource,
  limits: FactsLimits,
  from: { readonly artifact: ArtifactName; readonly object: string; readonly kinds: readonly Kind[] },
  work: (readings: Readonly<Record<Kind, Reading>>, artifact: FactsArtifact) => Promise<void>,
): Promise<Record<Kind, KindFacts>> {
  const { artifact, object, kinds } = from;
  const each = <Of>(make: (kind: Kind) => Of) =>
    Object.fromEntries(kinds.map((kind) => [kind, make(kind)])) as Record<Kind, Of>;
  const record = source.artifacts.find(({ name }) => name === artifact);
  const missing = whyMissing(artifact, record, source.hasObject(object), object);
  if (record === undefined || missing !== undefined) return each(() => unknownFacts(missing ?? ''));
  const readings = each((): Reading => ({ builder: createFactsBuilder(limits), done: false }));
  const all: Reading[] = Object.values(readings);
  try {
    await work(readings, record);
  } catch (error) {
    if (!isFaultOfBundle(error)) throw error;
    for (const { builder, done } of all) if (!done) builder.incomplete(`${object} ends early: ${explain(error)}`);
  }
  return each((kind) => readings[kind].builder.build());
}

function whyMissing(
  artifact: ArtifactName,
  record: FactsArtifact | undefined,
  isThere: boolean,
  object: string,
): string | undefined {
  if (record === undefined) return `${artifact} was not taken`;
  if (record.status === 'skipped' || record.status === 'failed') {
    return `${artifact} ${record.status === 'skipped' ? 'was skipped' : 'failed'}${record.reason ? `: ${record.reason}` : ''}`;
  }
  return isThere ? undefined : `there is no ${object}`;
}

/** A kind misses what these gaps are about. */
export function missGaps(builder: FactsBuilder, artifact: FactsArtifact, concerns: (gap: Gap) => boolean): void {
  for (const gap of artifact.gaps) if (concerns(gap)) builder.incomplete(`a gap: ${gap.what}: ${gap.why}`);
  const unlisted = artifact.gapCount - artifact.gaps.length;
  if (unlisted > 0) builder.incomplete(`${unlisted} more gaps of ${artifact.name} are not listed`);
}

/** Lines of a member in the shape of `schema`; what is none makes the kind partial. */
export async function* factLines<T>(
  body: AsyncIterable<Uint8Array>,
  schema: z.ZodType<T>,
  limitBytes: number,
  { name, builder }: { readonly name: string; readonly builder: FactsBuilder },
): AsyncGenerator<Iterable<JsonRecord<T>>> {
  let bad = 0;
  let first = '';
  const tally: LineTally = {
    bad(line, why) {
      if (bad === 0) first = `line ${line} of ${name} ${why}`;
      bad += 1;
    },
    tell: () => undefined,
  };
  yield* jsonBatches(body, schema, limitBytes, tally);
  if (bad > 0) builder.incomplete(bad === 1 ? first : `${first}, and ${bad - 1} more lines`);
}

/** What a path is called; of one that is not UTF-8 with its bytes, so that two of them are not one. */
export function nameOfPath({ path, pathBase64 }: { path: string; pathBase64?: string | undefined }): string {
  return pathBase64 === undefined ? path : `${path} (base64:${pathBase64})`;
}
