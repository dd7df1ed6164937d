import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { RUNGS } from '../../evidence/dump.ts';
import { isErrno } from '../../evidence/error.ts';
import { makeFolder } from '../host/folder.ts';
import { HISTORY_ENTRIES, HISTORY_MS } from '../policy.ts';

/**
 * What this agent did and is doing, one small file a capture below `<stateDir>/journal`, on a tmpfs so that the node's disk is
 * not written and so that it ends with the boot, as freezes do. It serves three ends: the same id never makes a second
 * capture, `captures` can be listed after a restart, and a new agent thaws what a killed one had frozen.
 */

const singleFreezeSpec = z.discriminatedUnion('kind', [
  z.looseObject({ kind: z.literal('containerd'), socket: z.string(), namespace: z.string(), containerId: z.string() }),
  z.looseObject({ kind: z.literal('docker'), socket: z.string(), containerId: z.string() }),
  z.looseObject({ kind: z.literal('cgroup-v2'), path: z.string() }),
  z.looseObject({ kind: z.literal('cgroup-v1'), path: z.string() }),
  z.looseObject({ kind: z.literal('signal'), pids: z.array(z.number()) }),
]);
const freezeSpec = z.union([
  singleFreezeSpec,
  z.looseObject({ kind: z.literal('group'), members: z.array(singleFreezeSpec).min(1) }),
]);

const stage = z.object({
  stage: z.string(),
  status: z.string(),
  reason: z.string(),
  storedBytes: z.number(),
  wallMs: z.number(),
  pauseMs: z.number(),
  gapCount: z.number(),
});
export type StageResult = z.infer<typeof stage>;

/** `truncated`: its agent died, and a later one sealed what there was. `interrupted`: its agent died, and nobody can. */
export const CAPTURE_STATES = [
  'running',
  'complete',
  'partial',
  'cancelled',
  'truncated',
  'failed',
  'interrupted',
] as const;

const entry = z.object({
  captureId: z.string(),
  /** Digest of what was asked, so that one id cannot stand for two different requests. */
  requestKey: z.string(),
  /** Who asked for it, for the rates of the policy. Absent in entries of an older agent. */
  trigger: z.string().optional(),
  /**
   * How long its target may have stood still, for the policy's budget: until it has ended well, when the stages say how long it
   * did. Absent then, where nothing was to be stopped, and in entries of an older agent.
   */
  reservedFreezeMs: z.number().optional(),
  state: z.enum(CAPTURE_STATES),
  target: z.string(),
  /** Absent in entries of an agent that knew only containers. */
  scope: z.enum(['container', 'pod']).optional(),
  caseId: z.string(),
  reason: z.string(),
  bundleUrl: z.string(),
  startedAtMs: z.number(),
  finishedAtMs: z.number(),
  error: z.string(),
  stages: z.array(stage),
  /** Who asked for what, for a controller that did not. Absent in entries of an older agent. */
  asked: z
    .object({
      trigger: z.string(),
      identity: z.string(),
      selector: z.string(),
      artifacts: z.array(z.string()),
      /** Of the target; empty outside Kubernetes. */
      namespace: z.string(),
    })
    .optional(),
  /** Sinks in which it has ended and is not sealed yet. Absent: none, and in entries of an older agent. */
  waiting: z.array(z.string()).optional(),
  /** What differs from the last good snapshot, where it was compared: how many things of each kind. */
  changes: z
    .object({
      /** The capture it was compared with; absent where there was none. */
      baseline: z.string().optional(),
      kinds: z.array(z.object({ kind: z.string(), new: z.number(), gone: z.number(), changed: z.number() })),
    })
    .optional(),
  /** Present while the target stands still. */
  frozen: freezeSpec.optional(),
  /**
   * Present from when a runtime was asked for a checkpoint until the target was known to run again, and nothing of the
   * checkpoint to be left with the runtime.
   */
  dumping: z
    .object({
      rung: z.enum(RUNGS),
      containerId: z.string(),
      startedAtMs: z.number(),
      /** The runtime's own pause, where it has one: undone, should the dump have left it. */
      pause: singleFreezeSpec.optional(),
    })
    .optional(),
});
export type JournalEntry = z.infer<typeof entry>;

/**
 * Enough for a week of an hourly baseline and a bad day; the oldest ended ones go first. About 2 KiB each. Those of the last
 * hour stay beyond it, as many as the policy admits (HISTORY_ENTRIES), so that nobody can make it forget by asking for more.
 */
const MAX_ENTRIES = 1000;

export interface Journal {
  /** Newest first. */
  entries(): readonly JournalEntry[];
  get(captureId: string): JournalEntry | undefined;
  /** Atomic: a reader or a crash sees the old entry or the new one. Calls are carried out in order. */
  put(entry: JournalEntry): Promise<void>;
}

/** Opens the journal and reads what an earlier agent left. Files that cannot be read are set aside, not fatal. */
export async function openJournal(
  stateDir: string,
  onDamaged: (file: string, error: unknown) => void,
  now: () => number = Date.now,
): Promise<Journal> {
  const folder = path.join(stateDir, 'journal');
  await makeFolder(folder);
  const known = new Map<string, JournalEntry>();
  for (const name of await readdir(folder)) {
    const file = path.join(folder, name);
    if (!name.endsWith('.json')) {
      await rm(file, { force: true, recursive: true });
      continue;
    }
    try {
      const read = entry.parse(JSON.parse(await readFile(file, 'utf8')));
      known.set(read.captureId, read);
    } catch (error) {
      onDamaged(file, error);
      await rename(file, `${file}.damaged`).catch(() => undefined);
    }
  }

  let last: Promise<void> = Promise.resolve();
  const store = async (next: JournalEntry) => {
    const file = path.join(folder, `${next.captureId}.json`);
    await writeFile(`${file}.new`, JSON.stringify(next), { mode: 0o600 });
    await rename(`${file}.new`, file);
    for (const old of surplus(known, now())) {
      known.delete(old);
      await rm(path.join(folder, `${old}.json`)).catch((error: unknown) => {
        if (!isErrno(error, 'ENOENT')) throw error;
      });
    }
  };
  return {
    entries: () => [...known.values()].sort((a, b) => b.startedAtMs - a.startedAtMs),
    get: (captureId) => known.get(captureId),
    put: (next) => {
      known.set(next.captureId, next);
      const stored = last.then(() => store(next));
      last = stored.catch(() => undefined);
      return stored;
    },
  };
}

function surplus(known: ReadonlyMap<string, JournalEntry>, nowMs: number): string[] {
  if (known.size <= MAX_ENTRIES) return [];
  const ended = [...known.values()]
    .filter((one) => one.state !== 'running')
    .sort((a, b) => a.startedAtMs - b.startedAtMs);
  const beyond = ended.slice(0, Math.max(0, known.size - HISTORY_ENTRIES));
  const old = ended.slice(0, known.size - MAX_ENTRIES).filter((one) => nowMs - one.finishedAtMs >= HISTORY_MS);
  return [...new Set([...beyond, ...old])].map((one) => one.captureId);
}
