import { type Kysely, sql } from 'kysely';
import { ExhibitError } from '../../evidence/error.ts';
import type { Schema } from './schema.ts';

export type Database = Kysely<Schema>;

/**
 * A database that the one SQL implementation of the store runs on. Fails with `store-failed` in words, or with the ExhibitError
 * that `work` threw; in both cases nothing of `work` was done.
 */
export interface Sql extends AsyncDisposable {
  readonly dialect: Dialect;
  /** What is committed. */
  read<T>(work: (db: Database) => Promise<T>): Promise<T>;
  /** One transaction, durable when this resolves. `work` may run more than once: it touches nothing but the database. */
  write<T>(work: (tx: Database) => Promise<T>): Promise<T>;
  /** As `write`, but a power cut may take it; a killed process does not. For what is known again soon: who is connected. */
  writeLightly<T>(work: (tx: Database) => Promise<T>): Promise<T>;
  /** As `write`, for what adds to the audit log: no other replica adds to it meanwhile. */
  writeAudited<T>(work: (tx: Database) => Promise<T>): Promise<T>;
}

/** Where the two databases do not speak alike. */
export interface Dialect {
  readonly kind: 'sqlite' | 'postgres';
  /** False where every write transaction is alone anyway: then rows need not be locked. */
  readonly concurrentWrites: boolean;
}

/** How much of a text that is no key is in an index: PostgreSQL's entries are bounded, and text of people is not. */
const INDEXED_CHARACTERS = 200;

/** The indexed beginning of a column; migrations.ts has the same words. */
export const beginning = (column: string) => `substr(${column}, 1, ${INDEXED_CHARACTERS})`;

/** `column = value`, by way of the index over the column's beginning. */
export const sameText = (column: string, value: string) =>
  sql<boolean>`(${sql.raw(beginning(column))} = substr(cast(${value} as text), 1, ${sql.raw(String(INDEXED_CHARACTERS))}) and ${sql.ref(column)} = ${value})`;

/** A number that both databases hold and JavaScript reads back as it was. */
export function whole(value: number, what: string): number {
  if (!Number.isSafeInteger(value)) throw new ExhibitError('usage', `${what} has to be a whole number, not ${value}`);
  return value;
}
