import type { Archive } from './collector.ts';

/** A tar header says the size first, so a member's bytes are gathered; two members are at a time. */
const PART_BYTES = 4 * 1024 * 1024;

/** A member that is written as it grows: `journal.export`, then `journal-2.export` and on. */
export interface LogParts {
  /** Copied: many small pieces would cost more than their bytes. A piece is never parted. */
  add(bytes: Uint8Array): Promise<void>;
  /** What is left; nothing where nothing was added. */
  end(): Promise<void>;
}

/** `extension` has its dot. */
export function createLogParts(archive: Archive, name: string, extension: string, mtimeNs: bigint): LogParts {
  let part = 1;
  let held = Buffer.alloc(0);
  let sizeBytes = 0;
  const store = async (body: Uint8Array): Promise<void> => {
    const path = `${part === 1 ? name : `${name}-${part}`}${extension}`;
    await archive.add({ path, type: 'file', sizeBytes: body.length, mtimeNs }, body);
    part += 1;
  };
  const end = async (): Promise<void> => {
    if (sizeBytes > 0) await store(held.subarray(0, sizeBytes));
    sizeBytes = 0;
  };
  return {
    async add(bytes) {
      if (sizeBytes + bytes.length > PART_BYTES) await end();
      if (bytes.length > PART_BYTES) return store(bytes);
      if (held.length === 0) held = Buffer.allocUnsafeSlow(PART_BYTES);
      held.set(bytes, sizeBytes);
      sizeBytes += bytes.length;
    },
    end,
  };
}
