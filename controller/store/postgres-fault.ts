import pg from 'pg';
import { ExhibitError } from '../../evidence/error.ts';

/** PostgreSQL's SQLSTATEs (appendix A of its manual) that pass by themselves: what failed was not done, and can be done again. */
const PASSING = new Set([
  '40001', // serialization_failure
  '40P01', // deadlock_detected
  '53300', // too_many_connections
  '55P03', // lock_not_available
  '57P01', // admin_shutdown
  '57P02', // crash_shutdown
  '57P03', // cannot_connect_now
  '25006', // read_only_sql_transaction: on what was the primary before a failover
  '0A000', // feature_not_supported: a statement was prepared before a newer replica changed the tables
]);

/** Something is wrong that only a person can put right. */
const CONFIGURATION = new Set(['28000', '28P01', '3D000', '3F000', '42501', '42P01', '42703']);

const sqlStateOf = (error: unknown): string | undefined => (error instanceof pg.DatabaseError ? error.code : undefined);

/** The connection, and not what was asked over it. */
export class ConnectionLost extends Error {
  constructor(cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

/** The server's own sentences stay; whatever else pg throws is about the connection. */
export const asConnectionLost = (error: unknown): unknown =>
  error instanceof pg.DatabaseError ? error : new ConnectionLost(error);

/** These are about one statement for the server, and about the connection for who wants to go on. */
const NEW_CONNECTION = new Set(['0A000', '25006']);

/** True for what the server said of one statement; anything else leaves the connection in an unknown state. */
export const isOfStatement = (error: unknown): boolean =>
  error instanceof pg.DatabaseError && error.severity === 'ERROR' && !NEW_CONNECTION.has(error.code ?? '');

/** Whether the same may succeed in a moment. */
export function mayPass(error: unknown): boolean {
  const state = sqlStateOf(error);
  return state === undefined ? error instanceof ConnectionLost : PASSING.has(state) || state.startsWith('08');
}

/** In words for the person who keeps the database. The cause has the server's sentence, and none of its details: they quote rows. */
export function postgresFault(error: unknown): ExhibitError {
  if (error instanceof ExhibitError) return error;
  const state = sqlStateOf(error);
  const words = error instanceof Error ? error.message : String(error);
  const cause = { cause: new Error(state === undefined ? words : `${words} (SQLSTATE ${state})`) };
  if (state !== undefined && CONFIGURATION.has(state))
    return new ExhibitError('config', 'PostgreSQL does not let the controller in, or lacks what it needs', cause);
  if (state === '53100')
    return new ExhibitError('store-failed', "PostgreSQL's disk is full; nothing was stored", cause);
  if (state === '25006') return new ExhibitError('store-failed', 'PostgreSQL can only be read: a standby?', cause);
  if (error instanceof ConnectionLost || state?.startsWith('08') || state?.startsWith('57P'))
    return new ExhibitError('store-failed', 'PostgreSQL cannot be reached; nothing was stored', cause);
  return new ExhibitError('store-failed', 'PostgreSQL could not take it; nothing was stored', cause);
}
