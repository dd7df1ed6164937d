import type { Logger } from 'pino';
import { compare } from '../../evidence/diff/compare.ts';
import { CHANGES_LIMITS, type Changes, DIFF_VERSION, diffDocument } from '../../evidence/diff/document.ts';
import { explain } from '../../evidence/error.ts';
import { FACT_KINDS, type Facts, type FactsLimits, kindsOf, unknownFacts } from '../../evidence/facts/facts.ts';
import { aboutTarget, type FactsArtifact, readFacts } from '../../evidence/facts/read.ts';
import type { Manifest, RequestRecord, TargetRecord } from '../../evidence/manifest.ts';
import type { KeepFrames } from '../../evidence/write.ts';
import type { Vault } from '../sink/vault.ts';
import { openBaselineStore } from './baseline-store.ts';
import type { JournalEntry } from './journal.ts';
import { createKept, type Kept } from './kept-frames.ts';
import { workloadKey } from './workload.ts';

/**
 * What a workload looked like in its last good snapshot, kept by the agent itself: it cannot read what it wrote to a sink. Every
 * capture is compared with that, and the differences are an object of its bundle. The small objects that facts are read from are
 * kept in memory, compressed, while they are written; all else is done when the target runs again. See docs/diff.md.
 */
export interface Baselines {
  /**
   * `target` is what the request found. Undefined where nothing is to be done: there is no baseline of it, and this capture
   * becomes none.
   */
  begin(captureId: string, request: Pick<RequestRecord, 'requester' | 'target'>): BaselineRun | undefined;
  /** Whether this capture is the last good one of some workload: `changes.json` of later ones names it. */
  isBaseline(captureId: string): boolean;
}

export interface BaselineRun {
  readonly keep: KeepFrames;
  /** What differs from the baseline; undefined, and logged, where that could not be found out. */
  compare(captured: Captured): Promise<Changes | undefined>;
  /** When the capture was sealed: makes a good snapshot the baseline. Never fails. */
  sealed(outcome: Manifest['outcome']): Promise<void>;
}

export interface Captured {
  readonly cluster: string;
  readonly node: string;
  readonly startedAt: string;
  readonly outcome: Manifest['outcome'];
  readonly target: TargetRecord;
  readonly artifacts: readonly FactsArtifact[];
}

export interface BaselinesConfig {
  /** Of all that are kept, as they lie in the vault. */
  readonly maxBytes: number;
  /** Triggers whose captures may become one. */
  readonly from: readonly string[];
}

export interface BaselinesParts {
  readonly config: BaselinesConfig;
  readonly vault: Vault;
  readonly log: Logger;
}

/** In an agent: some 50 MiB of memory while it compares a container with so many changed files, usually one. */
const LIMITS: FactsLimits = { entries: 50_000, characters: 16 * 1024 * 1024 };

export async function openBaselines(parts: BaselinesParts): Promise<Baselines> {
  const store = await openBaselineStore({ maxBytes: parts.config.maxBytes, vault: parts.vault, log: parts.log });
  return {
    isBaseline: (captureId) => store.isOf(captureId),
    begin(captureId, request) {
      const workload = workloadKey(request.target);
      const mayBecome = parts.config.from.includes(request.requester.trigger);
      if (!mayBecome && !store.has(workload)) return undefined;
      const kept = createKept();
      const log = parts.log.child({ captureId });
      let next: Facts | undefined;
      return {
        keep: kept.keep,
        async compare(captured) {
          try {
            const facts = await factsOf(captureId, captured, kept);
            const baseline = await store.read(workload);
            if (mayBecome) next = nextBaseline(baseline, facts);
            const changes = changesBetween(captureId, workload, baseline, facts);
            log.info(
              { baseline: baseline?.about.captureId ?? null, ...countsOf(changes) },
              'compared with the baseline',
            );
            return changes;
          } catch (error) {
            log.error({ error: explain(error) }, 'not compared with the baseline');
            return undefined;
          } finally {
            kept.clear();
          }
        },
        async sealed(outcome) {
          if (next === undefined || (outcome !== 'complete' && outcome !== 'partial')) return;
          try {
            await store.write(workload, next);
          } catch (error) {
            log.error({ error: explain(error) }, 'baseline not kept');
          }
        },
      };
    },
  };
}

/** How many of each kind, without those of which there are none: `{ processes: { new: 1 } }`. For logs: no names. */
function countsOf({ diff }: Changes): Record<string, Record<string, number>> {
  if (diff === undefined) return {};
  return Object.fromEntries(
    FACT_KINDS.flatMap((kind) => {
      const counts = Object.entries(diff.kinds[kind]?.counts ?? {}).filter(([, count]) => count > 0);
      return counts.length === 0 ? [] : [[kind, Object.fromEntries(counts)]];
    }),
  );
}

/** For the journal: of the kinds that could be compared. */
export function sumOf({ diff }: Changes): JournalEntry['changes'] {
  if (diff === undefined) return { kinds: [] };
  const kinds = FACT_KINDS.flatMap((kind) => {
    const one = diff.kinds[kind];
    if (one === undefined || one.comparable === 'no') return [];
    const { new: came, gone, changed } = one.counts;
    return [{ kind, new: came, gone, changed }];
  });
  return { baseline: diff.before.captureId, kinds };
}

function changesBetween(captureId: string, workload: string[], baseline: Facts | undefined, facts: Facts): Changes {
  const head = { version: DIFF_VERSION, captureId, workload } as const;
  if (baseline === undefined)
    return { ...head, why: 'this agent has no good snapshot of the workload to compare with' };
  return { ...head, diff: diffDocument(compare(baseline, facts), CHANGES_LIMITS) };
}

/**
 * Of each kind the last of which all is known: a snapshot with gaps would make everything new that it did not see, and one
 * without the writable layer says nothing of it. Undefined when nothing new is known. Pure.
 */
export function nextBaseline(baseline: Facts | undefined, facts: Facts): Facts | undefined {
  if (FACT_KINDS.every((kind) => facts.kinds[kind].state !== 'known')) return undefined;
  const isOfImage = baseline?.about.image?.id === facts.about.image?.id;
  const kinds = kindsOf((kind) => {
    const now = facts.kinds[kind];
    if (now.state === 'known') return now;
    const before = baseline?.kinds[kind];
    if (baseline === undefined || before?.state !== 'known' || !isOfImage) return unknownFacts(NOT_WHOLE);
    const { captureId, at } = baseline.about;
    const since = `of capture ${captureId} of ${at}, the last that had all of them`;
    return {
      ...before,
      why: before.why.some((one) => one.startsWith('of capture ')) ? before.why : [since, ...before.why],
    };
  });
  return { about: facts.about, kinds };
}

const NOT_WHOLE = 'no snapshot of this image had all of them';

async function factsOf(captureId: string, captured: Captured, kept: Kept): Promise<Facts> {
  const { cluster, node, startedAt, outcome, target, artifacts } = captured;
  return await readFacts(
    {
      about: aboutTarget(target, { captureId, at: startedAt, cluster, node, outcome }),
      target,
      artifacts,
      hasObject: (name) => kept.has(name),
      content: (name) => kept.content(name),
    },
    LIMITS,
  );
}
