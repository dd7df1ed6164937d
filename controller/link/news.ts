import type { Logger } from 'pino';
import { validate as isUuid } from 'uuid';
import { explain } from '../../evidence/error.ts';
import type { CaptureNews__Output } from '../../proto/gen/exhibit/controller/v1/CaptureNews.ts';
import type { Refusal__Output } from '../../proto/gen/exhibit/controller/v1/Refusal.ts';
import type { CaptureEvent__Output } from '../../proto/gen/exhibit/v1/CaptureEvent.ts';
import type { CaptureRow, CaptureState, NewAudit, Store } from '../store/store.ts';
import { adopted, originOf } from './adopted.ts';
import { actorOf, type Refusals } from './audit.ts';
import type { CaptureMessage } from './link.ts';
import type { Known, Session } from './session.ts';
import { clip, clipCapture, endOf, foldEvent, sameEnd, type ToldEnd, toldEnd } from './told.ts';

export interface NewsParts {
  readonly store: Store;
  readonly refusals: Refusals;
  readonly now: () => number;
  readonly log: Logger;
}

/** Progress is for people who watch. */
const PROGRESS_EVERY_MS = 1_000;
/** Captures of the node's own triggers that a node may make known: an hourly schedule over a hundred pods, several times over. */
const ADOPTIONS = { most: 1_000, windowMs: 3_600_000 };
/** Codes of ours are words; a stranger’s are whatever it likes. */
const MAX_CODE_CHARS = 256;
/** Of one message on the bus; the row has everything that matters. */
const MAX_PUBLISHED_CHARS = 64 * 1024;

/** States from which a capture is accepted or ends. `queued`: a store that was put back to an older state. */
const UNACCEPTED = ['queued', 'sent'] as const;
const UNENDED = ['queued', 'sent', 'running'] as const;
const isUnended = (state: CaptureState): boolean => UNENDED.some((one) => one === state);

/** What agents tell of captures, brought into the store. Everything may come twice. Rejects when the store does: then nothing of it counts. */
export class NewsDesk {
  readonly #parts: NewsParts;

  constructor(parts: NewsParts) {
    this.#parts = parts;
  }

  async take(session: Session, news: CaptureNews__Output): Promise<void> {
    const { event } = news;
    const captureId = event?.captureId.toLowerCase() ?? '';
    if (event === null || !isUuid(captureId)) {
      session.puzzled();
      return;
    }
    if (event.event === undefined) {
      session.passOver();
      return;
    }
    if (event.stageProgress) {
      this.#progress(session, captureId, event);
      return;
    }
    const known = session.known(captureId) ?? (await this.#lookUp(session, captureId, news));
    if (known === undefined) return;
    if (event.ended) await this.#ended(session, { captureId, known, news }, event);
    else await this.#runs(session, { captureId, known, news }, event);
  }

  /** The capture was never begun, or the agent knows nothing of it. */
  async refused(session: Session, { captureId: given, code, reason }: Refusal__Output): Promise<void> {
    const captureId = given.toLowerCase();
    const row = isUuid(captureId) ? await this.#owned(session, captureId) : undefined;
    if (row === undefined) {
      session.puzzled();
      return;
    }
    if (code === 'capture-not-found') await this.#notThere(session, row);
    else
      await this.#conclude(session, row, UNACCEPTED, {
        state: 'refused',
        error: clip(reason),
        details: { code: clip(code, MAX_CODE_CHARS), reason: clip(reason) },
      });
  }

  publish(captureId: string, event?: CaptureEvent__Output): void {
    const message: CaptureMessage = event === undefined ? { captureId } : { captureId, event };
    const whole = JSON.stringify(message);
    const text = whole.length <= MAX_PUBLISHED_CHARS ? whole : JSON.stringify({ captureId });
    this.#parts.store.bus.publish('captures', text).catch((error: unknown) => {
      this.#parts.log.warn({ captureId, error: explain(error) }, 'change not published');
    });
  }

  /** Ends it in the store, where it is still in one of those states. */
  async conclude(
    row: CaptureRow,
    from: readonly CaptureState[],
    end: {
      readonly state: CaptureState;
      readonly error: string;
      readonly actor: string;
      readonly details: NewAudit['details'];
    },
  ): Promise<CaptureRow | undefined> {
    const { store, now } = this.#parts;
    const { captureId, caseId } = row;
    const { state, error, actor, details } = end;
    const atMs = now();
    const audit = { atMs, actor, action: `capture.${state}`, captureId, caseId, details };
    const after = await store.changeCapture(captureId, from, { state, error, endedAtMs: atMs }, audit);
    if (after !== undefined) this.publish(captureId);
    return after;
  }

  async #conclude(
    session: Session,
    row: CaptureRow,
    from: readonly CaptureState[],
    end: { readonly state: CaptureState; readonly error: string; readonly details: NewAudit['details'] },
  ): Promise<void> {
    const after = await this.conclude(row, from, { ...end, actor: actorOf(session.node) });
    if (after !== undefined) session.forget(row.captureId);
  }

  async #notThere(session: Session, row: CaptureRow): Promise<void> {
    if (row.waits && !isUnended(row.state)) {
      await this.#deliveryLost(session, row);
      return;
    }
    await this.#conclude(session, row, UNENDED, { ...endOfUnknown(row), details: {} });
  }

  /** Nobody can tell any more whether the sinks that it waited for have it. */
  async #deliveryLost(session: Session, row: CaptureRow): Promise<void> {
    const { store, now } = this.#parts;
    const { captureId, caseId } = row;
    const sinks = row.told?.waitingSinks ?? [];
    const error = `The agent knows nothing of it any more; whether ${sinks.join(', ')} took it is not known`;
    const details = { waitingSinks: sinks };
    const audit = {
      atMs: now(),
      actor: actorOf(session.node),
      action: 'capture.unconfirmed',
      captureId,
      caseId,
      details,
    };
    const after = await store.changeCapture(captureId, [row.state], { waits: false, error }, audit);
    session.forget(captureId);
    if (after !== undefined) this.publish(captureId);
  }

  #progress(session: Session, captureId: string, event: CaptureEvent__Output): void {
    const known = session.known(captureId);
    const nowMs = this.#parts.now();
    if (known === undefined || nowMs < known.nextProgressMs || !isUnended(known.state)) return;
    known.nextProgressMs = nowMs + PROGRESS_EVERY_MS;
    this.publish(captureId, event);
  }

  /** Accepted, and every stage. */
  async #runs(session: Session, { captureId, known, news }: Of, event: CaptureEvent__Output): Promise<void> {
    const { store, now } = this.#parts;
    if (!isUnended(known.state)) return;
    const folded = foldEvent(known.told, event);
    const told = folded ?? known.told;
    let after: CaptureRow | undefined;
    if (known.state !== 'running') {
      const atMs = now();
      const details = { ...originOf(news), target: told?.target ?? '', bundleUrl: told?.bundleUrl ?? '' };
      const { caseId } = known;
      const audit = { atMs, actor: actorOf(session.node), action: 'capture.accepted', captureId, caseId, details };
      const acceptedAtMs = known.acceptedAtMs || atMs;
      after = await store.changeCapture(captureId, UNACCEPTED, { state: 'running', acceptedAtMs, told }, audit);
    } else if (folded !== undefined) after = await store.changeCapture(captureId, ['running'], { told: folded });
    if (after !== undefined) session.remember(after);
    else if (known.state !== 'running' || folded !== undefined) await this.#lookAgain(session, captureId);
    this.publish(captureId, event);
  }

  async #ended(session: Session, { captureId, known, news }: Of, event: CaptureEvent__Output): Promise<void> {
    const told = event.ended ? clipCapture(event.ended) : undefined;
    const state = endOf(told?.state ?? '');
    if (told === undefined || state === undefined) {
      session.puzzled();
      return;
    }
    const { store, now } = this.#parts;
    if (isUnended(known.state)) {
      const atMs = now();
      const { error, target, bundleUrl, waitingSinks } = told;
      const details = { ...originOf(news), state, error, target, bundleUrl, waitingSinks };
      const { caseId } = known;
      const audit = { atMs, actor: actorOf(session.node), action: 'capture.ended', captureId, caseId, details };
      const change = { state, error, told, endedAtMs: atMs, acceptedAtMs: known.acceptedAtMs || atMs };
      const waits = waitingSinks.length > 0;
      const after = await store.changeCapture(captureId, UNENDED, { ...change, waits }, audit);
      if (after !== undefined) {
        this.#settle(session, after, event);
        return;
      }
    }
    await this.#endedAgain(session, { captureId, told: { ...told, state } }, event);
  }

  /** A replay, or a sink is done with it. */
  async #endedAgain(
    session: Session,
    { captureId, told }: { captureId: string; told: ReturnType<typeof clipCapture> & { state: ToldEnd } },
    event: CaptureEvent__Output,
  ): Promise<void> {
    const { store, now, log } = this.#parts;
    const row = await store.capture(captureId);
    if (row === undefined) return;
    if (toldEnd(row.state) === undefined) {
      log.warn({ captureId, state: row.state, told: told.state }, 'agent tells of a capture that had ended otherwise');
      return;
    }
    const waits = told.waitingSinks.length > 0;
    // What was sealed everywhere does not wait again, and a number of sinks that grows is a replay of an older message.
    if (sameEnd(row, told) || !row.waits) return;
    const { caseId } = row;
    const details = { state: told.state, waitingSinks: told.waitingSinks };
    const audit = {
      atMs: now(),
      actor: actorOf(session.node),
      action: 'capture.delivered',
      captureId,
      caseId,
      details,
    };
    const after = await store.changeCapture(captureId, [row.state], { state: told.state, told, waits }, audit);
    if (after !== undefined) this.#settle(session, after, event);
  }

  #settle(session: Session, row: CaptureRow, event: CaptureEvent__Output): void {
    if (row.waits) session.remember(row);
    else session.forget(row.captureId);
    this.publish(row.captureId, event);
  }

  /** Another one changed it meanwhile. */
  async #lookAgain(session: Session, captureId: string): Promise<void> {
    const row = await this.#parts.store.capture(captureId);
    if (row !== undefined) session.remember(row);
  }

  async #lookUp(session: Session, captureId: string, news: CaptureNews__Output): Promise<Known | undefined> {
    const row = await this.#owned(session, captureId, news);
    return row && session.remember(row);
  }

  async #owned(session: Session, captureId: string, news?: CaptureNews__Output): Promise<CaptureRow | undefined> {
    const row = (await this.#parts.store.capture(captureId)) ?? (news && (await this.#adopt(session, captureId, news)));
    if (row === undefined) return undefined;
    if (row.cluster === session.node.cluster && row.node === session.node.node) return row;
    this.#parts.refusals.note(session.node, `capture ${captureId}`, {
      reason: 'it told of a capture of another node',
      captureId,
    });
    return undefined;
  }

  /** One that this controller did not ask for: of a trigger on the node, or of a controller whose store was lost. */
  async #adopt(session: Session, captureId: string, news: CaptureNews__Output): Promise<CaptureRow | undefined> {
    const { store, now, refusals } = this.#parts;
    const nowMs = now();
    if (!(await store.spend(`adopt ${session.key}`, 1, ADOPTIONS, nowMs))) {
      refusals.note(session.node, 'adoptions', {
        reason: `it told of more than ${ADOPTIONS.most} captures in an hour`,
      });
      return undefined;
    }
    await store.adoptCapture(adopted(session, captureId, news, nowMs));
    return await store.capture(captureId);
  }
}

interface Of {
  readonly captureId: string;
  readonly known: Known;
  readonly news: CaptureNews__Output;
}

/** Of a capture that its agent does not know. */
function endOfUnknown({ acceptedAtMs, cancelRequested }: CaptureRow): { state: CaptureState; error: string } {
  if (acceptedAtMs > 0)
    return {
      state: 'lost',
      error: 'The agent had begun it and knows nothing of it any more: the node was restarted',
    };
  if (cancelRequested) return { state: 'cancelled', error: 'Cancelled before the agent began it' };
  return { state: 'expired', error: 'The agent did not begin it before its time was over' };
}
