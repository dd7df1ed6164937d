import { createHash } from 'node:crypto';
import { ExhibitError, explain } from '../../evidence/error.ts';
import { type MemoryRoom, memoryRoom } from '../host/memory-room.ts';
import { applyNote, beginState, type LedgerState, type Note, type Opened, parseNote } from './s3-ledger.ts';
import { chooseVictims, spoolLimit, type Waiting } from './spool-room.ts';
import type { Vault } from './vault.ts';

const LEDGERS = 'objects';
const NOTES = 'notes';
/** Asking for free memory reads a dozen files; parts come every few milliseconds. */
const ROOM_AGE_MS = 500;
/** Nothing else bounds a spool that was given no bound. */
const DEFAULT_SPOOL_BYTES = 512 * 2 ** 20;

export interface SpoolLog {
  warn(fields: object, event: string): void;
}

/** The notes on one object, and those of its parts whose bytes are in the vault. Without a vault it only remembers. */
export class Ledger {
  readonly folder: string;
  readonly state: LedgerState;
  /** Parts with their bytes in the vault. */
  readonly kept = new Set<number>();
  /** Those of them that are on their way: their writer still has the bytes, and nothing is gained by giving them up. */
  readonly underWay = new Set<number>();
  /** Somebody in this process is still writing it. */
  active = false;
  readonly #vault: Vault | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(folder: string, state: LedgerState, vault: Vault | undefined) {
    this.folder = folder;
    this.state = state;
    this.#vault = vault;
  }

  /** False when nothing of it is in a vault. */
  get lasting(): boolean {
    return this.#vault !== undefined;
  }

  /** What was noted holds in this process even when the vault could not take it. Throws what the file system says. */
  async note(note: Note): Promise<void> {
    applyNote(this.state, note);
    await this.#vault?.append(`${this.folder}/${NOTES}`, note);
  }

  async keep(number: number, bytes: Uint8Array): Promise<void> {
    await this.#vault?.write(this.#part(number), bytes);
    this.kept.add(number);
  }

  /** Undefined for what was dropped in the meantime. */
  async bytesOf(number: number): Promise<Buffer | undefined> {
    return this.kept.has(number) ? await this.#vault?.read(this.#part(number)) : undefined;
  }

  async discard(number: number): Promise<void> {
    if (!this.kept.delete(number)) return;
    await this.#vault?.remove(this.#part(number));
  }

  async discardAll(): Promise<void> {
    for (const number of [...this.kept]) await this.discard(number);
  }

  /** One after the other: two at once would send and complete the same twice. */
  inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  #part(number: number): string {
    return `${this.folder}/${number}`;
  }
}

/** What all sinks of an agent share: the ledgers in one vault, and one bound on what it holds. */
export class Spool {
  readonly vault: Vault;
  readonly #limitBytes: number;
  readonly #memory: () => Promise<MemoryRoom>;
  readonly #log: SpoolLog | undefined;
  readonly #ledgers = new Map<string, Ledger>();
  readonly #unreadable = new Map<string, unknown>();
  #loaded: Promise<void> | undefined;
  /** Nothing in it waits for more than the file system. */
  #turn: Promise<unknown> = Promise.resolve();
  #room: { readonly atMs: number; readonly memory: Promise<MemoryRoom> } | undefined;

  constructor(vault: Vault, limitBytes: number, memory: () => Promise<MemoryRoom>, log?: SpoolLog) {
    this.vault = vault;
    this.#limitBytes = limitBytes;
    this.#memory = memory;
    this.#log = log;
  }

  /**
   * Throws `sink-exists` for a key that has a ledger already. A vault that cannot be written keeps nobody from writing to S3:
   * then the ledger is not lasting.
   */
  async begin(sinkName: string, opened: Opened): Promise<Ledger> {
    await this.#load();
    const folder = folderOf(sinkName, opened.key);
    if (this.#ledgers.has(folder) || this.#unreadable.has(folder)) {
      throw new ExhibitError('sink-exists', `${opened.key} was written before, and evidence is never overwritten`);
    }
    const ledger = new Ledger(folder, beginState(opened), this.vault);
    this.#ledgers.set(folder, ledger);
    try {
      await ledger.note(opened);
    } catch (error) {
      this.#unwritable(error);
      await this.remove(ledger).catch(() => undefined);
      return new Ledger(folder, beginState(opened), undefined);
    }
    return ledger;
  }

  /** Throws `bundle-corrupt` for notes that cannot be read. */
  async find(sinkName: string, key: string): Promise<Ledger | undefined> {
    await this.#load();
    const folder = folderOf(sinkName, key);
    if (this.#unreadable.has(folder)) throw this.#unreadable.get(folder);
    return this.#ledgers.get(folder);
  }

  async all(sinkName: string): Promise<Ledger[]> {
    await this.#load();
    return [...this.#ledgers.values()].filter(({ folder }) => folder.startsWith(`${LEDGERS}/${sinkName}/`));
  }

  async remove(ledger: Ledger): Promise<void> {
    if (!ledger.lasting) return;
    ledger.kept.clear();
    await this.vault.remove(ledger.folder);
    this.#ledgers.delete(ledger.folder);
  }

  /**
   * Keeps a part. Where there is no room less volatile bytes are given up for it, unless it is only written `ahead` of being
   * sent. False when there is still none, or the vault cannot be written.
   */
  async keep(ledger: Ledger, number: number, bytes: Uint8Array, { ahead }: { ahead: boolean }): Promise<boolean> {
    if (!ledger.lasting) return false;
    // One at a time: of two that do not both fit, the one that asked first is there, whole.
    return await this.#inTurn(async () => {
      await this.#load();
      if (ledger.kept.has(number)) return true;
      const missingBytes = bytes.length - (await this.#roomBytes());
      if (missingBytes > 0 && (ahead || !(await this.#giveUp(ledger, missingBytes)))) return false;
      if (await this.#write(ledger, number, bytes)) return true;
      // A file system that is full is a spool that is full.
      return !ahead && (await this.#giveUp(ledger, bytes.length)) && (await this.#write(ledger, number, bytes));
    });
  }

  async #write(ledger: Ledger, number: number, bytes: Uint8Array): Promise<boolean> {
    try {
      await ledger.keep(number, bytes);
      return true;
    } catch (error) {
      this.#unwritable(error);
      return false;
    }
  }

  #unwritable(error: unknown): void {
    this.#log?.warn({ error: explain(error) }, 'the spool cannot be written');
  }

  async #roomBytes(): Promise<number> {
    const { usedBytes, inMemory } = this.vault;
    return spoolLimit(this.#limitBytes, usedBytes, inMemory ? await this.#memoryNow() : undefined) - usedBytes;
  }

  /** Drops what is less volatile than the ledger's object. False, and nothing dropped, where that is too little. */
  async #giveUp(ledger: Ledger, neededBytes: number): Promise<boolean> {
    const victims = chooseVictims(this.#waiting(), { volatility: volatilityOf(ledger) }, neededBytes);
    for (const { of, number, sizeBytes } of victims ?? []) {
      await of.discard(number);
      const { key } = of.state.opened;
      this.#log?.warn({ key, part: number, sizeBytes }, 'waiting evidence dropped for more volatile evidence');
      // Without the note the part is as missing, only less is known of the reason.
      await of.note({ kind: 'dropped', number }).catch(() => undefined);
    }
    return victims !== undefined;
  }

  *#waiting(): Generator<Waiting & { readonly of: Ledger }> {
    for (const ledger of this.#ledgers.values()) {
      for (const number of ledger.kept) {
        if (ledger.underWay.has(number)) continue;
        const sizeBytes = ledger.state.parts[number - 1]?.sizeBytes ?? 0;
        const startedAtMs = ledger.state.opened.about?.startedAtMs ?? 0;
        yield { of: ledger, folder: ledger.folder, number, sizeBytes, startedAtMs, volatility: volatilityOf(ledger) };
      }
    }
  }

  #memoryNow(): Promise<MemoryRoom> {
    const atMs = Date.now();
    if (this.#room === undefined || atMs - this.#room.atMs > ROOM_AGE_MS) this.#room = { atMs, memory: this.#memory() };
    return this.#room.memory;
  }

  #inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  /** What earlier agents left, of every sink: it takes room, and may be given up. */
  #load(): Promise<void> {
    this.#loaded ??= this.#readAll();
    return this.#loaded;
  }

  async #readAll(): Promise<void> {
    const byFolder = Map.groupBy(await this.vault.list(LEDGERS), (name) => name.slice(0, name.lastIndexOf('/')));
    for (const [folder, names] of byFolder) {
      try {
        const [first, ...notes] = (await this.vault.records(`${folder}/${NOTES}`)).map(parseNote);
        if (first?.kind !== 'opened') {
          // Killed before the first note was whole: nothing had been sent.
          await this.vault.remove(folder);
          continue;
        }
        const ledger = new Ledger(folder, beginState(first), this.vault);
        for (const note of notes) applyNote(ledger.state, note);
        for (const name of names) {
          const number = Number(name.slice(folder.length + 1));
          if (Number.isSafeInteger(number)) ledger.kept.add(number);
        }
        this.#ledgers.set(folder, ledger);
      } catch (error) {
        this.#unreadable.set(folder, error);
        this.#log?.warn({ folder, error: explain(error) }, 'notes in the spool cannot be read');
      }
    }
  }
}

/** Without a capture it is the agent's own, and kept longest. */
function volatilityOf({ state }: Ledger): number {
  return state.opened.about?.volatility ?? 0;
}

/** By a digest of the key: keys may be as long as a whole name here, and one may be a folder of another. */
function folderOf(sinkName: string, key: string): string {
  return `${LEDGERS}/${sinkName}/${createHash('sha256').update(key).digest('hex')}`;
}

const spools = new WeakMap<Vault, Spool>();

/** The one spool of a vault: sinks that share a vault share the bound. The first one's bound is taken. */
export function spoolOf(vault: Vault, options: { limitBytes?: number | undefined; log?: SpoolLog | undefined }): Spool {
  const known = spools.get(vault);
  if (known !== undefined) return known;
  const spool = new Spool(vault, options.limitBytes ?? DEFAULT_SPOOL_BYTES, () => memoryRoom(), options.log);
  spools.set(vault, spool);
  return spool;
}
