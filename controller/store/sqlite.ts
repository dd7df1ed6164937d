import { closeSync, openSync as openFile } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Kysely, type SqliteDatabase, SqliteDialect, type SqliteStatement } from 'kysely';
import { ExhibitError } from '../../evidence/error.ts';
import { migrateOnce } from './migrations.ts';
import type { Schema } from './schema.ts';
import type { Database, Dialect, Sql } from './sql.ts';
import { isOfWork, sqliteFault } from './sqlite-fault.ts';
import { rowOfStored, storableText } from './text.ts';
import { openWalSync, type WalSync } from './wal-sync.ts';

/** `full`: on the disk before a call resolves. `normal`: a power cut may lose the last moments, a killed process nothing. */
export const DURABILITIES = ['full', 'normal'] as const;
export type Durability = (typeof DURABILITIES)[number];

/**
 * SQLite syncs the log by itself only before it is brought into the database file (`synchronous = normal`); what has to be on the
 * disk is synced by `WalSync` on another thread, because a commit that waits for the disk stops the whole process meanwhile.
 */
const SYNCHRONOUS = 'normal';

/** Somebody's backup or sqlite3 may hold the file for a moment. */
const BUSY_TIMEOUT_MS = 5_000;

/** The WAL is cut to this when it was larger: one long backup must not leave it large for ever. */
const JOURNAL_LIMIT_BYTES = 64 * 2 ** 20;

/** SQLite blocks the process while it works: a batch of writers ends after this, and everybody else has a turn. */
const BATCH_MS = 8;

/** Statements that are kept ready; the store has some 60, and lists with filters in many combinations. */
const CACHED_STATEMENTS = 300;

const DIALECT: Dialect = { kind: 'sqlite', concurrentWrites: false };

/**
 * One file, in WAL mode: one connection writes, one reads what is committed. Writers that wait are committed together, each in a
 * savepoint of its own, because a commit waits for the disk (docs/controller-store.md has the measurement).
 * @throws ExhibitError `config`: no database, another's, of a newer exhibit, or open in another process
 */
export async function openSqlite(
  file: string,
  durability: Durability,
  now: () => number,
  openSync: (file: string) => WalSync = openWalSync,
): Promise<Sql> {
  try {
    await using stack = new AsyncDisposableStack();
    const owner = stack.adopt(claimFile(file), (held) => held.close());
    const writer = stack.use(connect(file, { readOnly: false }));
    refuseForeign(writer.connection, file);
    const sync = durability === 'full' ? stack.use(openSync(file)) : undefined;
    const queue = new WriteQueue(writer, sync);
    while (await queue.add(true, (tx) => migrateOnce(tx, DIALECT, now()))) {
      // One more.
    }
    const reader = stack.use(connect(file, { readOnly: true }));
    const resources = stack.move();
    const queueWrites =
      (isDurable: boolean): Sql['write'] =>
      (work) =>
        queue.add(isDurable, work).catch((error) => Promise.reject(sqliteFault(error, file)));
    const write = queueWrites(true);
    return {
      dialect: DIALECT,
      read: (work) => work(reader.database).catch((error) => Promise.reject(sqliteFault(error, file))),
      write,
      writeLightly: queueWrites(false),
      writeAudited: write,
      async [Symbol.asyncDispose]() {
        await queue.idle();
        await resources.disposeAsync();
        void owner;
      },
    };
  } catch (error) {
    throw sqliteFault(error, file);
  }
}

interface Connection extends Disposable {
  readonly database: Database;
  readonly connection: DatabaseSync;
}

function connect(file: string, { readOnly }: { readOnly: boolean }): Connection {
  const connection = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS, enableForeignKeyConstraints: true, readOnly });
  try {
    connection.exec(
      readOnly
        ? 'pragma query_only = on'
        : `pragma journal_mode = wal; pragma synchronous = ${SYNCHRONOUS}; pragma recursive_triggers = on;
           pragma journal_size_limit = ${JOURNAL_LIMIT_BYTES}`,
    );
  } catch (error) {
    connection.close();
    throw error;
  }
  const database = new Kysely<Schema>({ dialect: new SqliteDialect({ database: forKysely(connection) }) });
  return { database, connection, [Symbol.dispose]: () => connection.close() };
}

/** What kysely needs of better-sqlite3, by node:sqlite; statements are prepared once. */
function forKysely(connection: DatabaseSync): SqliteDatabase {
  const prepared = new Map<string, SqliteStatement>();
  return {
    close: () => connection.close(),
    prepare(text) {
      const known = prepared.get(text);
      if (known !== undefined) return known;
      const statement = statementForKysely(connection.prepare(text));
      if (prepared.size >= CACHED_STATEMENTS) for (const oldest of prepared.keys()) if (prepared.delete(oldest)) break;
      prepared.set(text, statement);
      return statement;
    },
  };
}

function statementForKysely(statement: StatementSync): SqliteStatement {
  const bound = (parameters: readonly unknown[]) =>
    parameters.map((value) => (typeof value === 'string' ? storableText(value) : (value as SQLInputValue)));
  return {
    reader: statement.columns().length > 0,
    all: (parameters) => statement.all(...bound(parameters)).map(rowOfStored),
    run: (parameters) => statement.run(...bound(parameters)),
    iterate: (parameters) =>
      statement
        .all(...bound(parameters))
        .map(rowOfStored)
        .values(),
  };
}

/**
 * Two controllers on one file would not hear each other, so a second one is refused: a lock that SQLite holds on a file beside
 * it, and that the kernel lets go of with the process.
 */
function claimFile(file: string): DatabaseSync {
  // Commands and custody are nobody else's; SQLite gives its other files the mode of this one.
  for (const name of [file, `${file}-owner`]) closeSync(openFile(name, 'a', 0o600));
  const owner = new DatabaseSync(`${file}-owner`, { timeout: 0 });
  try {
    owner.exec('pragma journal_mode = memory; begin exclusive');
    return owner;
  } catch (error) {
    owner.close();
    const fault = sqliteFault(error, `${file}-owner`);
    if (!fault.message.includes('locked')) throw fault;
    const message = `${file} is open in another controller; several replicas need PostgreSQL`;
    throw new ExhibitError('config', message, { cause: error });
  }
}

/** A database that somebody else made is left alone. */
function refuseForeign(connection: DatabaseSync, file: string): void {
  const tables = connection.prepare("select name from sqlite_schema where type = 'table'").all();
  if (tables.length === 0 || tables.some(({ name }) => name === 'exhibit_schema')) return;
  throw new ExhibitError('config', `${file} is a database of something else: it has tables, and none of exhibit's`);
}

interface Job {
  run(tx: Database): Promise<unknown>;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

type Outcome = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly error: unknown };

/** Writers in the order they came; those who wait together are committed together, and then synced together. */
class WriteQueue {
  readonly #sync: WalSync | undefined;
  readonly #connection: DatabaseSync;
  readonly #database: Database;
  readonly #jobs: Job[] = [];
  #running: Promise<void> | undefined;

  constructor({ connection, database }: Connection, sync: WalSync | undefined) {
    this.#sync = sync;
    this.#connection = connection;
    this.#database = database;
  }

  async add<T>(isDurable: boolean, run: (tx: Database) => Promise<T>): Promise<T> {
    this.#sync?.check();
    const value = await new Promise<T>((resolve, reject) => {
      this.#jobs.push({ run, resolve: (value) => resolve(value as T), reject });
      this.#running ??= this.#drain();
    });
    if (isDurable) await this.#sync?.sync();
    return value;
  }

  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
    await this.#sync?.idle();
  }

  async #drain(): Promise<void> {
    // Whoever asks in this turn of the event loop is in the first batch.
    await nextTurn();
    while (this.#jobs.length > 0) {
      await this.#batch();
      await nextTurn();
    }
    this.#running = undefined;
  }

  async #batch(): Promise<void> {
    const jobs: Job[] = [];
    const outcomes: Outcome[] = [];
    const until = performance.now() + BATCH_MS;
    try {
      this.#connection.exec('begin immediate');
      for (let job = this.#jobs.shift(); job !== undefined; job = this.#jobs.shift()) {
        jobs.push(job);
        outcomes.push(await this.#inSavepoint(job));
        if (performance.now() >= until) break;
      }
      this.#connection.exec('commit');
    } catch (error) {
      this.#rollBack();
      // One of them may be too much for the disk, and the others not.
      if (jobs.length > 1) return await this.#oneByOne(jobs);
      const failed = jobs[0] ?? this.#jobs.shift();
      failed?.reject(error);
      return;
    }
    settle(jobs, outcomes);
  }

  async #oneByOne(jobs: readonly Job[]): Promise<void> {
    for (const job of jobs) {
      try {
        this.#connection.exec('begin immediate');
        const outcome = await this.#inSavepoint(job);
        this.#connection.exec('commit');
        settle([job], [outcome]);
      } catch (error) {
        this.#rollBack();
        job.reject(error);
      }
    }
  }

  /** Throws when it was not only this job that failed: a full disk ends the whole transaction. */
  async #inSavepoint(job: Job): Promise<Outcome> {
    this.#connection.exec('savepoint job');
    try {
      const value = await job.run(this.#database);
      this.#connection.exec('release job');
      return { ok: true, value };
    } catch (error) {
      if (!isOfWork(error) || !this.#connection.isTransaction) throw error;
      this.#connection.exec('rollback to job; release job');
      return { ok: false, error };
    }
  }

  #rollBack(): void {
    try {
      if (this.#connection.isTransaction) this.#connection.exec('rollback');
    } catch {
      // The next begin says why.
    }
  }
}

function settle(jobs: readonly Job[], outcomes: readonly Outcome[]): void {
  for (const [at, job] of jobs.entries()) {
    const outcome = outcomes[at];
    if (outcome?.ok) job.resolve(outcome.value);
    else job.reject(outcome?.error);
  }
}
