import { createHash } from 'node:crypto';
import type { Committed, OpenOptions, Settled, Sink, SinkObject } from '../../../agent/sink/sink.ts';
import { ExhibitError } from '../../../evidence/error.ts';

/**
 * A sink in memory that keeps the port's promises with faults to order: away, full, dead in the middle of an object. What it
 * knows of objects under way outlives an agent, as a ledger in the vault does.
 */
export class SpoolingSink implements Sink {
  readonly url: string;
  /** What anybody sees. */
  readonly stored = new Map<string, Buffer>();
  /** Not answered for yet, until `forget`. */
  readonly ledger = new Map<string, Ledger>();
  /** While set, nothing is taken: it waits. */
  away = false;
  /** Objects (by the last part of their key) whose write finds the spool full after so many bytes. */
  readonly fullAfter = new Map<string, number>();
  /** Objects that fail at once, with no spool. */
  readonly failing = new Set<string>();
  /** Of those that wait: so many bytes survive. 0 is lost. */
  readonly cutTo = new Map<string, number>();
  /** Every call, in order. */
  readonly calls: string[] = [];
  #dead = 0;

  constructor(url = 'mem://one') {
    this.url = url;
  }

  /** The agent is gone: objects that were open stay half written, for whoever settles them. */
  kill(): void {
    this.#dead += 1;
  }

  /** The sink as one agent has it, which does nothing more once that was killed. */
  ofAgent(): Sink {
    const born = this.#dead;
    const alive = async <T>(step: () => Promise<T>): Promise<T> =>
      born === this.#dead ? await step() : await new Promise<never>(() => undefined);
    return {
      url: this.url,
      check: () => this.check(),
      rights: () => this.rights(),
      open: (key, options) =>
        alive(async () => {
          const object = await this.open(key, options);
          return {
            write: (chunk) => alive(() => object.write(chunk)),
            commit: () => alive(() => object.commit()),
            [Symbol.asyncDispose]: () => alive(async () => object[Symbol.asyncDispose]()),
          };
        }),
      settle: (key, signal) => alive(() => this.settle(key, signal)),
      forget: (key) => alive(() => this.forget(key)),
      describe: () => this.describe(),
      [Symbol.asyncDispose]: async () => undefined,
    };
  }

  async check(): Promise<void> {}

  async rights(): Promise<never> {
    throw new Error('not asked here');
  }

  async open(key: string, options: OpenOptions): Promise<SinkObject> {
    options.signal.throwIfAborted();
    const name = key.split('/').at(-1) ?? '';
    this.calls.push(`open ${name}`);
    if (this.failing.has(name)) throw new ExhibitError('sink-failed', `${name} is refused`);
    if (this.stored.has(key)) throw new ExhibitError('sink-exists', `${key} exists`);
    const ledger: Ledger = { chunks: [], state: 'open' };
    this.ledger.set(key, ledger);
    return this.#object(key, name, ledger);
  }

  #object(key: string, name: string, ledger: Ledger): SinkObject {
    return {
      write: async (chunk) => {
        const sizeBytes = ledger.chunks.reduce((total, { length }) => total + length, 0);
        const room = this.fullAfter.get(name) ?? Number.POSITIVE_INFINITY;
        ledger.chunks.push(Buffer.from(chunk.subarray(0, Math.max(0, room - sizeBytes))));
        if (sizeBytes + chunk.length <= room) return;
        ledger.state = 'cut';
        throw new ExhibitError('spool-full', `no room for ${name}`);
      },
      commit: async (): Promise<Committed> => {
        if (this.stored.has(key)) throw new ExhibitError('sink-exists', `${key} exists`);
        ledger.state = this.away ? 'waiting' : 'stored';
        if (this.away) return 'waiting';
        this.stored.set(key, Buffer.concat(ledger.chunks));
        return 'stored';
      },
      [Symbol.asyncDispose]: async () => {
        if (ledger.state === 'open') this.ledger.delete(key);
      },
    };
  }

  async settle(key: string, signal: AbortSignal): Promise<Settled> {
    signal.throwIfAborted();
    const name = key.split('/').at(-1) ?? '';
    this.calls.push(`settle ${name}`);
    if (this.away) throw new ExhibitError('sink-failed', 'the sink is away');
    const ledger = this.ledger.get(key);
    if (ledger === undefined) return { kind: 'lost', why: 'nothing is known of it' };
    if (ledger.settled !== undefined) return ledger.settled;
    ledger.settled = this.#end(key, name, ledger);
    return ledger.settled;
  }

  #end(key: string, name: string, { chunks, state }: Ledger): Settled {
    if (state === 'stored') return { kind: 'stored' };
    const all = Buffer.concat(chunks);
    const kept =
      state === 'waiting'
        ? (this.cutTo.get(name) ?? all.length)
        : Math.min(all.length, this.cutTo.get(name) ?? all.length);
    if (state === 'waiting' && kept === all.length) {
      this.stored.set(key, all);
      return { kind: 'stored' };
    }
    const bytes = all.subarray(0, kept);
    if (bytes.length === 0) return { kind: 'lost', why: 'none of its parts was sent' };
    this.stored.set(key, bytes);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    return { kind: 'cut', sizeBytes: bytes.length, sha256, why: 'the rest was not kept' };
  }

  /** Of an object that is under way. */
  heldBytes(key: string): number {
    return this.ledger.get(key)?.chunks.reduce((total, { length }) => total + length, 0) ?? 0;
  }

  async forget(key: string): Promise<void> {
    this.ledger.delete(key);
  }

  describe(): { url: string } {
    return { url: this.url };
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

interface Ledger {
  readonly chunks: Buffer[];
  state: 'open' | 'cut' | 'waiting' | 'stored';
  settled?: Settled;
}
