import grpc from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { explain } from '../../evidence/error.ts';
import type { Store } from '../store/store.ts';
import { expire } from './dispatch.ts';
import type { NewsDesk } from './news.ts';
import type { Session } from './session.ts';

export interface UpkeepParts {
  readonly store: Store;
  readonly news: NewsDesk;
  readonly streams: ReadonlySet<Session>;
  readonly sessions: ReadonlyMap<string, Session>;
  readonly gone: Map<string, Session>;
  readonly cut: (session: Session) => void;
  readonly heartbeatMs: number;
  readonly now: () => number;
  readonly log: Logger;
}

/** One timer for all streams: at 3,000 of them a round takes well below a millisecond. */
const ROUND_MS = 1_000;
/** An agent greets at once; what does not is none. */
const HELLO_TIMEOUT_MS = 10_000;
/** HTTP/2 holds back an agent that is stopped or slow; longer, and its stream is of no use. */
const BLOCKED_TIMEOUT_MS = 30_000;
/** How stale `last seen` may be, for one write that carries a third of the fleet. */
const TOUCH_EVERY_MS = 5_000;
const EXPIRE_EVERY_MS = 2_000;
const EXPIRED_AT_ONCE = 100;
/** Nodes whose replica was killed are shown as away by then. */
const STALE_EVERY_MS = 60_000;
const STALE_PAGE = 500;
const MISSED_HEARTBEATS = 2;

/** What time brings: streams that fell silent, what was heard, commands whose time is over, replicas that are gone. */
export function startUpkeep(parts: UpkeepParts): Disposable {
  const chores = [
    chore(TOUCH_EVERY_MS, () => touch(parts), parts.log),
    chore(EXPIRE_EVERY_MS, () => expireQueued(parts), parts.log),
    chore(STALE_EVERY_MS, () => tidyStale(parts), parts.log),
  ];
  // What an earlier process left.
  chores[2]?.(Number.POSITIVE_INFINITY);
  const timer = setInterval(
    () => {
      const nowMs = parts.now();
      for (const session of parts.streams) look(session, nowMs, parts);
      for (const one of chores) one(performance.now());
    },
    Math.min(ROUND_MS, parts.heartbeatMs),
  );
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

/** Every so often, never twice at a time; a store that fails is tried again. */
function chore(everyMs: number, work: () => Promise<void>, log: Logger): (atMs: number) => void {
  let nextMs = performance.now() + everyMs;
  let running = false;
  return (atMs) => {
    if (running || atMs < nextMs) return;
    running = true;
    nextMs = performance.now() + everyMs;
    work()
      .catch((error: unknown) => log.error({ error: explain(error) }, 'upkeep of the agents failed'))
      .finally(() => {
        running = false;
      });
  };
}

function look(session: Session, nowMs: number, { cut, heartbeatMs }: UpkeepParts): void {
  const silentMs = nowMs - session.lastSeenMs;
  if (!session.greeted && nowMs - session.connectedAtMs > HELLO_TIMEOUT_MS) {
    session.end(grpc.status.DEADLINE_EXCEEDED, `No greeting within ${HELLO_TIMEOUT_MS} ms`);
    cut(session);
  } else if (session.blockedSinceMs > 0 && nowMs - session.blockedSinceMs > BLOCKED_TIMEOUT_MS) {
    session.end(grpc.status.RESOURCE_EXHAUSTED, 'The agent does not read what it is sent');
    cut(session);
  } else if (session.ready && silentMs > MISSED_HEARTBEATS * heartbeatMs + ROUND_MS) {
    session.end(grpc.status.DEADLINE_EXCEEDED, `Nothing was heard for ${silentMs} ms`);
    cut(session);
  }
}

async function touch({ store, sessions, gone }: UpkeepParts): Promise<void> {
  const touched = [...sessions.values()].filter((session) => session.ready && session.touched);
  const rows = touched.map((session) => session.touch());
  try {
    if (rows.length > 0) await store.touchNodes(rows);
  } catch (error) {
    for (const session of touched) session.touched = true;
    throw error;
  }
  for (const [key, session] of gone) {
    await store.nodeGone(session.node, session.id, session.lastSeenMs);
    gone.delete(key);
  }
}

async function expireQueued({ store, news, now }: UpkeepParts): Promise<void> {
  for (const row of await store.expiredCaptures(now(), EXPIRED_AT_ONCE)) await expire(row, news);
}

/** Of replicas that were killed, this process before its start among them. */
async function tidyStale({ store }: UpkeepParts): Promise<void> {
  const alive = new Set(await store.bus.replicas());
  let token: string | undefined;
  do {
    const page = await store.nodes(
      { connectedOnly: true },
      { limit: STALE_PAGE, ...(token === undefined ? {} : { token }) },
    );
    for (const row of page.rows)
      if (!alive.has(row.replicaId)) await store.nodeGone(row, row.sessionId, row.lastSeenMs);
    token = page.next;
  } while (token !== undefined);
}
