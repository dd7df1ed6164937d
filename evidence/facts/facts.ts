import { createHash } from 'node:crypto';
import { z } from 'zod';

/**
 * What a bundle says, in a form that can be compared with another bundle's: for each kind of thing a map from what makes a
 * thing the same thing in both (a path, a port, a name) to what may change about it. Values are kept as text, so that a
 * million files are a million short strings.
 */

export const FACT_KINDS = ['processes', 'ports', 'peers', 'files', 'libraries', 'users', 'modules'] as const;
export type FactKind = (typeof FACT_KINDS)[number];

const scalarSchema = z.union([z.string(), z.number(), z.boolean()]);
/** A list is a set: sorted, each value once. What is not known has no field, and is never a difference. */
export const fieldsSchema = z.record(z.string(), z.union([scalarSchema, z.array(scalarSchema)]));
export type Fields = Readonly<Record<string, Value>>;
export type Value = Scalar | readonly Scalar[];
export type Scalar = string | number | boolean;

export interface KindFacts {
  /**
   * `known`: all there was. `partial`: what is here was there, and there may have been more. `unknown`: the bundle does not say.
   */
  readonly state: 'known' | 'partial' | 'unknown';
  /** Sentences: why it is not `known`, and what else a reader should know. */
  readonly why: readonly string[];
  /** Fields as JSON with sorted keys, by the key of the thing; empty where the state is `unknown`. */
  readonly entries: ReadonlyMap<string, string>;
}

/** Where the facts are from. */
export const factsAboutSchema = z.strictObject({
  captureId: z.string(),
  /** When the capture began, RFC 3339. */
  at: z.string(),
  cluster: z.string(),
  node: z.string(),
  /** For people: `prod/web-0/web`. */
  target: z.string(),
  image: z.strictObject({ name: z.string(), id: z.string() }).optional(),
  outcome: z.string(),
});
export type FactsAbout = z.infer<typeof factsAboutSchema>;

export interface Facts {
  readonly about: FactsAbout;
  readonly kinds: Readonly<Record<FactKind, KindFacts>>;
}

export interface FactsLimits {
  /** Things of one kind. */
  readonly entries: number;
  /** Characters of the keys and values of one kind. */
  readonly characters: number;
}

/** Of the files of a bundle at rest: a million files in one writable layer, some 300 bytes of memory each. */
export const FACTS_LIMITS: FactsLimits = { entries: 1_000_000, characters: 256 * 1024 * 1024 };

/** Of any other kind, where that is the limit for files: all of them together are less than half of the files. */
export function limitsOfOthers({ entries, characters }: FactsLimits): FactsLimits {
  return { entries: Math.floor(entries / 4), characters: Math.floor(characters / 16) };
}

/** Texts of the evidence are cut here: a path may have 32 KiB, a command line 128 KiB. */
const MAX_TEXT_CHARACTERS = 1024;
/** Longer keys are told from each other by their digest; a path has 4,096 bytes as a rule. */
const MAX_KEY_CHARACTERS = 4096;
/** Values of one list; the first in their order are kept. */
const MAX_VALUES = 64;

export function cutText(text: string): string {
  if (text.length <= MAX_TEXT_CHARACTERS) return text;
  // Half of a surrogate pair is no text.
  return `${text.slice(0, MAX_TEXT_CHARACTERS).replace(/[\ud800-\udbff]$/, '')}…`;
}

/** The values once each, in their order. */
export function sortedSet<Of extends Scalar>(values: Iterable<Of>): Of[] {
  return [...new Set(values)].sort((a, b) => compareText(String(a), String(b)));
}

/** By UTF-16 code unit, as sorted keys in JSON are. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

export function packFields(fields: Readonly<Record<string, Value | undefined>>): string {
  const names = Object.keys(fields)
    .filter((name) => fields[name] !== undefined)
    .sort();
  return JSON.stringify(Object.fromEntries(names.map((name) => [name, fields[name]])));
}

export function unpackFields(packed: string): Fields {
  return JSON.parse(packed) as Fields;
}

/** What is gathered of one kind, until it is whole or a limit is reached. */
export interface FactsBuilder {
  /** Of a thing that comes again lists are joined, and `count` counts on; of other fields the first value stays. */
  add(key: string, fields: Readonly<Record<string, Value | undefined>>): void;
  /** Something of this kind may be missing; said once for each sentence. */
  incomplete(why: string): void;
  note(why: string): void;
  build(): KindFacts;
}

/** More sentences than a person reads. */
const MAX_SENTENCES = 20;

export function createFactsBuilder(limits: FactsLimits): FactsBuilder {
  const entries = new Map<string, string>();
  const missing = new Set<string>();
  const notes = new Set<string>();
  let characters = 0;
  const say = (to: Set<string>, why: string) => {
    if (to.size < MAX_SENTENCES) to.add(cutText(why));
  };
  return {
    add(given, fields) {
      const key = cutKey(given);
      const before = entries.get(key);
      const packed = packFields(before === undefined ? bounded(fields) : bounded(joined(unpackFields(before), fields)));
      const more = packed.length - (before === undefined ? -key.length : before.length);
      if (before === undefined && entries.size >= limits.entries) {
        say(missing, `only the first ${limits.entries} are looked at`);
        return;
      }
      if (characters + more > limits.characters) {
        say(missing, `only the first ${limits.characters} characters of them are looked at`);
        return;
      }
      characters += more;
      entries.set(key, packed);
    },
    incomplete: (why) => say(missing, why),
    note: (why) => say(notes, why),
    build: () => ({ state: missing.size === 0 ? 'known' : 'partial', why: [...missing, ...notes], entries }),
  };
}

function cutKey(key: string): string {
  if (key.length <= MAX_KEY_CHARACTERS) return key;
  return `${key.slice(0, MAX_KEY_CHARACTERS)}… sha256:${createHash('sha256').update(key).digest('hex')}`;
}

export function unknownFacts(why: string): KindFacts {
  return { state: 'unknown', why: [cutText(why)], entries: new Map() };
}

function joined(before: Fields, more: Readonly<Record<string, Value | undefined>>): Record<string, Value | undefined> {
  const fields: Record<string, Value | undefined> = { ...more, ...before };
  for (const [name, value] of Object.entries(more)) {
    const known = before[name];
    if (Array.isArray(known) && Array.isArray(value)) fields[name] = [...known, ...value];
  }
  if (typeof before.count === 'number' && typeof more.count === 'number') fields.count = before.count + more.count;
  return fields;
}

function bounded(fields: Readonly<Record<string, Value | undefined>>): Record<string, Value | undefined> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => {
      if (typeof value === 'string') return [name, cutText(value)];
      if (!Array.isArray(value)) return [name, value];
      const values: Scalar[] = value.map((one: Scalar) => (typeof one === 'string' ? cutText(one) : one));
      return [name, sortedSet(values).slice(0, MAX_VALUES)];
    }),
  );
}

const kindSchema = z.strictObject({
  state: z.enum(['known', 'partial', 'unknown']),
  why: z.array(z.string()),
  entries: z.array(z.tuple([z.string(), z.string()])),
});
const storedSchema = z.strictObject({
  version: z.literal(1),
  about: factsAboutSchema,
  kinds: z.strictObject(kindsOf(() => kindSchema)),
});

/** To be kept and read again by `parseFacts` of the same agent or a later one. */
export function serialiseFacts({ about, kinds }: Facts): string {
  const plain = Object.fromEntries(
    FACT_KINDS.map((kind) => [kind, { ...kinds[kind], entries: [...kinds[kind].entries] }]),
  );
  return JSON.stringify({ version: 1, about, kinds: plain });
}

/** Undefined for what is not facts, or facts of another version. */
export function parseFacts(text: string): Facts | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const parsed = storedSchema.safeParse(value);
  if (!parsed.success) return undefined;
  const { about, kinds } = parsed.data;
  return { about, kinds: kindsOf((kind) => ({ ...kinds[kind], entries: new Map(kinds[kind].entries) })) };
}

export function kindsOf<Of>(make: (kind: FactKind) => Of): Record<FactKind, Of> {
  return {
    processes: make('processes'),
    ports: make('ports'),
    peers: make('peers'),
    files: make('files'),
    libraries: make('libraries'),
    users: make('users'),
    modules: make('modules'),
  };
}
