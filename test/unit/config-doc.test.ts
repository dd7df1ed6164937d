import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { oneSinkSchema, severalSinksSchema } from '../../agent/config.ts';
import { configSchema } from '../../controller/config.ts';

/** Keeps the documentation of both configurations in step with their schemas. */

const DOCS = path.resolve(import.meta.dirname, '../../docs');
const read = (page: string): string => readFileSync(path.join(DOCS, page), 'utf8');

interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly additionalProperties?: JsonSchema | boolean;
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
  readonly not?: unknown;
}

/** Every key as a path; what a list or a record holds has the path of the list. */
function keysOf(schema: JsonSchema, at = ''): string[] {
  const { properties = {}, additionalProperties: values, items, anyOf = [] } = schema;
  const own = Object.entries(properties).flatMap(([key, value]) =>
    value.not === undefined ? [`${at}${key}`, ...keysOf(value, `${at}${key}.`)] : [],
  );
  const inside = [items, typeof values === 'object' ? values : undefined, ...anyOf];
  return [...own, ...inside.flatMap((one) => (one === undefined ? [] : keysOf(one, at)))];
}

const schemaKeys = (...schemas: z.ZodType[]): string[] => [
  ...new Set(
    schemas.flatMap((schema) => keysOf(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as JsonSchema)),
  ),
];

interface Row {
  /** Whole paths: in `a.b`, `.c` the second is a.c. */
  readonly keys: readonly string[];
  /** The row itself, and the pages to which it leads. */
  readonly texts: readonly string[];
}

/** The rows of the tables that begin with a column `key`. */
function rowsOf(page: string): Row[] {
  const tables = [...read(page).matchAll(/^\| key \|.*\n\|[ |-]+\n((?:\|.*\n)+)/gm)].map(([, rows = '']) => rows);
  return tables
    .flatMap((rows) => rows.trimEnd().split('\n'))
    .map((row) => {
      const [, first = ''] = row.split(/(?<!\\)\|/);
      let parent = '';
      const keys = [...first.matchAll(/`([^`]+)`/g)].map(([, name = '']) => {
        const whole = name.startsWith('.') ? `${parent}${name}` : name;
        parent = whole.split('.').slice(0, -1).join('.');
        return whole;
      });
      const pages = [...row.matchAll(/\]\(([a-z-]+\.md)/g)].map(([, linked = '']) => read(linked));
      return { keys, texts: [row, ...pages] };
    });
}

function hasInCode(text: string, word: string): boolean {
  const code = text.match(/^```[\s\S]*?^```|`[^`\n]+`|^ {4}.*$/gm) ?? [];
  return code.some((piece) => new RegExp(`(?<![\\w-])${word}(?![\\w-])`).test(piece));
}

/** The key stands in the table itself, or in code on a page to which a row of the same section leads. */
function isDescribed(key: string, rows: readonly Row[]): boolean {
  const [section, ...rest] = key.split('.');
  const near = rows.filter((row) => row.keys.some((one) => one.split('.')[0] === section));
  const word = rest.at(-1) ?? key;
  return (
    near.some((row) => row.keys.some((one) => one === key || one.startsWith(`${key}.`))) ||
    near.some((row) => row.texts.some((text) => hasInCode(text, word)))
  );
}

describe.each([
  ['the agent’s', 'configuration.md', () => schemaKeys(oneSinkSchema, severalSinksSchema)],
  ['the controller’s', 'controller.md', () => schemaKeys(configSchema)],
])('%s configuration', (_, page, keys) => {
  test('has every key described', () => {
    expect(keys().length).toBeGreaterThan(50);
    expect(keys().filter((key) => !isDescribed(key, rowsOf(page)))).toEqual([]);
  });

  test('has no key described that it has not', () => {
    const known = keys();
    const rows = rowsOf(page);
    expect(rows.length).toBeGreaterThan(9);
    expect(rows.flatMap((row) => row.keys).filter((key) => !known.includes(key))).toEqual([]);
  });
});
