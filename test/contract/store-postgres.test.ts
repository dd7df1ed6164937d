import pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll } from 'vitest';
import { openStore } from '../../controller/store/open.ts';
import type { Store } from '../../controller/store/store.ts';
import { type LabPostgres, postgresObstacle, startPostgres } from '../lab/postgres.ts';
import { storeContract } from './store.ts';

const obstacle = postgresObstacle();
let server: LabPostgres | undefined;
beforeAll(async () => {
  if (obstacle === undefined) server = await startPostgres();
}, 60_000);
afterAll(() => server?.[Symbol.asyncDispose]());

storeContract(
  'the store in PostgreSQL',
  async () => {
    if (server === undefined) throw new Error('PostgreSQL did not start');
    const url = await server.newDatabase();
    const open = (): Promise<[Store, Store]> => {
      const one = () => openStore({ url }, { log: pino({ level: 'silent' }), now: Date.now });
      return Promise.all([one(), one()]);
    };
    let replicas = await open();
    const close = () => Promise.all(replicas.map((store) => store[Symbol.asyncDispose]()));
    return {
      replicas,
      async raw(statement) {
        const client = new pg.Client(url);
        await client.connect();
        try {
          return (await client.query(statement)).rows;
        } finally {
          await client.end();
        }
      },
      async reopen() {
        await close();
        replicas = await open();
        return replicas;
      },
      async [Symbol.asyncDispose]() {
        await close();
      },
    };
  },
  obstacle,
);
