import type { Alert } from './alert.ts';
import { PRIORITIES } from './alert.ts';

/** Words of a rule with names in braces: `{rule} in {namespace}/{pod}`. */

const NAMES = [
  'source',
  'rule',
  'alert',
  'priority',
  'severity',
  'cluster',
  'node',
  'namespace',
  'pod',
  'container',
  'workload',
] as const;
type Name = (typeof NAMES)[number];

const SLOT = /\{([^{}]*)\}/g;

/** The names in it that no alert has; empty when all is well. */
export const unknownNames = (template: string): string[] =>
  [...template.matchAll(SLOT)]
    .map(([, name]) => name ?? '')
    .filter((name) => !isName(name) && !/^field:.+$/.test(name));

const isName = (name: string): name is Name => NAMES.some((one) => one === name);

function fill(template: string, alert: Alert, source: string, quote: (value: string) => string): string {
  return template.replaceAll(SLOT, (_slot, name: string) => quote(wordOf(name, alert, source)));
}

function wordOf(name: string, alert: Alert, source: string): string {
  if (name.startsWith('field:')) return alert.fields.get(name.slice('field:'.length)) ?? '';
  if (!isName(name)) return '';
  switch (name) {
    case 'source':
      return source;
    case 'alert':
      return alert.id;
    case 'priority':
      return alert.priority === undefined ? '' : (PRIORITIES[alert.priority] ?? '');
    case 'severity':
      return alert.severity === undefined ? '' : String(alert.severity);
    default:
      return alert[name];
  }
}

/** One alert's word in a sentence. */
const MAX_WORD_CHARS = 120;
const MAX_REASON_CHARS = 500;
const MAX_CASE_CHARS = 100;

/**
 * A stranger's word as people may read it, in a log, on a terminal or on paper: nothing in it ends a line, turns it around or is
 * invisible.
 */
export function shown(value: string): string {
  const cut = value.length > MAX_WORD_CHARS ? `${value.slice(0, MAX_WORD_CHARS)}…` : value;
  return cut.replaceAll(
    /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu,
    (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`,
  );
}

export const fillReason = (template: string, alert: Alert, source: string): string =>
  fill(template, alert, source, shown).slice(0, MAX_REASON_CHARS);

/** Ids of cases stand in paths and on labels: a letter or digit of ASCII, or one of `._-`. */
export const fillCase = (template: string, alert: Alert, source: string): string =>
  fill(template, alert, source, (value) => value.replaceAll(/[^A-Za-z0-9._-]/g, '-').slice(0, 63)).slice(
    0,
    MAX_CASE_CHARS,
  );

/** A selector; undefined when a value could say more than one value of a label. */
export function fillTarget(template: string, alert: Alert, source: string): string | undefined {
  let isSafe = true;
  const text = fill(template, alert, source, (value) => {
    if (!/^[A-Za-z0-9._-]{1,63}$/.test(value)) isSafe = false;
    return value;
  });
  return isSafe ? text : undefined;
}
