import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { pino } from 'pino';
import { openStore } from '../../controller/store/open.ts';
import type { Store } from '../../controller/store/store.ts';
import { storeContract } from './store.ts';

storeContract('the store in SQLite', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'exhibit-store-'));
  const file = path.join(folder, 'controller.db');
  const open = () => openStore({ url: `sqlite:${file}` }, { log: pino({ level: 'silent' }), now: Date.now });
  let store: Store = await open();
  const twice = (): readonly [Store, Store] => [store, store];
  return {
    replicas: twice(),
    async raw(statement) {
      const database = new DatabaseSync(file);
      try {
        return database.prepare(statement).all();
      } finally {
        database.close();
      }
    },
    async reopen() {
      await store[Symbol.asyncDispose]();
      store = await open();
      return twice();
    },
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      await rm(folder, { recursive: true });
    },
  };
});
