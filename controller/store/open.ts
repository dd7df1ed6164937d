import type { Logger } from 'pino';
import { z } from 'zod';
import { auditCalls } from './audit-log.ts';
import { budgetCalls } from './budgets.ts';
import { type OwnedBus, openLocalBus } from './bus.ts';
import { captureCalls } from './captures.ts';
import { caseCalls } from './cases.ts';
import { nodeCalls } from './nodes.ts';
import { openPostgres } from './postgres.ts';
import { openPostgresBus } from './postgres-bus.ts';
import type { PostgresTarget } from './postgres-client.ts';
import { postgresFault } from './postgres-fault.ts';
import type { Sql } from './sql.ts';
import { DURABILITIES, openSqlite } from './sqlite.ts';
import type { Store } from './store.ts';

export const storeSchema = z.strictObject({
  /** `sqlite:/path/to/file.db`, or `postgres://...` where several replicas share the store. */
  url: z
    .string()
    .regex(/^(sqlite:\/.|postgres(ql)?:\/\/)/, { error: 'sqlite:/path/to/file.db or postgres://user@host/database' })
    .default('sqlite:/var/lib/exhibit/controller.db'),
  /** PostgreSQL's password, read whenever a connection is made; one in the URL shows in lists of processes and in configurations. */
  passwordFile: z.string().regex(/^\//, { error: 'an absolute path' }).optional(),
  /** SQLite's: see sqlite.ts. PostgreSQL's is its own synchronous_commit. */
  durability: z.enum(DURABILITIES).default('full'),
});

export type StoreConfig = z.input<typeof storeSchema>;

export interface StoreContext {
  readonly log: Logger;
  /** For the times of migrations; every other time is the caller's. */
  readonly now: () => number;
}

/**
 * Opens the store, and makes or migrates what is not there yet.
 * @throws ExhibitError `config` for a place that is wrong, `store-failed` for one that is away
 */
export async function openStore(config: StoreConfig, context: StoreContext): Promise<Store> {
  const { url, durability, passwordFile } = storeSchema.parse(config);
  if (!url.startsWith('sqlite:'))
    return await openShared(passwordFile === undefined ? { url } : { url, passwordFile }, context);
  // sqlite:///path is what other programs write.
  const sql = await openSqlite(url.slice('sqlite:'.length).replace(/^\/+/, '/'), durability, context.now);
  return storeOf(sql, openLocalBus());
}

async function openShared(target: PostgresTarget, { log, now }: StoreContext): Promise<Store> {
  await using stack = new AsyncDisposableStack();
  const sql = stack.use(await openPostgres(target, log, now));
  try {
    const bus = await openPostgresBus(sql, target, log);
    stack.move();
    return storeOf(sql, bus);
  } catch (error) {
    throw postgresFault(error);
  }
}

function storeOf(sql: Sql, bus: OwnedBus): Store {
  return {
    ...captureCalls(sql),
    ...nodeCalls(sql),
    ...caseCalls(sql),
    ...auditCalls(sql),
    ...budgetCalls(sql),
    bus,
    async [Symbol.asyncDispose]() {
      await bus[Symbol.asyncDispose]();
      await sql[Symbol.asyncDispose]();
    },
  };
}
