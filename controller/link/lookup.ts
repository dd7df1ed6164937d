import { ExhibitError } from '../../evidence/error.ts';
import type { ControllerMessage } from '../../proto/gen/exhibit/controller/v1/ControllerMessage.ts';
import type { LookupAnswer__Output } from '../../proto/gen/exhibit/controller/v1/LookupAnswer.ts';
import { podDigest } from '../../proto/pod-digest.ts';
import type { NodeName } from '../store/store.ts';
import type { Answer, Question } from './link.ts';
import type { Session } from './session.ts';

/** Questions to the agents that are under way at once; each goes to every agent of a fleet. */
const MAX_OPEN = 32;
/** Containers that were answered and not taken yet: a fleet of 3,000 nodes with a hundred each, twice over. */
const MAX_WAITING_CONTAINERS = 600_000;
/** After so many messages others get their turn: writing to a whole fleet takes tenths of a second. */
const ASKED_AT_ONCE = 100;

/**
 * Those that should have the pod answer alone for so long. A runtime needs some 50 ms; but where everything is slow, asking all
 * others would make it slower.
 */
const HEAD_START_MS = 1_000;

interface Open {
  /** Asked before the others, and silent so far. */
  readonly likely: Set<Session>;
  /** None of `likely` is silent any more. */
  readonly likelyHeard: PromiseWithResolvers<void>;
  /** Asked, and silent so far. */
  readonly silent: Set<Session>;
  readonly answers: Answer[];
  containers: number;
  allAsked: boolean;
  changed: PromiseWithResolvers<void>;
}

/** Questions to the agents of this replica, all at once. */
export class LookupDesk {
  readonly #open = new Map<string, Open>();
  readonly #timeoutMs: number;
  #asked = 0;

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  /** @throws ExhibitError `rate-limited` */
  async *ask(sessions: readonly Session[], question: Question, signal: AbortSignal): AsyncIterable<Answer> {
    if (this.#open.size >= MAX_OPEN)
      throw new ExhibitError('rate-limited', `${MAX_OPEN} lookups are under way already; ask again in a few seconds`);
    this.#asked += 1;
    const lookupId = String(this.#asked);
    const open: Open = {
      likely: new Set(likelyFirst(sessions, question)),
      likelyHeard: Promise.withResolvers(),
      silent: new Set(),
      answers: [],
      containers: 0,
      allAsked: false,
      changed: Promise.withResolvers(),
    };
    this.#open.set(lookupId, open);
    const deadline = setTimeout(() => giveUp(open, `did not answer within ${this.#timeoutMs} ms`), this.#timeoutMs);
    const stop = () => giveUp(open, 'was not waited for');
    signal.addEventListener('abort', stop, { once: true });
    try {
      // Stops by itself once nobody waits for it any more.
      void this.#askAll(open, lookupId, sessions, question, signal);
      while (!signal.aborted) {
        const answers = open.answers.splice(0);
        open.containers = 0;
        yield* answers;
        if (open.answers.length > 0) continue;
        if (open.allAsked && open.silent.size === 0) return;
        await open.changed.promise;
        open.changed = Promise.withResolvers();
      }
    } finally {
      clearTimeout(deadline);
      signal.removeEventListener('abort', stop);
      this.#open.delete(lookupId);
      open.likelyHeard.resolve();
    }
  }

  answer(session: Session, { lookupId, containers, code, reason }: LookupAnswer__Output): void {
    const open = this.#open.get(lookupId);
    // An answer that comes late, or twice.
    if (open === undefined || !open.silent.delete(session)) return;
    heard(open, session);
    open.containers += containers.length;
    if (code !== '') tell(open, unreached(session, reason === '' ? code : reason));
    else if (open.containers > MAX_WAITING_CONTAINERS) tell(open, unreached(session, 'too many containers at once'));
    else tell(open, { kind: 'found', node: nameOf(session), containers });
  }

  /** Its stream has ended. */
  gone(session: Session): void {
    for (const open of this.#open.values()) {
      if (!open.silent.delete(session)) continue;
      heard(open, session);
      tell(open, unreached(session, 'its stream ended before it answered'));
    }
  }

  async #askAll(
    open: Open,
    lookupId: string,
    sessions: readonly Session[],
    { selector, namespace }: Question,
    signal: AbortSignal,
  ): Promise<void> {
    const message = { lookup: { lookupId, namespace, ...(selector === undefined ? {} : { selector }) } };
    const first = [...open.likely];
    for (const session of first) askOne(open, session, message);
    if (open.likely.size > 0) await headStart(open);
    const others = first.length === 0 ? sessions : sessions.filter((session) => !first.includes(session));
    for (const [index, session] of others.entries()) {
      // Also before the first: whoever has what they need leaves now.
      if (index % ASKED_AT_ONCE === 0) await new Promise((resolve) => setImmediate(resolve));
      if (signal.aborted || this.#open.get(lookupId) !== open) return;
      askOne(open, session, message);
    }
    open.allAsked = true;
    open.changed.resolve();
  }
}

/** Agents that said that they have the pod. What they answer decides; what they said may be old. */
function likelyFirst(sessions: readonly Session[], { selector }: Question): Session[] {
  if (!selector?.pod) return [];
  const digest = podDigest(selector.pod.namespace, selector.pod.pod);
  return sessions.filter((session) => session.hasPod(digest));
}

async function headStart({ likelyHeard }: Open): Promise<void> {
  const timer = setTimeout(likelyHeard.resolve, HEAD_START_MS);
  await likelyHeard.promise;
  clearTimeout(timer);
}

function askOne(open: Open, session: Session, message: ControllerMessage): void {
  if (session.ended) tell(open, unreached(session, 'its stream has ended'));
  // It would have to read what waits before.
  else if (session.blockedSinceMs > 0) tell(open, unreached(session, 'it does not read what it is sent'));
  else {
    open.silent.add(session);
    session.send(message);
    return;
  }
  heard(open, session);
}

function heard(open: Open, session: Session): void {
  if (open.likely.delete(session) && open.likely.size === 0) open.likelyHeard.resolve();
}

const nameOf = ({ node: { cluster, node } }: Session): NodeName => ({ cluster, node });

const unreached = (session: Session, reason: string): Answer => ({ kind: 'unreached', node: nameOf(session), reason });

function tell(open: Open, answer: Answer): void {
  open.answers.push(answer);
  open.changed.resolve();
}

function giveUp(open: Open, reason: string): void {
  const silent = [...open.silent];
  open.silent.clear();
  for (const session of silent) open.answers.push(unreached(session, reason));
  open.likelyHeard.resolve();
  open.changed.resolve();
}
