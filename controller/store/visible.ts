import { type Expression, type SqlBool, sql } from 'kysely';
import { ExhibitError } from '../../evidence/error.ts';
import type { Dialect } from './sql.ts';
import type { CaptureFilter } from './store.ts';

type Visible = NonNullable<CaptureFilter['visible']>;

/** SQLite refuses patterns over 50,000 bytes; names in Kubernetes have 253. */
const MAX_PATTERN_CHARACTERS = 1024;

/** Rows in one of the places: a cluster and a namespace of the same one. Nothing is visible to whom no place is. */
export function visibleTo(places: Visible, dialect: Dialect): Expression<SqlBool> {
  const seen = places.map(
    ({ clusters, namespaces }) =>
      sql<SqlBool>`(${oneOf('cluster', clusters, dialect)} and ${oneOf('namespace', namespaces, dialect)})`,
  );
  return seen.length === 0 ? sql`1 = 0` : sql`(${sql.join(seen, sql` or `)})`;
}

function oneOf(column: 'cluster' | 'namespace', patterns: readonly string[], dialect: Dialect): Expression<SqlBool> {
  const shorter = patterns.map((pattern) => pattern.replace(/\*+/g, '*'));
  if (shorter.includes('*')) return sql`1 = 1`;
  if (shorter.length === 0) return sql`1 = 0`;
  return sql`(${sql.join(
    shorter.map((pattern) => matches(column, pattern, dialect)),
    sql` or `,
  )})`;
}

function matches(column: string, pattern: string, { kind }: Dialect): Expression<SqlBool> {
  if (!pattern.includes('*')) return sql`${sql.ref(column)} = ${pattern}`;
  if (pattern.length > MAX_PATTERN_CHARACTERS) {
    throw new ExhibitError('usage', `a pattern has at most ${MAX_PATTERN_CHARACTERS} characters`);
  }
  // SQLite's LIKE takes capital letters for small ones; its GLOB does not.
  if (kind === 'sqlite') return sql`${sql.ref(column)} glob ${pattern.replace(/[[?]/g, '[$&]')}`;
  const like = pattern.replace(/[\\%_]/g, '\\$&').replaceAll('*', '%');
  return sql`${sql.ref(column)} like ${like} escape '\\'`;
}
