import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Kysely, PostgresDialect, type PostgresPoolClient, type PostgresQueryResult } from 'kysely';
import pg from 'pg';
import { ExhibitError } from '../../evidence/error.ts';
import { asConnectionLost, isOfStatement } from './postgres-fault.ts';
import type { Schema } from './schema.ts';
import type { Database } from './sql.ts';
import { rowOfStored, storableText } from './text.ts';

export interface PostgresTarget {
  readonly url: string;
  readonly passwordFile?: string;
}

/** A server that does not answer is away. */
const CONNECT_TIMEOUT_MS = 5_000;

/** Every statement of the store takes milliseconds; one that waits for a lock for longer is told so by the server. */
const LOCK_TIMEOUT_MS = 10_000;
const STATEMENT_TIMEOUT_MS = 20_000;

/** After the server would have given up by itself: the network is gone. */
const ANSWER_TIMEOUT_MS = 25_000;

/** A transaction whose controller is gone lets go of its locks after this. */
const IDLE_TRANSACTION_TIMEOUT_MS = 30_000;

/** Statements that a connection keeps ready; the others are parsed each time. */
const PREPARED_STATEMENTS = 300;

/** OID of int8 in pg_type; every number of the store is a whole one that JavaScript holds. */
const INT8 = 20;

/** What every connection to PostgreSQL is made with. */
export function clientConfig({ url, passwordFile }: PostgresTarget): pg.ClientConfig {
  return {
    connectionString: passwordFile === undefined ? url : withPassword(url, passwordFile),
    application_name: 'exhibit-controller',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    lock_timeout: LOCK_TIMEOUT_MS,
    query_timeout: ANSWER_TIMEOUT_MS,
    idle_in_transaction_session_timeout: IDLE_TRANSACTION_TIMEOUT_MS,
    keepAlive: true,
    types: {
      getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
        oid === INT8 ? Number : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser,
    },
  };
}

/** Without it where it cannot be read: the server then says that it is wrong, and a pool that makes connections goes on. */
function withPassword(url: string, file: string): string {
  try {
    const target = new URL(url);
    target.searchParams.set('password', passwordIn(file));
    return target.href;
  } catch {
    return url;
  }
}

/** @throws ExhibitError `config` when it cannot be read */
export function passwordIn(file: string): string {
  try {
    return readFileSync(file, 'utf8').replace(/\r?\n$/, '');
  } catch (cause) {
    throw new ExhibitError('config', `PostgreSQL's password cannot be read from ${file}`, { cause });
  }
}

/** One connection: what kysely writes goes over it alone. */
export interface Seat {
  readonly db: Database;
  /** Names this connection in `write_marks`. */
  readonly writer: string;
  /** True once it may be in the middle of something: it is not to be used again. */
  readonly broken: boolean;
  run(text: string): Promise<void>;
}

export function seatOf(client: pg.PoolClient): Seat {
  const names = new Map<string, string>();
  let broken = false;

  /** Equal statements have one name, and are parsed and planned once a connection. */
  function nameOf(text: string): string | undefined {
    const known = names.get(text);
    if (known !== undefined || names.size >= PREPARED_STATEMENTS) return known;
    const name = `s${names.size}`;
    names.set(text, name);
    return name;
  }

  async function query(text: string, parameters: readonly unknown[]): Promise<PostgresQueryResult<never>> {
    const values = parameters.map((value) => (typeof value === 'string' ? storableText(value) : value));
    const name = values.length === 0 ? undefined : nameOf(text);
    try {
      const result = await client.query(name === undefined ? { text, values } : { name, text, values });
      for (const row of result.rows ?? []) rowOfStored(row);
      return result as unknown as PostgresQueryResult<never>;
    } catch (error) {
      broken ||= !isOfStatement(error);
      throw asConnectionLost(error);
    }
  }

  const held = { query, release: () => undefined } as unknown as PostgresPoolClient;
  const pool = { connect: async () => held, end: async () => undefined, options: {} };
  return {
    db: new Kysely<Schema>({ dialect: new PostgresDialect({ pool }) }),
    writer: randomUUID(),
    get broken() {
      return broken;
    },
    run: async (text) => {
      await query(text, []);
    },
  };
}
