import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import type { Committed, OpenOptions, Sink, SinkObject } from './sink.ts';

/** A sink by the name that the configuration gives it, and that a request may pick. */
export interface NamedSink {
  readonly name: string;
  readonly sink: Sink;
}

/** Those that a request names, in its order; all where it names none. Fails with `usage` for a name that there is not. */
export function pickSinks(sinks: readonly NamedSink[], names: readonly string[] | undefined): NamedSink[] {
  if (names === undefined) return [...sinks];
  const known = sinks.map(({ name }) => name);
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length > 0) throw unknownSink(unknown, known);
  return [...new Set(names)].flatMap((name) => sinks.filter((sink) => sink.name === name));
}

/** Of names that are none: they come from outside and may be anything. */
const SHOWN_NAMES = 5;
const SHOWN_CHARS = 60;

/** What to say of sinks that a request names and that the agent has not. */
export function unknownSink(unknown: readonly string[], known: readonly string[]): ExhibitError {
  const which = unknown
    .slice(0, SHOWN_NAMES)
    .map((name) => JSON.stringify(name.slice(0, SHOWN_CHARS)))
    .join(', ');
  return new ExhibitError(
    'usage',
    `There is no sink ${which} in the agent's configuration; choose among ${known.join(', ')}`,
  );
}

/** What became of an object in one sink. */
export type SinkOutcome = { readonly kind: Committed } | { readonly kind: 'failed'; readonly error: ExhibitError };

/**
 * One object in several sinks, from one read. A sink that fails is dropped: what it has of the object is disposed of, its
 * failure is told by `commit`, and the others go on.
 *
 * `write` and `commit` fail when no sink is left, and so does every later one. With several failures the code is that of the
 * one which leaves the most to do, `cancelled` before `spool-full` before `sink-failed` before `sink-exists`, and the message
 * names them all.
 */
export interface SeveralObject extends AsyncDisposable {
  /** Resolves when every sink has taken `chunk`, which is then the caller's again: the slowest gives the backpressure. */
  write(chunk: Uint8Array): Promise<void>;
  /** Where there is one sink alone: of several, no two need the digest at the same time. */
  readonly writeDigested?: SinkObject['writeDigested'];
  /** By the sinks' names, in their order; of at least one it says that it has the object. */
  commit(): Promise<ReadonlyMap<string, SinkOutcome>>;
}

/** Opens `key` in every sink. Fails, as a write does, when none of them opens it. */
export async function openSeveral(
  sinks: readonly NamedSink[],
  key: string,
  options: OpenOptions,
): Promise<SeveralObject> {
  const [only, ...more] = sinks;
  if (only === undefined) throw new ExhibitError('internal', `there is no sink to write ${key} to`);
  if (more.length === 0) return oneObject(only.name, await only.sink.open(key, options));
  const objects = new CopiedObject(key);
  await objects.open(sinks, options);
  return objects;
}

function oneObject(name: string, object: SinkObject): SeveralObject {
  return {
    write: (chunk) => object.write(chunk),
    writeDigested: object.writeDigested,
    commit: async () => new Map([[name, { kind: await object.commit() }]]),
    [Symbol.asyncDispose]: () => object[Symbol.asyncDispose](),
  };
}

class CopiedObject implements SeveralObject {
  readonly #key: string;
  readonly #live = new Map<string, SinkObject>();
  /** In the sinks' order; the failed of those that were dropped, what `commit` answered of the others. */
  readonly #outcomes = new Map<string, SinkOutcome | undefined>();
  /** The ends of those that were dropped: a server that is away must not keep the others waiting for its abort. */
  readonly #dropped: Promise<void>[] = [];

  constructor(key: string) {
    this.#key = key;
  }

  async open(sinks: readonly NamedSink[], options: OpenOptions): Promise<void> {
    for (const { name } of sinks) this.#outcomes.set(name, undefined);
    await Promise.all(
      sinks.map(async ({ name, sink }) => {
        try {
          this.#live.set(name, await sink.open(this.#key, options));
        } catch (error) {
          this.#outcomes.set(name, failed(error));
        }
      }),
    );
    this.#throwIfNoneLeft();
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#throwIfNoneLeft();
    await this.#eachLive((_, object) => object.write(chunk));
    this.#throwIfNoneLeft();
  }

  async commit(): Promise<ReadonlyMap<string, SinkOutcome>> {
    this.#throwIfNoneLeft();
    await this.#eachLive(async (name, object) => {
      this.#outcomes.set(name, { kind: await object.commit() });
    });
    await Promise.all(this.#dropped);
    this.#throwIfNoneLeft();
    return this.#told();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await using stack = new AsyncDisposableStack();
    for (const object of this.#live.values()) stack.use(object);
    await Promise.all(this.#dropped);
  }

  /** The step in all sinks at once; settled in all of them when it resolves, since `chunk` is lent to every one. */
  async #eachLive(step: (name: string, object: SinkObject) => Promise<void>): Promise<void> {
    const steps = [...this.#live].map(async ([name, object]) => {
      try {
        await step(name, object);
      } catch (error) {
        this.#drop(name, object, error);
      }
    });
    await Promise.all(steps);
  }

  #drop(name: string, object: SinkObject, error: unknown): void {
    this.#live.delete(name);
    this.#outcomes.set(name, failed(error));
    this.#dropped.push(this.#takeBack(name, object, failed(error).error));
  }

  async #takeBack(name: string, object: SinkObject, { code, message, cause }: ExhibitError): Promise<void> {
    try {
      await object[Symbol.asyncDispose]();
    } catch (left) {
      const words = `${message}; and what was begun could not be taken back: ${explain(left)}`;
      this.#outcomes.set(name, failed(new ExhibitError(code, words, { cause })));
    }
  }

  #told(): Map<string, SinkOutcome> {
    const told = new Map<string, SinkOutcome>();
    for (const [name, outcome] of this.#outcomes) if (outcome !== undefined) told.set(name, outcome);
    return told;
  }

  #throwIfNoneLeft(): void {
    if (this.#live.size > 0) return;
    const failures = [...this.#told()].flatMap(([name, outcome]) =>
      outcome.kind === 'failed' ? [{ name, error: outcome.error }] : [],
    );
    const [first] = failures.toSorted((a, b) => rank(a.error) - rank(b.error));
    if (first === undefined) return;
    const words = failures.map(({ name, error }) => `${name}: ${error.message}`).join('; ');
    throw new ExhibitError(first.error.code, `no sink has ${this.#key}; ${words}`, { cause: first.error.cause });
  }
}

function failed(error: unknown): { kind: 'failed'; error: ExhibitError } {
  if (isExhibitError(error)) return { kind: 'failed', error };
  return { kind: 'failed', error: new ExhibitError('internal', 'the sink failed', { cause: error }) };
}

/** What is not of the sinks comes first: `cancelled`, and faults of our own. */
function rank({ code }: ExhibitError): number {
  return ['spool-full', 'sink-failed', 'sink-exists'].indexOf(code);
}
