import { createHash } from 'node:crypto';
import type { Logger } from 'pino';
import { createEncryption, type Encrypt } from '../../evidence/age-writer.ts';
import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import { canonicalJson } from '../../evidence/json.ts';
import { CUSTODY_OBJECT, MEDIA_TYPES, REQUEST_OBJECT, SEAL_OBJECT } from '../../evidence/layout.ts';
import type { Manifest, StoredObject } from '../../evidence/manifest.ts';
import type { Sealer } from '../../evidence/seal.ts';
import { sealManifest, wholeObject } from '../../evidence/write.ts';
import type { NamedSink } from '../sink/several.ts';
import type { ObjectSubject, Settled } from '../sink/sink.ts';
import type { Chain } from './chain.ts';
import { agentName, custodyLog, objectSettled, sealing as sealingEvent, writtenAgain } from './custody-events.ts';
import { type DraftObject, type DraftState, requestIn, type Sealing, unsettled } from './draft.ts';
import type { Draft } from './drafts.ts';
import { sinkManifest } from './sink-manifest.ts';

/** One draft's end in one sink: every object settled, then the manifest made once, then its bytes written. */

export interface SealParts {
  readonly sealer: Sealer;
  readonly chain: Chain;
  readonly version: string;
  readonly now: () => number;
  readonly log: Logger;
  /** For those who count: a seal was made for this sink; `whole` without what configuration promises, a key or a timestamp, is false. */
  readonly onSeal?: ((sink: string, whole: boolean) => void) | undefined;
}

/** What belongs to no artifact, and is small: it outlives everything else in a spool. */
export const RECORD_VOLATILITY = 1;

export function subjectOf({ captureId, request, recipients }: DraftState, volatility: number): ObjectSubject {
  const { schedule } = request;
  const about = {
    ...{ captureId, caseId: request.caseId ?? '', startedAtMs: Date.parse(request.requestedAt), volatility },
    ...(schedule === undefined ? {} : { schedule }),
  };
  return recipients === undefined ? about : { ...about, unlabelled: true };
}

/**
 * Settles and seals a draft that has ended, in one sink; resolves with the outcome that is now sealed there, or undefined
 * where it never can be. Throws when the sink or a key does not answer now: what was noted stays, and the next call goes on
 * from there with the same bytes.
 */
export async function sealInSink(
  draft: Draft,
  sink: NamedSink,
  parts: SealParts,
  signal: AbortSignal,
): Promise<Manifest['outcome'] | undefined> {
  await settleAll(draft, sink, parts, signal);
  const earlier = draft.state.sealing.get(sink.name);
  const end = earlier ?? (await makeEnd(draft, sink, parts, signal));
  try {
    for (const object of end.objects)
      await putObject(draft.state, sink, object, { again: earlier !== undefined, signal });
  } catch (error) {
    if (!isExhibitError(error, 'sink-exists')) throw error;
    const { captureId } = draft.state;
    parts.log.error({ captureId, sink: sink.name, error: explain(error) }, 'capture cannot be sealed in this sink');
    await draft.note({ kind: 'refused', sink: sink.name, why: explain(error) });
    return undefined;
  }
  // Also of what an agent before noted and could not forget any more.
  for (const { name } of [...draft.state.objects.values(), ...end.objects])
    await sink.sink.forget(`${draft.state.path}/${name}`);
  await draft.note({ kind: 'sealed', sink: sink.name });
  return end.outcome;
}

async function settleAll(draft: Draft, sink: NamedSink, parts: SealParts, signal: AbortSignal): Promise<void> {
  const by = agentName({ version: parts.version, pid: process.pid });
  for (const object of unsettled(draft.state, sink.name)) {
    const key = `${draft.state.path}/${object.name}`;
    const told = await settle(sink, key, signal);
    const known = recordOf(draft.state, object);
    const answer: Settled = told.kind === 'cut' && isAllOf(told, known) ? { kind: 'stored' } : told;
    if (answer.kind === 'stored' && object.record === undefined && known !== undefined)
      await draft.note({ kind: 'whole', object: known });
    const event = objectSettled(by, object, sink.name, answer);
    await draft.note({ kind: 'settled', name: object.name, sink: sink.name, answer }, event);
    await sink.sink.forget(key);
  }
}

/** Somebody else's object under our key is none of ours. */
async function settle({ sink }: NamedSink, key: string, signal: AbortSignal): Promise<Settled> {
  try {
    return await sink.settle(key, signal);
  } catch (error) {
    if (isExhibitError(error, 'sink-exists')) return { kind: 'lost', why: explain(error) };
    throw error;
  }
}

/** What the whole object is; of a request in plain it is known before it is written. */
function recordOf({ request }: DraftState, { name, record }: DraftObject): StoredObject | undefined {
  if (record !== undefined || name !== REQUEST_OBJECT) return record;
  const bytes = canonicalJson(request);
  return { name, mediaType: MEDIA_TYPES.json, stored: { sha256: sha256Of(bytes), sizeBytes: bytes.length } };
}

/** The agent died after the last byte: to the sink it is a part, and yet there is nothing more. */
const isAllOf = (part: { readonly sizeBytes: number; readonly sha256: string }, whole?: StoredObject): boolean =>
  whole?.stored.sizeBytes === part.sizeBytes && whole.stored.sha256 === part.sha256;

/** Takes a link of the chain and notes the bytes that end the bundle, before any of them is written. */
async function makeEnd(draft: Draft, sink: NamedSink, parts: SealParts, signal: AbortSignal): Promise<EndTaken> {
  const { state } = draft;
  const { ended, request } = state;
  if (ended === undefined) throw new ExhibitError('internal', 'a capture that has not ended cannot be sealed');
  const { version, chain } = parts;
  // Before the chain is held: a key that is away takes its time.
  const sealer = (await parts.sealer.forOneSeal?.(signal)) ?? parts.sealer;
  const agent = { ...request.agent, version, nodeVersion: process.version, pid: process.pid, keyId: sealer.keyId };
  // Not of what is configured now: to whom this capture was encrypted until here.
  const encrypt = state.recipients && (await createEncryption(state.recipients));
  return await chain.next(sink.name, signal, async (link) => {
    const again = await requestAgain(state, sink.name, encrypt);
    const record = { name: sink.name, ...sink.sink.describe(subjectOf(state, RECORD_VOLATILITY)) };
    const manifestWith = (more: readonly StoredObject[]) =>
      sinkManifest({ state, ended, sink: record, agent, link, more });
    const at = new Date(parts.now()).toISOString();
    const { outcome } = manifestWith([]);
    const rewritten = again.map((one) => ({ at, ...writtenAgain(agentName(agent), one.record, sink.name) }));
    const custody = custodyLog(state, [...rewritten, sealingEvent({ agent, sink, outcome, at })]);
    const records = [...again, await wholeObject(CUSTODY_OBJECT, MEDIA_TYPES.plainJsonl, custody, encrypt)];
    const manifest = manifestWith(records.map(({ record: one }) => one));
    const { objects, notes } = await sealManifest(manifest, sealer, signal, encrypt);
    for (const note of notes)
      parts.log.warn({ captureId: state.captureId, sink: sink.name, note }, 'seal is not whole');
    const sealing: Sealing = {
      kind: 'sealing',
      sink: sink.name,
      outcome,
      link,
      sealSha256: sha256Of(objects.find(({ name }) => name === SEAL_OBJECT)?.bytes ?? Buffer.alloc(0)),
      objects: [...records.map(({ whole }) => whole), ...objects].map(({ name, mediaType, bytes }) => ({
        name,
        mediaType,
        base64: Buffer.from(bytes).toString('base64'),
      })),
    };
    await draft.note(sealing);
    // Not before: one that could not be noted is made again.
    parts.onSeal?.(sink.name, notes.length === 0);
    return { ...sealing, captureId: state.captureId };
  });
}

type EndTaken = Sealing & { readonly captureId: string };

/** Every bundle begins with its request; where nothing of it reached the sink its bytes are known all the same. */
async function requestAgain(state: DraftState, sink: string, encrypt: Encrypt | undefined) {
  const there = requestIn(state)?.ends.get(sink)?.kind;
  if (there === 'stored' || there === 'cut') return [];
  return [await wholeObject(REQUEST_OBJECT, MEDIA_TYPES.json, canonicalJson(state.request), encrypt)];
}

const sha256Of = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** `again`: an earlier attempt may have written it, so that what is there is ours. */
async function putObject(
  state: DraftState,
  to: NamedSink,
  { name, mediaType, base64 }: Sealing['objects'][number],
  { again, signal }: { readonly again: boolean; readonly signal: AbortSignal },
): Promise<void> {
  const { name: sinkName, sink } = to;
  const key = `${state.path}/${name}`;
  const bytes = Buffer.from(base64, 'base64');
  if (again) {
    const there = await sink.settle(key, signal);
    await sink.forget(key);
    if (there.kind === 'stored') return;
    // Of agents before `whole`.
    if (there.kind === 'cut' && there.sizeBytes === bytes.length && there.sha256 === sha256Of(bytes)) return;
    if (there.kind === 'cut') throw new ExhibitError('sink-exists', `only a part of ${name} is in ${sinkName}`);
  }
  const about = subjectOf(state, RECORD_VOLATILITY);
  try {
    await using object = await sink.open(key, {
      contentType: mediaType,
      estimatedBytes: bytes.length,
      about,
      whole: true,
      signal,
    });
    await object.write(bytes);
    if ((await object.commit()) === 'waiting')
      throw new ExhibitError('sink-failed', `${name} waits in the spool for ${sinkName}`);
  } catch (error) {
    if (!again || !isExhibitError(error, 'sink-exists')) throw error;
  }
}
