import { z } from 'zod';
import { custodyEventSchema } from '../../evidence/custody.ts';
import { ExhibitError } from '../../evidence/error.ts';
import { ARTIFACTS, type ArtifactName, REQUEST_OBJECT, storedName } from '../../evidence/layout.ts';
import {
  type ArtifactRecord,
  artifactSchema,
  chainSchema,
  type FreezeRecord,
  freezeSchema,
  manifestSchema,
  objectSchema,
  type RequestRecord,
  requestSchema,
  type StoredObject,
} from '../../evidence/manifest.ts';
import { entrySchema, type JournalEntry } from './journal.ts';

/**
 * The draft of a capture: a row of records in the vault, each written before or right after what it speaks of, from which
 * any agent can say what every sink holds and what the manifest will list. What a record says is never taken back by the
 * death of the agent; what no record says did not happen, or is asked of the sink (`Sink.settle`).
 */

const time = z.iso.datetime({ precision: 3 });
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const sinkName = z.string().min(1);

/** What an object's end was in one sink. Of `failed` only the sink can say what is there. */
const endSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('stored') }),
  z.object({ kind: z.literal('waiting') }),
  /** `exists`: the key was taken, by somebody else. */
  z.object({ kind: z.literal('failed'), why: z.string(), exists: z.boolean().optional() }),
]);
export type ObjectEnd = z.infer<typeof endSchema>;

/** Settled in agent/sink/sink.ts. */
const settledSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('stored') }),
  z.object({ kind: z.literal('cut'), sizeBytes: z.number().int().nonnegative(), sha256, why: z.string() }),
  z.object({ kind: z.literal('lost'), why: z.string() }),
]);

const OUTCOMES = manifestSchema.shape.outcome;

const changeSchema = z.discriminatedUnion('kind', [
  /** Before the first object is opened. `path` is below the sinks' own prefixes. */
  z.object({
    kind: z.literal('begun'),
    captureId: z.uuid(),
    path: z.string(),
    sinks: z.array(sinkName).min(1),
    request: requestSchema,
    /**
     * To whom every object of this capture is encrypted, its end as well: whatever is configured when it is sealed, a bundle has
     * one form and one set of readers. Absent where evidence is stored as it is.
     */
    recipients: z.array(z.string()).min(1).optional(),
    /** What the journal will have once the capture is accepted. Absent in drafts of an older agent. */
    entry: entrySchema.optional(),
  }),
  /** Before the sinks are asked. `name` as it lies there. One that is opened again after it was dropped begins anew. */
  z.object({
    kind: z.literal('opened'),
    name: z.string(),
    mediaType: z.string(),
    artifact: z.enum(ARTIFACTS).optional(),
    volatility: z.number().int(),
  }),
  /** After the last byte, before the commit: members are not known yet. */
  z.object({ kind: z.literal('whole'), object: objectSchema }),
  /** After the commit, or when no sink took any more of it: what each sink said. */
  z.object({ kind: z.literal('closed'), name: z.string(), ends: z.record(sinkName, endSchema) }),
  /** The whole record, with the members. */
  z.object({ kind: z.literal('listed'), object: objectSchema }),
  /** Whoever wrote it did not want it; nothing is left of it. */
  z.object({ kind: z.literal('dropped'), name: z.string() }),
  z.object({ kind: z.literal('settled'), name: z.string(), sink: sinkName, answer: settledSchema }),
  z.object({ kind: z.literal('step'), artifact: z.enum(ARTIFACTS) }),
  /** `nodeBytesWritten`: so far, as the manifest counts them. */
  z.object({ kind: z.literal('artifact'), record: artifactSchema, nodeBytesWritten: z.number().nonnegative() }),
  /** Before the target is stopped. */
  z.object({ kind: z.literal('freezing'), method: z.string() }),
  z.object({ kind: z.literal('freeze'), record: freezeSchema }),
  /** Nothing more is read from the node. */
  z.object({
    kind: z.literal('ended'),
    outcome: OUTCOMES,
    /** Why artifacts have no record, or were left in the middle. */
    why: z.string(),
    finishedAt: time,
    target: manifestSchema.shape.target,
    nodeBytesWritten: z.number().nonnegative(),
  }),
  /** The end of the bundle in one sink, made once: a retry writes these very bytes. In the order of writing. */
  z.object({
    kind: z.literal('sealing'),
    sink: sinkName,
    outcome: OUTCOMES,
    link: chainSchema,
    sealSha256: sha256,
    objects: z.array(z.object({ name: z.string(), mediaType: z.string(), base64: z.base64() })),
  }),
  z.object({ kind: z.literal('sealed'), sink: sinkName }),
  /** No seal will ever be in this sink: somebody else's bundle has the place. */
  z.object({ kind: z.literal('refused'), sink: sinkName, why: z.string() }),
  /** For the custody log alone. */
  z.object({ kind: z.literal('event') }),
]);
export type DraftChange = z.infer<typeof changeSchema>;

const custodyEntrySchema = custodyEventSchema.omit({ sequence: true, previous: true });
const recordSchema = z.object({
  at: time,
  change: changeSchema,
  /** Lines of the custody log that came with it. */
  custody: z.array(custodyEntrySchema),
});
export type DraftRecord = z.infer<typeof recordSchema>;

export type Begun = Extract<DraftChange, { kind: 'begun' }>;
export type Ended = Extract<DraftChange, { kind: 'ended' }>;
export type Sealing = Extract<DraftChange, { kind: 'sealing' }>;

export interface DraftObject {
  /** As it lies in the sinks: layout.ts, storedName. */
  readonly name: string;
  readonly mediaType: string;
  readonly artifact: ArtifactName | undefined;
  readonly volatility: number;
  /** Once its last byte was written. */
  record?: StoredObject;
  /** By sink: what is known of it there. Absent: ask the sink. */
  readonly ends: Map<string, ObjectEnd | z.infer<typeof settledSchema>>;
}

export interface DraftState {
  readonly captureId: string;
  readonly path: string;
  readonly sinks: readonly string[];
  readonly request: RequestRecord;
  /** Absent where evidence is stored as it is. */
  readonly recipients?: readonly string[];
  /** As it was to be journalled; absent in drafts of an older agent. */
  readonly entry?: JournalEntry;
  readonly startedAt: string;
  /** Of the last record: the last sign of life. */
  lastAt: string;
  /** By their names, in the order of opening, without those that were dropped. */
  readonly objects: Map<string, DraftObject>;
  /** When the step of an artifact began. */
  readonly steps: Map<ArtifactName, string>;
  readonly artifacts: ArtifactRecord[];
  nodeBytesWritten: number;
  freezing?: string;
  freeze?: FreezeRecord;
  ended?: Ended;
  readonly sealing: Map<string, Sealing>;
  /** Sinks with which this draft is done: sealed there, or never to be. */
  readonly done: Set<string>;
  /** Those of them in which it never will be, and why. */
  readonly refused: Map<string, string>;
  readonly custody: DraftRecord['custody'];
}

/** What the records of one capture say. Throws ExhibitError `bundle-corrupt` for a draft that nobody here wrote. */
export function readDraft(records: readonly unknown[]): DraftState {
  let state: DraftState | undefined;
  for (const [index, one] of records.entries()) {
    const record = recordSchema.safeParse(one);
    if (!record.success) throw damaged(`record ${index + 1} has not the expected shape`, record.error);
    if (state === undefined) state = beginDraft(record.data);
    else applyRecord(state, record.data);
  }
  if (state === undefined) throw damaged('it has no records');
  return state;
}

export function beginDraft({ at, change, custody }: DraftRecord): DraftState {
  if (change.kind !== 'begun') throw damaged('it does not begin with its beginning');
  const { captureId, path, sinks, request, recipients, entry } = change;
  return {
    ...(recipients === undefined ? {} : { recipients }),
    ...(entry === undefined ? {} : { entry }),
    ...{ captureId, path, sinks, request, startedAt: at, lastAt: at, nodeBytesWritten: 0 },
    objects: new Map(),
    steps: new Map(),
    artifacts: [],
    sealing: new Map(),
    done: new Set(),
    refused: new Map(),
    custody: [...custody],
  };
}

export function applyRecord(state: DraftState, { at, change, custody }: DraftRecord): void {
  state.lastAt = at;
  for (const entry of custody) insertInTime(state.custody, entry, at);
  switch (change.kind) {
    case 'begun':
      throw damaged('it begins twice');
    case 'opened':
    case 'whole':
    case 'closed':
    case 'listed':
    case 'dropped':
    case 'settled':
      applyToObject(state, change);
      return;
    case 'step':
      state.steps.set(change.artifact, at);
      return;
    case 'artifact':
      state.artifacts.push(change.record);
      state.nodeBytesWritten = change.nodeBytesWritten;
      return;
    case 'freezing':
      state.freezing ??= change.method;
      return;
    case 'freeze':
      // One that failed says so unless a later one did not.
      if (state.freeze?.consistency !== 'frozen') state.freeze = change.record;
      return;
    case 'ended':
      state.ended = change;
      return;
    case 'sealing':
      state.sealing.set(change.sink, change);
      return;
    case 'sealed':
      state.done.add(change.sink);
      return;
    case 'refused':
      state.done.add(change.sink);
      state.refused.set(change.sink, change.why);
      return;
    case 'event':
      return;
    default:
      change satisfies never;
  }
}

/** What happened before it was noted (a thaw by the guard) has its place by its own time. */
function insertInTime(log: DraftState['custody'], entry: DraftState['custody'][number], notedAt: string): void {
  let index = log.length;
  while (entry.at < notedAt && index > 1 && (log[index - 1]?.at ?? '') > entry.at) index -= 1;
  log.splice(index, 0, entry);
}

type ObjectChange = Extract<DraftChange, { kind: 'opened' | 'whole' | 'closed' | 'listed' | 'dropped' | 'settled' }>;

function applyToObject(state: DraftState, change: ObjectChange): void {
  const { objects } = state;
  if (change.kind === 'opened') {
    const { name, mediaType, artifact, volatility } = change;
    objects.set(name, { name, mediaType, artifact, volatility, ends: new Map() });
    return;
  }
  const name = 'object' in change ? storedName(change.object) : change.name;
  const object = objects.get(name);
  if (object === undefined) throw damaged(`${name} was never opened`);
  if (change.kind === 'dropped') objects.delete(name);
  else if (change.kind === 'settled') object.ends.set(change.sink, change.answer);
  else if (change.kind === 'closed') for (const [sink, end] of Object.entries(change.ends)) object.ends.set(sink, end);
  else object.record = change.object;
}

/** The first object of the bundle, in plain or encrypted. */
export const requestIn = ({ objects }: DraftState): DraftObject | undefined =>
  objects.get(REQUEST_OBJECT) ?? objects.get(storedName({ name: REQUEST_OBJECT, encryption: 'age' }));

/** Objects of which this sink has to be asked before anything can be said. */
export function unsettled(state: DraftState, sink: string): DraftObject[] {
  return [...state.objects.values()].filter(({ ends }) => {
    const end = ends.get(sink)?.kind;
    return end === undefined || end === 'waiting' || end === 'failed';
  });
}

/** Sinks in which the draft is not sealed yet. */
export const waitingSinks = (state: DraftState): string[] => state.sinks.filter((name) => !state.done.has(name));

function damaged(what: string, cause?: unknown): ExhibitError {
  return new ExhibitError('bundle-corrupt', `the draft of a capture is damaged: ${what}`, { cause });
}
