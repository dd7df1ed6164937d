import { setTimeout as sleepMs } from 'node:timers/promises';
import type { Logger } from 'pino';
import { explain } from '../../evidence/error.ts';
import { apartWords, PROTOCOL } from '../../proto/compatibility.ts';
import type { Hello } from '../../proto/gen/exhibit/controller/v1/Hello.ts';
import type { CaptureEvent, Captures, Told } from '../capture/captures.ts';
import type { JournalEntry } from '../capture/journal.ts';
import type { Runtime } from '../runtime/runtime.ts';
import { Commands } from './controller-commands.ts';
import type { ControllerConfig } from './controller-config.ts';
import { Debts } from './controller-debts.ts';
import { dialController } from './controller-dial.ts';
import { openLookups, podDigests } from './controller-lookup.ts';
import type { Outbox } from './controller-outbox.ts';
import { holdStream } from './controller-stream.ts';
import { type RequestDefaults, readRequest } from './request.ts';
import { type WireOptions, wireEvent } from './wire.ts';

/**
 * The trigger that dials the controller and holds one stream to it: commands come in, and everything that is captured on this
 * node is told. Whether the controller is there makes no difference to any other trigger. docs/controller-link.md.
 */
export interface ControllerTrigger extends AsyncDisposable {
  status(): ControllerStatus;
}

export interface ControllerStatus {
  /** Since when the controller has taken the agent in; undefined: it has not. */
  readonly upSinceMs: number | undefined;
  /** Why the last stream ended or none came to be; undefined before the first. */
  readonly why: string | undefined;
  /** Of the controller that has taken the agent in. */
  readonly version?: string | undefined;
  /** That it and the agent are too far apart, in words; undefined where they are not. */
  readonly apart?: string | undefined;
  /** Since the agent began: streams that were taken in, and attempts that are over. For those who count. */
  readonly tally?: { readonly welcomes: number; readonly ends: number };
}

export interface ControllerOptions extends WireOptions {
  readonly config: ControllerConfig;
  readonly captures: Captures;
  /** In the order in which they are asked for a target. */
  readonly runtimes: readonly Runtime[];
  readonly defaults: RequestDefaults;
  /** What the node is and has; the rest of the greeting is of the moment. */
  readonly self: Pick<Hello, 'cluster' | 'node' | 'agentVersion' | 'bootId' | 'artifacts' | 'sinks' | 'pod'>;
  readonly sinks: readonly string[];
  readonly now: () => number;
  readonly random: () => number;
  readonly log: Logger;
}

/** A stream that held this long counts as a success; one that a controller drops at once does not. */
const HEALTHY_MS = 30_000;
/** The greeting does not wait for a runtime that hangs. */
const IDENTIFY_TIMEOUT_MS = 2_000;
/** For people who watch; the controller passes on no more than this. */
const PROGRESS_EVERY_MS = 1_000;
/** After a start, the captures of other triggers that the controller may not know: those of about a day. */
const RECENT = { entries: 100, ms: 24 * 3_600_000 };
/** The same trouble is said again after so many attempts: at most every few minutes. */
const SAY_AGAIN_EVERY = 20;

/** The longest pause after so many failures in a row, full jitter: a fleet that was cut off together does not come back together. */
export function reconnectMs(failures: number, bounds: ControllerConfig['reconnect'], random: number): number {
  return Math.round(random * Math.min(bounds.maxMs, bounds.firstMs * 2 ** Math.min(failures, 30)));
}

export function openControllerTrigger(options: ControllerOptions): ControllerTrigger {
  const stop = new AbortController();
  const trigger = new Dialler(options, stop.signal);
  const running = trigger.run();
  return {
    status: () => ({ ...trigger.status, tally: trigger.tally }),
    async [Symbol.asyncDispose]() {
      stop.abort(new Error('the agent is stopping'));
      await running;
    },
  };
}

class Dialler {
  status: ControllerStatus = { upSinceMs: undefined, why: undefined };
  #welcomes = 0;
  #ends = 0;
  readonly #options: ControllerOptions;
  readonly #signal: AbortSignal;
  readonly #debts = new Debts();
  readonly #commands: Commands;
  readonly #answerLookup: ReturnType<typeof openLookups>;
  /** When progress of a capture may be told again. */
  readonly #nextProgressMs = new Map<string, number>();
  #outbox: Outbox | undefined;

  get tally() {
    return { welcomes: this.#welcomes, ends: this.#ends };
  }

  constructor(options: ControllerOptions, signal: AbortSignal) {
    this.#options = options;
    this.#signal = signal;
    this.#answerLookup = openLookups(options.runtimes);
    this.#commands = new Commands({
      ...options,
      read: (message) => readRequest(message, options),
      controllerName: options.config.serverName ?? options.config.address,
      say: (message) => this.#outbox?.send(message),
      retell: (past) => this.#retell(past),
    });
  }

  async run(): Promise<void> {
    const { captures, now } = this.#options;
    using _watch = captures.watch((told) => this.#onTold(told));
    for (const entry of captures.list(RECENT.entries).toReversed())
      if (isOthers(entry) && now() - entry.startedAtMs < RECENT.ms) this.#debts.owe(entry.captureId);
    await this.#keepDialling();
  }

  async #keepDialling(): Promise<void> {
    const { config, log, now, random } = this.#options;
    let failures = 0;
    let said = '';
    while (!this.#signal.aborted) {
      const beganMs = now();
      const why = await this.#attempt();
      this.#ends += 1;
      this.status = { upSinceMs: undefined, why };
      if (this.#signal.aborted) return;
      if (now() - beganMs >= HEALTHY_MS) failures = 0;
      const pauseMs = reconnectMs(failures, config.reconnect, random());
      const fields = { controller: config.address, reason: why, attempt: failures + 1, pauseMs };
      if (why !== said || failures % SAY_AGAIN_EVERY === 0) log.warn(fields, 'no stream to the controller');
      else log.debug(fields, 'no stream to the controller');
      said = why;
      failures += 1;
      await sleepMs(pauseMs, undefined, { signal: this.#signal }).catch(() => undefined);
    }
  }

  /** One connection, from its certificates to its end. Resolves with why it ended. */
  async #attempt(): Promise<string> {
    const { config, log, now } = this.#options;
    try {
      const client = await dialController(config, now());
      try {
        const parts = { hello: await this.#hello(), commands: this.#commands, debts: this.#debts, now, log };
        return await holdStream(
          client.Connect(),
          {
            ...parts,
            answerLookup: this.#answerLookup,
            load: () => this.#load(),
            pods: () => podDigests(this.#options.runtimes),
            onWelcome: (outbox, { controllerVersion }) => {
              log.info({ controller: config.address, controllerVersion }, 'stream to the controller is up');
              const apart = this.#apartFrom(controllerVersion);
              this.#outbox = outbox;
              this.#welcomes += 1;
              this.status = { upSinceMs: now(), why: undefined, version: controllerVersion, apart };
              this.#tellDebts();
            },
          },
          this.#signal,
        );
      } finally {
        this.#outbox = undefined;
        client.close();
      }
    } catch (error) {
      return explain(error);
    }
  }

  #apartFrom(controllerVersion: string): string | undefined {
    const agent = { name: 'agent', version: this.#options.self.agentVersion ?? '' };
    const apart = apartWords(agent, { name: 'controller', version: controllerVersion });
    if (apart !== undefined) this.#options.log.warn({ controllerVersion, version: agent.version }, apart);
    return apart;
  }

  async #hello(): Promise<Hello> {
    const { self, runtimes, now } = this.#options;
    const runtime = runtimes[0];
    const identity = await runtime?.identify(AbortSignal.timeout(IDENTIFY_TIMEOUT_MS)).catch(() => undefined);
    return {
      ...self,
      protocol: PROTOCOL,
      runtimeName: identity?.name ?? runtime?.kind ?? '',
      runtimeVersion: identity?.version ?? '',
      clockMs: now(),
    };
  }

  #load() {
    let running = 0;
    let waiting = 0;
    for (const entry of this.#options.captures.list(Number.POSITIVE_INFINITY)) {
      if (entry.state === 'running') running += 1;
      else if ((entry.waiting ?? []).length > 0) waiting += 1;
    }
    return { running, waiting };
  }

  #onTold({ entry, event }: Told): void {
    const { captureId } = entry;
    if (event.kind === 'stage-progress') {
      this.#onProgress(entry, event);
      return;
    }
    if (event.kind === 'ended') this.#nextProgressMs.delete(captureId);
    if (isOthers(entry)) this.#debts.owe(captureId);
    this.#send(entry, event);
    if (this.#outbox !== undefined) this.#debts.told(captureId);
  }

  #onProgress(entry: JournalEntry, event: CaptureEvent): void {
    if (this.#outbox === undefined) return;
    const nowMs = this.#options.now();
    if (nowMs < (this.#nextProgressMs.get(entry.captureId) ?? 0)) return;
    this.#nextProgressMs.set(entry.captureId, nowMs + PROGRESS_EVERY_MS);
    this.#outbox.progress(entry.captureId, { news: this.#news(entry, event) });
  }

  /** Captures of others of which the controller may not know the latest. */
  #tellDebts(): void {
    const { captures, log } = this.#options;
    const tell = async () => {
      for (const captureId of this.#debts.renew()) {
        const outbox = this.#outbox;
        const past = await captures.recall(captureId).catch(() => undefined);
        if (outbox === undefined || outbox !== this.#outbox) return;
        await this.#retell(past ?? []);
        this.#debts.told(captureId);
      }
    };
    tell().catch((error: unknown) => log.error({ error: explain(error) }, 'captures of the node were not told'));
  }

  async #retell(past: readonly Told[]): Promise<void> {
    const outbox = this.#outbox;
    for (const { entry, event } of past) {
      await outbox?.room();
      if (outbox !== this.#outbox) return;
      if (event.kind !== 'stage-progress') this.#send(entry, event);
    }
  }

  #send(entry: JournalEntry, event: CaptureEvent): void {
    this.#outbox?.send({ news: this.#news(entry, event) });
  }

  #news(entry: JournalEntry, event: CaptureEvent) {
    const { captureId, asked } = entry;
    const wire = wireEvent({ captureId, created: true }, event, this.#options);
    if (!isOthers(entry)) return { event: wire };
    const { trigger = 'unknown', identity = '', selector = entry.target, artifacts = [], namespace = '' } = asked ?? {};
    return { event: wire, trigger, requestedBy: identity, selector, artifacts, namespace };
  }
}

const isOthers = ({ asked }: JournalEntry): boolean => asked?.trigger !== 'controller';
