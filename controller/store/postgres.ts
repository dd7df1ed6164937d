import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { sql } from 'kysely';
import pg from 'pg';
import type { Logger } from 'pino';
import { ExhibitError, explain } from '../../evidence/error.ts';
import { migrateOnce } from './migrations.ts';
import { clientConfig, type PostgresTarget, passwordIn, type Seat, seatOf } from './postgres-client.ts';
import { asConnectionLost, mayPass, postgresFault } from './postgres-fault.ts';
import type { Database, Dialect, Sql } from './sql.ts';

/** A replica has so many transactions under way; PostgreSQL's own default is 100 connections for all. */
const CONNECTIONS = 10;

/** A restart of PostgreSQL takes a second or two; who waits longer is better told. */
const RETRY_MS = 5_000;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 500;

/** How long to ask for the fate of a transaction whose commit was not answered. */
const FATE_MS = 30_000;

/** The oldest that has what is used here and is tried in tests (generated columns came with 12). */
const LEAST_VERSION = 130_000;

/** Of PostgreSQL's advisory locks, which are one number space a database: ours begin with the bytes `exh`. */
const MIGRATION_LOCK = 0x657868_00;
const AUDIT_LOCK = 0x657868_01;

/** Writers of the audit log that are committed together; the other replicas wait for them. */
const MOST_TOGETHER = 50;

const DIALECT: Dialect = { kind: 'postgres', concurrentWrites: true };

export interface PostgresSql extends Sql {
  /** As `read`, without a second try: for what must not be said twice. */
  once<T>(work: (db: Database) => Promise<T>): Promise<T>;
}

/** @throws ExhibitError `config` or `store-failed`, see postgres-fault.ts; `config` for a database of a newer exhibit */
export async function openPostgres(target: PostgresTarget, log: Logger, now: () => number): Promise<PostgresSql> {
  if (target.passwordFile !== undefined) passwordIn(target.passwordFile);
  await using stack = new AsyncDisposableStack();
  const store = stack.use(new Postgres(target, log));
  await store.read((db) => requireSuitable(db, log));
  for (let more = true; more; ) {
    more = await store.write(async (tx) => {
      await sql`select pg_advisory_xact_lock(${MIGRATION_LOCK})`.execute(tx);
      return await migrateOnce(tx, DIALECT, now());
    });
    store.marks = true;
  }
  stack.move();
  return {
    dialect: DIALECT,
    read: (work) => store.read(work),
    once: (work) => store.once(work),
    write: (work) => store.write(work),
    writeLightly: (work) => store.write(work),
    writeAudited: (work) => store.writeAudited(work),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

async function requireSuitable(db: Database, log: Logger): Promise<void> {
  const { rows } = await sql<{ version: string; encoding: string; durable: string; fsync: string }>`
    select current_setting('server_version_num') as version, current_setting('server_encoding') as encoding,
      current_setting('synchronous_commit') as durable, current_setting('fsync') as fsync`.execute(db);
  const [server] = rows;
  if (server === undefined || Number(server.version) < LEAST_VERSION)
    throw new ExhibitError('config', `PostgreSQL has to be of version ${LEAST_VERSION / 10_000} at least`);
  if (server.encoding !== 'UTF8')
    throw new ExhibitError('config', `the database has the encoding ${server.encoding}; the store needs one in UTF8`);
  if (server.durable === 'off' || server.fsync === 'off')
    log.warn({ synchronousCommit: server.durable, fsync: server.fsync }, 'postgresql may lose what it said it stored');
}

/** A commit that was not answered: it may have happened. */
class Unanswered extends Error {
  readonly value: unknown;
  readonly writer: string;
  readonly mark: string;

  constructor(cause: unknown, { value, writer, mark }: { value: unknown; writer: string; mark: string }) {
    super('the commit was not answered', { cause });
    this.value = value;
    this.writer = writer;
    this.mark = mark;
  }
}

class Postgres implements AsyncDisposable {
  /** Whether the table is there that tells what was committed. */
  marks = false;
  readonly #pool: pg.Pool;
  readonly #seats = new WeakMap<pg.PoolClient, Seat>();
  readonly #ended = new AbortController();
  readonly #audited: Job[] = [];
  #auditing = false;

  constructor(target: PostgresTarget, log: Logger) {
    // Made for each connection: a password that was replaced is read again.
    class Client extends pg.Client {
      constructor() {
        super(clientConfig(target));
      }
    }
    this.#pool = new pg.Pool({
      Client,
      max: CONNECTIONS,
      connectionTimeoutMillis: clientConfig(target).connectionTimeoutMillis ?? 0,
    });
    this.#pool.on('error', (error) => log.warn({ reason: explain(error) }, 'postgresql connection lost'));
    // One that is lost while a transaction holds it; the transaction's next statement says so.
    this.#pool.on('connect', (client) => client.on('error', () => undefined));
  }

  read<T>(work: (db: Database) => Promise<T>): Promise<T> {
    return this.#retried(() => this.#seated(({ db }) => work(db)));
  }

  async once<T>(work: (db: Database) => Promise<T>): Promise<T> {
    try {
      return await this.#seated(({ db }) => work(db));
    } catch (error) {
      throw postgresFault(error);
    }
  }

  write<T>(work: (tx: Database) => Promise<T>): Promise<T> {
    return this.#retried(() => this.#seated((seat) => this.#transaction(seat, work)));
  }

  /**
   * Writers of the one chain of all replicas wait for each other, and each commit waits for a disk: those of this replica that
   * wait go together, each in a savepoint of its own.
   */
  writeAudited<T>(work: (tx: Database) => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#audited.push({ work, resolve: (value) => resolve(value as T), reject });
      if (!this.#auditing) void this.#audit();
    });
  }

  async #audit(): Promise<void> {
    this.#auditing = true;
    while (this.#audited.length > 0) {
      const jobs = this.#audited.splice(0, MOST_TOGETHER);
      try {
        const outcomes = await this.#retried(() =>
          this.#seated((seat) => this.#transaction(seat, () => eachInSavepoint(seat, jobs), AUDITED)),
        );
        for (const settle of outcomes) settle();
      } catch (error) {
        for (const { reject } of jobs) reject(error);
      }
    }
    this.#auditing = false;
  }

  async #transaction<T>(seat: Seat, work: (tx: Database) => Promise<T>, begin = ''): Promise<T> {
    const mark = randomUUID();
    let value: T;
    await seat.run(this.marks ? beginMarked(seat.writer, mark) + begin : BEGIN);
    try {
      value = await work(seat.db);
    } catch (error) {
      if (!seat.broken) await seat.run('rollback').catch(() => undefined);
      throw error;
    }
    try {
      await seat.run('commit');
    } catch (error) {
      if (!seat.broken) throw error;
      throw new Unanswered(error, { value, writer: seat.writer, mark });
    }
    return value;
  }

  /** Again, as long as it is certain that nothing was done, and that waiting may help. */
  async #retried<T>(attempt: () => Promise<T>): Promise<T> {
    const until = performance.now() + RETRY_MS;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      try {
        return await attempt();
      } catch (error) {
        if (error instanceof Unanswered) {
          if (await this.#wasCommitted(error)) return error.value as T;
        } else if (!mayPass(error)) throw postgresFault(error);
        if (performance.now() > until || this.#ended.signal.aborted)
          throw postgresFault(error instanceof Unanswered ? error.cause : error);
      }
      await delay(pauseMs * (0.5 + Math.random()), undefined, { signal: this.#ended.signal }).catch(() => undefined);
    }
  }

  /**
   * Asks for the mark that the transaction left. Where the server is still at it, its row is locked, and the answer waits for the
   * end.
   */
  async #wasCommitted({ writer, mark, cause }: Unanswered): Promise<boolean> {
    const until = performance.now() + FATE_MS;
    while (performance.now() < until && !this.#ended.signal.aborted) {
      try {
        return await this.#seated(async ({ db }) => {
          const { rows } = await sql<{ mark: string }>`
            insert into write_marks (writer, mark, at_ms) values (${writer}, ${''}, 0)
            on conflict (writer) do update set at_ms = write_marks.at_ms returning mark`.execute(db);
          return rows[0]?.mark === mark;
        });
      } catch (error) {
        if (!mayPass(error)) throw postgresFault(error);
      }
      await delay(LONGEST_PAUSE_MS, undefined, { signal: this.#ended.signal }).catch(() => undefined);
    }
    const message = 'PostgreSQL went away while it stored this, and cannot be asked whether it did';
    throw new ExhibitError('store-failed', message, { cause });
  }

  async #seated<T>(work: (seat: Seat) => Promise<T>): Promise<T> {
    const client = await this.#pool.connect().catch((error) => Promise.reject(asConnectionLost(error)));
    const seat = this.#seats.get(client) ?? seatOf(client);
    this.#seats.set(client, seat);
    try {
      return await work(seat);
    } finally {
      client.release(seat.broken);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort();
    await this.#pool.end();
  }
}

interface Job {
  work(tx: Database): Promise<unknown>;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** What is to be told to each when all are committed. Throws what ends the transaction for all. */
async function eachInSavepoint(seat: Seat, jobs: readonly Job[]): Promise<(() => void)[]> {
  const outcomes: (() => void)[] = [];
  for (const [at, { work, resolve, reject }] of jobs.entries()) {
    await seat.run(at === 0 ? 'savepoint job' : 'release savepoint job; savepoint job');
    try {
      const value = await work(seat.db);
      outcomes.push(() => resolve(value));
    } catch (error) {
      if (seat.broken || mayPass(error)) throw error;
      await seat.run('rollback to savepoint job');
      outcomes.push(() => reject(postgresFault(error)));
    }
  }
  return outcomes;
}

/** Before any row is locked: who waits for the log holds nothing that another waits for. */
const AUDITED = `; select pg_advisory_xact_lock(${AUDIT_LOCK})`;

/** Whatever the database's own default is: the store's statements lock what they have to. */
const BEGIN = 'begin isolation level read committed read write';

/**
 * One round trip: begins, and leaves a mark that is there exactly if the transaction commits. Transaction ids would not do: after
 * a crash of the server they may be given again. Both arguments are UUIDs of our own making.
 */
const beginMarked = (writer: string, mark: string): string =>
  `${BEGIN}; insert into write_marks (writer, mark, at_ms)
   values ('${writer}', '${mark}', (extract(epoch from clock_timestamp()) * 1000)::bigint)
   on conflict (writer) do update set mark = excluded.mark, at_ms = excluded.at_ms`;
