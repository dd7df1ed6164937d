import { z } from 'zod';
import type { ObjectSubject, Settled } from './sink.ts';

/**
 * What the vault knows of one object on its way to S3: a row of notes, each made before or right after the step that it is
 * about, so that whoever reads them later, in a process that saw nothing of it, can bring the object to its end.
 */
const count = z.int().nonnegative();
const number = z.int().positive();
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const crc64nvme = z.string().regex(/^[0-9a-f]{16}$/);

const subjectSchema = z.object({
  captureId: z.string(),
  caseId: z.string(),
  startedAtMs: z.number(),
  volatility: z.number(),
  unlabelled: z.boolean().optional(),
}) satisfies z.ZodType<ObjectSubject>;

const settledSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('stored') }),
  z.object({ kind: z.literal('cut'), sizeBytes: count, sha256, why: z.string() }),
  z.object({ kind: z.literal('lost'), why: z.string() }),
]) satisfies z.ZodType<Settled>;

const openedSchema = z.object({
  kind: z.literal('opened'),
  /** `s3://bucket/prefix`: a sink that was given another place since must not look for the upload there. */
  sinkUrl: z.string(),
  /** Without the sink's prefix. */
  key: z.string(),
  contentType: z.string(),
  about: subjectSchema.optional(),
  /** All or nothing; see OpenOptions. */
  whole: z.boolean().optional(),
  atMs: z.number(),
});

const noteSchema = z.discriminatedUnion('kind', [
  openedSchema,
  /** Before CreateMultipartUpload: if nothing follows, an upload may be open that nobody can name. */
  z.object({ kind: z.literal('creating'), atMs: z.number() }),
  z.object({ kind: z.literal('created'), uploadId: z.string().min(1), atMs: z.number() }),
  z.object({ kind: z.literal('not-created') }),
  /** A part has all of its bytes. `through`: SHA-256 of the object up to the end of this part. */
  z.object({ kind: z.literal('cut'), number, sizeBytes: count, through: sha256 }),
  /** S3 has acknowledged it. */
  z.object({ kind: z.literal('sent'), number, etag: z.string(), sha256, crc64nvme: crc64nvme.optional() }),
  /** Its bytes were given up for want of room. */
  z.object({ kind: z.literal('dropped'), number }),
  /** The writer has written all. */
  z.object({ kind: z.literal('committed'), sizeBytes: count, sha256 }),
  /** Before PutObject and CompleteMultipartUpload of the first `parts`: what S3 answers later may be about this attempt. */
  z.object({ kind: z.literal('trying'), parts: number, atMs: z.number() }),
  /** S3 knows nothing of the upload, and so nothing of its parts. */
  z.object({ kind: z.literal('gone') }),
  /** S3 did not find all of these parts that it had acknowledged: fewer are tried. */
  z.object({ kind: z.literal('doubted'), parts: number }),
  /** The writer was cancelled, and the upload could not be aborted. */
  z.object({ kind: z.literal('given-up') }),
  z.object({ kind: z.literal('settled'), settled: settledSchema }),
]);
export type Opened = z.output<typeof openedSchema>;
export type Note = z.output<typeof noteSchema>;

/** @throws ZodError for what is none */
export const parseNote = (record: unknown): Note => noteSchema.parse(record);

export interface PartState {
  readonly sizeBytes: number;
  readonly endBytes: number;
  readonly through: string;
  sent?: { readonly etag: string; readonly sha256: string; readonly crc64nvme: string | undefined };
  dropped: boolean;
}

export interface LedgerState {
  readonly opened: Opened;
  readonly parts: PartState[];
  droppedParts: number;
  /** When uploads were begun without S3 saying, as far as is noted, by which id: whatever is left of them nobody can name. */
  namelessSinceMs: number[];
  upload?: { readonly id: string; readonly createdAtMs: number } | undefined;
  committed: boolean;
  /** The last attempt whose answer, if there was one, is not noted. */
  tried?: { readonly parts: number; readonly atMs: number };
  /** How often S3 knew nothing of the upload. */
  timesGone: number;
  /** More parts than these are not tried. */
  mostParts: number;
  givenUp: boolean;
  settled?: Settled;
}

export function beginState(opened: Opened): LedgerState {
  return {
    opened,
    parts: [],
    droppedParts: 0,
    namelessSinceMs: [],
    committed: false,
    timesGone: 0,
    mostParts: Number.POSITIVE_INFINITY,
    givenUp: false,
  };
}

/** Changes `state` to what is known after the note. A note about a part that was never cut says nothing. */
export function applyNote(state: LedgerState, note: Note): void {
  switch (note.kind) {
    case 'opened':
      return;
    case 'creating':
      state.namelessSinceMs.push(note.atMs);
      return;
    case 'created':
      state.upload = { id: note.uploadId, createdAtMs: note.atMs };
      state.namelessSinceMs.pop();
      return;
    case 'not-created':
      state.namelessSinceMs.pop();
      return;
    case 'cut':
      addPart(state, note);
      return;
    case 'sent': {
      const part = state.parts[note.number - 1];
      if (part !== undefined) part.sent = { etag: note.etag, sha256: note.sha256, crc64nvme: note.crc64nvme };
      return;
    }
    case 'dropped': {
      const part = state.parts[note.number - 1];
      if (part !== undefined) part.dropped = true;
      state.droppedParts += 1;
      return;
    }
    case 'committed':
      state.committed = true;
      return;
    case 'trying':
      state.tried = { parts: note.parts, atMs: note.atMs };
      return;
    case 'gone':
      state.upload = undefined;
      state.timesGone += 1;
      for (const part of state.parts) delete part.sent;
      return;
    case 'doubted':
      state.mostParts = Math.floor(note.parts / 2);
      delete state.tried;
      return;
    case 'given-up':
      state.givenUp = true;
      return;
    case 'settled':
      state.settled = note.settled;
      return;
    default:
      note satisfies never;
  }
}

/** Parts are cut in order; one that does not follow the last is none. */
function addPart(state: LedgerState, { number: index, sizeBytes, through }: Extract<Note, { kind: 'cut' }>): void {
  if (index !== state.parts.length + 1) return;
  const endBytes = (state.parts.at(-1)?.endBytes ?? 0) + sizeBytes;
  state.parts.push({ sizeBytes, endBytes, through, dropped: false });
}

export type Step =
  | { readonly kind: 'put' }
  | { readonly kind: 'create' }
  | { readonly kind: 'send'; readonly number: number }
  | { readonly kind: 'complete'; readonly parts: number }
  | { readonly kind: 'give-up' };

/**
 * What brings the object nearer to its end, given which parts' bytes are in the vault. As many parts from the first on as are
 * there or can be sent become the object; of none there is nothing to make one of. Pure.
 */
export function nextStep(state: LedgerState, kept: Kept): Step {
  const usable = usableParts(state, kept);
  const isAll = state.committed && usable === state.parts.length;
  if (usable === 0 || (state.opened.whole === true && !isAll)) return { kind: 'give-up' };
  const unsent = firstUnsent(state, usable);
  if (state.upload !== undefined) {
    return unsent === undefined ? { kind: 'complete', parts: usable } : { kind: 'send', number: unsent };
  }
  return usable === 1 ? { kind: 'put' } : { kind: 'create' };
}

/** Whether the bytes of a part are in the vault, and may be given up for more volatile ones. */
export type Kept = { has(number: number): boolean };

/** How many parts, from the first on and without a hole, are at S3 or can be sent. Pure. */
export function usableParts({ parts, mostParts }: LedgerState, kept: Kept): number {
  const most = Math.min(parts.length, mostParts);
  for (let index = 0; index < most; index += 1) {
    if (parts[index]?.sent === undefined && !kept.has(index + 1)) return index;
  }
  return most;
}

function firstUnsent({ parts }: LedgerState, usable: number): number | undefined {
  const index = parts.slice(0, usable).findIndex(({ sent }) => sent === undefined);
  return index === -1 ? undefined : index + 1;
}

/** What can be said of an object of which the first `stored` parts became one. Pure. */
export function settledWith(state: LedgerState, stored: number): Settled {
  if (state.committed && stored === state.parts.length) return { kind: 'stored' };
  const last = state.parts[stored - 1];
  const why = whatIsMissing(state, stored);
  return last === undefined
    ? { kind: 'lost', why }
    : { kind: 'cut', sizeBytes: last.endBytes, sha256: last.through, why };
}

/** For people, with numbers of bytes. Pure. */
export function whatIsMissing(state: LedgerState, stored: number): string {
  const { parts, committed, timesGone, mostParts, tried, upload } = state;
  const fromBytes = parts[stored - 1]?.endBytes ?? 0;
  const cutBytes = parts.at(-1)?.endBytes ?? 0;
  const missing = parts.slice(stored);
  const words: string[] = [];
  if (!committed) {
    words.push(
      `the agent or the spool ended before all was written: of ${cutBytes} bytes in whole parts ${fromBytes} are stored, and what came after those was never in a part`,
    );
  } else words.push(`of ${cutBytes} bytes ${fromBytes} are stored`);
  const droppedBytes = missing.filter(({ dropped }) => dropped).reduce((sum, part) => sum + part.sizeBytes, 0);
  if (droppedBytes > 0) words.push(`${droppedBytes} bytes were dropped from the spool for more volatile evidence`);
  if (timesGone > 0)
    words.push('S3 knew nothing of the unfinished upload any more: somebody, or a lifecycle rule, aborted it');
  if (stored === 0 && tried !== undefined && (upload === undefined || timesGone > 0)) {
    words.push('an earlier attempt to store it had no answer, so that it may be there all the same');
  }
  if (Number.isFinite(mostParts)) words.push('S3 did not find parts that it had acknowledged');
  const behind = missing.flatMap(({ sent, endBytes, sizeBytes }) =>
    sent === undefined ? [] : [`${endBytes - sizeBytes}-${endBytes}`],
  );
  if (behind.length > 0) words.push(`behind the hole S3 had taken the bytes ${ranges(behind)}`);
  return words.join('; ');
}

/** An object may have thousands of parts. */
const MOST_RANGES = 8;

function ranges(all: readonly string[]): string {
  const rest = all.length - MOST_RANGES;
  return rest > 0 ? `${all.slice(0, MOST_RANGES).join(', ')} and ${rest} more parts` : all.join(', ');
}
