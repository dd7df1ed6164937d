import {
  compareText,
  FACT_KINDS,
  type FactKind,
  type Facts,
  type Fields,
  type KindFacts,
  kindsOf,
  packFields,
  type Scalar,
  unpackFields,
  type Value,
} from '../facts/facts.ts';
import { processKey } from '../facts/processes.ts';

/**
 * Two bundles' facts, compared. Pure and symmetrical: with before and after changed places, `new` and `gone` are, and nothing
 * else is. What one side does not know is never called new, gone or changed for sure.
 */
export interface Diff {
  readonly before: Facts;
  readonly after: Facts;
  readonly kinds: Readonly<Record<FactKind, KindDiff>>;
}

export interface KindDiff {
  /** `no`: one side does not say. `partly`: one side may have had more than it says. */
  readonly comparable: 'yes' | 'partly' | 'no';
  readonly why: { readonly before: readonly string[]; readonly after: readonly string[] };
  readonly new: readonly Item[];
  readonly gone: readonly Item[];
  readonly changed: readonly ChangedItem[];
  /** After only, where before may have had it and did not say. */
  readonly perhapsNew: readonly Item[];
  readonly perhapsGone: readonly Item[];
}

export interface Item {
  readonly key: string;
  /** Fields as JSON (facts.ts). */
  readonly packed: string;
}

export interface ChangedItem {
  readonly key: string;
  readonly before: string;
  readonly after: string;
}

/** How a field changed; of a list, what came and went. */
export type Change =
  | { readonly field: string; readonly before: Scalar; readonly after: Scalar }
  | { readonly field: string; readonly new: readonly Scalar[]; readonly gone: readonly Scalar[] };

export function compare(before: Facts, after: Facts): Diff {
  const kinds = kindsOf((kind) => {
    const sides = kind === 'processes' ? alignDigests(before.kinds[kind], after.kinds[kind]) : undefined;
    return compareKind(sides?.before ?? before.kinds[kind], sides?.after ?? after.kinds[kind]);
  });
  return { before, after, kinds };
}

/** Whether anything of these kinds differs for sure. */
export function differs({ kinds }: Diff, only: readonly FactKind[] = FACT_KINDS): boolean {
  return only.some((kind) => {
    const diff = kinds[kind];
    return diff.new.length + diff.gone.length + diff.changed.length > 0;
  });
}

/** In the order of the fields' names; only of fields that both sides know. */
export function changesOf({ before, after }: Pick<ChangedItem, 'before' | 'after'>): Change[] {
  const [old, now] = [unpackFields(before), unpackFields(after)];
  return Object.keys(old)
    .filter((field) => Object.hasOwn(now, field))
    .flatMap((field) => changeOf(field, old[field], now[field]));
}

function changeOf(field: string, before: Value | undefined, after: Value | undefined): Change[] {
  if (isList(before) && isList(after)) {
    const [old, now] = [new Set(before), new Set(after)];
    const [came, went] = [after.filter((one) => !old.has(one)), before.filter((one) => !now.has(one))];
    return came.length + went.length === 0 ? [] : [{ field, new: came, gone: went }];
  }
  if (before === undefined || after === undefined || isList(before) || isList(after) || before === after) return [];
  return [{ field, before, after }];
}

function isList(value: Value | undefined): value is readonly Scalar[] {
  return Array.isArray(value);
}

function compareKind(before: KindFacts, after: KindFacts): KindDiff {
  const why = { before: before.why, after: after.why };
  if (before.state === 'unknown' || after.state === 'unknown') {
    return { comparable: 'no', why, new: [], gone: [], changed: [], perhapsNew: [], perhapsGone: [] };
  }
  const came = only(after, before);
  const went = only(before, after);
  return {
    comparable: before.state === 'known' && after.state === 'known' ? 'yes' : 'partly',
    why,
    ...(before.state === 'known' ? { new: came, perhapsNew: [] } : { new: [], perhapsNew: came }),
    ...(after.state === 'known' ? { gone: went, perhapsGone: [] } : { gone: [], perhapsGone: went }),
    changed: changedIn(before, after),
  };
}

function only(here: KindFacts, there: KindFacts): Item[] {
  const items: Item[] = [];
  for (const [key, packed] of here.entries) if (!there.entries.has(key)) items.push({ key, packed });
  return items.sort((a, b) => compareText(a.key, b.key));
}

function changedIn(before: KindFacts, after: KindFacts): ChangedItem[] {
  const items: ChangedItem[] = [];
  for (const [key, old] of before.entries) {
    const now = after.entries.get(key);
    if (now === undefined || now === old) continue;
    const item = { key, before: old, after: now };
    if (changesOf(item).length > 0) items.push(item);
  }
  return items.sort((a, b) => compareText(a.key, b.key));
}

/**
 * An executable whose digest one side does not know (it was over a bound, or gone) cannot be told from the same path with a
 * digest: all of that path are then one on both sides, without a digest.
 */
function alignDigests(before: KindFacts, after: KindFacts): { before: KindFacts; after: KindFacts } {
  const blurred = new Set<string>();
  for (const { entries } of [before, after]) {
    for (const [key, packed] of entries) {
      // With a digest the key is longer than the path.
      if (unpackFields(packed).executable === key) blurred.add(key);
    }
  }
  if (blurred.size === 0) return { before, after };
  return { before: blur(before, blurred), after: blur(after, blurred) };
}

function blur(facts: KindFacts, blurred: ReadonlySet<string>): KindFacts {
  const entries = new Map<string, string>();
  const together = new Map<string, Fields[]>();
  for (const [key, packed] of facts.entries) {
    const { sha256: _, ...fields } = unpackFields(packed);
    const path = String(fields.executable);
    if (blurred.has(path)) together.set(path, [...(together.get(path) ?? []), fields]);
    else entries.set(key, packed);
  }
  for (const [path, all] of together) entries.set(processKey(path, undefined), packFields(joinFields(all)));
  return { ...facts, entries };
}

/** Lists are joined, counts added; a field that they do not agree about is left out. */
function joinFields(all: readonly Fields[]): Fields {
  const names = new Set(all.flatMap((fields) => Object.keys(fields)));
  const joined: Record<string, Value> = {};
  for (const name of names) {
    const values = all.map((fields) => fields[name]);
    const [first] = values;
    if (name === 'count') joined[name] = values.reduce((sum: number, value) => sum + Number(value ?? 0), 0);
    else if (values.every(isList))
      joined[name] = [...new Set(values.flat())].sort((a, b) => compareText(String(a), String(b)));
    else if (first !== undefined && values.every((value) => value === first)) joined[name] = first;
  }
  return joined;
}
