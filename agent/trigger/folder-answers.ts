import type { Logger } from 'pino';
import { explain } from '../../evidence/error.ts';
import type { JournalEntry } from '../capture/journal.ts';
import { type Answer, type AskedFile, endedAnswer, hasEnded, MAX_ANSWER_BYTES, readAnswer } from './folder-answer.ts';
import { ANSWER_SUFFIX } from './folder-name.ts';
import type { FolderPlace } from './folder-place.ts';

/** Answers that could not be written (a full disk) are kept and tried again; with so many nothing more is begun. */
const MOST_UNWRITTEN = 64;

/** A request file and who owns it. */
export interface Asker {
  readonly file: AskedFile;
  readonly uid: number;
}

interface Given extends Asker {
  readonly place: FolderPlace;
  readonly answer: Answer;
}

/** Writes the answers, again where that failed, and once more when a capture that waited for a sink is sealed there. */
export class Answers {
  readonly #entryOf: (captureId: string) => JournalEntry | undefined;
  readonly #now: () => number;
  readonly #log: Logger;
  /** By the request's name. */
  readonly #unwritten = new Map<string, Given>();
  readonly #awaited = new Map<string, Given>();

  constructor(parts: { entryOf: (captureId: string) => JournalEntry | undefined; now: () => number; log: Logger }) {
    this.#entryOf = parts.entryOf;
    this.#now = parts.now;
    this.#log = parts.log;
  }

  get isFull(): boolean {
    return this.#unwritten.size >= MOST_UNWRITTEN;
  }

  isUnwritten(name: string): boolean {
    return this.#unwritten.has(name);
  }

  read(place: FolderPlace, name: string): Answer | undefined {
    const bytes = place.read(`${name}${ANSWER_SUFFIX}`, MAX_ANSWER_BYTES);
    return bytes === undefined ? undefined : readAnswer(bytes);
  }

  async write(given: Given): Promise<void> {
    const { place, file, uid, answer } = given;
    try {
      await place.write(`${file.name}${ANSWER_SUFFIX}`, `${JSON.stringify(answer, undefined, 2)}\n`, uid);
      this.#unwritten.delete(file.name);
    } catch (error) {
      if (!this.#unwritten.has(file.name))
        this.#log.error({ request: file.name, error: explain(error) }, 'answer not written');
      this.#unwritten.set(file.name, given);
    }
    if (hasEnded(answer)) this.remember(given);
  }

  /** What an earlier agent wrote may still wait for a sink. */
  remember(given: Given): void {
    const isWaiting = (given.answer.waitingSinks ?? []).length > 0;
    if (isWaiting) this.#awaited.set(given.file.name, given);
    else this.#awaited.delete(given.file.name);
  }

  /** Another folder is at the path now: what was to be written to the old one has no reader. */
  forgetOthers(place: FolderPlace): void {
    for (const map of [this.#unwritten, this.#awaited]) {
      for (const [name, given] of map) if (given.place !== place) map.delete(name);
    }
  }

  async again(): Promise<void> {
    for (const given of [...this.#unwritten.values()]) await this.write(given);
    for (const given of [...this.#awaited.values()]) {
      const { file, answer } = given;
      const entry = this.#entryOf(answer.captureId);
      if (entry === undefined) this.#awaited.delete(file.name);
      else if (entry.state !== answer.state || (entry.waiting ?? []).length !== answer.waitingSinks?.length)
        await this.write({ ...given, answer: endedAnswer(file, entry, this.#now()) });
    }
  }
}
