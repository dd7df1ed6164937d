import { createHash } from 'node:crypto';
import type { BundleReader } from './bundle.ts';
import { type ClockOffset, type CustodyEvent, custodyEventSchema, custodyLine, FIRST_PREVIOUS } from './custody.ts';
import { explain } from './error.ts';
import type { Findings } from './findings.ts';
import { duplicateKey, parseJson } from './json.ts';
import { CUSTODY_OBJECT } from './layout.ts';
import { compareCustody } from './verify-custody-records.ts';
import { type Records, readWhole } from './verify-records.ts';

/**
 * The custody log by itself: each line's shape and spelling, its number, the digest of the line before it, the order of the
 * times; then against the records (verify-custody-records.ts). A log that is cut, or of which a line was taken out, put in or
 * changed, is `custody-broken`.
 */

/** A few hundred bytes an event: tens of thousands of them. */
export const MAX_CUSTODY_BYTES = 16 * 1024 * 1024;
/** A clock that is disciplined may be set back by this much; more deserves a word, and is no error: clocks are set. */
export const BACKWARDS_TOLERANCE_MS = 1000;
/** What Kerberos and signed URLs put up with is minutes; an investigator who merges logs wants to know of seconds. */
export const NOTABLE_OFFSET_MS = 1000;
const MAX_ISSUES = 3;

export interface Custody {
  readonly events: readonly CustodyEvent[];
  /** Every line is there, as it was written. */
  readonly whole: boolean;
  /** What other clocks said, in order. */
  readonly clocks: readonly (ClockOffset & { readonly at: string })[];
}

/** Undefined where there is no log to read: older bundles have none. */
export async function readCustody(
  reader: BundleReader,
  records: Records,
  findings: Findings,
): Promise<Custody | undefined> {
  const manifest = records.manifest?.value;
  const listed = manifest?.objects.find(({ name }) => name === CUSTODY_OBJECT);
  if (manifest === undefined) return undefined;
  const where = { object: CUSTODY_OBJECT };
  if (listed === undefined) {
    // Agents that know sinks and chains by name keep a log; what is older does not.
    const isNew = manifest.sink !== undefined || manifest.chain !== undefined;
    const message = `there is no ${CUSTODY_OBJECT}, which agents of this version write: nothing says who did what when`;
    if (isNew) findings.add('warning', 'custody-missing', message, where);
    return undefined;
  }
  const bytes = await readWhole(reader, CUSTODY_OBJECT, MAX_CUSTODY_BYTES, findings);
  if (bytes === 'missing') {
    findings.add('error', 'custody-missing', `${CUSTODY_OBJECT} is listed in the manifest, but not there`, where);
    return undefined;
  }
  if (typeof bytes === 'string') return undefined;
  const custody = parseCustody(bytes, findings);
  compareCustody(custody.events, records, findings);
  return custody;
}

/** The events of a log up to the first line that cannot be read. Pure but for `findings`. */
export function parseCustody(bytes: Uint8Array, findings: Findings): Custody {
  const broken = (message: string) => findings.add('error', 'custody-broken', message, { object: CUSTODY_OBJECT });
  const events: CustodyEvent[] = [];
  const errorsBefore = findings.errors;
  let previous = FIRST_PREVIOUS;
  let sequence = 0;
  let start = 0;
  for (let line = 1; start < bytes.length; line += 1) {
    const end = bytes.indexOf(0x0a, start);
    const text = bytes.subarray(start, end === -1 ? bytes.length : end);
    const event = end === -1 ? 'the log ends in the middle of it' : readLine(text, `line ${line} of ${CUSTODY_OBJECT}`);
    if (typeof event === 'string') {
      broken(`line ${line} of ${CUSTODY_OBJECT}: ${event}`);
      break;
    }
    const problem = linkProblem(event, sequence, previous);
    if (problem !== undefined) broken(`line ${line} of ${CUSTODY_OBJECT}: ${problem}`);
    events.push(event);
    sequence = event.sequence;
    previous = createHash('sha256').update(text).digest('hex');
    start = end + 1;
  }
  const last = events.at(-1);
  if (findings.errors === errorsBefore && last?.event !== 'sealing') {
    broken(`${CUSTODY_OBJECT} does not end with \`sealing\`: its last lines are missing`);
  }
  const first = events[0];
  if (findings.errors === errorsBefore && first?.event !== 'requested') {
    broken(`${CUSTODY_OBJECT} begins with \`${first?.event}\`, not with \`requested\``);
  }
  lookAtTimes(events, findings);
  return { events, whole: findings.errors === errorsBefore, clocks: lookAtClocks(events, findings) };
}

/** The event, or what is wrong with its line. */
function readLine(text: Uint8Array, what: string): CustodyEvent | string {
  let value: unknown;
  try {
    value = parseJson(text, MAX_CUSTODY_BYTES, what);
  } catch (error) {
    return explain(error);
  }
  const twice = duplicateKey(text);
  if (twice !== undefined) return `the key ${JSON.stringify(twice)} is there twice`;
  const parsed = custodyEventSchema.safeParse(value);
  if (!parsed.success) {
    const issues = parsed.error.issues.slice(0, MAX_ISSUES).map(({ path, message }) => `${path.join('.')}: ${message}`);
    return `it is no event: ${issues.join('; ')}`;
  }
  const isSpelled = Buffer.from(custodyLine(parsed.data)).equals(text);
  return isSpelled ? parsed.data : 'it is not written the way events are: it was edited';
}

function linkProblem(event: CustodyEvent, sequence: number, previous: string): string | undefined {
  const expected = sequence + 1;
  if (event.sequence !== expected) {
    const missing = event.sequence - expected;
    if (missing === 1) return `it is event ${event.sequence}: event ${expected} was taken out`;
    if (missing > 1) return `it is event ${event.sequence}: events ${expected} to ${event.sequence - 1} were taken out`;
    return `it is event ${event.sequence}, and follows event ${sequence}`;
  }
  if (event.previous === previous) return undefined;
  return 'the digest that it has of the line before is not that line’s: one of the two was changed';
}

function lookAtTimes(events: readonly CustodyEvent[], findings: Findings): void {
  let latest = Number.NEGATIVE_INFINITY;
  for (const { sequence, at } of events) {
    const time = Date.parse(at);
    if (latest - time > BACKWARDS_TOLERANCE_MS) {
      const message = `event ${sequence} of ${CUSTODY_OBJECT} is ${latest - time} ms before an earlier one: the clock was set`;
      findings.add('warning', 'custody-time', message, { object: CUSTODY_OBJECT });
    }
    latest = Math.max(latest, time);
  }
}

function lookAtClocks(events: readonly CustodyEvent[], findings: Findings): Custody['clocks'] {
  const clocks = events.flatMap(({ clock, at }) => (clock === undefined ? [] : [{ ...clock, at }]));
  for (const { source, offsetMs, uncertaintyMs, at } of clocks) {
    if (Math.abs(offsetMs) <= NOTABLE_OFFSET_MS + uncertaintyMs) continue;
    const side = offsetMs > 0 ? 'behind' : 'ahead of';
    const message = `at ${at} the node’s clock was ${Math.abs(offsetMs)} ms (± ${uncertaintyMs}) ${side} that of ${source}`;
    findings.add('warning', 'custody-time', message, { object: CUSTODY_OBJECT });
  }
  return clocks;
}
