import type { CaptureEvent__Output } from '../../proto/gen/exhibit/v1/CaptureEvent.ts';
import type { CaptureMessage } from '../link/link.ts';
import type { Bus } from '../store/store.ts';

/** News of captures for those who watch: one subscription to the bus however many watch, and a small inbox for each of them. */
export interface NewsOfCaptures {
  follow(captureId: string): Inbox;
}

export interface Inbox extends Disposable {
  /** Resolves when there is something to take, or the time is over. Fails when the signal aborts. */
  wait(signal: AbortSignal, timeoutMs: number): Promise<void>;
  take(): News;
}

export interface News {
  /** In their order; of progress only the last of a run. */
  readonly events: readonly CaptureEvent__Output[];
  /** The row has changed, or may have. */
  readonly isStale: boolean;
}

/** A capture has some thirty events besides progress; who has more waiting reads the row again instead. */
const MOST_WAITING = 200;

interface Waiting extends Inbox {
  put(event: CaptureEvent__Output | undefined): void;
}

export function newsOfCaptures(bus: Bus): NewsOfCaptures {
  const inboxes = new Map<string, Set<Waiting>>();
  let subscriptions: DisposableStack | undefined;

  function subscribe(): DisposableStack {
    const stack = new DisposableStack();
    stack.use(
      bus.subscribe('captures', (text) => {
        const message = readMessage(text);
        if (message === undefined) return;
        for (const inbox of inboxes.get(message.captureId) ?? []) inbox.put(message.event);
      }),
    );
    stack.use(
      bus.onGap(() => {
        for (const all of inboxes.values()) for (const inbox of all) inbox.put(undefined);
      }),
    );
    return stack;
  }

  return {
    follow(captureId) {
      subscriptions ??= subscribe();
      const there = inboxes.get(captureId) ?? new Set();
      inboxes.set(captureId, there);
      const inbox = createInbox(() => {
        there.delete(inbox);
        if (there.size === 0) inboxes.delete(captureId);
        if (inboxes.size > 0) return;
        subscriptions?.dispose();
        subscriptions = undefined;
      });
      there.add(inbox);
      return inbox;
    },
  };
}

function createInbox(leave: () => void): Waiting {
  let events: CaptureEvent__Output[] = [];
  let isStale = false;
  let changed = Promise.withResolvers<void>();
  return {
    put(event) {
      if (event?.stageProgress && events.at(-1)?.stageProgress) events.pop();
      if (event !== undefined && events.length < MOST_WAITING) events.push(event);
      if (!event?.stageProgress) isStale = true;
      changed.resolve();
    },
    async wait(signal, timeoutMs) {
      if (events.length > 0 || isStale) return;
      const over = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
      const ended = Promise.withResolvers<void>();
      const end = () => ended.resolve();
      over.addEventListener('abort', end, { once: true });
      await Promise.race([changed.promise, ended.promise]);
      over.removeEventListener('abort', end);
      signal.throwIfAborted();
    },
    take() {
      const news = { events, isStale };
      events = [];
      isStale = false;
      changed = Promise.withResolvers();
      return news;
    },
    [Symbol.dispose]: leave,
  };
}

interface Read {
  readonly captureId: string;
  readonly event: CaptureEvent__Output | undefined;
}

/** The other replicas are ours; a message that is not what it should be is passed over all the same. */
function readMessage(text: string): Read | undefined {
  try {
    const message = JSON.parse(text) as Partial<CaptureMessage> | null;
    if (typeof message?.captureId !== 'string') return undefined;
    const { event } = message;
    const isEvent = typeof event === 'object' && event !== null && 'captureId' in event;
    return { captureId: message.captureId, event: isEvent ? (event as CaptureEvent__Output) : undefined };
  } catch {
    return undefined;
  }
}
