import type { DiffDocument, KindDocument } from '../evidence/diff/document.ts';
import { REMARK_REASONS, type Remark } from '../evidence/diff/remarks.ts';
import { FACT_KINDS, type FactKind, type FactsAbout, type Fields, type Value } from '../evidence/facts/facts.ts';
import { type Block, code, type Document, type Inline } from './document.ts';
import { escapeText, formatCount, formatFields, formatTable, truncate } from './print.ts';

/** Differences for people: on a terminal, and as a document to be made a page of. Everything of the evidence is shown as it is. */

/** What was said of a bundle before it was compared. */
export interface DiffSide {
  readonly url: string;
  /** `not verified`, `INTACT`... */
  readonly verified: string;
}

export interface DiffWords {
  readonly before: DiffSide;
  readonly after: DiffSide;
  readonly diff: DiffDocument;
}

/** Of one list of one kind, on a terminal; `--json` has more. */
const MAX_SHOWN = 50;
const MAX_SHOWN_REMARKS = 50;
/** A thing is one line; what is cut is in the JSON. */
const MAX_LINE = 240;

const HOW = [
  ['new', '+'],
  ['gone', '-'],
  ['changed', '~'],
  ['perhapsNew', '+?'],
  ['perhapsGone', '-?'],
] as const;

export function describeDiff(words: DiffWords): string {
  const { before, after, diff } = words;
  const head = formatFields([
    ['before', sideWords(diff.before, before)],
    ['', before.url],
    ['after', sideWords(diff.after, after)],
    ['', after.url],
  ]);
  const kinds = kindsIn(diff);
  return [head, imageWords(diff), remarkWords(diff), ...kinds.map(kindWords)].filter((part) => part !== '').join('\n');
}

function sideWords({ captureId, at, target, outcome }: FactsAbout, { verified }: DiffSide): string {
  return `${verified}: ${captureId} of ${at}, ${target}${outcome === 'complete' ? '' : `, ${outcome}`}`;
}

/** What is compared with another image, or another container, differs for that reason. */
function imageWords({ before, after }: DiffDocument): string {
  const notes = notesOf(before, after);
  return notes.map((note) => `${escapeText(note)}\n`).join('');
}

function notesOf(before: FactsAbout, after: FactsAbout): string[] {
  const [old, now] = [before.image, after.image];
  if (old === undefined || now === undefined || old.id === now.id) return [];
  return [`the image is another one: ${old.name} (${old.id}) before, ${now.name} (${now.id}) after`];
}

function remarkWords({ remarks }: DiffDocument): string {
  const { counts, list } = remarks;
  if (list.length === 0) return '';
  const shown = list.slice(0, MAX_SHOWN_REMARKS);
  const total = counts.high + counts.medium + counts.low;
  const rows = shown.map((one) => [one.severity, reasonOf(one), one.kind, one.key]);
  const more = total > shown.length ? `${total - shown.length} more with --json\n` : '';
  const legend = formatFields(
    [...new Set(shown.map(({ reason }) => reason))].sort().map((one) => [one, REMARK_REASONS[one]]),
  );
  return `${formatTable(['SEVERITY', 'WHY', 'KIND', 'WHAT'], rows)}${more}\n${legend}`;
}

const reasonOf = ({ reason, perhaps }: Remark): string => (perhaps === true ? `${reason}?` : reason);

function kindsIn({ kinds }: DiffDocument): [FactKind, KindDocument][] {
  return FACT_KINDS.flatMap((kind): [FactKind, KindDocument][] => {
    const one = kinds[kind];
    return one === undefined ? [] : [[kind, one]];
  });
}

function kindWords([kind, one]: [FactKind, KindDocument]): string {
  const lines = HOW.flatMap(([how, mark]) => {
    const shown = one[how].slice(0, MAX_SHOWN).map((item) => `${mark} ${item.key}${detailsOf(item)}`);
    const hidden = one.counts[how] - shown.length;
    return hidden > 0 ? [...shown, `${mark} ${hidden} more, see --json`] : shown;
  });
  const said = [...whyLines(one), ...lines].map((line) => `  ${truncate(escapeText(line), MAX_LINE)}\n`);
  return `${kind}: ${countWords(one)}\n${said.join('')}`;
}

function countWords({ comparable, counts }: KindDocument): string {
  if (comparable === 'no') return 'NOT COMPARED';
  const parts = [
    ...(['new', 'gone', 'changed'] as const).filter((how) => counts[how] > 0).map((how) => `${counts[how]} ${how}`),
    ...(counts.perhapsNew > 0 ? [`${counts.perhapsNew} perhaps new`] : []),
    ...(counts.perhapsGone > 0 ? [`${counts.perhapsGone} perhaps gone`] : []),
  ];
  const words = parts.join(', ') || 'the same';
  return comparable === 'partly' ? `${words} (one side may have had more than it says)` : words;
}

function whyLines({ comparable, why }: KindDocument): string[] {
  const mark = comparable === 'yes' ? 'note, ' : '';
  return [...why.before.map((line) => `${mark}before: ${line}`), ...why.after.map((line) => `${mark}after: ${line}`)];
}

/** What the key does not say already. */
const IN_KEY: readonly string[] = [
  ...['executable', 'sha256', 'path', 'name', 'account', 'protocol', 'address', 'port', 'direction'],
];

function detailsOf(item: KindDocument['new'][number] | KindDocument['changed'][number]): string {
  const words = 'changes' in item ? item.changes.map(changeWords) : fieldWords(item.fields);
  return words.length === 0 ? '' : `: ${words.join('; ')}`;
}

function fieldWords(fields: Fields): string[] {
  return Object.entries(fields)
    .filter(([name, value]) => !IN_KEY.includes(name) && !isEmpty(value))
    .map(([name, value]) => `${name} ${valueWords(value)}`);
}

function isEmpty(value: Value): boolean {
  return value === false || (Array.isArray(value) && value.every((one) => one === ''));
}

function valueWords(value: Value): string {
  return Array.isArray(value) ? value.map((one) => JSON.stringify(one)).join(', ') : String(value);
}

function changeWords(change: KindDocument['changed'][number]['changes'][number]): string {
  if ('before' in change) return `${change.field} ${change.before} -> ${change.after}`;
  const came = change.new.map((one) => `+${JSON.stringify(one)}`);
  const went = change.gone.map((one) => `-${JSON.stringify(one)}`);
  return `${change.field} ${[...came, ...went].join(' ')}`;
}

/** The same as a document: all that the JSON lists. */
export function diffPage({ before, after, diff }: DiffWords, now: Date): Document {
  return {
    title: `What changed: ${diff.after.target}`,
    blocks: [
      { kind: 'fields', rows: [...sideRows('Before', diff.before, before), ...sideRows('After', diff.after, after)] },
      ...notesOf(diff.before, diff.after).map((text): Block => ({ kind: 'paragraph', text: { code: text } })),
      ...remarkBlocks(diff),
      ...kindsIn(diff).flatMap(kindBlocks),
      { kind: 'paragraph', text: `Compared at ${now.toISOString()}.` },
    ],
  };
}

function sideRows(title: string, about: FactsAbout, side: DiffSide): (readonly [string, Inline])[] {
  return [
    [`${title}: verification`, side.verified],
    [`${title}: bundle`, code(side.url)],
    [`${title}: capture`, code(`${about.captureId} of ${about.at}, ${about.outcome}`)],
    [`${title}: target`, code(`${about.target} on ${about.cluster}/${about.node}`)],
    ...(about.image === undefined
      ? []
      : [[`${title}: image`, code(`${about.image.name} (${about.image.id})`)] as const]),
  ];
}

function remarkBlocks({ remarks }: DiffDocument): Block[] {
  const { counts, list } = remarks;
  if (list.length === 0) return [];
  const hidden = counts.high + counts.medium + counts.low - list.length;
  const rows = list.map((one) => [
    `${one.severity}${one.perhaps === true ? ', perhaps' : ''}`,
    REMARK_REASONS[one.reason],
    one.kind,
    code(one.key),
  ]);
  return [
    { kind: 'heading', text: 'Look at first' },
    { kind: 'table', headings: ['Severity', 'Why', 'Kind', 'What'], rows },
    ...(hidden > 0 ? [{ kind: 'paragraph', text: `${formatCount(hidden, 'more remark')} not listed.` } as const] : []),
  ];
}

const TITLES = {
  new: 'new',
  gone: 'gone',
  changed: 'changed',
  perhapsNew: 'perhaps new',
  perhapsGone: 'perhaps gone',
} as const;

function kindBlocks([kind, one]: [FactKind, KindDocument]): Block[] {
  const rows = HOW.flatMap(([how]) =>
    one[how].map((item) => [TITLES[how], code(item.key), code(detailsOf(item).replace(/^: /, ''))]),
  );
  const hidden = HOW.reduce((sum, [how]) => sum + one.counts[how] - one[how].length, 0);
  const why = whyLines(one);
  return [
    { kind: 'heading', text: `${kind}: ${countWords(one)}` },
    ...(why.length === 0 ? [] : [{ kind: 'list', items: why.map(code) } as const]),
    ...(rows.length === 0 ? [] : [{ kind: 'table', headings: ['', 'What', 'Details'], rows } as const]),
    ...(hidden > 0 ? [{ kind: 'paragraph', text: `${hidden} more, not listed.` } as const] : []),
  ];
}
