import { createHash } from 'node:crypto';
import { z } from 'zod';

/**
 * `custody.jsonl`: what was done with this evidence, by whom and when, one event a line, in order. Each line has the SHA-256 of
 * the line before it, so that no line can be taken out or changed without breaking all that follow; the manifest has the digest
 * of the whole. Lines are JSON with sorted keys and no spaces, UTF-8, ended by a newline.
 */

export const CUSTODY_EVENTS = [
  /** The capture was asked for: who, why, from where. */
  'requested',
  'accepted',
  'frozen',
  'thawed',
  'artifact-started',
  'artifact-ended',
  'object-stored',
  /** A sink did not take an object; its bytes wait in the spool. */
  'object-spooled',
  /** What had waited reached the sink. */
  'object-delivered',
  /** Only a first part of the object, or nothing, could be kept. */
  'object-cut',
  'sink-failed',
  'cancelled',
  /** An agent found that the one before it had died during this capture. */
  'recovered',
  /** The last line: what follows it is the manifest and its seal. */
  'sealing',
] as const;

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

/** What another clock said: add `offsetMs` to the node's time to have that clock's. */
export const clockOffsetSchema = z.strictObject({
  source: z.string(),
  offsetMs: z.number(),
  uncertaintyMs: z.number().nonnegative(),
});
export type ClockOffset = z.infer<typeof clockOffsetSchema>;

export const custodyEventSchema = z.strictObject({
  sequence: z.number().int().positive(),
  /** Of the line before, without its newline; 64 zeros in the first. */
  previous: sha256,
  at: z.iso.datetime({ precision: 3 }),
  event: z.enum(CUSTODY_EVENTS),
  /** Who did it: `exhibit 0.1.0 (pid 17)`, or the requester as far as the trigger can vouch for it. */
  by: z.string(),
  /** One sentence for a person. */
  what: z.string(),
  /**
   * The same for programs. `verify` compares these with the records where they are there: `captureId`, `caseId`, `trigger`
   * (requested); `artifact`, `status` (artifact-ended); `object`, `sha256` and `sizeBytes` of its stored bytes (object-stored,
   * -delivered, -cut); `outcome` (sealing); and in every event `sink`, the name of the sink that it is about.
   */
  facts: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
  clock: clockOffsetSchema.optional(),
});
export type CustodyEvent = z.infer<typeof custodyEventSchema>;

export type CustodyEntry = Omit<CustodyEvent, 'sequence' | 'previous'>;

export const FIRST_PREVIOUS = '0'.repeat(64);

/** The lines of a custody log, each ended by a newline. Pure. */
export function custodyLines(entries: readonly CustodyEntry[]): Uint8Array {
  let previous = FIRST_PREVIOUS;
  const lines = entries.map((entry, index) => {
    const line = custodyLine({ ...entry, sequence: index + 1, previous });
    previous = createHash('sha256').update(line).digest('hex');
    return `${line}\n`;
  });
  return Buffer.from(lines.join(''));
}

/** One line without its newline: the only spelling that an event has. */
export function custodyLine(event: CustodyEvent): string {
  return sortedJson(event);
}

function sortedJson(value: object): string {
  return JSON.stringify(value, (_key, field: unknown) =>
    typeof field === 'object' && field !== null && !Array.isArray(field)
      ? Object.fromEntries(Object.entries(field).sort(([a], [b]) => (a < b ? -1 : 1)))
      : field,
  );
}
