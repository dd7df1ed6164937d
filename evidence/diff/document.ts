import { z } from 'zod';
import { FACT_KINDS, type FactKind, factsAboutSchema, fieldsSchema, kindsOf, unpackFields } from '../facts/facts.ts';
import { list } from '../list-schema.ts';
import { changesOf, type Diff, type Item, type KindDiff } from './compare.ts';
import { byWeight, REMARK_REASONS, REMARK_SEVERITIES, type Remark, remarksOf } from './remarks.ts';

/** Differences as JSON: the body of `changes.json` and of `exhibit diff --json`. */

/** The version of both documents. Fields may be added without another. */
export const DIFF_VERSION = 1;

const scalar = z.union([z.string(), z.number(), z.boolean()]);
const count = z.number().int().nonnegative();
const itemSchema = z.strictObject({ key: z.string(), fields: fieldsSchema });
const changedSchema = itemSchema.extend({
  /** `before` and `after` of one value; of a list, what is `new` and `gone` in it. */
  changes: list(
    z.union([
      z.strictObject({ field: z.string(), before: scalar, after: scalar }),
      z.strictObject({ field: z.string(), new: list(scalar), gone: list(scalar) }),
    ]),
  ),
});

const COUNTED = ['new', 'gone', 'changed', 'perhapsNew', 'perhapsGone'] as const;

const kindSchema = z.strictObject({
  /** `no`: one side does not say. `partly`: one side may have had more than it says. */
  comparable: z.enum(['yes', 'partly', 'no']),
  /** Sentences of each side. */
  why: z.strictObject({ before: list(z.string()), after: list(z.string()) }),
  /** All of them; a list may stop before. */
  counts: z.strictObject({ new: count, gone: count, changed: count, perhapsNew: count, perhapsGone: count }),
  new: list(itemSchema),
  gone: list(itemSchema),
  changed: list(changedSchema),
  perhapsNew: list(itemSchema),
  perhapsGone: list(itemSchema),
});
export type KindDocument = z.infer<typeof kindSchema>;

const remarkSchema = z.strictObject({
  severity: z.enum(REMARK_SEVERITIES),
  reason: z.enum(Object.keys(REMARK_REASONS) as (keyof typeof REMARK_REASONS)[]),
  kind: z.enum(FACT_KINDS),
  key: z.string(),
  perhaps: z.literal(true).optional(),
});

export const diffSchema = z.strictObject({
  before: factsAboutSchema,
  after: factsAboutSchema,
  remarks: z.strictObject({
    counts: z.strictObject({ high: count, medium: count, low: count }),
    list: list(remarkSchema),
  }),
  /** All of them, but where somebody asked for some only. */
  kinds: z.strictObject(kindsOf(() => kindSchema.optional())),
});
export type DiffDocument = z.infer<typeof diffSchema>;

/** `changes.json` in a bundle: what differs between its capture and the last good snapshot of the same workload. */
export const changesSchema = z.strictObject({
  version: z.literal(DIFF_VERSION),
  captureId: z.string(),
  /** By which an agent knows the workload again: `["prod","web","app","registry/shop:1"]`. */
  workload: list(z.string()),
  /** Why there is nothing to compare with. */
  why: z.string().optional(),
  /** Absent where there was nothing to compare with. */
  diff: diffSchema.optional(),
});
export type Changes = z.infer<typeof changesSchema>;

export interface DiffLimits {
  /** Things listed of one list of one kind. */
  readonly items: number;
  /** Characters of one kind's things, as JSON. */
  readonly characters: number;
}

/** `changes.json` is read by people and by programs of a node: 3.5 MiB at most, and usually some KiB. */
export const CHANGES_LIMITS: DiffLimits = { items: 500, characters: 512 * 1024 };

/** Lists begin with what is conspicuous, and stop at the limits; the counts are of all. */
export function diffDocument(diff: Diff, limits: DiffLimits, only: readonly FactKind[] = FACT_KINDS): DiffDocument {
  const remarks = remarksOf(diff, only);
  const { before, after } = diff;
  const kinds = Object.fromEntries(
    only.map((kind) => [kind, kindDocument(diff.kinds[kind], weightsIn(remarks.list, kind), limits)]),
  );
  return { before: before.about, after: after.about, remarks: { ...remarks, list: [...remarks.list] }, kinds };
}

function weightsIn(remarks: readonly Remark[], kind: FactKind): ReadonlyMap<string, number> {
  const weights = new Map<string, number>();
  for (const one of remarks) {
    if (one.kind === kind && !weights.has(one.key)) weights.set(one.key, REMARK_SEVERITIES.indexOf(one.severity));
  }
  return weights;
}

function kindDocument(kind: KindDiff, weights: ReadonlyMap<string, number>, limits: DiffLimits): KindDocument {
  let characters = 0;
  const listed = <From extends { key: string }, To>(from: readonly From[], make: (one: From) => To): To[] => {
    const items: To[] = [];
    for (const one of from.toSorted(byWeight(weights))) {
      if (items.length >= limits.items) break;
      const item = make(one);
      characters += JSON.stringify(item).length;
      if (characters > limits.characters) break;
      items.push(item);
    }
    return items;
  };
  const plain = ({ key, packed }: Item) => ({ key, fields: fieldsSchema.parse(unpackFields(packed)) });
  const counts = Object.fromEntries(COUNTED.map((name) => [name, kind[name].length])) as KindDocument['counts'];
  return {
    comparable: kind.comparable,
    why: { before: [...kind.why.before], after: [...kind.why.after] },
    counts,
    new: listed(kind.new, plain),
    changed: listed(kind.changed, (item) => ({
      ...plain({ key: item.key, packed: item.after }),
      changes: changesOf(item).map((change) =>
        'new' in change ? { ...change, new: [...change.new], gone: [...change.gone] } : change,
      ),
    })),
    gone: listed(kind.gone, plain),
    perhapsNew: listed(kind.perhapsNew, plain),
    perhapsGone: listed(kind.perhapsGone, plain),
  };
}
