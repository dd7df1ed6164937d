import type { Logger } from 'pino';
import { explain } from '../../evidence/error.ts';
import type { Captures } from '../capture/captures.ts';
import { makeFolder } from '../host/folder.ts';
import type { Host } from '../host/host.ts';
import { trustFolder } from '../host/trusted-folder.ts';
import { ANSWER_SUFFIX, isRequestName } from './folder-name.ts';
import type { RequestFolderConfig } from './folder-options.ts';
import { FolderPlace } from './folder-place.ts';
import { parseRequestFile } from './folder-request.ts';
import { sweepAnswers, sweepRejected } from './folder-sweep.ts';
import { Taker } from './folder-take.ts';
import { type FolderWatch, watchFolder } from './folder-watch.ts';
import { type RequestDefaults, readRequest } from './request.ts';

/**
 * The trigger for whoever can put a file on the node: a request that is renamed into the folder starts a capture, and the
 * answer appears beside it. The folder is the queue: what is not taken yet stays a file, so nothing is lost with the agent.
 * Who asked is who owns the file.
 */
export interface RequestFolder extends AsyncDisposable {
  /** Resolves when everything that is in the folder now was dealt with. */
  settled(): Promise<void>;
}

export interface RequestFolderOptions {
  readonly folder: RequestFolderConfig;
  readonly node: string;
  readonly host: Host;
  readonly captures: Pick<Captures, 'start' | 'get'>;
  readonly defaults: RequestDefaults;
  readonly sinks: readonly string[];
  readonly now: () => number;
  readonly log: Logger;
}

/** Events come in bursts; the folder is not looked through more often than this. */
const REST_MS = 200;
/** Names that are looked at before others get their turn on the thread. */
const NAMES_A_TURN = 200;

/** Never fails: what is wrong with the folder is logged, and looked at again at each sweep. */
export async function openRequestFolder(options: RequestFolderOptions): Promise<RequestFolder> {
  const { path, owners } = options.folder;
  if ((await trustFolder(path, owners)).kind === 'missing') {
    await makeFolder(path).catch((error: unknown) =>
      options.log.error({ path, error: explain(error) }, 'request folder cannot be made'),
    );
  }
  return new Trigger(options);
}

class Trigger implements RequestFolder {
  readonly #options: RequestFolderOptions;
  readonly #log: Logger;
  readonly #taker: Taker;
  /** By the names' bytes, as latin1. */
  readonly #running = new Map<string, Promise<void>>();
  /** Names that the last look found and nobody has taken yet. */
  #pending: string[] = [];
  #place: FolderPlace | undefined;
  /** Folders that were at the path before, until nobody works with them. */
  readonly #leaving = new Set<Promise<void>>();
  #watch: FolderWatch | undefined;
  #trouble: string | undefined;
  #isDirty = true;
  #timer: NodeJS.Timeout | undefined;
  #timerAtMs = Number.POSITIVE_INFINITY;
  #turning: Promise<void> | undefined;
  #lastSweepMs = Number.NEGATIVE_INFINITY;
  #isStopped = false;
  #idle = Promise.withResolvers<void>();

  constructor(options: RequestFolderOptions) {
    this.#options = options;
    this.#log = options.log.child({ requestFolder: options.folder.path });
    const readFile = (name: string, bytes: Uint8Array) => readRequest(parseRequestFile(name, bytes), options);
    this.#taker = new Taker({ ...options, log: this.#log, readFile });
    this.#wakeAfter(0);
  }

  async settled(): Promise<void> {
    this.#isDirty = true;
    this.#idle = Promise.withResolvers();
    this.#wakeAfter(0);
    await this.#idle.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    await this.#turning;
    await this.#watch?.[Symbol.asyncDispose]();
    await Promise.allSettled(this.#running.values());
    await Promise.allSettled(this.#leaving);
    this.#place?.[Symbol.dispose]();
    this.#idle.resolve();
  }

  #wakeAfter(ms: number): void {
    const atMs = performance.now() + ms;
    if (this.#isStopped || (this.#timer !== undefined && this.#timerAtMs <= atMs)) return;
    clearTimeout(this.#timer);
    this.#timerAtMs = atMs;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#turning ??= this.#turn().finally(() => {
        this.#turning = undefined;
        const sweepInMs = this.#lastSweepMs + this.#options.folder.sweepMs - performance.now();
        const isWanted = this.#isDirty && this.#trouble === undefined && this.#pending.length === 0;
        this.#wakeAfter(isWanted ? REST_MS : Math.max(REST_MS, Math.min(sweepInMs, this.#taker.settlesInMs)));
      });
    }, ms);
  }

  async #turn(): Promise<void> {
    const isSweep = performance.now() - this.#lastSweepMs >= this.#options.folder.sweepMs;
    if (isSweep) this.#lastSweepMs = performance.now();
    try {
      const place = await this.#openPlace();
      if (place !== undefined) {
        if (isSweep) await this.#sweep(place);
        const isDue = this.#isDirty || isSweep || this.#taker.settlesInMs <= 0;
        if (isDue && this.#pending.length === 0) await this.#look(place);
      }
    } catch (error) {
      this.#tell(explain(error));
    }
    this.#takeMore();
  }

  /** A folder in trouble is told of once, and again when the trouble is another one. */
  #tell(trouble: string | undefined): void {
    if (trouble === this.#trouble) return;
    this.#trouble = trouble;
    if (trouble === undefined) this.#log.info('request folder in order');
    else this.#log.error({ error: trouble }, 'request folder is not usable: no request is taken');
  }

  /** Undefined where no request may be taken now. */
  async #openPlace(): Promise<FolderPlace | undefined> {
    const { path, owners } = this.#options.folder;
    const trust = await trustFolder(path, owners);
    if (trust.kind !== 'trusted') {
      this.#tell(trust.kind === 'missing' ? `${path} is not there` : `${trust.why}: ${trust.mend}`);
      this.#pending = [];
      return undefined;
    }
    const place = new FolderPlace(path);
    if (place.identity === this.#place?.identity) place[Symbol.dispose]();
    else await this.#enter(place);
    this.#tell(undefined);
    return this.#place;
  }

  async #enter(place: FolderPlace): Promise<void> {
    const before = this.#place;
    this.#place = place;
    this.#pending = [];
    this.#isDirty = true;
    this.#taker.keep(new Set());
    this.#taker.answers.forgetOthers(place);
    if (before !== undefined) {
      const leaving = Promise.allSettled(this.#running.values()).then(() => {
        before[Symbol.dispose]();
        this.#leaving.delete(leaving);
      });
      this.#leaving.add(leaving);
    }
    try {
      await place.tryToWrite();
      await place.tidy();
    } catch (error) {
      // Not a reason to take nothing: a capture is worth more than its answer.
      this.#log.warn({ error: explain(error) }, 'no answer can be written to the request folder now');
    }
    await this.#watchAnew();
  }

  async #watchAnew(): Promise<void> {
    await this.#watch?.[Symbol.asyncDispose]();
    this.#watch = undefined;
    const onEvent = (name: string) => {
      if (name.endsWith(ANSWER_SUFFIX) || name.startsWith('.')) return;
      this.#isDirty = true;
      this.#wakeAfter(REST_MS);
    };
    try {
      this.#watch = await watchFolder(this.#options.folder.path, onEvent, this.#log);
    } catch (error) {
      this.#log.warn({ error: explain(error) }, 'the request folder cannot be watched: it is looked at now and then');
    }
    this.#log.info({ watch: this.#watch?.kind ?? 'sweeps' }, 'request folder ready');
  }

  /** What there is to take, in the order of names. */
  async #look(place: FolderPlace): Promise<void> {
    this.#isDirty = false;
    const names = (await place.names()).filter(isRequestName);
    this.#taker.keep(new Set(names.map((name) => name.toString('latin1'))));
    const fresh: string[] = [];
    for (const [index, name] of names.entries()) {
      if (index % NAMES_A_TURN === NAMES_A_TURN - 1) await new Promise((resolve) => setImmediate(resolve));
      const key = name.toString('latin1');
      if (!this.#running.has(key) && this.#taker.isToTake(place, name)) fresh.push(key);
    }
    this.#pending = fresh.sort();
  }

  #takeMore(): void {
    const place = this.#place;
    while (place !== undefined && !this.#isStopped && this.#trouble === undefined) {
      if (this.#running.size >= this.#options.folder.concurrent || this.#taker.answers.isFull) break;
      const key = this.#pending.shift();
      if (key === undefined) break;
      this.#running.set(
        key,
        this.#taker.take(place, key).finally(() => {
          this.#running.delete(key);
          // It may have been replaced meanwhile.
          if (this.#pending.length > 0) this.#takeMore();
          else this.#wakeAfter(REST_MS);
        }),
      );
    }
    const isAtRest = this.#running.size === 0 && this.#pending.length === 0;
    const isDone = !this.#isDirty && this.#taker.settlesInMs === Number.POSITIVE_INFINITY;
    if (isAtRest && (isDone || this.#trouble !== undefined)) this.#idle.resolve();
  }

  async #sweep(place: FolderPlace): Promise<void> {
    const { answersKeptMs, rejectedKept, rejectedKeptMs } = this.#options.folder;
    const now = this.#options.now();
    const isBusy = (name: string) => this.#running.has(Buffer.from(name).toString('latin1'));
    await this.#taker.answers.again();
    const swept = [
      () => sweepAnswers(place, { now, keptMs: answersKeptMs, isBusy }),
      () => sweepRejected(place, { now, kept: rejectedKept, keptMs: rejectedKeptMs }),
    ];
    for (const sweep of swept) {
      await sweep().catch((error: unknown) => this.#log.warn({ error: explain(error) }, 'not tidied up'));
    }
  }
}
