import type { Archive, ForeignArchive, TextObject } from '../collect/collector.ts';
import { isHeavy } from '../limits.ts';
import { type Frozen, thawedBy } from './freeze.ts';
import type { Pacer } from './pacer.ts';
import type { StepInput } from './step.ts';

/**
 * One step's content as it passes: held back while the target runs, and never while it stands still, nor before it is stopped for
 * what is copied then. Memory comes from memory: of the disks' share it takes nothing.
 */
export interface StepPace {
  archive(archive: Archive): Archive;
  foreignArchive(archive: ForeignArchive): ForeignArchive;
  text(text: TextObject): TextObject;
  /** What the collector says that it read: what did not pass into an object counts as well. */
  read(bytes: number): void;
  freezing(freeze: () => Promise<Frozen>): Promise<Frozen>;
  dumping(isDumping: boolean): void;
  /** How long the step was held back, in ms. */
  readonly pacedMs: number;
}

const FROM_MEMORY: readonly string[] = ['memory', 'checkpoint'];

type Paced = Pick<StepInput, 'step' | 'signal'> & { readonly pacer: Pacer };

export function paceStep({ step, signal, pacer }: Paced): StepPace {
  const isPaced = isHeavy(step.artifact);
  const isFromDisk = !FROM_MEMORY.includes(step.artifact);
  /** What is read before a freeze has to be read again in it where it changed meanwhile: that is in a hurry, too. */
  let isHurrying = step.frozen;
  let isDumping = false;
  let passedBytes = 0;
  let owedBytes = 0;
  let pacedMs = 0;
  const calmDown = () => {
    isHurrying = false;
    pacer.forgive();
  };
  const pay = (bytes: number): Promise<void> | undefined => {
    if (!isPaced || isHurrying || isDumping) return undefined;
    const wait = pacer.pay(isFromDisk ? bytes + owedBytes : 0, signal);
    passedBytes += bytes;
    owedBytes = 0;
    if (wait === undefined) return undefined;
    const startedMs = performance.now();
    const waited = () => {
      pacedMs += performance.now() - startedMs;
    };
    // Who is cancelled hears it from the sink, as without a wait.
    return wait.then(waited, waited);
  };
  async function* held(body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of body) {
      yield chunk;
      await pay(chunk.byteLength);
    }
  }
  return {
    archive: (archive) => ({
      async add(header, body) {
        if (body === undefined || !isPaced) return archive.add(header, body);
        if (!(body instanceof Uint8Array)) return archive.add(header, held(body));
        await pay(body.byteLength);
        return archive.add(header, body);
      },
      commit: () => archive.commit(),
      [Symbol.asyncDispose]: () => archive[Symbol.asyncDispose](),
    }),
    foreignArchive: (archive) => ({
      async write(chunk) {
        await pay(chunk.byteLength);
        await archive.write(chunk);
      },
      commit: () => archive.commit(),
      [Symbol.asyncDispose]: () => archive[Symbol.asyncDispose](),
    }),
    text: (text) => ({
      line(words) {
        const wait = pay(0);
        return wait === undefined ? text.line(words) : wait.then(() => text.line(words));
      },
      commit: () => text.commit(),
      [Symbol.asyncDispose]: () => text[Symbol.asyncDispose](),
    }),
    read(bytes) {
      const passed = Math.min(bytes, passedBytes);
      passedBytes -= passed;
      owedBytes += bytes - passed;
    },
    async freezing(freeze) {
      isHurrying = true;
      try {
        const frozen = await freeze();
        return thawedBy(frozen, () => frozen.thaw().finally(calmDown));
      } catch (error) {
        calmDown();
        throw error;
      }
    },
    dumping(now) {
      if (isDumping && !now) pacer.forgive();
      isDumping = now;
    },
    get pacedMs() {
      return pacedMs;
    },
  };
}
