import { z } from 'zod';
import { ExhibitError } from '../../evidence/error.ts';
import type { Page, PageRequest } from './store.ts';
import { MAX_KEY_BYTES } from './text.ts';

/** Lists are read by key: a page begins after the last row of the one before, whatever came or went meanwhile. */

/** A row of a capture has some 2 KiB; more than this at once would hold up the others. */
export const MAX_PAGE_ROWS = 1_000;

/** What a token may have: two keys, each byte of them six characters as JSON writes control characters, in base64. */
const MAX_TOKEN_CHARACTERS = 20 * MAX_KEY_BYTES;

export type ListName = 'captures' | 'nodes' | 'cases';

/** The sort keys of the last row. */
export type Position = readonly [number | string, string];

const position = z.tuple([z.union([z.int(), z.string()]), z.string()]);
const tokenSchema = z.tuple([z.enum(['captures', 'nodes', 'cases']), z.union([z.int(), z.string()]), z.string()]);

export function pageLimit({ limit }: PageRequest): number {
  if (!Number.isSafeInteger(limit) || limit < 1) throw new ExhibitError('usage', 'a page has at least one row');
  return Math.min(limit, MAX_PAGE_ROWS);
}

const tokenOf = (list: ListName, [first, second]: Position): string =>
  Buffer.from(JSON.stringify([list, first, second])).toString('base64url');

/** Where the page begins; undefined: at the start. @throws ExhibitError `usage` for a token that is none of this list's */
export function positionOf<First extends 'number' | 'string'>(
  list: ListName,
  token: string | undefined,
  first: First,
): readonly [First extends 'number' ? number : string, string] | undefined {
  if (token === undefined || token === '') return undefined;
  const found = readToken(token);
  const at = found === undefined ? undefined : position.parse(found.slice(1));
  if (at === undefined || found?.[0] !== list || typeof at[0] !== first || tokenOf(list, at) !== token)
    throw new ExhibitError('usage', `the page token is none that a list of ${list} gave`);
  return at as [First extends 'number' ? number : string, string];
}

function readToken(token: string): z.infer<typeof tokenSchema> | undefined {
  if (token.length > MAX_TOKEN_CHARACTERS) return undefined;
  try {
    return tokenSchema.parse(JSON.parse(Buffer.from(token, 'base64url').toString()));
  } catch {
    return undefined;
  }
}

/** Of up to `limit + 1` rows: the page, and the token of the next when one more row was found. */
export function pageOf<Found, Row>(
  found: readonly Found[],
  limit: number,
  list: ListName,
  of: { row(found: Found): Row; position(found: Found): Position },
): Page<Row> {
  const rows = found.slice(0, limit);
  const last = rows.at(-1);
  const page = { rows: rows.map(of.row) };
  return found.length > limit && last !== undefined ? { ...page, next: tokenOf(list, of.position(last)) } : page;
}
