import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import { z } from 'zod';
import { explain } from '../../evidence/error.ts';
import { keySegment } from '../../evidence/layout.ts';
import type { ChainLink } from '../../evidence/manifest.ts';
import type { Vault } from '../sink/vault.ts';
import { createLock } from './lock.ts';

/**
 * The chain of this agent's captures in each sink: which number the next one gets, and what it follows. Its end is in the vault,
 * and also in every draft that took a number and is not sealed yet, so that a death between the two loses no number.
 */
export interface Chain {
  /**
   * Gives the next link to `take`, which must note it durably and return the digest of its seal. One at a time in each sink;
   * a number whose `take` failed is given again.
   */
  next<T extends Taken>(sink: string, signal: AbortSignal, take: (link: ChainLink) => Promise<T>): Promise<T>;
  /** A link that a draft of an earlier agent took. To be told of all of them before `next`. */
  adopt(sink: string, link: ChainLink, taken: Taken): Promise<void>;
}

interface Taken {
  readonly captureId: string;
  readonly sealSha256: string;
}

const endSchema = z.object({
  chainId: z.uuid(),
  sequence: z.number().int().positive(),
  captureId: z.string(),
  sealSha256: z.string().regex(/^[0-9a-f]{64}$/),
});
type ChainEnd = z.infer<typeof endSchema>;

const fileOf = (sink: string): string => `chain/${keySegment(sink)}`;

export function createChain({ vault, log }: { vault: Vault; log: Logger }): Chain {
  const locks = new Map<string, ReturnType<typeof createLock>>();
  /** As this process knows them: a vault that cannot be written must not give one number twice. */
  const ends = new Map<string, ChainEnd>();

  async function endOf(sink: string): Promise<ChainEnd | undefined> {
    const known = ends.get(sink);
    if (known !== undefined) return known;
    try {
      const bytes = await vault.read(fileOf(sink));
      return bytes === undefined ? undefined : endSchema.parse(JSON.parse(bytes.toString('utf8')));
    } catch (error) {
      log.error({ sink, error: explain(error) }, 'chain of captures lost: a new one begins');
      return undefined;
    }
  }

  async function advance(sink: string, { chainId, sequence }: ChainLink, taken: Taken): Promise<void> {
    const { captureId, sealSha256 } = taken;
    const end = { chainId, sequence, captureId, sealSha256 };
    ends.set(sink, end);
    await vault
      .write(fileOf(sink), Buffer.from(JSON.stringify(end)))
      .catch((error: unknown) => log.error({ sink, error: explain(error) }, 'end of the chain not written'));
  }

  return {
    async next(sink, signal, take) {
      const lock = locks.get(sink) ?? createLock();
      locks.set(sink, lock);
      const release = await lock.acquire(signal);
      try {
        const link = linkAfter(await endOf(sink));
        const taken = await take(link);
        await advance(sink, link, taken);
        return taken;
      } finally {
        release();
      }
    },
    async adopt(sink, link, taken) {
      const end = await endOf(sink);
      if (end !== undefined && (end.chainId !== link.chainId || end.sequence >= link.sequence)) return;
      await advance(sink, link, taken);
    },
  };
}

function linkAfter(end: ChainEnd | undefined): ChainLink {
  if (end === undefined) return { chainId: randomUUID(), sequence: 1 };
  const { chainId, sequence, captureId, sealSha256 } = end;
  return { chainId, sequence: sequence + 1, previous: { captureId, sealSha256 } };
}
