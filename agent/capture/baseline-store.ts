import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { zstdCompress, zstdDecompress } from 'node:zlib';
import type { Logger } from 'pino';
import { z } from 'zod';
import { explain } from '../../evidence/error.ts';
import { type Facts, parseFacts, serialiseFacts } from '../../evidence/facts/facts.ts';
import type { Vault } from '../sink/vault.ts';

/** The last good facts of each workload, in the vault: one file a workload, and an index of them; the oldest go when there are too many bytes. */

const FOLDER = 'baselines';
const INDEX = `${FOLDER}/index`;
/** A baseline that is more than this when it is unpacked was not written by this agent. */
const MAX_UNPACKED_BYTES = 256 * 1024 * 1024;

const indexSchema = z.array(
  /** `captureId` is not there in what an older agent wrote; what a newer one adds is no reason to begin anew. */
  z.object({ name: z.string(), at: z.string(), sizeBytes: z.number(), captureId: z.string().optional() }),
);
type Index = z.infer<typeof indexSchema>;

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

export interface BaselineStoreParts {
  /** Of all that are kept, as they lie in the vault. */
  readonly maxBytes: number;
  readonly vault: Vault;
  readonly log: Logger;
}

export interface BaselineStore {
  has(workload: readonly string[]): boolean;
  /** Whether it is this capture that some workload is compared with. */
  isOf(captureId: string): boolean;
  read(workload: readonly string[]): Promise<Facts | undefined>;
  write(workload: readonly string[], facts: Facts): Promise<void>;
}

export async function openBaselineStore({ vault, maxBytes, log }: BaselineStoreParts): Promise<BaselineStore> {
  const readIndex = async (): Promise<Index> => {
    const bytes = await vault.read(INDEX);
    return bytes === undefined ? [] : indexSchema.parse(JSON.parse(bytes.toString()));
  };
  let captureIds = idsOf(
    await readIndex().catch(async (error: unknown) => {
      // Of a key that a reboot took, in a spool on a disk: nobody reads these again, and no new one could be noted.
      log.warn({ error: explain(error) }, 'baselines cannot be read, and are begun anew');
      await vault.remove(FOLDER);
      return [];
    }),
  );
  const known = new Set(await vault.list(FOLDER));
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const done = last.then(work);
    last = done.catch(() => undefined);
    return done;
  };
  const writeIndex = async (index: Index) => {
    captureIds = idsOf(index);
    await vault.write(INDEX, Buffer.from(JSON.stringify(index)));
  };
  const remove = async (name: string) => {
    known.delete(name);
    await vault.remove(name);
  };
  return {
    has: (workload) => known.has(fileOf(workload)),
    isOf: (captureId) => captureIds.has(captureId),
    async read(workload) {
      try {
        const packed = await vault.read(fileOf(workload));
        if (packed === undefined) return undefined;
        const text = await decompress(packed, { maxOutputLength: MAX_UNPACKED_BYTES });
        return parseFacts(text.toString());
      } catch (error) {
        log.warn({ error: explain(error) }, 'baseline cannot be read, and is left alone');
        return undefined;
      }
    },
    write: (workload, facts) =>
      inTurn(async () => {
        const packed = await compress(Buffer.from(serialiseFacts(facts)));
        const name = fileOf(workload);
        const others = (await readIndex()).filter((one) => one.name !== name);
        const { stay, go } = chooseBaselines(others, maxBytes - packed.length);
        for (const old of go) await remove(old.name);
        if (packed.length > maxBytes) {
          await remove(name);
          await writeIndex(stay);
          log.warn({ sizeBytes: packed.length }, 'baseline not kept: it is larger than baselines.maxBytes');
          return;
        }
        await vault.write(name, packed);
        known.add(name);
        const { at, captureId } = facts.about;
        await writeIndex([...stay, { name, at, captureId, sizeBytes: packed.length }]);
      }),
  };
}

/** Those that fit into `roomBytes`, the newest first. Pure. */
export function chooseBaselines(index: Index, roomBytes: number): { stay: Index; go: Index } {
  const stay: Index = [];
  const go: Index = [];
  let usedBytes = 0;
  for (const one of index.toSorted((a, b) => (a.at < b.at ? 1 : -1))) {
    usedBytes += one.sizeBytes;
    (usedBytes <= roomBytes ? stay : go).push(one);
  }
  return { stay, go };
}

const idsOf = (index: Index): ReadonlySet<string> => new Set(index.flatMap(({ captureId = [] }) => captureId));

function fileOf(workload: readonly string[]): string {
  return `${FOLDER}/${createHash('sha256').update(JSON.stringify(workload)).digest('hex')}`;
}
