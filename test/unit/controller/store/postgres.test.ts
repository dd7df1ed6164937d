import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SCHEMA_VERSION } from '../../../../controller/store/migrations.ts';
import { openStore, type StoreConfig } from '../../../../controller/store/open.ts';
import type { Store } from '../../../../controller/store/store.ts';
import { type AuditRow, verifyAudit } from '../../../../evidence/audit-log.ts';
import { isExhibitError } from '../../../../evidence/error.ts';
import { aCapture, aNode, anEntry, aRequest, stored } from '../../../contract/store-rows.ts';
import { type LabPostgres, postgresObstacle, startPostgres } from '../../../lab/postgres.ts';

const obstacle = postgresObstacle();
const open = (url: string, more: Partial<StoreConfig> = {}) =>
  openStore({ url, ...more }, { log: pino({ level: 'silent' }), now: Date.now });

async function refusal(opening: Promise<unknown>): Promise<{ code: string; message: string }> {
  const error = await opening.then(
    () => new Error('it succeeded'),
    (reason: unknown) => reason,
  );
  if (!isExhibitError(error)) throw error;
  return { code: error.code, message: error.message };
}

async function wholeAudit(store: Store): Promise<AuditRow[]> {
  const rows: AuditRow[] = [];
  for (;;) {
    const some = await store.audit({}, { afterSeq: rows.length, limit: 1_000 });
    if (some.length === 0) return rows;
    rows.push(...some);
  }
}

async function query(url: string, statement: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    return (await client.query(statement)).rows;
  } finally {
    await client.end();
  }
}

describe.skipIf(obstacle !== undefined)(
  `the store in PostgreSQL${obstacle === undefined ? '' : `: ${obstacle}`}`,
  () => {
    let server: LabPostgres;
    beforeAll(async () => {
      server = await startPostgres();
    }, 60_000);
    afterAll(() => server[Symbol.asyncDispose]());

    test('is migrated once by replicas that start together', async () => {
      const url = await server.newDatabase();
      const replicas = await Promise.all(Array.from({ length: 6 }, () => open(url)));
      expect(await query(url, 'select version from exhibit_schema order by version')).toHaveLength(SCHEMA_VERSION);
      expect(await replicas[0]?.bus.replicas()).toHaveLength(6);
      await Promise.all(replicas.map((store) => store[Symbol.asyncDispose]()));
      expect(await query(url, 'select * from replicas')).toEqual([]);
    });

    test('is refused in words when it is not fit, or not there', async () => {
      const url = await server.newDatabase();
      await (await open(url))[Symbol.asyncDispose]();
      await query(url, `insert into exhibit_schema values (${SCHEMA_VERSION + 1}, 0)`);
      expect(await refusal(open(url))).toMatchObject({
        code: 'config',
        message: expect.stringContaining('written by a newer controller'),
      });
      const latin = await server.newDatabase({ encoding: 'LATIN1' });
      expect(await refusal(open(latin))).toMatchObject({ code: 'config', message: expect.stringContaining('LATIN1') });
      expect(await refusal(open(url.replace(/[^/]+$/, 'nothing')))).toMatchObject({ code: 'config' });
    });

    test('takes its password from a file, and lets nobody in without', async () => {
      const folder = await mkdtemp(path.join(tmpdir(), 'exhibit-pg-password-'));
      const url = await server.newDatabase();
      await query(url, "create role keeper login password 'it''s p%40ss & wörd'; grant all on schema public to keeper");
      const passwordFile = path.join(folder, 'password');
      const keeper = url.replace('exhibit@', 'keeper@');
      await writeFile(passwordFile, "it's p%40ss & wörd\n");
      const store = await open(keeper, { passwordFile });
      await stored(store, aCapture());
      await store[Symbol.asyncDispose]();
      await writeFile(passwordFile, 'wrong');
      const refused = await refusal(open(keeper, { passwordFile }));
      expect(refused.code).toBe('config');
      expect(refused.message).not.toContain('wrong');
      await rm(folder, { recursive: true });
      expect(await refusal(open(keeper, { passwordFile }))).toMatchObject({
        code: 'config',
        message: expect.stringContaining('cannot be read'),
      });
    });

    test('is restored from pg_dump with its chain whole', async () => {
      const [from, to] = [await server.newDatabase(), await server.newDatabase()];
      await using store = await open(from);
      await stored(store, ...Array.from({ length: 30 }, () => aCapture({ reason: "a\0'\\\ud800" })));
      await store.putNode(aNode());
      const folder = await mkdtemp(path.join(tmpdir(), 'exhibit-pg-dump-'));
      await server.program('pg_dump', ['-d', from, '-f', path.join(folder, 'dump.sql')]);
      await server.program('psql', ['-v', 'ON_ERROR_STOP=1', '-q', '-d', to, '-f', path.join(folder, 'dump.sql')]);
      await rm(folder, { recursive: true });
      await using restored = await open(to);
      expect(await wholeAudit(restored)).toEqual(await wholeAudit(store));
      expect((await restored.captures({}, { limit: 50 })).rows).toEqual((await store.captures({}, { limit: 50 })).rows);
      await restored.appendAudit([anEntry()]);
      expect(verifyAudit(await wholeAudit(restored)).problems).toEqual([]);
      await expect(query(to, 'delete from audit')).rejects.toThrow(/only ever added to/);
    });

    describe('whose server is restarted', () => {
      for (const how of ['fast', 'immediate'] as const) {
        test(`(${how}) in the middle of writes has each of them once, or said that it has not`, async () => {
          const url = await server.newDatabase();
          const replicas = await Promise.all([open(url), open(url)]);
          const [store] = replicas;
          let written = 0;
          const enough = Promise.withResolvers<void>();
          const over = new AbortController();
          const outcomes: { readonly captureId: string; readonly ok: boolean }[] = [];
          async function writer(at: number): Promise<void> {
            while (!over.signal.aborted) {
              const capture = aCapture();
              const { captureId } = capture;
              const replica = replicas[at % 2] ?? store;
              const done = replica.addCaptures(aRequest([capture]), [anEntry({ captureId })]);
              const ok = await done.then(
                () => true,
                (error) => {
                  if (!isExhibitError(error, 'store-failed')) throw error;
                  return false;
                },
              );
              outcomes.push({ captureId, ok });
              written += 1;
              if (written === 150) enough.resolve();
            }
          }
          const gaps = replicas.map((replica) => new Promise<void>((told) => replica.bus.onGap(told)));
          const writers = Array.from({ length: 12 }, (_, at) => writer(at));
          await enough.promise;
          await server.stop(how);
          await server.start();
          await Promise.all(gaps);
          over.abort();
          await Promise.all(writers);
          const audit = await wholeAudit(store);
          expect(verifyAudit(audit).problems).toEqual([]);
          for (const { captureId, ok } of outcomes) {
            expect(audit.filter((entry) => entry.captureId === captureId)).toHaveLength(ok ? 1 : 0);
            expect((await store.capture(captureId)) !== undefined).toBe(ok);
          }
          expect(outcomes.filter(({ ok }) => ok).length).toBeGreaterThan(150);
          const heard = new Promise<string>((told) => replicas[1].bus.subscribe('commands', told));
          await store.bus.publish('commands', 'prod-eu/n1');
          expect(await heard).toBe('prod-eu/n1');
          await Promise.all(replicas.map((replica) => replica[Symbol.asyncDispose]()));
        }, 60_000);
      }

      test('and stays away fails its calls in words, and works again when the server is back', async () => {
        const url = await server.newDatabase();
        await using store = await open(url);
        await server.stop('fast');
        const calls = [
          store.addCaptures(aRequest([aCapture()]), [anEntry()]),
          store.capture('x'),
          store.bus.publish('commands', 'x'),
          store.bus.replicas(),
        ];
        for (const call of calls.map(refusal))
          expect(await call).toEqual({
            code: 'store-failed',
            message: 'PostgreSQL cannot be reached; nothing was stored',
          });
        await server.start();
        await stored(store, aCapture());
        expect(await wholeAudit(store)).toHaveLength(1);
      }, 60_000);
    });

    /** Between the store and the server: cuts the connection of the next commit, before or after the server has had it. */
    async function cutting(url: string) {
      let cut: 'before' | 'after' | undefined;
      let cuts = 0;
      const target = new URL(url);
      const { port, hostname } = target;
      const sockets = new Set<Socket>();
      const proxy = createServer((near) => {
        const far = connect(Number(port), hostname);
        let swallow = false;
        for (const socket of [near, far]) {
          sockets.add(socket);
          socket.on('error', () => undefined);
          socket.on('close', () => {
            near.destroy();
            far.destroy();
          });
        }
        near.on('data', (bytes) => {
          if (cut !== undefined && bytes.includes('commit\0')) {
            cuts += 1;
            if (cut === 'before') near.destroy();
            swallow = cut === 'after';
            cut = undefined;
            if (!swallow) return;
          }
          far.write(bytes);
        });
        far.on('data', (bytes) => (swallow ? near.destroy() : near.write(bytes)));
      }).listen(0, '127.0.0.1');
      await once(proxy, 'listening');
      target.port = String((proxy.address() as AddressInfo).port);
      return {
        url: target.href,
        next: (when: 'before' | 'after') => {
          cut = when;
        },
        cuts: () => cuts,
        async [Symbol.asyncDispose]() {
          for (const socket of sockets) socket.destroy();
          proxy.close();
          await once(proxy, 'close');
        },
      };
    }

    test('does what was asked once, though the answer to its commit is lost, or the commit', async () => {
      await using line = await cutting(await server.newDatabase());
      await using store = await open(line.url);
      for (const [at, when] of (['after', 'before', 'after', 'after', 'before'] as const).entries()) {
        line.next(when);
        await store.appendAudit([anEntry({ action: `${when} ${at}` })]);
        expect(line.cuts()).toBe(at + 1);
      }
      const audit = await wholeAudit(store);
      expect(audit.map(({ action }) => action)).toEqual(['after 0', 'before 1', 'after 2', 'after 3', 'before 4']);
      expect(verifyAudit(audit).problems).toEqual([]);
    }, 60_000);
  },
);
