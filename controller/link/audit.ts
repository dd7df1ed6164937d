import type { Logger } from 'pino';
import { explain } from '../../evidence/error.ts';
import type { AgentIdentity } from '../identity/identity.ts';
import type { Store } from '../store/store.ts';

/** An agent that is set up wrongly dials again and again; the audit log learns of it this often. */
const SAY_AGAIN_MS = 10 * 60_000;
/** Different refusals that are remembered. */
const MAX_SAID = 4_096;

/** Notes that an agent was refused: once in a while for each reason, so that a fault does not fill the log. */
export class Refusals {
  readonly #said = new Map<string, number>();
  readonly #options: { readonly store: Store; readonly now: () => number; readonly log: Logger };

  constructor(options: { readonly store: Store; readonly now: () => number; readonly log: Logger }) {
    this.#options = options;
  }

  /** `about`: what tells this refusal from another one; the peer's port changes with each attempt and is no part of it. */
  note(agent: AgentIdentity | undefined, about: string, details: Readonly<Record<string, string>>): void {
    const { store, now, log } = this.#options;
    const nowMs = now();
    const key = `${agent?.cluster ?? ''}/${agent?.node ?? ''} ${about}`;
    if (nowMs - (this.#said.get(key) ?? Number.NEGATIVE_INFINITY) < SAY_AGAIN_MS) return;
    this.#said.delete(key);
    this.#said.set(key, nowMs);
    const oldest = this.#said.size > MAX_SAID ? this.#said.keys().next().value : undefined;
    if (oldest !== undefined) this.#said.delete(oldest);
    const actor = agent === undefined ? 'controller' : actorOf(agent);
    log.warn({ actor, ...details }, 'agent refused');
    store.appendAudit([{ atMs: nowMs, actor, action: 'agent.refused', details }]).catch((error: unknown) => {
      // It will be tried again with the next attempt.
      this.#said.delete(key);
      log.error({ actor, error: explain(error) }, 'refusal not in the audit log');
    });
  }
}

export const actorOf = ({ cluster, node }: AgentIdentity): string => `agent ${cluster}/${node}`;
