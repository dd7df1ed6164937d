import { z } from 'zod';
import { CAPTURE_STATES, type JournalEntry } from '../capture/journal.ts';

/**
 * What stands beside a request, as `NAME.answer.json`: docs/request-folder.md. `accepted`: it runs. `refused`: nothing was
 * captured, `error` says why. `lost`: it was accepted, and this agent's journal knows of no such capture (the node was booted
 * anew). Else the state in which the capture ended, as `exhibit captures` shows it.
 */
const answerSchema = z.object({
  formatVersion: z.literal(1),
  request: z.object({ name: z.string(), sha256: z.string(), modifiedNs: z.string() }),
  captureId: z.string(),
  state: z.enum(['accepted', 'refused', 'lost', ...CAPTURE_STATES]),
  answeredAt: z.string(),
  target: z.string().optional(),
  bundleUrl: z.string().optional(),
  storedBytes: z.number().optional(),
  gapCount: z.number().optional(),
  stages: z
    .array(z.object({ stage: z.string(), status: z.string(), reason: z.string(), gapCount: z.number() }))
    .optional(),
  /** Sinks in which the bundle is not sealed yet. */
  waitingSinks: z.array(z.string()).optional(),
  error: z.string().optional(),
});
export type Answer = z.output<typeof answerSchema>;

/** An answer is some KiB; anything larger at its name is not ours. */
export const MAX_ANSWER_BYTES = 256 * 1024;

/** Undefined for whatever is no answer: somebody may have put anything there. Pure. */
export function readAnswer(bytes: Uint8Array): Answer | undefined {
  try {
    return answerSchema.safeParse(JSON.parse(Buffer.from(bytes).toString('utf8'))).data;
  } catch {
    return undefined;
  }
}

export const hasEnded = ({ state }: Answer): boolean => state !== 'accepted' && state !== 'running';

export interface AskedFile {
  readonly name: string;
  readonly sha256: string;
  readonly mtimeNs: bigint;
}

/** Whether an answer is to this very file; where the request brings its own id, its time does not matter. */
export function answers(answer: Answer, file: AskedFile, ownId: string): boolean {
  if (answer.request.name !== file.name || answer.request.sha256 !== file.sha256) return false;
  return ownId === '' ? answer.request.modifiedNs === String(file.mtimeNs) : answer.captureId === ownId.toLowerCase();
}

type News = Pick<Answer, 'captureId' | 'state'> & Partial<Pick<Answer, 'target' | 'bundleUrl' | 'error'>>;

export function answerOf({ name, sha256, mtimeNs }: AskedFile, news: News, now: number): Answer {
  return {
    formatVersion: 1,
    request: { name, sha256, modifiedNs: String(mtimeNs) },
    answeredAt: new Date(now).toISOString(),
    ...news,
  };
}

export function endedAnswer(file: AskedFile, entry: JournalEntry, now: number): Answer {
  const sum = (pick: (stage: JournalEntry['stages'][number]) => number) =>
    entry.stages.reduce((total, stage) => total + pick(stage), 0);
  const { captureId, state, target, bundleUrl } = entry;
  return {
    ...answerOf(file, { captureId, state, target, bundleUrl }, now),
    storedBytes: sum((stage) => stage.storedBytes),
    gapCount: sum((stage) => stage.gapCount),
    stages: entry.stages.map(({ stage, status, reason, gapCount }) => ({ stage, status, reason, gapCount })),
    waitingSinks: entry.waiting ?? [],
    ...(entry.error === '' ? {} : { error: entry.error }),
  };
}
