import grpc from '@grpc/grpc-js';
import type { AgentMessage__Output } from '../../proto/gen/exhibit/controller/v1/AgentMessage.ts';
import type { ControllerMessage } from '../../proto/gen/exhibit/controller/v1/ControllerMessage.ts';
import type { Capture__Output } from '../../proto/gen/exhibit/v1/Capture.ts';
import { Patience } from '../../proto/patience.ts';
import type { AgentIdentity } from '../identity/identity.ts';
import type { CaptureRow, CaptureState, NodeTouch } from '../store/store.ts';

export type AgentCall = grpc.ServerDuplexStream<AgentMessage__Output, ControllerMessage>;

/** Messages that wait for an agent that reads slowly; each is a few hundred bytes. Then the stream ends. */
const MAX_SENDING = 64;
/** Messages that wait for the store. Then nothing more is read, and HTTP/2 holds the agent back. */
const MAX_INBOX = 16;
/** Of captures that one node has open or tells of, and a stream has to do with. */
const MAX_KNOWN = 2_000;
/** Pods of one node whose digests are kept; EKS runs 250 on one at most. */
const MAX_PODS = 1_000;
/** Messages that no agent of any version sends: ids that are none, refusals of what is not its own. */
const MAX_NONSENSE = 20;

/** What this stream knows of a capture, so that most of what it tells needs no question to the store. */
export interface Known {
  readonly caseId: string;
  state: CaptureState;
  told: Capture__Output | null;
  acceptedAtMs: number;
  waits: boolean;
  /** Sent on this stream. */
  commanded: boolean;
  cancelled: boolean;
  nextProgressMs: number;
}

export interface SessionEvents {
  /** In the order of the stream; the next one comes when this one is done. Rejecting ends the stream. */
  onMessage(session: Session, message: AgentMessage__Output): Promise<void>;
  onLookup(session: Session, message: AgentMessage__Output): void;
  /** It rejected: says with what the stream ends. */
  onFault(session: Session, error: unknown): void;
  onEnd(session: Session): void;
}

/** One stream of one agent, from its first message to its end. No timers and no buffers of its own beyond the bounds above. */
export class Session {
  readonly node: AgentIdentity;
  readonly key: string;
  readonly id: string;
  readonly peer: string;
  readonly connectedAtMs: number;
  lastSeenMs: number;
  running = 0;
  waiting = 0;
  /** Something was heard since the store last learned it. */
  touched = false;
  /** The agent said hello, and the store has the node. */
  ready = false;
  greeted = false;
  dispatching = false;
  dispatchAgain = false;
  /** Since when the agent has not read what was sent; 0: it has. */
  blockedSinceMs = 0;
  ended = false;
  readonly #call: AgentCall;
  readonly #events: SessionEvents;
  readonly #now: () => number;
  #inbox: AgentMessage__Output[] | undefined;
  #known: Map<string, Known> | undefined;
  #room: PromiseWithResolvers<void> | undefined;
  #nonsense = 0;
  #unknown: Patience | undefined;
  #pods: Uint32Array | undefined;

  constructor(call: AgentCall, node: AgentIdentity, id: string, events: SessionEvents, now: () => number) {
    this.#call = call;
    this.#events = events;
    this.#now = now;
    this.node = node;
    this.key = `${node.cluster}/${node.node}`;
    this.id = id;
    this.peer = call.getPeer();
    this.connectedAtMs = now();
    this.lastSeenMs = this.connectedAtMs;
    call.on('data', (message: AgentMessage__Output) => this.#receive(message));
    call.on('end', () => this.end(grpc.status.OK, ''));
    call.on('cancelled', () => this.#gone());
    call.on('error', () => this.#gone());
    call.on('drain', () => this.#drained());
  }

  /** False, and the stream has ended, when too much waits already. */
  send(message: ControllerMessage): boolean {
    if (this.ended) return false;
    if (this.#call.writableLength >= MAX_SENDING) {
      this.end(grpc.status.RESOURCE_EXHAUSTED, 'The agent does not read what it is sent');
      return false;
    }
    if (!this.#call.write(message) && this.blockedSinceMs === 0) this.blockedSinceMs = this.#now();
    return true;
  }

  /** Resolves when the agent has read enough, or is gone. */
  async room(): Promise<void> {
    if (this.blockedSinceMs === 0 || this.ended) return;
    this.#room ??= Promise.withResolvers();
    await this.#room.promise;
  }

  /** Says why, as far as the agent still listens. */
  end(code: grpc.status, details: string): void {
    if (this.ended) return;
    const call = this.#call;
    this.#gone();
    if (code === grpc.status.OK) call.end();
    else call.emit('error', { code, details });
  }

  /** As the agent told last; a pod that began since is not among them. */
  hasPod(digest: number): boolean {
    return this.#pods?.includes(digest) === true;
  }

  puzzled(): void {
    this.#nonsense += 1;
    if (this.#nonsense > MAX_NONSENSE) this.end(grpc.status.INVALID_ARGUMENT, 'These messages make no sense');
  }

  /** Of a newer agent, to which it has to mean no more than if it had not been said. */
  passOver(): void {
    this.#unknown ??= new Patience();
    if (!this.#unknown.bears(this.#now())) this.end(grpc.status.INVALID_ARGUMENT, 'There is more than makes sense');
  }

  known(captureId: string): Known | undefined {
    return this.#known?.get(captureId);
  }

  /** Takes over what the store has; what this stream has carried stays as it is. */
  remember(row: CaptureRow): Known {
    this.#known ??= new Map();
    const { caseId, state, told, acceptedAtMs, waits } = row;
    let known = this.#known.get(row.captureId);
    if (known === undefined) {
      known = { caseId, state, told, acceptedAtMs, waits, commanded: false, cancelled: false, nextProgressMs: 0 };
      this.#known.set(row.captureId, known);
    } else Object.assign(known, { state, told, acceptedAtMs, waits });
    // Forgetting one costs no more than telling it again.
    const oldest = this.#known.size > MAX_KNOWN ? this.#known.keys().next().value : undefined;
    if (oldest !== undefined) this.#known.delete(oldest);
    return known;
  }

  forget(captureId: string): void {
    this.#known?.delete(captureId);
    if (this.#known?.size === 0) this.#known = undefined;
  }

  touch(): NodeTouch {
    this.touched = false;
    const { cluster, node } = this.node;
    const { id: sessionId, lastSeenMs, running, waiting } = this;
    return { cluster, node, sessionId, lastSeenMs, running, waiting };
  }

  #receive(message: AgentMessage__Output): void {
    if (this.ended) return;
    this.lastSeenMs = this.#now();
    this.touched = true;
    if (message.heartbeat) {
      this.running = message.heartbeat.running;
      this.waiting = message.heartbeat.waiting;
      const { pods } = message.heartbeat;
      if (pods) this.#pods = pods.digests.length > MAX_PODS ? undefined : Uint32Array.from(pods.digests);
    }
    if (this.ready && message.lookup) {
      this.#events.onLookup(this, message);
      return;
    }
    if (this.#inbox !== undefined) {
      this.#inbox.push(message);
      if (this.#inbox.length >= MAX_INBOX) this.#call.pause();
      return;
    }
    this.#inbox = [message];
    this.#work(this.#inbox).catch((error: unknown) => this.#events.onFault(this, error));
  }

  async #work(inbox: AgentMessage__Output[]): Promise<void> {
    try {
      for (let next = inbox.shift(); next !== undefined && !this.ended; next = inbox.shift()) {
        await this.#events.onMessage(this, next);
        if (inbox.length === 0 && this.#call.isPaused()) this.#call.resume();
      }
    } finally {
      this.#inbox = undefined;
    }
  }

  #drained(): void {
    this.blockedSinceMs = 0;
    this.#room?.resolve();
    this.#room = undefined;
  }

  #gone(): void {
    if (this.ended) return;
    this.ended = true;
    this.#drained();
    this.#known = undefined;
    this.#events.onEnd(this);
  }
}
