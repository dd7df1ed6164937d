import { randomUUID } from 'node:crypto';
import { setTimeout as sleepMs } from 'node:timers/promises';
import type { PeerCertificate, TLSSocket } from 'node:tls';
import grpc from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import { apartWords, PROTOCOL } from '../../proto/compatibility.ts';
import type { AgentMessage__Output } from '../../proto/gen/exhibit/controller/v1/AgentMessage.ts';
import type { Hello__Output } from '../../proto/gen/exhibit/controller/v1/Hello.ts';
import { loadLink } from '../../proto/load.ts';
import type { AgentIdentity } from '../identity/identity.ts';
import type { NodeName, Store } from '../store/store.ts';
import { Refusals } from './audit.ts';
import { type DispatchParts, dispatch } from './dispatch.ts';
import { readHello } from './hello.ts';
import type { AgentLinks, Answer, Question } from './link.ts';
import { LookupDesk } from './lookup.ts';
import { NewsDesk } from './news.ts';
import { type AgentCall, Session, type SessionEvents } from './session.ts';
import { createTurns } from './turns.ts';
import { startUpkeep } from './upkeep.ts';

export interface LinkOptions {
  readonly store: Store;
  /** The node of a certificate that the listener has verified. @throws ExhibitError `unauthenticated` */
  readonly identify: (certificate: PeerCertificate | undefined) => AgentIdentity;
  readonly version: string;
  readonly now: () => number;
  readonly log: Logger;
  /** For those who count: a stream was refused. */
  readonly onRefused?: ((why: 'unauthenticated' | 'impostor' | 'protocol' | 'malformed') => void) | undefined;
  /** How often agents say that they live; twice without a word and the stream is ended. */
  readonly heartbeatMs?: number;
  readonly lookupTimeoutMs?: number;
}

export interface OpenLinks extends AgentLinks {
  /** Takes over a connection of an agent; its certificate is verified, and its protocol is `h2`. */
  inject(socket: TLSSocket): void;
}

/** 3,000 agents are 200 messages a second. */
const HEARTBEAT_MS = 15_000;
const LOOKUP_TIMEOUT_MS = 2_000;
/** Agents that are taken in, or told what is open, at the same time: a fleet that comes back must not bury the store. */
const AT_ONCE = 32;
/** Of a fleet that is updated there are some; a hostile agent may have a new one at each greeting. */
const MAX_APART = 20;
/** For what the store is told last; one that hangs is not waited for. */
const LAST_WORDS_MS = 2_000;

const SERVER_OPTIONS: grpc.ServerOptions = {
  /** A greeting, an event, the containers of a node; see MAX_ANSWER_CHARS of the agent's lookups. */
  'grpc.max_receive_message_length': 1024 * 1024,
  /** A stream, and the next one where the agent has not noticed yet that the first is gone. */
  'grpc.max_concurrent_streams': 4,
  /** A connection without a stream is nobody's. */
  'grpc.max_connection_idle_ms': 30_000,
  /** Statistics of gRPC that nobody asks for, for each connection. */
  'grpc.enable_channelz': 0,
};

/** The agents' end of the controller. Disposal ends every stream; the agents then look for another controller. */
export function openAgentLinks(options: LinkOptions): OpenLinks {
  return new Links(options);
}

class Links implements OpenLinks {
  readonly #options: LinkOptions;
  readonly #heartbeatMs: number;
  readonly #server = new grpc.Server(SERVER_OPTIONS);
  readonly #injector: ReturnType<grpc.Server['createConnectionInjector']>;
  readonly #sockets = new Map<string, TLSSocket>();
  /** Every stream, also one that has not said who it is. */
  readonly #streams = new Set<Session>();
  /** The one of each node. */
  readonly #sessions = new Map<string, Session>();
  /** Nodes whose stream ended while the store could not learn it. */
  readonly #gone = new Map<string, Session>();
  readonly #turns = createTurns(AT_ONCE);
  readonly #refusals: Refusals;
  readonly #news: NewsDesk;
  readonly #lookups: LookupDesk;
  readonly #parts: DispatchParts;
  /** One for all streams. */
  readonly #events: SessionEvents = {
    onMessage: (session, message) => this.#onMessage(session, message),
    onLookup: (session, { lookup }) => {
      if (lookup) this.#lookups.answer(session, lookup);
    },
    onFault: (session, error) => this.#onFault(session, error),
    onEnd: (session) => this.#onEnd(session),
  };
  readonly #owned = new DisposableStack();
  /** Versions of agents that were told to be too far from this one. */
  readonly #apart = new Set<string>();
  readonly #work = new Set<Promise<void>>();

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#heartbeatMs = options.heartbeatMs ?? HEARTBEAT_MS;
    const { store } = options;
    this.#refusals = new Refusals(options);
    this.#news = new NewsDesk({ ...options, refusals: this.#refusals });
    this.#lookups = new LookupDesk(options.lookupTimeoutMs ?? LOOKUP_TIMEOUT_MS);
    this.#parts = { ...options, news: this.#news, turns: this.#turns };
    this.#server.addService(loadLink().AgentLink.service, { Connect: (call: AgentCall) => this.#accept(call) });
    this.#injector = this.#server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
    this.#owned.use(store.bus.subscribe('commands', (key) => this.#wake(this.#sessions.get(key), true)));
    this.#owned.use(store.bus.onGap(() => this.#wakeAll()));
    this.#owned.use(
      startUpkeep({
        ...{ ...options, heartbeatMs: this.#heartbeatMs, news: this.#news },
        ...{ streams: this.#streams, sessions: this.#sessions, gone: this.#gone },
        cut: (session) => this.#cut(session),
      }),
    );
  }

  inject(socket: TLSSocket): void {
    const peer = `${socket.remoteAddress}:${socket.remotePort}`;
    this.#sockets.set(peer, socket);
    socket.once('close', () => {
      if (this.#sockets.get(peer) === socket) this.#sockets.delete(peer);
    });
    this.#injector.injectConnection(socket);
  }

  connected(): readonly NodeName[] {
    return [...this.#sessions.values()].filter(({ ready }) => ready).map(({ node }) => node);
  }

  lookup(wanted: (node: NodeName) => boolean, question: Question, signal: AbortSignal): AsyncIterable<Answer> {
    const asked = [...this.#sessions.values()].filter(({ ready, node }) => ready && wanted(node));
    return this.#lookups.ask(asked, question, signal);
  }

  wake({ cluster, node }: NodeName): void {
    this.#wake(this.#sessions.get(`${cluster}/${node}`), false);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#owned.dispose();
    for (const session of [...this.#streams]) session.end(grpc.status.UNAVAILABLE, 'The controller is stopping');
    await Promise.race([Promise.allSettled(this.#work), sleepMs(LAST_WORDS_MS, undefined, { ref: false })]);
    this.#server.forceShutdown();
  }

  #accept(call: AgentCall): void {
    let agent: AgentIdentity;
    try {
      agent = this.#options.identify(call.getAuthContext().sslPeerCertificate);
    } catch (error) {
      this.#refusals.note(undefined, explain(error), { reason: explain(error), peer: call.getPeer() });
      this.#options.onRefused?.('unauthenticated');
      call.emit('error', { code: grpc.status.UNAUTHENTICATED, details: explain(error) });
      return;
    }
    this.#streams.add(new Session(call, agent, randomUUID(), this.#events, this.#options.now));
  }

  async #onMessage(session: Session, message: AgentMessage__Output): Promise<void> {
    const { hello, heartbeat, received, refusal, news } = message;
    if (session.greeted === (hello !== undefined && hello !== null)) {
      const details = session.greeted ? 'A greeting comes once' : 'The first message is a greeting';
      session.end(grpc.status.INVALID_ARGUMENT, details);
    } else if (hello) await this.#takeIn(session, hello);
    // Behind everything that came before it: that is what its answer tells the agent.
    else if (heartbeat) session.send({ heartbeat });
    else if (refusal) await this.#news.refused(session, refusal);
    else if (news) await this.#news.take(session, news);
    else if (!received) session.passOver();
  }

  async #takeIn(session: Session, hello: Hello__Output): Promise<void> {
    const { store, now, version, log } = this.#options;
    session.greeted = true;
    const greeting = readHello(hello, session.node, now());
    if (greeting.kind === 'refused') {
      const { why, words } = greeting;
      this.#options.onRefused?.(why);
      this.#refusals.note(session.node, why, { reason: words, peer: session.peer });
      session.end(why === 'impostor' ? grpc.status.PERMISSION_DENIED : grpc.status.FAILED_PRECONDITION, words);
      return;
    }
    const before = this.#sessions.get(session.key);
    this.#sessions.set(session.key, session);
    before?.end(grpc.status.ABORTED, 'A newer stream of this node took the place of this one');
    await this.#turns(async () => {
      if (session.ended) return;
      const { connectedAtMs, lastSeenMs, id: sessionId } = session;
      const { replicaId } = store.bus;
      await store.putNode({ ...greeting.row, sessionId, replicaId, connectedAtMs, lastSeenMs });
      this.#gone.delete(session.key);
      session.ready = true;
      // It ended while the store was asked: the node must not seem to be there.
      if (session.ended) this.#noteGone(session);
    });
    if (session.ended) return;
    session.send({ welcome: { protocol: PROTOCOL, controllerVersion: version, heartbeatMs: this.#heartbeatMs } });
    log.debug({ ...session.node, peer: session.peer }, 'agent connected');
    this.#noteVersion(session, greeting.row.agentVersion);
    this.#wake(session, false);
  }

  /** Once for each version: a fleet that is too old is one line. */
  #noteVersion({ node }: Session, agentVersion: string): void {
    const { version, log } = this.#options;
    if (this.#apart.has(agentVersion) || this.#apart.size >= MAX_APART) return;
    const apart = apartWords({ name: 'agent', version: agentVersion }, { name: 'controller', version });
    if (apart === undefined) return;
    this.#apart.add(agentVersion);
    log.warn({ ...node, agentVersion, version }, `${apart}; of all agents of this version, only this one is told of`);
  }

  #wakeAll(): void {
    for (const session of this.#sessions.values()) this.#wake(session, true);
  }

  /** `doubt`: another replica may hold a newer stream of the node by now. */
  #wake(session: Session | undefined, doubt: boolean): void {
    if (session === undefined || !session.ready || session.ended) return;
    const work = async () => {
      if (!doubt || (await this.#turns(() => this.#isNewest(session)))) await dispatch(session, this.#parts);
    };
    this.#track(work().catch((error: unknown) => this.#onFault(session, error)));
  }

  async #isNewest(session: Session): Promise<boolean> {
    const row = await this.#options.store.node(session.node);
    if (row === undefined || row.sessionId === session.id || row.connectedAtMs < session.connectedAtMs) return true;
    session.end(grpc.status.ABORTED, 'A newer stream of this node took the place of this one, at another replica');
    return false;
  }

  #onFault(session: Session, error: unknown): void {
    if (session.ended) return;
    const stored = isExhibitError(error, 'store-failed');
    this.#options.log.error({ ...session.node, error: explain(error) }, 'stream of an agent ended by a fault of ours');
    const details = stored ? 'The store could not take it; come again' : 'The controller failed; come again';
    session.end(stored ? grpc.status.UNAVAILABLE : grpc.status.INTERNAL, details);
  }

  #onEnd(session: Session): void {
    this.#streams.delete(session);
    this.#lookups.gone(session);
    if (this.#sessions.get(session.key) === session) this.#sessions.delete(session.key);
    if (session.ready) this.#noteGone(session);
  }

  #noteGone(session: Session): void {
    const { store, log } = this.#options;
    const work = store.nodeGone(session.node, session.id, session.lastSeenMs).catch((error: unknown) => {
      log.warn({ ...session.node, error: explain(error) }, 'end of a stream not stored yet');
      if (!this.#sessions.has(session.key)) this.#gone.set(session.key, session);
    });
    this.#track(work);
  }

  /** An agent that reads nothing does not read why either. */
  #cut(session: Session): void {
    this.#sockets.get(session.peer)?.destroy(new ExhibitError('agent-unreachable', 'the agent does not read'));
  }

  #track(work: Promise<void>): void {
    const tracked = work.finally(() => this.#work.delete(tracked));
    this.#work.add(tracked);
  }
}
