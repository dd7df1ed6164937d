import type { Logger } from 'pino';
import { explain } from '../../evidence/error.ts';
import type { NewAudit, Store } from '../store/store.ts';

/**
 * Denied accesses, for the audit log: the first of its kind at once, what follows within a minute as one entry with its count, so
 * that a flood cannot fill the store and still is told of.
 */
export interface Denials extends AsyncDisposable {
  record(denial: Denial): void;
}

export interface Denial {
  readonly actor: string;
  readonly captureId?: string;
  readonly caseId?: string;
  /** Few, short values: they are compared to tell kinds apart. */
  readonly details: Readonly<Record<string, string>>;
}

/** Long enough that a flood is some entries an hour, short enough to see one while it goes on. */
const DENIAL_WINDOW_MS = 60_000;
/** Kinds of one actor that are told apart in one window; someone who tries ids makes a kind with each. */
export const KINDS_AN_ACTOR = 20;
/** Of all actors: strangers come from as many addresses as they like. */
const KINDS_IN_ALL = 500;
/** A value of the details; what is longer came from outside. */
const VALUE_CHARS = 300;

interface Kind {
  readonly first: NewAudit;
  repeats: number;
  lastAtMs: number;
}

export function openDenials(options: {
  readonly store: Pick<Store, 'appendAudit'>;
  readonly now: () => number;
  readonly log: Logger;
  readonly windowMs?: number;
}): Denials {
  const { store, now, log, windowMs = DENIAL_WINDOW_MS } = options;
  const kinds = new Map<string, Kind>();
  const actors = new Map<string, number>();
  const writing = new Set<Promise<void>>();
  let timer: NodeJS.Timeout | undefined;

  function write(entries: readonly NewAudit[]): void {
    if (entries.length === 0) return;
    const written = store
      .appendAudit(entries)
      .catch((error: unknown) => log.error({ error: explain(error), entries: entries.length }, 'denials not written'))
      .finally(() => writing.delete(written));
    writing.add(written);
  }

  function flush(): void {
    clearTimeout(timer);
    timer = undefined;
    const repeated = [...kinds.values()].filter(({ repeats }) => repeats > 0);
    kinds.clear();
    actors.clear();
    write(
      repeated.map(({ first, repeats, lastAtMs }) => ({
        ...first,
        atMs: lastAtMs,
        details: { ...first.details, repeated: repeats, sinceMs: first.atMs },
      })),
    );
  }

  /** The denial itself where there is room to tell it apart, else one for all of the actor's, else one for everybody's. */
  function kindOf(denial: Denial): Denial {
    const ofActor = actors.get(denial.actor) ?? 0;
    if (kinds.has(keyOf(denial))) return denial;
    if (ofActor < KINDS_AN_ACTOR && kinds.size < KINDS_IN_ALL) return denial;
    if (ofActor > 0) return { actor: denial.actor, details: { call: 'many' } };
    return { actor: 'many', details: { call: 'many' } };
  }

  return {
    record(given) {
      const atMs = now();
      const denial = kindOf(bounded(given));
      const key = keyOf(denial);
      const there = kinds.get(key);
      log.warn({ ...denial.details, actor: denial.actor }, 'access denied');
      timer ??= setTimeout(flush, windowMs).unref();
      if (there !== undefined) {
        there.repeats += 1;
        there.lastAtMs = atMs;
        return;
      }
      const first: NewAudit = { atMs, action: 'access.denied', ...denial };
      kinds.set(key, { first, repeats: 0, lastAtMs: atMs });
      actors.set(denial.actor, (actors.get(denial.actor) ?? 0) + 1);
      write([first]);
    },
    async [Symbol.asyncDispose]() {
      flush();
      await Promise.all(writing);
    },
  };
}

const keyOf = ({ actor, captureId, caseId, details }: Denial): string =>
  JSON.stringify([actor, captureId, caseId, details]);

const cut = (text: string): string => (text.length > VALUE_CHARS ? `${text.slice(0, VALUE_CHARS)}…` : text);

function bounded(denial: Denial): Denial {
  const details = Object.fromEntries(Object.entries(denial.details).map(([key, value]) => [key, cut(value)]));
  return { ...denial, actor: cut(denial.actor), details };
}
