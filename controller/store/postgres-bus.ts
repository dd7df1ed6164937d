import { setTimeout as delay } from 'node:timers/promises';
import { sql } from 'kysely';
import pg from 'pg';
import type { Logger } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { explain } from '../../evidence/error.ts';
import { type OwnedBus, requireSize, Subscribers } from './bus.ts';
import type { PostgresSql } from './postgres.ts';
import { clientConfig, type PostgresTarget } from './postgres-client.ts';
import type { Topic } from './store.ts';
import { storableText, textOfStored } from './text.ts';

/** NOTIFY takes less than 8,000 bytes (PostgreSQL's manual); longer messages go by way of a table. */
const MAX_NOTIFY_BYTES = 7_500;

/** Messages of one transaction: PostgreSQL commits those that notify one after the other. */
const MESSAGES_AT_ONCE = 200;

const HEARTBEAT_MS = 5_000;

/** A heartbeat takes milliseconds; without an answer the network is gone, and what is said meanwhile is not heard. */
const BEAT_TIMEOUT_MS = 5_000;

/** Three heartbeats: one may be late, and the next one lost. */
const ALIVE_MS = 15_000;

/** Whoever has not read a message by then has been told of a gap. */
const KEPT_MS = 60_000;

/** A connection's row in write_marks is only asked for within FATE_MS of postgres.ts; connections stay for a long time. */
const MARKS_KEPT_MS = 24 * 3_600_000;

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;

const TOPICS: readonly Topic[] = ['commands', 'captures', 'ask', 'answer'];
const channelOf = (topic: Topic): string => `exhibit_${topic}`;
const topicOf = (channel: string): Topic | undefined => TOPICS.find((topic) => channelOf(topic) === channel);

const NOW = '(extract(epoch from clock_timestamp()) * 1000)::bigint';

/** Over PostgreSQL's LISTEN and NOTIFY; one connection listens, and is made again when it is lost. */
export async function openPostgresBus(store: PostgresSql, target: PostgresTarget, log: Logger): Promise<OwnedBus> {
  const replicaId = uuidv7();
  const subscribers = new Subscribers();
  const listener = new Listener(target, log, { replicaId, store, subscribers });
  await listener.start();
  const publisher = new Publisher(store, replicaId);
  return {
    replicaId,
    publish: (topic, message) => publisher.publish(topic, message),
    subscribe: (topic, handler) => subscribers.subscribe(topic, handler),
    onGap: (handler) => subscribers.onGap(handler),
    replicas: () =>
      store.read(async (db) => {
        const { rows } = await sql<{ replica_id: string }>`select replica_id from replicas
          where replica_id = ${replicaId} or seen_at_ms > ${sql.raw(NOW)} - ${sql.raw(String(ALIVE_MS))} order by replica_id`.execute(
          db,
        );
        return rows.map((row) => row.replica_id);
      }),
    async [Symbol.asyncDispose]() {
      subscribers.clear();
      await listener[Symbol.asyncDispose]();
      await store
        .once((db) => db.deleteFrom('replicas').where('replica_id', '=', replicaId).execute())
        .catch(() => undefined);
    },
  };
}

interface Outgoing {
  readonly topic: Topic;
  readonly message: string;
  resolve(): void;
  reject(error: unknown): void;
}

/** Sends in the order of the calls; those that wait together go together. */
class Publisher {
  readonly #store: PostgresSql;
  readonly #replicaId: string;
  readonly #waiting: Outgoing[] = [];
  #sending = false;
  #count = 0;

  constructor(store: PostgresSql, replicaId: string) {
    this.#store = store;
    this.#replicaId = replicaId;
  }

  publish(topic: Topic, message: string): Promise<void> {
    return new Promise((resolve, reject) => {
      requireSize(message);
      this.#waiting.push({ topic, message, resolve, reject });
      if (!this.#sending) void this.#send();
    });
  }

  async #send(): Promise<void> {
    this.#sending = true;
    while (this.#waiting.length > 0) {
      const some = this.#waiting.splice(0, MESSAGES_AT_ONCE);
      try {
        await this.#store.once(async (db) => {
          const payloads: string[] = [];
          for (const { message } of some) payloads.push(await this.#payload(db, message));
          const channels = some.map(({ topic }) => channelOf(topic));
          await sql`select pg_notify(channel, payload)
            from unnest(${channels}::text[], ${payloads}::text[]) as message (channel, payload)`.execute(db);
        });
        for (const { resolve } of some) resolve();
      } catch (error) {
        for (const { reject } of some) reject(error);
      }
    }
    this.#sending = false;
  }

  /** `SENDER.NUMBER=MESSAGE` or `SENDER.NUMBER#ROW`; PostgreSQL would make one of two messages that are equal. */
  async #payload(db: Parameters<Parameters<PostgresSql['once']>[0]>[0], message: string): Promise<string> {
    this.#count += 1;
    const head = `${this.#replicaId}.${this.#count}`;
    const stored = storableText(message);
    if (Buffer.byteLength(stored) <= MAX_NOTIFY_BYTES) return `${head}=${stored}`;
    const { rows } = await sql<{ id: string }>`insert into bus_messages (message, at_ms)
      values (${message}, ${sql.raw(NOW)}) returning id::text`.execute(db);
    return `${head}#${rows[0]?.id}`;
  }
}

interface Around {
  readonly replicaId: string;
  readonly store: PostgresSql;
  readonly subscribers: Subscribers;
}

class Listener implements AsyncDisposable {
  readonly #target: PostgresTarget;
  readonly #log: Logger;
  readonly #around: Around;
  readonly #ended = new AbortController();
  #running: Promise<void> = Promise.resolve();
  /** Messages in the order they came, though the long ones have to be fetched. */
  #told: Promise<void> = Promise.resolve();

  constructor(target: PostgresTarget, log: Logger, around: Around) {
    this.#target = target;
    this.#log = log;
    this.#around = around;
  }

  async start(): Promise<void> {
    const first = await this.#listen();
    this.#running = this.#run(first);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort();
    await this.#running;
  }

  async #run(first: Listening): Promise<void> {
    let listening: Listening | undefined = first;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      if (listening !== undefined) {
        await listening.lost;
        if (this.#ended.signal.aborted) return;
        this.#log.warn('postgresql no longer tells what other replicas say');
        pauseMs = FIRST_PAUSE_MS;
      }
      await delay(pauseMs * (0.5 + Math.random()), undefined, { signal: this.#ended.signal }).catch(() => undefined);
      if (this.#ended.signal.aborted) return;
      listening = await this.#listen().catch((error) => {
        this.#log.debug({ reason: explain(error) }, 'postgresql cannot be listened to yet');
        return undefined;
      });
      if (listening !== undefined) this.#around.subscribers.tellGap();
    }
  }

  /** Resolves once everything that is published from now on is heard. */
  async #listen(): Promise<Listening> {
    const client = new pg.Client({ ...clientConfig(this.#target), query_timeout: BEAT_TIMEOUT_MS });
    const lost = Promise.withResolvers<void>();
    client.on('error', () => lost.resolve());
    client.on('end', () => lost.resolve());
    client.on('notification', ({ channel, payload }) => this.#hear(channel, payload ?? ''));
    try {
      await client.connect();
      for (const topic of TOPICS) await client.query(`listen ${channelOf(topic)}`);
      await this.#beat(client);
    } catch (error) {
      await client.end().catch(() => undefined);
      throw error;
    }
    return { lost: this.#held(client, lost.promise) };
  }

  /** Until the connection is lost, or this is disposed. The heartbeat notices a network that says nothing. */
  async #held(client: pg.Client, lost: Promise<void>): Promise<void> {
    const over = new AbortController();
    const ended = AbortSignal.any([this.#ended.signal, over.signal]);
    void lost.then(() => over.abort());
    while (!ended.aborted) {
      await delay(HEARTBEAT_MS, undefined, { signal: ended }).catch(() => undefined);
      if (ended.aborted) break;
      await this.#beat(client).catch(() => over.abort());
    }
    await client.end().catch(() => undefined);
  }

  async #beat(client: pg.Client): Promise<void> {
    await client.query(
      `insert into replicas (replica_id, seen_at_ms) values ($1, ${NOW})
       on conflict (replica_id) do update set seen_at_ms = excluded.seen_at_ms`,
      [this.#around.replicaId],
    );
    await client.query(`delete from replicas where seen_at_ms < ${NOW} - ${10 * ALIVE_MS}`);
    await client.query(`delete from bus_messages where at_ms < ${NOW} - ${KEPT_MS}`);
    await client.query(`delete from write_marks where at_ms < ${NOW} - ${MARKS_KEPT_MS}`);
  }

  #hear(channel: string, payload: string): void {
    const topic = topicOf(channel);
    const match = /^[^=#]*([=#])(.*)$/s.exec(payload);
    if (topic === undefined || match === null) return;
    const [, kind, rest = ''] = match;
    this.#told = this.#told.then(async () => {
      const message = kind === '=' ? textOfStored(rest) : await this.#fetch(rest);
      if (message === undefined) this.#around.subscribers.tellGap();
      else if (!this.#ended.signal.aborted) this.#around.subscribers.tell(topic, message);
    });
  }

  async #fetch(id: string): Promise<string | undefined> {
    try {
      return await this.#around.store.read(async (db) => {
        const { rows } = await sql<{
          message: string;
        }>`select message from bus_messages where id = cast(${id} as bigint)`.execute(db);
        return rows[0]?.message;
      });
    } catch (error) {
      this.#log.warn({ reason: explain(error) }, 'a long message of another replica was lost');
      return undefined;
    }
  }
}

interface Listening {
  /** Resolves when the connection is gone. */
  readonly lost: Promise<void>;
}
