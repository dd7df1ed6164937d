import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { ARTIFACTS } from '../../../evidence/layout.ts';
import { manifestSchema, requestSchema } from '../../../evidence/manifest.ts';
import { ROOT } from './pages.ts';

const page = readFileSync(path.join(ROOT, 'docs/format.md'), 'utf8');
const inCode = new Set([...page.matchAll(/`([^`\n]+)`/g)].flatMap(([, code = '']) => code.split('.')));

interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
}

/** The names of all fields; what is below `plan.checkpoint` has a page of its own. */
function fieldsOf({ properties = {}, items, anyOf = [] }: JsonSchema): string[] {
  const own = Object.entries(properties).flatMap(([name, value]) => [
    name,
    ...(name === 'checkpoint' ? [] : fieldsOf(value)),
  ]);
  return [...own, ...[items, ...anyOf].flatMap((one) => (one === undefined ? [] : fieldsOf(one)))];
}

describe('docs/format.md', () => {
  test.each([
    ['request.json', requestSchema],
    ['manifest.json', manifestSchema],
  ])('names every field of %s', (_, schema) => {
    const fields = new Set(fieldsOf(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as JsonSchema));
    expect(fields.size).toBeGreaterThan(30);
    expect([...fields].filter((name) => !inCode.has(name))).toEqual([]);
  });

  test('has a row for every artifact', () => {
    expect(ARTIFACTS.filter((name) => !page.includes(`\n| \`${name}\` | \``))).toEqual([]);
  });
});
