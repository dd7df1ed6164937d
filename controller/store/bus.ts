import { EventEmitter } from 'node:events';
import { v7 as uuidv7 } from 'uuid';
import { ExhibitError } from '../../evidence/error.ts';
import type { Bus, Topic } from './store.ts';

const MAX_MESSAGE_BYTES = 2 ** 20;

export function requireSize(message: string): void {
  if (Buffer.byteLength(message) > MAX_MESSAGE_BYTES)
    throw new ExhibitError('internal', `a message to the replicas has at most ${MAX_MESSAGE_BYTES} bytes`);
}

/** Who is subscribed to what in this process, and to gaps. */
export class Subscribers {
  readonly #emitter = new EventEmitter().setMaxListeners(0);

  subscribe(topic: Topic, handler: (message: string) => void): Disposable {
    return this.#listen(`topic ${topic}`, handler);
  }

  onGap(handler: () => void): Disposable {
    return this.#listen('gap', () => handler());
  }

  tell(topic: Topic, message: string): void {
    this.#emitter.emit(`topic ${topic}`, message);
  }

  tellGap(): void {
    this.#emitter.emit('gap');
  }

  clear(): void {
    this.#emitter.removeAllListeners();
  }

  #listen(event: string, handler: (message: string) => void): Disposable {
    this.#emitter.on(event, handler);
    return { [Symbol.dispose]: () => this.#emitter.off(event, handler) };
  }
}

export interface OwnedBus extends Bus, AsyncDisposable {}

/** Within this process; a message comes in a later turn of the event loop, as over a network. */
export function openLocalBus(): OwnedBus {
  const subscribers = new Subscribers();
  const replicaId = uuidv7();
  return {
    replicaId,
    async publish(topic, message) {
      requireSize(message);
      setImmediate(() => subscribers.tell(topic, message));
    },
    subscribe: (topic, handler) => subscribers.subscribe(topic, handler),
    onGap: (handler) => subscribers.onGap(handler),
    replicas: async () => [replicaId],
    async [Symbol.asyncDispose]() {
      subscribers.clear();
    },
  };
}
