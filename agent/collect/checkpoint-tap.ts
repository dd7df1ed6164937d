import { MAX_STATS_BYTES, parseDumpStats } from '../../evidence/criu-stats.ts';
import type { DumpStats } from '../../evidence/dump.ts';
import { TarParser } from '../../evidence/tar-parser.ts';

/** Name of CRIU's statistics in an archive of a checkpoint. */
export const STATS_MEMBER = 'stats-dump';

/** Picks CRIU's statistics out of an archive that passes by. What is no archive has none. */
export function tapArchive(): { take(chunk: Uint8Array): void; stats(): DumpStats | undefined } {
  const parser = new TarParser();
  let broken = false;
  let wanted = false;
  const parts: Buffer[] = [];
  return {
    take(chunk) {
      if (broken) return;
      try {
        for (const event of parser.push(chunk)) {
          if (event.kind === 'member') {
            const { path, sizeBytes } = event.header;
            wanted = parts.length === 0 && sizeBytes <= MAX_STATS_BYTES && path.toString('latin1') === STATS_MEMBER;
          } else if (event.kind === 'data' && wanted) parts.push(Buffer.from(event.bytes));
        }
      } catch {
        broken = true; // The archive's own observer says so.
      }
    },
    stats: () => (parts.length === 0 ? undefined : parseDumpStats(Buffer.concat(parts))),
  };
}
