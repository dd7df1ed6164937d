import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Store, Topic } from '../../controller/store/store.ts';
import { isExhibitError } from '../../evidence/error.ts';
import type { StartStore, StoreUnderTest } from './store.ts';

export function busContract(start: StartStore): void {
  describe('the bus', () => {
    let under: StoreUnderTest;
    let store: Store;
    let other: Store;
    beforeAll(async () => {
      under = await start();
      [store, other] = under.replicas;
    });
    afterAll(() => under[Symbol.asyncDispose]());

    /** The messages of a topic as one replica hears them, until there are as many. */
    async function heard(
      replica: Store,
      topic: Topic,
      count: number,
      publish: () => Promise<unknown>,
    ): Promise<string[]> {
      const messages: string[] = [];
      const enough = Promise.withResolvers<void>();
      using _subscription = replica.bus.subscribe(topic, (message) => {
        messages.push(message);
        if (messages.length === count) enough.resolve();
      });
      await publish();
      await enough.promise;
      return messages;
    }

    test('tells every replica, the sender too, in the order of one sender', async () => {
      const sent = Array.from({ length: 300 }, (_, at) => `message ${at % 7 === 0 ? 'x'.repeat(9_000) : ''} ${at}`);
      const publish = () => Promise.all(sent.map((message) => store.bus.publish('captures', message)));
      const ears = [...new Set([store, other])];
      const [first, second = first] = await Promise.all(
        ears.map((replica, at) => heard(replica, 'captures', sent.length, at === 0 ? publish : async () => undefined)),
      );
      expect(first).toEqual(sent);
      expect(second).toEqual(sent);
    });

    test('brings messages of every content, equal ones too, up to 1 MiB', async () => {
      const sent = ['', '', "'; drop table captures; --", '\0\ud800\ufdd0', 'é'.repeat(2 ** 19), 'a=b#c', '\n'];
      const got = await heard(other, 'ask', sent.length, async () => {
        for (const message of sent) await store.bus.publish('ask', message);
      });
      expect(got.map((message) => message.length)).toEqual(sent.map((message) => message.length));
      expect(got.every((message, at) => message === sent[at])).toBe(true);
      await expect(store.bus.publish('ask', 'x'.repeat(2 ** 20 + 1))).rejects.toSatisfy((error) =>
        isExhibitError(error, 'internal'),
      );
    });

    test('tells nobody of another topic, or who has left', async () => {
      const messages: string[] = [];
      const left = other.bus.subscribe('answer', (message) => messages.push(message));
      left[Symbol.dispose]();
      using _other = other.bus.subscribe('commands', (message) => messages.push(message));
      await heard(other, 'answer', 1, () => store.bus.publish('answer', 'a'));
      expect(messages).toEqual([]);
    });

    test('knows the replicas that live, and forgets those that ended', async () => {
      const ids = [...new Set([store.bus.replicaId, other.bus.replicaId])].sort();
      expect([...(await store.bus.replicas())].sort()).toEqual(ids);
      const before = store.bus.replicaId;
      [store, other] = await under.reopen();
      expect(await store.bus.replicas()).not.toContain(before);
      expect(await store.bus.replicas()).toContain(other.bus.replicaId);
    });
  });
}
