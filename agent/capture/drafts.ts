import type { Logger } from 'pino';
import type { CustodyEntry } from '../../evidence/custody.ts';
import { explain } from '../../evidence/error.ts';
import type { Vault } from '../sink/vault.ts';
import {
  applyRecord,
  type Begun,
  beginDraft,
  type DraftChange,
  type DraftRecord,
  type DraftState,
  readDraft,
} from './draft.ts';

/** The drafts in the vault, one file a capture, and what they say so far. */

const FOLDER = 'captures';

/** A custody event whose time is that of the record it comes with. */
export type CustodyNote = Omit<CustodyEntry, 'at'> & { readonly at?: string };

export interface Draft {
  readonly state: Readonly<DraftState>;
  /**
   * Says it at once, and resolves when the vault has it. A vault that takes no more is logged once: the capture goes on, and
   * this agent can still seal it; only the next one could not.
   */
  note(change: Exclude<DraftChange, { kind: 'begun' }>, ...custody: CustodyNote[]): Promise<void>;
  remove(): Promise<void>;
}

export interface DraftParts {
  readonly vault: Vault;
  readonly now: () => number;
  readonly log: Logger;
}

export async function createDraft(parts: DraftParts, begun: Begun, ...custody: CustodyNote[]): Promise<Draft> {
  const record = recordOf(parts.now(), begun, custody);
  const file = new DraftFile(parts, beginDraft(record));
  await file.append(record);
  return file;
}

/** What earlier agents left. A draft that cannot be read is left where it is, and said. */
export async function readDrafts(parts: DraftParts): Promise<Draft[]> {
  const drafts: Draft[] = [];
  for (const name of await parts.vault.list(FOLDER)) {
    try {
      const state = readDraft(await parts.vault.records(name));
      if (name !== fileOf(state.captureId)) throw new Error('it speaks of another capture');
      drafts.push(new DraftFile(parts, state));
    } catch (error) {
      parts.log.error({ draft: name, error: explain(error) }, 'draft set aside: its capture stays unsealed');
    }
  }
  return drafts;
}

const fileOf = (captureId: string): string => `${FOLDER}/${captureId}`;

function recordOf(nowMs: number, change: DraftChange, custody: readonly CustodyNote[]): DraftRecord {
  const at = new Date(nowMs).toISOString();
  return { at, change, custody: custody.map((entry) => ({ at, ...entry })) };
}

class DraftFile implements Draft {
  readonly state: DraftState;
  readonly #parts: DraftParts;
  /** Nothing is appended any more: after a record that could not be, or because the draft is gone. */
  #closed = false;
  #last: Promise<void> = Promise.resolve();

  constructor(parts: DraftParts, state: DraftState) {
    this.#parts = parts;
    this.state = state;
  }

  note(change: Exclude<DraftChange, { kind: 'begun' }>, ...custody: CustodyNote[]): Promise<void> {
    const record = recordOf(this.#parts.now(), change, custody);
    applyRecord(this.state, record);
    return this.append(record);
  }

  append(record: DraftRecord): Promise<void> {
    this.#last = this.#last.then(() => this.#append(record));
    return this.#last;
  }

  async #append(record: DraftRecord): Promise<void> {
    if (this.#closed) return;
    const { captureId } = this.state;
    try {
      await this.#parts.vault.append(fileOf(captureId), record);
    } catch (error) {
      this.#closed = true;
      this.#parts.log.error({ captureId, error: explain(error) }, 'draft not written: only this agent can seal it');
    }
  }

  /** A record that is on its way must not make the file anew. */
  async remove(): Promise<void> {
    this.#closed = true;
    await this.#last;
    await this.#parts.vault.remove(fileOf(this.state.captureId));
  }
}
