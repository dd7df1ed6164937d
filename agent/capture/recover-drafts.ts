import type { Logger } from 'pino';
import type { Chain } from './chain.ts';
import { agentName, recovered, takenOver } from './custody-events.ts';
import { waitingSinks } from './draft.ts';
import type { Draft } from './drafts.ts';
import type { Journal, JournalEntry } from './journal.ts';
import { ENDED } from './recover.ts';

export interface RecoverDraftsParts {
  readonly journal: Journal;
  readonly chain: Chain;
  readonly version: string;
  readonly log: Logger;
}

/**
 * After `recover`, when nothing stands still any more: what earlier agents left in the vault. A capture that was under way ends
 * here, as `truncated`, at its last sign of life; numbers that were taken in the chain are not given again. Contacts no sink.
 */
export async function recoverDrafts(drafts: readonly Draft[], parts: RecoverDraftsParts): Promise<void> {
  for (const draft of drafts) {
    const { captureId, ended, sealing } = draft.state;
    for (const [sink, { link, sealSha256 }] of sealing) await parts.chain.adopt(sink, link, { captureId, sealSha256 });
    const waiting = waitingSinks(draft.state);
    if (ended === undefined) await endTruncated(draft, parts);
    else if (waiting.length > 0) await draft.note({ kind: 'event' }, takenOver(nameOf(parts), waiting));
    const entry = parts.journal.get(captureId) ?? unjournalled(draft, ended === undefined);
    if (entry !== undefined) await parts.journal.put({ ...entry, state: stateOf(entry, draft), waiting });
    // Sealed everywhere, by an agent that died before it could remove it.
    if (waiting.length === 0) await draft.remove();
  }
}

const nameOf = ({ version }: RecoverDraftsParts): string => agentName({ version, pid: process.pid });

async function endTruncated(draft: Draft, parts: RecoverDraftsParts): Promise<void> {
  const { captureId, lastAt, request, nodeBytesWritten } = draft.state;
  await draft.note(
    { kind: 'ended', outcome: 'truncated', why: ENDED, finishedAt: lastAt, target: request.target, nodeBytesWritten },
    recovered(nameOf(parts), lastAt),
  );
  parts.log.warn({ captureId, lastAt }, 'the last agent ended during a capture: it is sealed as truncated');
}

/**
 * Its agent died between the draft and the journal, or the node was started anew and the spool is on a disk. Without an entry the
 * same id would be captured a second time, into the bundle that is sealed here.
 */
function unjournalled({ state: { entry, ended, lastAt } }: Draft, wasCut: boolean): JournalEntry | undefined {
  const finishedAtMs = Date.parse(ended?.finishedAt ?? lastAt);
  return entry && { ...entry, state: 'interrupted', finishedAtMs, error: wasCut ? ENDED : entry.error };
}

/** Of an entry that nobody could bring to its end. */
function stateOf({ state }: JournalEntry, draft: Draft): JournalEntry['state'] {
  return state === 'interrupted' || state === 'running' ? (draft.state.ended?.outcome ?? state) : state;
}
