import type { NewAudit, Store } from '../store/store.ts';

/** What the metrics learn of the store, by standing in front of it. */
export interface StoreEvents {
  /** `call`: the method's name. */
  done(call: string, seconds: number, failed: boolean): void;
  /** Written, or part of a change that was. */
  audited(entries: readonly NewAudit[]): void;
  /** Captures came to be in this state, or went into it. */
  entered(state: string, captures: number): void;
  /** From when it could be sent, or was sent, until it was. */
  dispatched(step: 'sent' | 'accepted', seconds: number): void;
}

/** The same store, watched. */
export function watchedStore(store: Store, events: StoreEvents): Store {
  const timed = { ...store };
  for (const [name, value] of Object.entries(store)) {
    // The one cast of a wrapper: each method is called as it was, with its own arguments.
    if (typeof value === 'function') Object.assign(timed, { [name]: timedCall(name, value as AnyCall, events) });
  }
  return {
    ...timed,
    async addCaptures(request, audit) {
      const added = await timed.addCaptures(request, audit);
      if (!added.created) return added;
      events.audited(audit);
      for (const { state } of added.captures) events.entered(state, 1);
      return added;
    },
    async changeCapture(captureId, from, change, audit) {
      const after = await timed.changeCapture(captureId, from, change, audit);
      if (after === undefined) return undefined;
      if (audit !== undefined) events.audited([audit]);
      // From one state into the same is a note, not a change: the agent tells more of what runs.
      if (change.state !== undefined && !(from.length === 1 && from[0] === change.state))
        events.entered(change.state, 1);
      const { createdAtMs, sentAtMs, acceptedAtMs, approvals, command } = after;
      // What a node began by itself was never sent.
      if (command === null) return after;
      const ripeMs = Math.max(createdAtMs, ...approvals.map(({ atMs }) => atMs));
      if (change.state === 'sent') events.dispatched('sent', seconds(sentAtMs - ripeMs));
      if (change.state === 'running') events.dispatched('accepted', seconds(acceptedAtMs - sentAtMs));
      return after;
    },
    async openCase(newCase, audit) {
      const opened = await timed.openCase(newCase, audit);
      events.audited([audit]);
      return opened;
    },
    async noteCase(caseId, note, audit) {
      const noted = await timed.noteCase(caseId, note, audit);
      events.audited([audit]);
      return noted;
    },
    async closeCase(caseId, closed, audit) {
      const after = await timed.closeCase(caseId, closed, audit);
      events.audited([audit]);
      return after;
    },
    async appendAudit(audit) {
      await timed.appendAudit(audit);
      events.audited(audit);
    },
    bus: store.bus,
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

type AnyCall = (...given: unknown[]) => Promise<unknown>;

function timedCall(name: string, call: AnyCall, events: StoreEvents): AnyCall {
  return async (...given) => {
    const startedMs = performance.now();
    let failed = true;
    try {
      const result = await call(...given);
      failed = false;
      return result;
    } catch (error) {
      // A wrong id, a case that is closed: the store answered.
      failed = isStoreFailure(error);
      throw error;
    } finally {
      events.done(name, (performance.now() - startedMs) / 1000, failed);
    }
  };
}

const isStoreFailure = (error: unknown): boolean =>
  !(error instanceof Error && 'code' in error) ||
  !['usage', 'capture-conflict', 'case-not-found'].includes(String(error.code));

/** Clocks that were set back. */
const seconds = (ms: number): number => Math.max(0, ms) / 1000;
