import type { Logger } from 'pino';
import type { NewAudit, Store } from '../store/store.ts';
import { shown } from './template.ts';

/**
 * What became of alerts, for the audit log. A flood is told in few entries: what is the same within a moment is one entry with its
 * count, and beyond some entries a moment the rest is counted alone. Nothing is left out of the counts.
 */
export interface Ledger extends AsyncDisposable {
  note(event: LedgerEvent): void;
  /** Everything that was noted is stored, or was tried. */
  flush(): Promise<void>;
}

export interface LedgerEvent {
  readonly actor: string;
  /** `alert.fired`, `alert.ignored`, `alert.duplicate`, `alert.over-budget`, `alert.no-target`, `alert.failed`, `alert.flooded`, `access.denied`. */
  readonly action: string;
  readonly captureId?: string;
  readonly caseId?: string;
  /** Strangers' words: escaped and cut here. */
  readonly details: Readonly<Record<string, string>>;
}

/** Soon enough for who reads the log, and one transaction. */
const FLUSH_MS = 1_000;
/** A node's worth of different alerts in a second; more is a flood. */
const MAX_ENTRIES = 100;
/** Kept while the store is away; then counted alone. */
const MAX_KEPT = 1_000;

interface Pending {
  readonly audit: NewAudit;
  count: number;
}

export function createLedger(store: Pick<Store, 'appendAudit'>, log: Logger, now: () => number): Ledger {
  let pending = new Map<string, Pending>();
  let timer: NodeJS.Timeout | undefined;
  let writing: Promise<void> = Promise.resolve();
  let isClosed = false;

  /** Beyond `most` different entries, only who and what is counted. */
  const add = (audit: NewAudit, count: number, most: number): void => {
    const { actor, action, captureId = '', caseId = '', details } = audit;
    const key = JSON.stringify([actor, action, captureId, caseId, details]);
    const there = pending.get(key);
    if (there !== undefined) there.count += count;
    else if (pending.size < most) pending.set(key, { audit, count });
    else fold(audit, count);
  };
  const fold = ({ actor, action, atMs }: NewAudit, count: number): void => {
    const key = JSON.stringify([actor, action]);
    const there = pending.get(key);
    if (there !== undefined) there.count += count;
    else pending.set(key, { audit: { actor, action, atMs, details: { note: 'one of many' } }, count });
  };
  const write = async (): Promise<void> => {
    const batch = pending;
    pending = new Map();
    if (batch.size === 0) return;
    try {
      await store.appendAudit([...batch.values()].map(({ audit, count }) => counted(audit, count)));
    } catch (error) {
      log.error({ err: error, entries: batch.size }, 'alerts could not be written into the audit log');
      for (const { audit, count } of batch.values()) add(audit, count, MAX_KEPT);
      if (!isClosed) timer ??= setTimeout(() => void flush(), FLUSH_MS);
    }
  };
  const flush = (): Promise<void> => {
    clearTimeout(timer);
    timer = undefined;
    writing = writing.then(write);
    return writing;
  };
  return {
    note: ({ details, ...event }) => {
      const escaped = Object.fromEntries(Object.entries(details).map(([name, value]) => [name, shown(value)]));
      add({ ...event, atMs: now(), details: escaped }, 1, MAX_ENTRIES);
      if (!isClosed) timer ??= setTimeout(() => void flush(), FLUSH_MS);
    },
    flush,
    [Symbol.asyncDispose]: () => {
      isClosed = true;
      return flush();
    },
  };
}

const counted = (audit: NewAudit, count: number): NewAudit =>
  count === 1 ? audit : { ...audit, details: { ...audit.details, count } };
