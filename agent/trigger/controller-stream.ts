import type grpc from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { ExhibitError, explain } from '../../evidence/error.ts';
import { PROTOCOL } from '../../proto/compatibility.ts';
import type { AgentMessage } from '../../proto/gen/exhibit/controller/v1/AgentMessage.ts';
import type { ControllerMessage__Output } from '../../proto/gen/exhibit/controller/v1/ControllerMessage.ts';
import type { Heartbeat } from '../../proto/gen/exhibit/controller/v1/Heartbeat.ts';
import type { Hello } from '../../proto/gen/exhibit/controller/v1/Hello.ts';
import type { Welcome__Output } from '../../proto/gen/exhibit/controller/v1/Welcome.ts';
import { Patience } from '../../proto/patience.ts';
import type { Commands } from './controller-commands.ts';
import type { Debts } from './controller-debts.ts';
import type { AnswerLookup } from './controller-lookup.ts';
import { Outbox } from './controller-outbox.ts';

/** Longer than a controller needs that takes a whole fleet back at once. */
const WELCOME_TIMEOUT_MS = 20_000;
/** A controller may not ask for a flood of heartbeats, nor for silence. */
const HEARTBEAT_MS = { least: 100, most: 300_000 };
/** Heartbeats without an answer, after which the stream is let go. */
const MISSED_HEARTBEATS = 2;
/** A release; it is logged, and shown by the doctor. */
const MAX_VERSION_CHARS = 256;
/** What no controller of any version says: welcome twice, answers to no heartbeat. Commands are bounded where they are carried out. */
const MAX_NONSENSE = 10;

export type Call = grpc.ClientDuplexStream<AgentMessage, ControllerMessage__Output>;

export interface StreamParts {
  readonly hello: Hello;
  readonly commands: Commands;
  readonly debts: Debts;
  readonly answerLookup: AnswerLookup;
  readonly load: () => Pick<Heartbeat, 'running' | 'waiting'>;
  /** Digests of the node's pods, in order; undefined where they cannot be told. Never rejects. */
  readonly pods: () => Promise<readonly number[] | undefined>;
  /** The controller has taken the agent in. */
  readonly onWelcome: (outbox: Outbox, welcome: Welcome__Output) => void;
  readonly now: () => number;
  readonly log: Logger;
}

/** Holds the stream until it ends, and resolves with why. Never rejects. Aborting the signal ends it. */
export function holdStream(call: Call, parts: StreamParts, signal: AbortSignal): Promise<string> {
  return new AgentStream(call, parts).hold(signal);
}

class AgentStream {
  readonly #call: Call;
  readonly #parts: StreamParts;
  readonly #outbox: Outbox;
  readonly #ended = Promise.withResolvers<string>();
  /** What the answers to heartbeats will confirm, oldest first. */
  readonly #marks: number[] = [];
  #welcomed = false;
  #heartbeats: NodeJS.Timeout | undefined;
  #nonsense = 0;
  readonly #unknown = new Patience();
  #saidUnknown = false;
  /** As they were looked at last, and what the controller was told of them. */
  #pods: readonly number[] | undefined;
  #toldPods = '';
  #looking = false;
  #over = false;

  constructor(call: Call, parts: StreamParts) {
    this.#call = call;
    this.#parts = parts;
    this.#outbox = new Outbox(call, () => this.#end('the controller does not read what it is told'));
  }

  async hold(signal: AbortSignal): Promise<string> {
    const call = this.#call;
    const impatient = () => {
      if (!this.#welcomed) this.#end('the controller did not say welcome');
    };
    const patience = setTimeout(impatient, WELCOME_TIMEOUT_MS);
    const stop = () => this.#end('the agent is stopping');
    signal.addEventListener('abort', stop, { once: true });
    call.on('data', (message: ControllerMessage__Output) => this.#receive(message));
    call.on('error', (error: grpc.ServiceError) => this.#ended.resolve(wordsOf(error)));
    call.on('end', () => this.#ended.resolve('the controller ended the stream'));
    this.#outbox.send({ hello: this.#parts.hello });
    if (signal.aborted) stop();
    const why = await this.#ended.promise;
    this.#over = true;
    clearTimeout(patience);
    clearInterval(this.#heartbeats);
    signal.removeEventListener('abort', stop);
    this.#outbox.close();
    call.cancel();
    return why;
  }

  #end(why: string): void {
    this.#ended.resolve(why);
  }

  #receive(message: ControllerMessage__Output): void {
    const { welcome, capture, cancel, lookup, heartbeat } = message;
    if (!this.#welcomed && !welcome) this.#end('the controller sent something else before its welcome');
    else if (welcome && !this.#welcomed) this.#onWelcome(welcome);
    else if (capture) this.#carryOut(this.#parts.commands.capture(capture));
    else if (cancel) this.#parts.commands.cancel(cancel.captureId);
    else if (lookup)
      this.#carryOut(this.#parts.answerLookup(lookup).then((answer) => this.#outbox.send({ lookup: answer })));
    else if (heartbeat) this.#confirm();
    else if (welcome) this.#puzzled();
    else this.#passOver();
  }

  #carryOut(work: Promise<void>): void {
    work.catch((error: unknown) =>
      this.#parts.log.error({ error: explain(error) }, 'command of the controller failed'),
    );
  }

  #onWelcome(welcome: Welcome__Output): void {
    if (welcome.protocol !== PROTOCOL) {
      this.#end(
        `the controller speaks protocol ${welcome.protocol}, this agent ${PROTOCOL}: update the older of the two`,
      );
      return;
    }
    if (welcome.controllerVersion.length > MAX_VERSION_CHARS) {
      this.#end('the greeting of the controller holds more than a greeting holds');
      return;
    }
    this.#welcomed = true;
    const everyMs = Math.min(HEARTBEAT_MS.most, Math.max(HEARTBEAT_MS.least, welcome.heartbeatMs));
    this.#heartbeats = setInterval(() => this.#beat(), everyMs);
    this.#parts.onWelcome(this.#outbox, welcome);
    // The first answer confirms what is told on connecting.
    this.#beat();
  }

  #beat(): void {
    if (this.#marks.length >= MISSED_HEARTBEATS) {
      this.#end('the controller does not answer heartbeats');
      return;
    }
    this.#marks.push(this.#parts.debts.mark());
    this.#outbox.send({ heartbeat: { atMs: this.#parts.now(), ...this.#parts.load(), ...this.#newPods() } });
    this.#carryOut(this.#lookAtPods());
  }

  #newPods(): Pick<Heartbeat, 'pods'> {
    const text = this.#pods?.join() ?? this.#toldPods;
    if (this.#pods === undefined || text === this.#toldPods) return {};
    this.#toldPods = text;
    return { pods: { digests: [...this.#pods] } };
  }

  /** After the heartbeat, which does not wait for a runtime. */
  async #lookAtPods(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    this.#pods = await this.#parts.pods();
    this.#looking = false;
    this.#tellPods();
  }

  /** The first time at once, later ones with the next heartbeat: pods that come and go must not make more of those. */
  #tellPods(): void {
    if (this.#toldPods === '' && this.#pods?.length && this.#marks.length === 0 && !this.#over) this.#beat();
  }

  #confirm(): void {
    const mark = this.#marks.shift();
    if (mark === undefined) this.#puzzled();
    else this.#parts.debts.confirm(mark);
    this.#tellPods();
  }

  /** Of a newer controller, to which it has to mean no more than if it had not been said. */
  #passOver(): void {
    if (!this.#unknown.bears(this.#parts.now())) this.#end('the controller sends more than makes sense');
    else if (!this.#saidUnknown) {
      this.#saidUnknown = true;
      this.#parts.log.info('the controller says what this agent does not know, which is passed over: it is newer');
    }
  }

  #puzzled(): void {
    this.#nonsense += 1;
    if (this.#nonsense > MAX_NONSENSE) this.#end('the controller sends what makes no sense');
  }
}

function wordsOf(error: grpc.ServiceError): string {
  return explain(new ExhibitError('controller-unreachable', error.details === '' ? error.message : error.details));
}
