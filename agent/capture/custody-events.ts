import { type ClockOffset, type CustodyEntry, custodyLines } from '../../evidence/custody.ts';
import { explain } from '../../evidence/error.ts';
import type { ArtifactRecord, FreezeRecord, RequestRecord, StoredObject } from '../../evidence/manifest.ts';
import { readClockDiscipline } from '../host/identity-clock.ts';
import type { NamedSink } from '../sink/several.ts';
import type { Settled } from '../sink/sink.ts';
import type { DraftObject, DraftState, ObjectEnd } from './draft.ts';
import type { CustodyNote } from './drafts.ts';

/** The words of the custody log: what the spine did, as events of evidence/custody.ts. */

/**
 * A capture has some tens of objects, each with two or three events a sink; this leaves room for a bad week and keeps
 * `custody.jsonl` below 5 MiB.
 */
export const MAX_CUSTODY_EVENTS = 10_000;

type Facts = CustodyEntry['facts'];

export const agentName = ({ version, pid }: { readonly version: string; readonly pid: number }): string =>
  `exhibit ${version} (pid ${pid})`;

export function requested(record: RequestRecord, clock: ClockOffset | undefined): CustodyNote {
  const { requester, selector, caseId, exhibitNumber, acquirer, reason, artifacts, requestedAt } = record;
  const given: Record<string, string | undefined> = { caseId, exhibitNumber, acquirer, reason };
  return {
    at: requestedAt,
    event: 'requested',
    by: requester.identity,
    what: `asked for ${artifacts.join(', ')} of ${selector}`,
    facts: { trigger: requester.trigger, selector, ...withoutAbsent(given) },
    ...(clock === undefined ? {} : { clock }),
  };
}

export function accepted(record: RequestRecord, target: string, sinks: readonly NamedSink[]): CustodyNote {
  const urls = sinks.map(({ name, sink }) => [`sink ${name}`, sink.url]);
  return {
    event: 'accepted',
    by: agentName(record.agent),
    what: `found ${target} and began`,
    facts: { target, targetId: record.target.id, node: record.node, ...Object.fromEntries(urls) },
  };
}

export const artifactStarted = (by: string, artifact: string): CustodyNote => ({
  event: 'artifact-started',
  by,
  what: `began to take ${artifact}`,
  facts: { artifact },
});

export function artifactEnded(by: string, record: ArtifactRecord): CustodyNote {
  const { name, status, reason, gapCount } = record;
  // Not `status`: in a sink that has less of it the manifest says another.
  const facts: Facts = { artifact: name, taken: status, gaps: gapCount, ...(reason === undefined ? {} : { reason }) };
  return { event: 'artifact-ended', by, what: `${name}: ${status}`, facts };
}

export const freezing = (by: string, method: string): CustodyNote => ({
  event: 'frozen',
  by,
  what: `stopped the target by ${method}`,
  facts: { method },
});

/** Its time is that of the thaw as the guard saw it. */
export function thawed(by: string, { pauseMs, thawedAt, thawedBy }: FreezeRecord): CustodyNote {
  return {
    ...(thawedAt === undefined ? {} : { at: thawedAt }),
    event: 'thawed',
    by,
    what: `let the target run again after ${pauseMs.toFixed(1)} ms`,
    facts: { pauseMs, ...(thawedBy === undefined ? {} : { thawedBy }) },
  };
}

/** After `freezing`, which is noted before it is tried. */
export const notFrozen = (by: string, { notes }: FreezeRecord): CustodyNote => ({
  event: 'thawed',
  by,
  what: 'could not stop the target, which runs on',
  facts: { pauseMs: 0, why: notes.join('; ') },
});

export const cancelledBy = (by: string, { reason }: AbortSignal): CustodyNote => ({
  event: 'cancelled',
  by,
  what: 'ended the capture early, as it was told',
  facts: { why: explain(reason) },
});

/** No sink took any more of it, or something failed that nobody foresaw. */
export const failedBy = (by: string, why: string): CustodyNote => ({
  event: 'sink-failed',
  by,
  what: 'ended the capture early, for nothing more could be stored',
  facts: { why },
});

export const recovered = (by: string, lastAt: string): CustodyNote => ({
  event: 'recovered',
  by,
  what: `found that the agent before it had ended during this capture, after ${lastAt}`,
  facts: { lastSignOfLife: lastAt },
});

export const takenOver = (by: string, waiting: readonly string[]): CustodyNote => ({
  event: 'recovered',
  by,
  what: `took over a capture that had ended and waits for ${waiting.join(', ')}`,
  facts: {},
});

/** What each sink said at the end of an object. */
export function objectClosed(
  by: string,
  { name, record }: Pick<DraftObject, 'name' | 'record'>,
  ends: Readonly<Record<string, ObjectEnd>>,
): CustodyNote[] {
  return Object.entries(ends).map(([sink, end]) => {
    const facts: Facts = { object: record?.name ?? name, sink, ...(record === undefined ? {} : record.stored) };
    switch (end.kind) {
      case 'stored':
        return { event: 'object-stored', by, what: `${name} is in ${sink}`, facts };
      case 'waiting':
        return { event: 'object-spooled', by, what: `${sink} did not take ${name}: it waits in the spool`, facts };
      case 'failed':
        return { event: 'sink-failed', by, what: `${sink} failed for ${name}`, facts: { ...facts, why: end.why } };
      default:
        return end satisfies never;
    }
  });
}

export function objectSettled(by: string, { name, record }: DraftObject, sink: string, answer: Settled): CustodyNote {
  const about = { object: record?.name ?? name, sink };
  switch (answer.kind) {
    case 'stored':
      return {
        event: 'object-delivered',
        by,
        what: `${name} is in ${sink}`,
        facts: { ...about, ...(record === undefined ? {} : record.stored) },
      };
    case 'cut': {
      const { sizeBytes, sha256, why } = answer;
      const what = `only the first ${sizeBytes} bytes of ${name} are in ${sink}`;
      return { event: 'object-cut', by, what, facts: { ...about, sizeBytes, sha256, why } };
    }
    case 'lost':
      return {
        event: 'object-cut',
        by,
        what: `nothing of ${name} is in ${sink}`,
        facts: { ...about, sizeBytes: 0, why: answer.why },
      };
    default:
      return answer satisfies never;
  }
}

/** `request.json` where it was lost on the way: its bytes are known as long as there is a draft. */
export const writtenAgain = (by: string, { name, stored }: StoredObject, sink: string): Omit<CustodyEntry, 'at'> => ({
  event: 'object-stored',
  by,
  what: `wrote ${name} to ${sink} again, for it had not reached it`,
  facts: { object: name, sink, ...stored },
});

export const sinkFailed = (by: string, sink: string, why: string): CustodyNote => ({
  event: 'sink-failed',
  by,
  what: `${sink} did not take the end of the bundle; it is tried again`,
  facts: { sink, why },
});

/** The bytes of `custody.jsonl` for one sink; the last of `ending` is its last line. */
export function custodyLog(state: DraftState, ending: readonly [...CustodyEntry[], CustodyEntry]): Uint8Array {
  const kept = state.custody.slice(0, MAX_CUSTODY_EVENTS - ending.length);
  const leftOut = state.custody.length - kept.length;
  const last = ending[ending.length - 1] as CustodyEntry;
  if (leftOut === 0) return custodyLines([...kept, ...ending]);
  const what = `${last.what}; ${leftOut} events before it were left out, for a log holds ${MAX_CUSTODY_EVENTS}`;
  return custodyLines([...kept, ...ending.slice(0, -1), { ...last, what, facts: { ...last.facts, leftOut } }]);
}

export interface SealingFacts {
  readonly agent: { readonly version: string; readonly pid: number; readonly keyId: string };
  readonly sink: NamedSink;
  readonly outcome: string;
  readonly at: string;
}

export function sealing({ agent, sink, outcome, at }: SealingFacts): CustodyEntry {
  const clock = clockOf([sink]);
  return {
    at,
    event: 'sealing',
    by: agentName(agent),
    what: `wrote the manifest for ${sink.name} and signed it`,
    facts: { sink: sink.name, url: sink.sink.url, outcome, keyId: agent.keyId },
    ...(clock === undefined ? {} : { clock }),
  };
}

/** What the first sink that knows another clock says, or what the kernel believes of its own. */
export function clockOf(sinks: readonly NamedSink[]): ClockOffset | undefined {
  for (const { sink } of sinks) {
    const clock = sink.clock?.();
    if (clock !== undefined) return clock;
  }
  const kernel = readClockDiscipline();
  if (kernel === undefined || !kernel.synchronised) return undefined;
  return { source: 'adjtimex', offsetMs: 0, uncertaintyMs: kernel.estimatedErrorUs / 1000 };
}

function withoutAbsent(fields: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(fields).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
}
