import { createHash } from 'node:crypto';
import type { Logger } from 'pino';
import { explain, isExhibitError } from '../../evidence/error.ts';
import type { CaptureRequest, Captures } from '../capture/captures.ts';
import type { JournalEntry } from '../capture/journal.ts';
import type { Host } from '../host/host.ts';
import type { Stat } from '../host/stat.ts';
import { userName } from '../host/user-name.ts';
import { type Answer, answerOf, answers, endedAnswer, hasEnded } from './folder-answer.ts';
import { Answers, type Asker } from './folder-answers.ts';
import { plainName } from './folder-name.ts';
import type { RequestFolderConfig } from './folder-options.ts';
import { type FolderPlace, factsOf } from './folder-place.ts';
import { captureIdOf, tellsItsEnd } from './folder-request.ts';

/** One request of the folder, from its first look to its answer. */
export interface TakerOptions {
  readonly folder: RequestFolderConfig;
  readonly node: string;
  readonly host: Host;
  readonly captures: Pick<Captures, 'start' | 'get'>;
  /** @throws ExhibitError `usage` */
  readonly readFile: (name: string, bytes: Uint8Array) => Omit<CaptureRequest, 'requester'>;
  readonly now: () => number;
  readonly log: Logger;
}

/** A runtime that does not answer: so often, each time after the wait of LEFT_MS. */
const MOST_ATTEMPTS = 10;
/** What could not be dealt with is looked at again after this. */
const LEFT_MS = 30_000;
/** See `captureIdOf`. */
const MOST_IDS = 3;

type Known =
  | { readonly kind: 'done'; readonly facts: string }
  /** To be looked at again at `atMs` (of performance.now), or when it changes. */
  | { readonly kind: 'left'; readonly facts: string; readonly atMs: number; readonly attempts: number };

interface Settling {
  readonly facts: string;
  readonly sinceMs: number;
  readonly firstMs: number;
}

interface Asked extends Asker {
  readonly place: FolderPlace;
  readonly key: string;
  readonly facts: string;
  readonly request: Omit<CaptureRequest, 'requester'>;
}

export class Taker {
  readonly answers: Answers;
  readonly #options: TakerOptions;
  /** By the names' bytes, as latin1. */
  readonly #known = new Map<string, Known>();
  readonly #settling = new Map<string, Settling>();

  constructor(options: TakerOptions) {
    this.#options = options;
    const { now, log } = options;
    this.answers = new Answers({ entryOf: (captureId) => this.#entryOf(captureId), now, log });
  }

  /** When the first of the files that were not whole can have settled; in ms from now. */
  get settlesInMs(): number {
    const due = [...this.#settling.values()].map(({ sinceMs }) => sinceMs + this.#options.folder.settleMs);
    return Math.min(...due) - performance.now();
  }

  /** Keeps what is known of these names alone. */
  keep(names: ReadonlySet<string>): void {
    for (const map of [this.#known, this.#settling]) {
      for (const key of map.keys()) if (!names.has(key)) map.delete(key);
    }
  }

  isToTake(place: FolderPlace, name: Buffer): boolean {
    if (this.answers.isUnwritten(name.toString('utf8'))) return false;
    const known = this.#known.get(name.toString('latin1'));
    if (known === undefined) return true;
    const facts = place.facts(name);
    if (facts === undefined) return false;
    return facts !== known.facts || (known.kind === 'left' && performance.now() >= known.atMs);
  }

  async take(place: FolderPlace, key: string): Promise<void> {
    try {
      await this.#look(place, key);
    } catch (error) {
      this.#leave(place, key, explain(error));
    }
  }

  async #look(place: FolderPlace, key: string): Promise<void> {
    const bytes = Buffer.from(key, 'latin1');
    const look = place.look(bytes, this.#options.folder.owners);
    if (look.kind === 'gone') return void this.#settling.delete(key);
    const named = plainName(bytes);
    if ('why' in named) return await this.#reject(place, key, look.stat, `The request ${named.why}`);
    if (look.kind === 'wrong') return await this.#reject(place, key, look.stat, `The request ${look.why}`);
    const facts = factsOf(look.stat);
    const [isOverdue, stood] = this.#hasSettled(key, facts);
    if (look.kind !== 'read') {
      if (look.kind === 'linked' && stood)
        return await this.#reject(place, key, look.stat, 'The request has a second name (a hard link)');
      if (isOverdue) await this.#reject(place, key, look.stat, 'The request is still being written');
      return;
    }
    const sha256 = createHash('sha256').update(look.bytes).digest('hex');
    const uid = Number(look.stat.uid);
    let request: Omit<CaptureRequest, 'requester'>;
    try {
      request = this.#options.readFile(named.name, look.bytes);
    } catch (error) {
      if (!stood && !isOverdue) return;
      return await this.#reject(place, key, look.stat, explain(error), { sha256, owner: `uid ${uid}` });
    }
    if (!tellsItsEnd(named.name) && !stood) return;
    this.#settling.delete(key);
    const file = { name: named.name, sha256, mtimeNs: look.stat.mtimeNs };
    await this.#capture({ place, key, file, uid, facts, request });
  }

  /** Whether it has changed for too long, and whether it has stood still for long enough. */
  #hasSettled(key: string, facts: string): [isOverdue: boolean, stood: boolean] {
    const { settleMs, halfWrittenMs } = this.#options.folder;
    const now = performance.now();
    const before = this.#settling.get(key);
    const sinceMs = before?.facts === facts ? before.sinceMs : now;
    const firstMs = before?.firstMs ?? now;
    this.#settling.set(key, { facts, sinceMs, firstMs });
    return [now - firstMs >= halfWrittenMs, now - sinceMs >= settleMs];
  }

  async #reject(
    place: FolderPlace,
    key: string,
    stat: Stat,
    reason: string,
    more: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    this.#settling.delete(key);
    const name = Buffer.from(key, 'latin1');
    const named = plainName(name);
    const whose = 'name' in named ? { name: named.name } : { nameBase64: name.toString('base64') };
    const rejectedAt = new Date(this.#options.now()).toISOString();
    await place.reject(name, stat, { ...whose, reason, rejectedAt, ...more });
    this.#options.log.warn({ ...whose, reason }, 'request rejected');
    // A folder stays: it is told of once.
    if (place.facts(name) === factsOf(stat)) this.#known.set(key, { kind: 'done', facts: factsOf(stat) });
  }

  #leave(place: FolderPlace, key: string, error: string, attempts = 0): void {
    const facts = place.facts(Buffer.from(key, 'latin1'));
    if (facts === undefined) return;
    this.#known.set(key, { kind: 'left', facts, atMs: performance.now() + LEFT_MS, attempts });
    this.#options.log.error({ request: key, error }, 'request left for later');
  }

  async #capture(asked: Asked): Promise<void> {
    const { place, file, request } = asked;
    const before = this.answers.read(place, file.name);
    if (before !== undefined && answers(before, file, request.captureId)) {
      if (!hasEnded(before)) return await this.#resume(asked, before);
      this.#known.set(asked.key, { kind: 'done', facts: asked.facts });
      return this.answers.remember({ ...asked, answer: before });
    }
    if (request.captureId !== '') return void (await this.#begin(asked, request.captureId.toLowerCase(), true));
    for (let attempt = 0; attempt < MOST_IDS; attempt += 1) {
      const captureId = captureIdOf({ node: this.#options.node, ...file }, attempt);
      if (await this.#begin(asked, captureId, attempt === MOST_IDS - 1)) return;
    }
  }

  /** False where an attempt of a dead agent lies in the sink, of which no journal knows, and it is not the last id. */
  async #begin(asked: Asked, captureId: string, isLast: boolean): Promise<boolean> {
    const entry = this.#entryOf(captureId);
    const isOwn = asked.request.captureId !== '';
    if (entry !== undefined && entry.state !== 'running' && !isOwn) {
      await this.#answer(asked, endedAnswer(asked.file, entry, this.#options.now()));
      return true;
    }
    try {
      await this.#start(asked, captureId);
    } catch (error) {
      if (isExhibitError(error, 'sink-exists') && !isLast) return false;
      await this.#notStarted(asked, captureId, error);
    }
    return true;
  }

  #entryOf(captureId: string): JournalEntry | undefined {
    try {
      return this.#options.captures.get(captureId);
    } catch (error) {
      if (isExhibitError(error, 'capture-not-found')) return undefined;
      throw error;
    }
  }

  /** It was accepted by an agent that is dead: the journal knows how it ended, or nobody does. */
  async #resume(asked: Asked, before: Answer): Promise<void> {
    const entry = this.#entryOf(before.captureId);
    if (entry?.state === 'running') return await this.#start(asked, before.captureId);
    if (entry !== undefined) return await this.#answer(asked, endedAnswer(asked.file, entry, this.#options.now()));
    const error = 'The agent that accepted it is gone and its journal with it; look for the bundle in the sink';
    await this.#answer(asked, { ...before, state: 'lost', error });
  }

  async #start(asked: Asked, captureId: string): Promise<void> {
    const { file, uid, request } = asked;
    const { captures, host, now, log } = this.#options;
    const user = await userName(host, uid);
    const identity = `uid ${uid}${user === undefined ? '' : ` (${user})`}, ${file.name}, sha256 ${file.sha256}`;
    const handle = await captures.start({ ...request, captureId, requester: { trigger: 'folder', identity } });
    log.info({ request: file.name, captureId }, 'request accepted');
    for await (const event of handle.events()) {
      if (event.kind === 'accepted') {
        const { target, bundleUrl } = event;
        await this.#answer(asked, answerOf(file, { captureId, state: 'accepted', target, bundleUrl }, now()));
      }
      if (event.kind === 'ended') await this.#answer(asked, endedAnswer(file, event.capture, now()));
    }
  }

  async #notStarted(asked: Asked, captureId: string, error: unknown): Promise<void> {
    // The agent is stopping: the next one takes it.
    if (isExhibitError(error, 'cancelled'))
      return void this.#known.set(asked.key, {
        kind: 'left',
        facts: asked.facts,
        atMs: Number.POSITIVE_INFINITY,
        attempts: 0,
      });
    const known = this.#known.get(asked.key);
    const attempts = known?.kind === 'left' ? known.attempts + 1 : 1;
    if (isExhibitError(error, 'runtime-unreachable') && attempts < MOST_ATTEMPTS)
      return this.#leave(asked.place, asked.key, explain(error), attempts);
    this.#options.log.warn({ request: asked.file.name, captureId, error: explain(error) }, 'request refused');
    const news = { captureId, state: 'refused', error: explain(error) } as const;
    await this.#answer(asked, answerOf(asked.file, news, this.#options.now()));
  }

  async #answer(asked: Asked, answer: Answer): Promise<void> {
    const { place, file, uid, key, facts } = asked;
    await this.answers.write({ place, file, uid, answer });
    if (hasEnded(answer)) this.#known.set(key, { kind: 'done', facts });
  }
}
