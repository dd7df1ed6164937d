import type { Archive } from './collector.ts';

/** A tar header says the size first, so a member's bytes are gathered; several are gathered at a time. */
const PART_BYTES = 8 * 1024 * 1024;

/** A member that is written as it grows: `journal.export`, then `journal-2.export` and on. */
export interface LogParts {
  add(bytes: Uint8Array): Promise<void>;
  /** What is left; nothing where nothing was added. */
  end(): Promise<void>;
}

/** `extension` has its dot. */
export function createLogParts(archive: Archive, name: string, extension: string, mtimeNs: bigint): LogParts {
  let part = 1;
  let held: Uint8Array[] = [];
  let sizeBytes = 0;
  const end = async (): Promise<void> => {
    if (sizeBytes === 0) return;
    const path = `${part === 1 ? name : `${name}-${part}`}${extension}`;
    await archive.add({ path, type: 'file', sizeBytes, mtimeNs }, held);
    part += 1;
    held = [];
    sizeBytes = 0;
  };
  return {
    async add(bytes) {
      held.push(bytes);
      sizeBytes += bytes.length;
      if (sizeBytes >= PART_BYTES) await end();
    },
    end,
  };
}
