import type { AgentMessage } from '../../proto/gen/exhibit/controller/v1/AgentMessage.ts';

/** What the outbox needs of a call; gRPC's duplex streams have it. */
export interface Writable {
  write(message: AgentMessage): boolean;
  on(event: 'drain', listener: () => void): unknown;
}

/** Events of a few captures; a controller that does not read them is told everything again on the next stream. */
const MAX_WAITING = 256;
/** More captures than run on one node. */
const MAX_PROGRESS = 64;

/**
 * What the stream has not taken yet, within bounds: of progress the latest of each capture, of all else everything, or the
 * stream ends.
 */
export class Outbox {
  readonly #call: Writable;
  readonly #overflow: () => void;
  readonly #waiting: AgentMessage[] = [];
  readonly #progress = new Map<string, AgentMessage>();
  #blocked = false;
  #closed = false;
  #room: PromiseWithResolvers<void> | undefined;

  constructor(call: Writable, overflow: () => void) {
    this.#call = call;
    this.#overflow = overflow;
    call.on('drain', () => this.#drain());
  }

  send(message: AgentMessage): void {
    if (this.#closed) return;
    if (!this.#blocked) this.#write(message);
    else if (this.#waiting.length < MAX_WAITING) this.#waiting.push(message);
    else {
      this.close();
      this.#overflow();
    }
  }

  progress(captureId: string, message: AgentMessage): void {
    if (this.#closed) return;
    if (!this.#blocked) this.#write(message);
    else if (this.#progress.size < MAX_PROGRESS || this.#progress.has(captureId))
      this.#progress.set(captureId, message);
  }

  /** Resolves when the stream takes more, or is closed: for what can wait, such as telling again what was told before. */
  async room(): Promise<void> {
    while (this.#blocked && !this.#closed) {
      this.#room ??= Promise.withResolvers();
      await this.#room.promise;
    }
  }

  close(): void {
    this.#closed = true;
    this.#waiting.length = 0;
    this.#progress.clear();
    this.#room?.resolve();
  }

  #write(message: AgentMessage): void {
    this.#blocked = !this.#call.write(message);
  }

  #drain(): void {
    this.#blocked = false;
    while (!this.#blocked && !this.#closed) {
      const next = this.#waiting.shift() ?? this.#nextProgress();
      if (next === undefined) break;
      this.#write(next);
    }
    if (this.#blocked) return;
    this.#room?.resolve();
    this.#room = undefined;
  }

  #nextProgress(): AgentMessage | undefined {
    for (const [captureId, message] of this.#progress) {
      this.#progress.delete(captureId);
      return message;
    }
    return undefined;
  }
}
