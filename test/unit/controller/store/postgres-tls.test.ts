import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openStore } from '../../../../controller/store/open.ts';
import { explain, isExhibitError } from '../../../../evidence/error.ts';
import { anEntry } from '../../../contract/store-rows.ts';
import { type LabPki, labPki } from '../../../lab/pki.ts';
import { type LabPostgres, postgresObstacle, requirePostgres, startPostgres } from '../../../lab/postgres.ts';

/** The store over TLS, as a PostgreSQL that others run asks for it; the authority is one that no system knows. */

let pki: LabPki;
let server: LabPostgres;
let folder: string;

beforeEach((context) => requirePostgres(context));
beforeAll(async () => {
  if (postgresObstacle() !== undefined) return;
  pki = await labPki();
  folder = await mkdtemp(path.join(tmpdir(), 'exhibit-pg-tls-'));
  const { certFile, keyFile } = pki.server;
  const addresses = 'listen_addresses=127.0.0.1,127.0.0.2';
  server = await startPostgres({
    settings: ['ssl=on', `ssl_cert_file=${certFile}`, `ssl_key_file=${keyFile}`, addresses],
  });
}, 60_000);
afterAll(async () => {
  if (postgresObstacle() !== undefined) return;
  await server[Symbol.asyncDispose]();
  await pki[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

const open = (url: string, passwordFile?: string) =>
  openStore(
    { url, ...(passwordFile === undefined ? {} : { passwordFile }) },
    { log: pino({ level: 'silent' }), now: Date.now },
  );
const over = (url: string, options: string, host = 'localhost') => `${url.replace('127.0.0.1', host)}?${options}`;

async function query(url: string, text: string): Promise<unknown[]> {
  const client = new pg.Client(url);
  await client.connect();
  const { rows } = await client.query(text);
  await client.end();
  return rows as unknown[];
}

describe('a PostgreSQL behind TLS', () => {
  test('is spoken to in TLS alone, bus and all, with a password from a file', async () => {
    const url = await server.newDatabase();
    await query(url, "create role keeper login password 'p&w/=?é'; grant all on schema public to keeper");
    const passwordFile = path.join(folder, 'password');
    await writeFile(passwordFile, 'p&w/=?é\n');
    const keeper = url.replace('exhibit@', 'keeper@');
    const verified = over(keeper, `sslmode=verify-full&sslrootcert=${pki.caFile('controller')}`);
    await using store = await open(verified, passwordFile);
    const heard = Promise.withResolvers<string>();
    using _ear = store.bus.subscribe('commands', heard.resolve);
    await store.appendAudit([anEntry({ action: 'over-tls' })]);
    await store.bus.publish('commands', 'east/n1');
    expect(await heard.promise).toBe('east/n1');
    const connections = await query(
      url,
      "select ssl, version from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'exhibit-controller'",
    );
    expect(connections.length).toBeGreaterThanOrEqual(2);
    for (const one of connections) expect(one).toMatchObject({ ssl: true, version: 'TLSv1.3' });
  });

  test.each([
    ['of an authority that is not trusted', 'agents', 'localhost', /unable to verify|self-signed/],
    ['of another name', 'controller', '127.0.0.2', /does not match certificate/],
  ] as const)('%s is not told anything', async (_what, authority, host, words) => {
    const url = await server.newDatabase();
    const wrong = over(url, `sslmode=verify-full&sslrootcert=${pki.caFile(authority)}`, host);
    const refused = await open(wrong).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(isExhibitError(refused)).toBe(true);
    expect(explain(refused)).toMatch(words);
    expect(await query(url, "select * from pg_tables where schemaname = 'public'")).toEqual([]);
  });
});
